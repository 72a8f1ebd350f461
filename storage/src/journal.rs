//! The journal: one run of groups over a recycled set of files, shared by all logs of a data directory.
//!
//! Owns sequence numbers, which file takes the next group, what is durable, and the notes. Does no I/O: it gives steps. Does not own
//! queues of units, nor logs.
//! Invariant: groups are written in the order of their numbers, and durable is the end of the prefix of which the journal's write
//! and all direct writes are done. A file takes new groups only when a checkpoint covers all that it holds.

pub mod carry;
pub mod entry;
pub(crate) mod files;
pub(crate) mod group;
pub(crate) mod manifest;
pub(crate) mod replay;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use model::LogId;

use crate::checkpoint::CarriedFile;
use crate::disk::{AlignedBuf, BufferPool, DiskError, Step};
use crate::log::{DirectWrite, Shared};
use carry::{Carried, Carry};
use entry::{Entry, Unit};

use files::{Files, JournalFile, file_path};
use manifest::Manifest;

/// No file has room: a checkpoint must free one, or growth make one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the journal is full: {needed} bytes are needed, {used} of {total} are in use")]
pub struct JournalFull {
    pub needed: u64,
    pub used: u64,
    pub total: u64,
}

/// One group, to be written: `steps` in lane `Journal`, each direct write in lane `Segments`, side by side.
#[derive(Debug)]
pub struct Group {
    pub sequence: u64,
    pub steps: Vec<Step>,
    pub directs: Vec<(LogId, DirectWrite)>,
    /// How many units it took from the front of the queue.
    pub units: usize,
}

/// Which part of a group is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupPart {
    Journal,
    /// One of its direct writes.
    Direct,
}

/// What has become durable.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Durable {
    /// Units, counted from the front of all units that are not durable yet.
    pub units: usize,
    /// Per log the newest operation, for `Log::durable_to`.
    pub logs: BTreeMap<LogId, u64>,
}

#[derive(Debug, Default)]
struct InFlight {
    journal_left: bool,
    directs_left: usize,
    units: usize,
    logs: BTreeMap<LogId, u64>,
    notes: Vec<(String, Bytes)>,
}

#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    /// Sets this life of the journal apart: groups with another salt are not ours.
    salt: u64,
    next_sequence: u64,
    durable: u64,
    in_flight: BTreeMap<u64, InFlight>,
    files: Files,
    notes: BTreeMap<String, Bytes>,
    /// Direct writes that no group carries yet.
    directs: Vec<(LogId, DirectWrite)>,
    /// Groups before this one are covered by the newest checkpoint.
    covered: u64,
    /// What that one carried along for logs that it could not cover.
    carried: Option<CarriedFile>,
    carries: u64,
    /// For groups: one is written while the next gathers.
    buffers: Arc<BufferPool>,
}

impl Journal {
    pub(crate) fn new(shared: Arc<Shared>, salt: u64, files: Files, notes: BTreeMap<String, Bytes>) -> Journal {
        Journal {
            shared,
            salt,
            next_sequence: 1,
            durable: 0,
            in_flight: BTreeMap::new(),
            files,
            notes,
            directs: Vec::new(),
            covered: 1,
            carried: None,
            carries: 0,
            buffers: Arc::default(),
        }
    }

    /// The number of the next group. What a checkpoint covers is named by it: all groups before.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The newest group that is durable with all groups before it.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    #[cfg(test)]
    pub(crate) fn set_salt(&mut self, salt: u64) {
        self.salt = salt;
    }

    pub(crate) fn salt(&self) -> u64 {
        self.salt
    }

    /// Notes as the durable journal has them.
    pub fn notes(&self) -> &BTreeMap<String, Bytes> {
        &self.notes
    }

    /// The logs that would be asked to write beside the journal if the next group were formed from these units now.
    pub fn direct_candidates(&self, queue: &VecDeque<Unit>) -> impl Iterator<Item = LogId> {
        group::direct_candidates(queue, self.files.largest_room()).into_iter().map(|(log, _)| log)
    }

    /// Takes units from the front of the queue, as many as one group holds, and gives the group. `None` when the queue is empty.
    ///
    /// A log that gives at least `limits::JOURNAL_DIRECT_BYTES` is asked through `direct` to write beside the journal: the caller
    /// locks the log and calls `Log::direct` with these operations. It may refuse; then the bytes go through the journal.
    /// No lock of a log may be held by the caller.
    ///
    /// # Errors
    /// When no file has room. The queue is as it was.
    pub fn group(
        &mut self,
        queue: &mut VecDeque<Unit>,
        direct: &mut dyn FnMut(LogId, &[u64]) -> Option<DirectWrite>,
    ) -> Result<Option<Group>, JournalFull> {
        if queue.is_empty() {
            return Ok(None);
        }
        let room = self.files.largest_room();
        let candidates = group::direct_candidates(queue, room);
        let mut chosen = BTreeSet::new();
        for (log, operations) in candidates {
            if let Some(write) = direct(log, &operations) {
                self.directs.push((log, write));
                chosen.insert(log);
            }
        }
        let (units, bytes) = group::count_units(queue, room, &chosen);
        if units == 0 {
            let needed = queue.front().map_or(0, |unit| group::unit_size(unit, &chosen)) + group::HEAD_BYTES;
            let needed = needed.next_multiple_of(AlignedBuf::ALIGN) as u64;
            // Direct writes that were begun go out with the next group: they are right whenever they are written.
            self.files.want(needed);
            return Err(JournalFull { needed, used: self.files.used(), total: self.files.total() });
        }
        let directs = std::mem::take(&mut self.directs);
        let mut in_flight = InFlight { journal_left: true, directs_left: directs.len(), units, ..InFlight::default() };
        let sequence = self.next_sequence;
        let mut writer = group::Writer::new(self.salt, sequence, self.durable, self.buffers.take(bytes));
        for unit in queue.drain(..units) {
            for entry in unit.entries {
                writer.entry(&entry, group::goes_direct(&entry, &chosen));
                match entry {
                    Entry::Log(entry) => {
                        in_flight.logs.insert(entry.log, entry.operation);
                    }
                    Entry::Note { key, value } => in_flight.notes.push((key, value)),
                }
            }
            writer.end_unit();
        }
        let data = writer.finish();
        let (file, at) = self.files.place(data.len() as u64, sequence).expect("counted with the room there is");
        self.next_sequence += 1;
        self.in_flight.insert(sequence, in_flight);
        Ok(Some(Group { sequence, steps: vec![Step::WriteThrough { file, at, data }], directs, units }))
    }

    /// A part of a group is done, without error. Gives what has become durable by it.
    ///
    /// # Panics
    /// When no such part is in flight.
    pub fn part_done(&mut self, sequence: u64, part: GroupPart) -> Durable {
        let group = self.in_flight.get_mut(&sequence).expect("a part of a group that is in flight");
        match part {
            GroupPart::Journal => {
                assert!(group.journal_left);
                group.journal_left = false;
            }
            GroupPart::Direct => {
                assert!(group.directs_left > 0);
                group.directs_left -= 1;
            }
        }
        let mut durable = Durable::default();
        while let Some(first) = self.in_flight.first_entry() {
            if first.get().journal_left || first.get().directs_left > 0 {
                break;
            }
            assert!(*first.key() == self.durable + 1);
            let group = first.remove();
            self.durable += 1;
            durable.units += group.units;
            durable.logs.extend(group.logs);
            self.notes.extend(group.notes);
        }
        durable
    }

    /// Groups that are written but not durable.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Bytes that wait for a checkpoint.
    pub fn used_bytes(&self) -> u64 {
        self.files.used()
    }

    /// A checkpoint should run now: little room is left, or a group waits for room.
    pub fn wants_checkpoint(&self) -> bool {
        self.files.wants_checkpoint()
    }

    /// A checkpoint that covers all groups before `from` is durable: their files take new groups. `carried`: what it took along.
    pub fn recycle(&mut self, from: u64, carried: Option<&Carried>) {
        assert!(from <= self.durable + 1);
        self.covered = from;
        self.carried = carried.map(|carried| carried.file);
        self.files.recycle(from);
    }

    /// Takes along what all groups before `to` hold for these logs, so that a checkpoint need not cover them.
    ///
    /// # Panics
    /// When one of these groups is not durable.
    pub fn carry(&mut self, logs: BTreeSet<LogId>, to: u64) -> Arc<Carry> {
        assert!(to <= self.durable + 1);
        self.carries += 1;
        let (root, number) = (self.shared.root.clone(), self.carries);
        let file = self.shared.disk.file(&carry::carried_path(&root, number));
        Arc::new(Carry {
            root,
            salt: self.salt,
            from: self.covered,
            to,
            files: self.files.all(),
            logs,
            before: self.carried,
            number,
            file,
            done: Mutex::default(),
        })
    }

    /// Removes what an earlier checkpoint took along and the next one does not name; to be run behind that.
    pub(crate) fn forget_carried(&self, next: Option<CarriedFile>) -> Option<Step> {
        let gone = self.carried.filter(|carried| Some(*carried) != next)?;
        Some(Step::RemoveFile { path: carry::carried_path(&self.shared.root, gone.number) })
    }

    /// Length of the file that `grow` would make now.
    pub fn growth_bytes(&self) -> Option<u64> {
        self.files.growth_bytes()
    }

    /// Steps that make one more file, if it is time for that; lane `Segments`. Their end is told to `grown`.
    pub fn grow(&mut self) -> Option<Vec<Step>> {
        let (number, len) = self.files.begin_growth()?;
        let (disk, root) = (&*self.shared.disk, &self.shared.root);
        let mut steps = files::growth_steps(disk, root, number, len);
        let path = file_path(root, number);
        let mut files = self.files.all();
        files.push(JournalFile { number, file: disk.file(&path), len });
        // Before a group goes to it, and behind its name: a crash in between leaves a file that nobody misses.
        steps.extend(Manifest::new([self.salt; 2], &files).steps(disk, root));
        Some(steps)
    }

    /// Steps that remove what a growth that failed has left; lane `Segments`. Only then it is told to `grown`.
    pub fn undo_growth(&self) -> Vec<Step> {
        let number = self.files.growing().expect("a growth was in flight");
        files::undo_growth_steps(&*self.shared.disk, &self.shared.root, number)
    }

    /// As `grown` with an error.
    pub fn growth_failed(&mut self) {
        self.files.end_growth(None);
    }

    /// The growth has ended. A full disk is no harm: it is tried again when there is need.
    pub fn grown(&mut self, result: &Result<(), DiskError>) {
        let disk = &*self.shared.disk;
        let file = self.files.growing().map(|number| disk.file(&file_path(&self.shared.root, number)));
        self.files.end_growth(file.filter(|_| result.is_ok()));
    }
}
