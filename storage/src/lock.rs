//! One process per data directory.
//!
//! Owns the lock on the directory itself, so that nothing is written to one that turns out not to be ours. The kernel lets it go when
//! the process ends, however it ends.
//! Invariant: while a `DirLock` lives, no other process has one of the same directory.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{dir}: another process uses this data directory")]
    Held { dir: PathBuf },
    #[error("{dir}: cannot lock the data directory: {message}")]
    Io { dir: PathBuf, message: String },
}

/// Held as long as the data directory is in use.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Makes the directory if it is not there, and takes its lock without waiting.
    ///
    /// # Errors
    /// When another process has it, or the directory cannot be used.
    pub fn acquire(dir: &Path) -> Result<DirLock, LockError> {
        let io = |error: &dyn std::fmt::Display| LockError::Io { dir: dir.into(), message: error.to_string() };
        std::fs::create_dir_all(dir).map_err(|error| io(&error))?;
        let file = File::open(dir).map_err(|error| io(&error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DirLock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held { dir: dir.into() }),
            Err(error) => Err(io(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_of_one_directory_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path()).unwrap();
        assert!(matches!(DirLock::acquire(dir.path()), Err(LockError::Held { .. })));
        drop(first);
        DirLock::acquire(dir.path()).unwrap();
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "a lock leaves nothing behind");
    }
}
