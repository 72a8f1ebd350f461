//! The kernel's page cache, made empty where a test needs records that are read from the device.
//!
//! Owns no judgement of what is cached. Invariant: nothing is lost: what is dirty is written out first.

use std::fs;
use std::path::Path;

use anyhow::Result;

/// Takes the clean pages of all files below a folder out of the page cache, as a machine does that needs them.
pub fn drop_below(dir: &Path) -> Result<()> {
    rustix::fs::sync(); // dirty pages would stay
    drop_clean(dir)
}

fn drop_clean(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            drop_clean(&entry.path())?;
        } else if let Ok(file) = fs::File::open(entry.path()) {
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}
