//! The journal's own writes: durable when they return.
//!
//! Owns how a file is opened for them, and what is done where the file system does not know direct I/O. Does not own what is written.
//! Invariant: only a refusal of direct I/O itself turns it off, for good and for all files. Whatever else is wrong with a file is an error
//! of that call, and the next one tries again.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::calls::{refuses_direct, retry};
use super::super::{AlignedBuf, DiskError, FileId};
use super::{RealDisk, Through, error_of};

impl RealDisk {
    /// Writes and makes durable: past the page cache and in one call for each part that the kernel takes, or with a sync behind it where
    /// the file system does not do that.
    pub(super) fn write_direct(&self, file: FileId, at: u64, data: &AlignedBuf) -> Result<(), DiskError> {
        assert!(at.is_multiple_of(AlignedBuf::ALIGN as u64));
        assert!(data.len().is_multiple_of(AlignedBuf::ALIGN));
        let open = self.through(file)?;
        let _turn = self.turns.write();
        let mut written = 0;
        let bytes = data.as_ref();
        while written < bytes.len() {
            match open.file.write_at(&bytes[written..], at + written as u64) {
                Ok(0) => return Err(error_of(&self.path(file)?, "write", &io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if open.direct && refuses_direct(&error) => {
                    // Opened, but this file system does not write like that: go on as everybody can.
                    self.no_direct.store(true, Ordering::Relaxed);
                    if let Some(entry) = self.table().files.get_mut(&file) {
                        entry.through = None;
                    }
                    return self.write_direct(file, at, data);
                }
                Err(error) => return Err(error_of(&self.path(file)?, "write", &error)),
            }
        }
        match open.direct {
            true => Ok(()),
            false => open.file.sync_data().or_else(|error| Err(error_of(&self.path(file)?, "sync", &error))),
        }
    }

    fn through(&self, file: FileId) -> Result<Arc<Through>, DiskError> {
        if let Some(open) = self.table().files.get(&file).and_then(|entry| entry.through.clone()) {
            return Ok(open);
        }
        let path = self.path(file)?;
        let flags = (rustix::fs::OFlags::DIRECT | rustix::fs::OFlags::DSYNC).bits();
        let flags = i32::try_from(flags).unwrap_or_default();
        let open = |direct: bool| {
            let flags = if direct { flags } else { 0 };
            let file = retry(|| OpenOptions::new().write(true).custom_flags(flags).open(&path));
            file.map(|file| Through { file, direct })
        };
        let opened = match self.no_direct.load(Ordering::Relaxed) {
            true => open(false),
            false => match open(true) {
                Err(error) if refuses_direct(&error) => {
                    self.no_direct.store(true, Ordering::Relaxed);
                    open(false)
                }
                // Too many open files, none of that name, a device that fails: that says nothing of the file system.
                opened => opened,
            },
        };
        let through = Arc::new(opened.map_err(|error| error_of(&path, "open", &error))?);
        // The journal has few files, and they stay open.
        if let Some(entry) = self.table().files.get_mut(&file) {
            entry.through = Some(Arc::clone(&through));
        }
        Ok(through)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::Disk;
    use super::*;

    /// Beside the program: there the file system is the one of the disk, which /tmp need not be.
    fn folder() -> tempfile::TempDir {
        let program = std::env::current_exe().unwrap();
        tempfile::tempdir_in(program.parent().unwrap()).unwrap()
    }

    fn is_direct(disk: &RealDisk) -> bool {
        !disk.no_direct.load(Ordering::Relaxed)
    }

    #[test]
    fn a_file_that_cannot_be_opened_does_not_turn_direct_writes_off() {
        let dir = folder();
        let disk = RealDisk::new(dir.path(), 16);
        let mut data = AlignedBuf::with_capacity(4096);
        data.put(&[7; 4096]);
        let path = dir.path().join("journal");
        let file = disk.file(&path);
        assert_eq!(disk.write_through(file, 0, &data), Err(DiskError::NotFound { path: path.clone() }));
        let folder = disk.file(dir.path());
        assert!(matches!(disk.write_through(folder, 0, &data), Err(DiskError::Io { what: "open", .. })));
        assert!(is_direct(&disk));
        disk.create(file).unwrap();
        assert_eq!(disk.write_through(file, 0, &data), Ok(()));
        assert_eq!(std::fs::read(&path).unwrap(), [7; 4096]);
    }

    #[test]
    fn a_file_system_that_refuses_direct_writes_is_written_to_as_usual() {
        let path = Path::new("/proc/self/comm");
        let disk = RealDisk::new(Path::new("/proc"), 16);
        let through = disk.through(disk.file(path)).unwrap();
        // Where this one takes them, nothing is refused.
        assert_eq!(through.direct, is_direct(&disk));
    }
}
