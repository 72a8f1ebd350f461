//! Reading and writing with the system's calls.
//!
//! Owns what is done about calls that end early. Does not own descriptors nor what an error means.
//! Invariant: a short write is continued and an interrupted call repeated; nothing else is tried again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};

use super::DirEntry;

/// Parts of one `pwritev`: the kernel's bound.
const PARTS_MAX: usize = 1024;

/// `RWF_DONTCACHE` (Linux 6.14): the pages are written out at once and then given back. Our next write gets the same ones, and a page
/// just used costs a tenth of one that the machine has long not touched.
pub(super) const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// Repeats a call that a signal interrupted.
pub(super) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Writes all parts, however many calls that takes.
pub(super) fn write_parts(file: &File, at: u64, parts: &[Bytes], flags: ReadWriteFlags) -> Result<(), Errno> {
    let mut at = at;
    let mut parts = parts.iter().map(|part| &part[..]).filter(|part| !part.is_empty()).collect::<Vec<_>>();
    let mut first = 0;
    while first < parts.len() {
        let end = parts.len().min(first + PARTS_MAX);
        let slices: Vec<io::IoSlice<'_>> = parts[first..end].iter().map(|part| io::IoSlice::new(part)).collect();
        let wrote = match flags.is_empty() {
            true => rustix::io::pwritev(file, &slices, at),
            false => rustix::io::pwritev2(file, &slices, at, flags),
        };
        let mut written = match wrote {
            // A disk that takes nothing and says nothing.
            Ok(0) => return Err(Errno::IO),
            Ok(written) => written,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        };
        at += written as u64;
        while let Some(part) = parts.get_mut(first) {
            if written < part.len() {
                *part = &part[written..];
                break;
            }
            written -= part.len();
            first += 1;
        }
    }
    Ok(())
}

/// Puts up to `len` bytes behind what a buffer holds, into its spare memory as it is.
pub(super) fn read_spare(file: &File, at: u64, len: usize, into: &mut Vec<u8>, may_wait: bool) -> io::Result<usize> {
    let spare = into.spare_capacity_mut();
    let len = len.min(spare.len());
    let slice = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: len };
    let flags = if may_wait { 0 } else { libc::RWF_NOWAIT };
    let at = libc::off_t::try_from(at).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the one slice names spare memory of the vector, which is borrowed alone until the call is over; the kernel only writes
    // into it, at most `len` bytes.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const slice, 1, at, flags) };
    let Ok(read) = usize::try_from(read) else { return Err(io::Error::last_os_error()) };
    assert!(read <= len);
    let filled = into.len() + read;
    // SAFETY: the capacity holds `len` more bytes, and the kernel has written the first `read` of them.
    unsafe { into.set_len(filled) };
    Ok(read)
}

/// Whether the page cache has all of a range; `None` where the kernel does not tell. A "no" holds only for a file system whose cache this
/// is. To be asked before `RWF_NOWAIT`: what that does not find it asks the device for, in front of everybody else.
pub(super) fn is_cached(file: &File, at: u64, len: usize) -> Option<bool> {
    Some(cached_pages(file, at, len)? >= pages_of(at, len, rustix::param::page_size() as u64))
}

/// Pages that a range touches.
pub(super) fn pages_of(at: u64, len: usize, page_bytes: u64) -> u64 {
    at.saturating_add(len as u64).div_ceil(page_bytes) - at / page_bytes
}

/// Pages of a range that the page cache has, or waits for (`cachestat`, Linux 6.5).
pub(super) fn cached_pages(file: &File, at: u64, len: usize) -> Option<u64> {
    /// Of all architectures.
    const CACHESTAT: libc::c_long = 451;
    let range = [at, len as u64];
    let mut pages = [0u64; 5];
    // SAFETY: both arrays have the layout of the call's structures, and live until it is over; it writes into the second alone.
    let result = unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), range.as_ptr(), pages.as_mut_ptr(), 0) };
    (result == 0).then_some(pages[0])
}

/// Whether an error says that the file system does not do direct I/O, at all or like that, and not that something is wrong with the file.
pub(super) fn refuses_direct(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS))
}

/// Opens a file for reads past the page cache.
pub(super) fn open_direct(path: &Path) -> io::Result<File> {
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap_or_default();
    retry(|| OpenOptions::new().read(true).custom_flags(direct).open(path))
}

/// Reads past the page cache. Place, length and memory are aligned. It may end anywhere: what is missing is not therefore behind the end
/// of the file.
pub(super) fn read_direct(file: &File, at: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match file.read_at(&mut into[got..], at + got as u64) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // From here on a direct read is refused.
        if !got.is_multiple_of(super::AlignedBuf::ALIGN) {
            break;
        }
    }
    Ok(got)
}

/// What a folder has, sorted by name.
pub(super) fn list(dir: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in retry(|| std::fs::read_dir(dir))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // A link's own length says nothing.
        let metadata = match entry.file_type()?.is_symlink() {
            true => std::fs::metadata(entry.path()),
            false => entry.metadata(),
        };
        match metadata {
            Ok(metadata) => entries.push(DirEntry { name, is_dir: metadata.is_dir(), len: metadata.size() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}
