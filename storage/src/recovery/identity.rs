//! Whose data directory this is: `meta.properties`.
//!
//! Owns that file. Invariant: a directory that is not ours, or a newer one's, is left untouched.
//!
//! ```text
//! weir.version=1
//! directory.id=32 hex digits
//! checksum=8 hex digits           crc32c of the two lines before; earlier versions wrote none
//! ```

use std::path::Path;

use bytes::Bytes;
use model::batch::crc32c;

use super::OpenError;
use crate::disk::{Disk, DiskError};
use crate::durable;

const VERSION: u32 = 1;
/// What a new directory may hold already: the lock file of earlier versions, what an interrupted start left, what a file system puts there.
const ALLOWED: [&str; 4] = [".lock", ".weir", "meta.tmp", "lost+found"];
/// One of these is in every `meta.properties` of Kafka.
const OF_KAFKA: [&str; 4] = ["version", "cluster.id", "node.id", "broker.id"];
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What `meta.properties` says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) id: [u8; 16],
    /// Else it is an earlier version's, to be written again.
    pub(super) has_checksum: bool,
}

/// The identity of the directory, or `None` when it has none: then it is new, or its identity was lost.
pub(super) fn read(disk: &dyn Disk, root: &Path) -> Result<Option<Identity>, OpenError> {
    let path = root.join("meta.properties");
    let Some(text) = durable::read(disk, &path, FILE_BYTES_MAX)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&text);
    let value = |key: &str| {
        let of = |line: &str| {
            line.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')).map(|value| value.trim().to_owned())
        };
        text.lines().find_map(of)
    };
    let Some(version) = value("weir.version") else {
        if OF_KAFKA.iter().any(|key| value(key).is_some()) {
            return Err(OpenError::Foreign { dir: root.into(), found: "meta.properties of Kafka".into() });
        }
        // What a power cut leaves of a file may also be zeros.
        let is_empty = text.chars().all(|char| char == '\0' || char.is_whitespace());
        let what = if is_empty { "the file is empty" } else { "weir.version is missing" };
        return Err(OpenError::Meta { dir: root.into(), what });
    };
    let version: u32 =
        version.parse().map_err(|_| OpenError::Meta { dir: root.into(), what: "weir.version is no number" })?;
    if version > VERSION {
        return Err(OpenError::Newer { dir: root.into(), version, known: VERSION });
    }
    let Some(id) = value("directory.id").and_then(|id| from_hex(&id)) else {
        return Err(OpenError::Meta { dir: root.into(), what: "directory.id is not 32 hex digits" });
    };
    let Some(stored) = value("checksum") else { return Ok(Some(Identity { id, has_checksum: false })) };
    let computed = format!("{:08x}", crc32c(lines(version, id).as_bytes()));
    if !stored.eq_ignore_ascii_case(&computed) {
        return Err(OpenError::Identity { path, directory: hex(&id), stored, computed });
    }
    Ok(Some(Identity { id, has_checksum: true }))
}

/// A directory without an identity must hold nothing but what an interrupted first start leaves.
pub(super) fn check_new(disk: &dyn Disk, root: &Path) -> Result<(), OpenError> {
    let entries = match disk.list(root) {
        Err(DiskError::NotFound { .. }) => return Ok(()),
        other => other?,
    };
    match entries.into_iter().find(|entry| !ALLOWED.contains(&entry.name.as_str())) {
        Some(entry) => Err(OpenError::Foreign { dir: root.into(), found: entry.name }),
        None => Ok(()),
    }
}

/// To be called when everything else of a new directory is there: from then on it counts as ours.
pub(super) fn write(disk: &dyn Disk, root: &Path, id: [u8; 16]) -> Result<(), DiskError> {
    let lines = lines(VERSION, id);
    let text = format!("{lines}checksum={:08x}\n", crc32c(lines.as_bytes()));
    let path = root.join("meta.properties");
    durable::replace_steps(disk, &path, vec![Bytes::from(text)]).iter().try_for_each(|step| step.run(disk))
}

/// What the checksum covers.
fn lines(version: u32, id: [u8; 16]) -> String {
    format!("weir.version={version}\ndirectory.id={}\n", hex(&id))
}

fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 16]> {
    let valid = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    valid.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(u128::to_be_bytes)
}
