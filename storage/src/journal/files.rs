//! The files of the journal: which are in use, which are free, when there must be more.
//!
//! Owns that bookkeeping and how a file is made. Does not own what is written into them.
//! Invariant: a file is free only when it holds no group that a recovery would need. Files are written full of zeros when they are
//! made: a growing file, or one that is merely allocated, costs a commit of the file system with each sync.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use model::units::MIB;

use crate::disk::{Disk, FileId, Step};

/// The first file: small, so that an empty directory is ready at once.
pub(crate) const FIRST_FILE_BYTES: u64 = 4 * MIB;
const FILE_BYTES_MAX: u64 = 64 * MIB;
/// All files together, but for a single large group.
const TOTAL_BYTES_MAX: u64 = 512 * MIB;
const ZERO_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalFile {
    pub(crate) number: u64,
    pub(crate) file: FileId,
    pub(crate) len: u64,
}

#[derive(Debug)]
struct Full {
    file: JournalFile,
    last_sequence: u64,
    used: u64,
}

#[derive(Debug)]
pub(crate) struct Files {
    current: JournalFile,
    position: u64,
    /// Of the groups in the current file.
    last_sequence: u64,
    full: VecDeque<Full>,
    free: VecDeque<JournalFile>,
    growing: Option<(u64, u64)>,
    /// A group that no file can hold needs this.
    wanted: u64,
    next_number: u64,
}

impl Files {
    /// # Panics
    /// Without a file.
    pub(crate) fn new(mut files: Vec<JournalFile>) -> Files {
        files.sort_by_key(|file| file.number);
        let next_number = files.last().map_or(0, |file| file.number) + 1;
        let mut free: VecDeque<_> = files.into();
        let current = free.pop_front().expect("opening makes a file when there is none");
        let (full, growing) = (VecDeque::new(), None);
        Files { current, position: 0, last_sequence: 0, full, free, growing, wanted: 0, next_number }
    }

    pub(crate) fn all(&self) -> Vec<JournalFile> {
        let full = self.full.iter().map(|full| full.file);
        full.chain([self.current]).chain(self.free.iter().copied()).collect()
    }

    fn room(&self) -> u64 {
        self.current.len - self.position
    }

    /// Bytes of the largest group that can be placed now.
    pub(crate) fn largest_room(&self) -> u64 {
        self.room().max(self.free.iter().map(|file| file.len).max().unwrap_or(0))
    }

    /// Where a group of this size goes.
    pub(crate) fn place(&mut self, bytes: u64, sequence: u64) -> Option<(FileId, u64)> {
        if self.room() < bytes {
            let next = self.free.iter().position(|file| file.len >= bytes)?;
            let next = self.free.remove(next)?;
            let used = self.position;
            self.full.push_back(Full { file: self.current, last_sequence: self.last_sequence, used });
            self.current = next;
            self.position = 0;
        }
        let at = self.position;
        self.position += bytes;
        self.last_sequence = sequence;
        Some((self.current.file, at))
    }

    pub(crate) fn used(&self) -> u64 {
        self.position + self.full.iter().map(|full| full.used).sum::<u64>()
    }

    pub(crate) fn total(&self) -> u64 {
        let full: u64 = self.full.iter().map(|full| full.file.len).sum();
        let free: u64 = self.free.iter().map(|free| free.len).sum();
        self.current.len + full + free
    }

    fn left(&self) -> u64 {
        self.room() + self.free.iter().map(|free| free.len).sum::<u64>()
    }

    /// How long a journal may get while there is room is the node's business.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        let used = self.used();
        let scarce = self.left() < self.total() / 4 && used > self.total() / 4;
        scarce || (self.wanted > 0 && used > 0)
    }

    pub(crate) fn recycle(&mut self, from: u64) {
        while self.full.front().is_some_and(|full| full.last_sequence < from) {
            let Some(full) = self.full.pop_front() else { break };
            self.free.push_back(full.file);
        }
        if self.last_sequence < from {
            // Nothing in it counts any more. One file is enough for a journal that cannot have another.
            self.position = 0;
        }
    }

    pub(crate) fn want(&mut self, bytes: u64) {
        self.wanted = self.wanted.max(bytes);
    }

    /// Length of a file to be made, if there should be one more.
    pub(crate) fn growth_bytes(&self) -> Option<u64> {
        let total = self.total();
        let fits = self.wanted <= self.current.len || self.free.iter().any(|file| file.len >= self.wanted);
        let scarce = self.left() < total / 2 && total < TOTAL_BYTES_MAX;
        if self.growing.is_some() || (!scarce && fits) {
            return None;
        }
        Some(total.clamp(FIRST_FILE_BYTES, FILE_BYTES_MAX).max(self.wanted.next_multiple_of(MIB)))
    }

    /// Number and length of a file to be made, if there should be one more.
    pub(crate) fn begin_growth(&mut self) -> Option<(u64, u64)> {
        let growing = (self.next_number, self.growth_bytes()?);
        self.growing = Some(growing);
        Some(growing)
    }

    pub(crate) fn growing(&self) -> Option<u64> {
        self.growing.map(|(number, _)| number)
    }

    pub(crate) fn end_growth(&mut self, file: Option<FileId>) {
        let (number, len) = self.growing.take().expect("a growth was in flight");
        if let Some(file) = file {
            self.next_number = number + 1;
            self.free.push_back(JournalFile { number, file, len });
            if len >= self.wanted {
                self.wanted = 0;
            }
        }
    }
}

pub(crate) fn dir(root: &Path) -> PathBuf {
    root.join(".weir").join("journal")
}

pub(crate) fn file_path(root: &Path, number: u64) -> PathBuf {
    dir(root).join(format!("{number:08}"))
}

pub(crate) fn number_of(name: &str) -> Option<u64> {
    let is_number = name.len() >= 8 && name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| name.parse().ok()).flatten()
}

/// Removes what a growth that failed has left. A full disk needs the room.
pub(crate) fn undo_growth_steps(disk: &dyn Disk, root: &Path, number: u64) -> Vec<Step> {
    let temporary = file_path(root, number).with_extension("tmp");
    vec![Step::Forget { file: disk.file(&temporary) }, Step::RemoveFile { path: temporary }]
}

/// Makes a file of zeros. Under another name until it is whole: a recovery must not take half of one for a journal file.
pub(crate) fn growth_steps(disk: &dyn Disk, root: &Path, number: u64, len: u64) -> Vec<Step> {
    let path = file_path(root, number);
    let temporary = path.with_extension("tmp");
    let file = disk.file(&temporary);
    let zeros = Bytes::from(vec![0; ZERO_BYTES]);
    let mut steps = vec![Step::Create { file }, Step::SetLen { file, len: 0 }];
    let mut at = 0;
    while at < len {
        let part = (len - at).min(ZERO_BYTES as u64);
        let part = zeros.slice(..usize::try_from(part).expect("at most ZERO_BYTES"));
        let next = at + part.len() as u64;
        steps.push(Step::Write { file, at, parts: vec![part], cached: false });
        at = next;
    }
    steps.push(Step::Sync { file, awaited: false });
    steps.push(Step::Forget { file });
    steps.push(Step::Rename { from: temporary, to: path });
    steps.push(Step::SyncDir { dir: dir(root) });
    steps
}
