//! The manifest: which files the journal has, told outside of them.
//!
//! A journal that lost its newest files reads like one whose last write was torn. So each file is in the manifest, durably, before a group
//! goes to it: a start after a crash that misses one refuses, instead of cutting what was acknowledged.
//!
//! Owns the layout and the check. Does not own the files. Costs nothing per group: it changes when a file is made, and at a start.
//! Invariant: files leave the manifest only at a start, and only after all that they held is in the segments. A directory without a
//! manifest (an earlier version's, or one whose keeper gave the lost files up) is not checked.
//!
//! ```text
//!  0 magic "weirjfl1"    8
//!  8 salt of the journal's life u64 · of the life before u64   it speaks for both: a start writes it before the checkpoint
//! 24 files u32 · { number u64, length u64 }…
//!    crc32c of everything before u32
//! ```

use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use model::batch::crc32c;

use super::files::{JournalFile, file_path};
use crate::disk::{Disk, DiskError, Step};
use crate::durable;
use crate::fields::{Fields, Short};
use crate::recovery::OpenError;

const MAGIC: &[u8; 8] = b"weirjfl1";
/// No journal has so many files; what is longer is not read.
const BYTES_MAX: u64 = 64 * 1024;

pub(crate) fn manifest_path(root: &Path) -> PathBuf {
    root.join(".weir").join("journal-files")
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Manifest {
    /// Of this life and of the one before.
    pub(crate) salts: [u64; 2],
    /// Number and length of each file.
    pub(crate) files: Vec<(u64, u64)>,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("it is no list of journal files")]
    Magic,
    #[error("its crc is {stored:#010x}, its bytes give {computed:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("it ends early: {0}")]
    Short(#[from] Short),
}

impl Manifest {
    pub(crate) fn new<'a>(salts: [u64; 2], files: impl IntoIterator<Item = &'a JournalFile>) -> Manifest {
        let mut files: Vec<_> = files.into_iter().map(|file| (file.number, file.len)).collect();
        files.sort_unstable();
        Manifest { salts, files }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(MAGIC);
        self.salts.iter().for_each(|salt| out.put_u64(*salt));
        out.put_u32(u32::try_from(self.files.len()).expect("a journal has few files"));
        for (number, len) in &self.files {
            out.put_u64(*number);
            out.put_u64(*len);
        }
        let crc = crc32c(&out);
        out.put_u32(crc);
        out.freeze()
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Manifest, ManifestError> {
        let mut fields = Fields::new(bytes.clone());
        if fields.array::<8>()? != *MAGIC {
            return Err(ManifestError::Magic);
        }
        let salts = [fields.u64()?, fields.u64()?];
        let mut files = Vec::new();
        for _ in 0..fields.u32()? {
            files.push((fields.u64()?, fields.u64()?));
        }
        let computed = crc32c(bytes.get(..bytes.len() - fields.left()).unwrap_or_default());
        let stored = fields.u32()?;
        if stored == computed { Ok(Manifest { salts, files }) } else { Err(ManifestError::Crc { stored, computed }) }
    }

    /// Steps that make it durable in the place of the one before.
    pub(crate) fn steps(&self, disk: &dyn Disk, root: &Path) -> Vec<Step> {
        durable::replace_steps(disk, &manifest_path(root), vec![self.encode()])
    }
}

/// Whether all files are there that the journal of this life had.
///
/// # Errors
/// When one is missing or shorter than it was made. A manifest that cannot be read is no reason to refuse.
pub(crate) fn check(disk: &dyn Disk, root: &Path, salt: u64, found: &[JournalFile]) -> Result<(), OpenError> {
    let path = manifest_path(root);
    let manifest = match read(disk, &path)? {
        None => return Ok(()),
        Some(Ok(manifest)) => manifest,
        Some(Err(error)) => {
            tracing::warn!(path = %path.display(), %error, "which files the journal had is not known: none is missed");
            return Ok(());
        }
    };
    if !manifest.salts.contains(&salt) {
        return Ok(());
    }
    for (number, says) in manifest.files {
        let has = found.iter().find(|file| file.number == number).map(|file| file.len);
        if has.is_none_or(|has| has < says) {
            return Err(OpenError::JournalFile { file: file_path(root, number), has: has.unwrap_or(0), says, path });
        }
    }
    Ok(())
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Result<Manifest, ManifestError>>, DiskError> {
    Ok(durable::read(disk, path, BYTES_MAX)?.map(|bytes| Manifest::decode(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 1 as it was first written.
    const STORED: &str = "776569726a666c3100000000000000070000000000000005000000020000000000000001000000000040000000000000000000020000000000800000";

    #[test]
    fn a_manifest_reads_back_and_no_damage_to_it_is_believed() {
        let manifest = Manifest { salts: [7, 5], files: vec![(1, 4 << 20), (2, 8 << 20)] };
        let bytes = manifest.encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&hex[..hex.len() - 8], STORED);
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(Manifest::decode(&damaged.into()).is_err(), "bit {at}");
        }
        for cut in 0..bytes.len() {
            assert!(Manifest::decode(&bytes.slice(..cut)).is_err(), "cut at {cut}");
        }
    }
}
