//! Replacing a small file so that a crash leaves the old one or the new one, whole.
//!
//! Owns the order of steps, as the only place. Does not own what the file says.
//! Invariant: the new content is synced before the rename (a crash in between leaves the old file), and the folder after it (else the
//! rename itself could be lost after somebody relied on it).

use std::path::Path;

use bytes::Bytes;

use crate::disk::{Disk, Step};

/// Steps that put `content` in the place of `path`.
pub fn replace_steps(disk: &dyn Disk, path: &Path, content: Vec<Bytes>) -> Vec<Step> {
    let temporary = path.with_extension("tmp");
    let file = disk.file(&temporary);
    let mut steps = vec![
        Step::Create { file },
        // What an earlier attempt left must not show behind the new content.
        Step::SetLen { file, len: 0 },
        Step::Write { file, at: 0, parts: content, cached: true },
        Step::Sync { file },
        Step::Forget { file },
        Step::Rename { from: temporary, to: path.into() },
    ];
    steps.extend(path.parent().map(|dir| Step::SyncDir { dir: dir.into() }));
    steps
}
