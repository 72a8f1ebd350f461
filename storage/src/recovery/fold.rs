//! Checkpoint and journal folded to the final layout of each log.
//!
//! Owns what each operation does to a layout. Reads nothing: bytes that went to segments alone are checked afterwards.
//! Invariant: an operation that the checkpoint covers is skipped; those behind it must fit exactly, else the log is damaged.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::batch::StoredBatch;
use model::planted::{self, Bug};
use model::{LogId, Offset};

use super::Damage;
use crate::checkpoint::{Checkpoint, LogCheckpoint};
use crate::epochs::LeaderEpochs;
use crate::journal::entry::{DirectRange, Replayed, ReplayedChange};
use crate::journal::replay::ReplayedUnit;
use crate::offset_index::{IndexFiles, SegmentIndex};
use crate::segment::{Newest, Place, SegmentFacts, SegmentName};

/// A batch that survived, and where its bytes are.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) at: Place,
    pub(super) size: u32,
    /// In the order of all units.
    pub(super) unit: usize,
    pub(super) sequence: u64,
    pub(super) source: Source,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    Journal(StoredBatch),
    /// In the segment already, if the CRC says so.
    Segment(DirectRange),
}

#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// What the checkpoint said, changed by what came after. Sizes of segments count all pieces.
    pub(super) log: LogCheckpoint,
    pub(super) pieces: Vec<Piece>,
    /// What the files hold of a segment by the checkpoint's word: base and bytes.
    pub(super) trusted: BTreeMap<Offset, u32>,
    /// The data files in its folder, and their lengths, where that was looked at.
    pub(super) files: Vec<(SegmentName, u64)>,
    pub(super) damage: Option<Damage>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Folded {
    pub(super) logs: BTreeMap<LogId, Layout>,
    /// Folders of logs that were deleted.
    pub(super) deleted: Vec<String>,
    pub(super) notes: BTreeMap<String, Bytes>,
    pub(super) operations: u64,
}

pub(super) fn fold(checkpoint: &Checkpoint, units: &[ReplayedUnit]) -> Folded {
    let logs = checkpoint.logs.iter().map(|log| (log.id, Layout::new(log.clone()))).collect();
    let notes = checkpoint.notes.clone();
    let mut folded = Folded { logs, deleted: Vec::new(), notes, operations: checkpoint.operations };
    for (number, unit) in units.iter().enumerate() {
        for entry in &unit.entries {
            folded.apply(number, unit.sequence, entry);
        }
    }
    folded
}

impl Folded {
    fn apply(&mut self, unit: usize, sequence: u64, entry: &Replayed) {
        let (log, operation, what) = match entry {
            Replayed::EndOfUnit => return,
            Replayed::Note { key, value } => {
                // A copy: the note lives on, its group does not.
                self.notes.insert(key.clone(), Bytes::copy_from_slice(value));
                return;
            }
            Replayed::Log { log, operation, what } => (*log, *operation, what),
        };
        self.operations = self.operations.max(operation);
        if let ReplayedChange::Create { start, journalled, folder } = what {
            // Nobody else is looked at: thousands of logs may have been made since the checkpoint.
            let is_namesake = |known: &&Layout| known.log.folder == *folder && known.log.id != log;
            if planted::is(Bug::NamesakeServed)
                && let Some(mut known) = self.logs.values().find(is_namesake).cloned()
            {
                (known.log.id, known.log.operation) = (log, operation);
                return drop(self.logs.insert(log, known));
            }
            if self.logs.get(&log).is_none_or(|known| known.log.operation < operation) {
                self.logs.insert(log, Layout::new(LogCheckpoint::created(log, operation, *start, *journalled, folder)));
            }
            return;
        }
        // A log that is in neither checkpoint nor journal was deleted before the checkpoint was taken.
        let Some(layout) = self.logs.get_mut(&log) else { return };
        if operation <= layout.log.operation && !planted::is(Bug::OldEntriesReplayed) {
            return;
        }
        layout.log.operation = operation;
        if let ReplayedChange::Delete = what {
            if planted::is(Bug::NamesakeServed) {
                return;
            }
            let gone = self.logs.remove(&log);
            self.deleted.extend(gone.map(|layout| layout.log.folder));
            return;
        }
        if layout.damage.is_none() {
            layout.change(unit, sequence, operation, what);
        }
    }
}

impl Layout {
    fn new(log: LogCheckpoint) -> Layout {
        let trusted = log.segments.iter().map(|(facts, _)| (facts.base, facts.size)).collect();
        Layout { log, pieces: Vec::new(), trusted, files: Vec::new(), damage: None }
    }

    /// The files of the segment with this base.
    pub(super) fn name(&self, base: Offset) -> SegmentName {
        let found = self.log.segments.binary_search_by_key(&base, |(facts, _)| facts.base);
        let known = found.ok().and_then(|at| self.log.segments.get(at));
        known.map_or(SegmentName::first(base), |(facts, _)| facts.name())
    }

    fn change(&mut self, unit: usize, sequence: u64, operation: u64, what: &ReplayedChange) {
        match what {
            ReplayedChange::Append { at, bytes } => match StoredBatch::parse(bytes.clone()) {
                Ok(batch) => {
                    let (first, end) = (batch.base_offset(), batch.next_offset());
                    let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    let piece = Piece { at: *at, size, unit, sequence, source: Source::Journal(batch) };
                    self.append(piece, operation, first, end);
                }
                Err(_) => {
                    let at = u64::from(at.position);
                    self.damage = Some(Damage::Bytes { segment: self.log.log_end, at });
                }
            },
            ReplayedChange::Direct { at, direct } => {
                let source = Source::Segment(*direct);
                self.append(
                    Piece { at: *at, size: direct.size, unit, sequence, source },
                    operation,
                    direct.first,
                    direct.end,
                );
            }
            ReplayedChange::Truncate { end, cut } => self.truncate(*end, *cut),
            ReplayedChange::Reset { start } => {
                self.truncate(*start, None);
                self.log.log_start = *start;
                self.log.cleaned = *start;
                self.log.epochs = LeaderEpochs::new();
                self.log.producers = None;
            }
            ReplayedChange::DeleteBefore { start } => self.delete_before(*start),
            ReplayedChange::Replace { first, last, cleaned, new } => {
                self.replace(operation, (*first, *last), *cleaned, new.as_deref());
            }
            ReplayedChange::Create { .. } | ReplayedChange::Delete => {}
        }
    }

    fn append(&mut self, piece: Piece, operation: u64, first: Offset, end: Offset) {
        let Place { segment, position } = piece.at;
        let fits = match self.log.segments.last() {
            Some((last, _)) if last.base == segment => last.size == position,
            Some((last, _)) => last.base < segment && position == 0,
            None => position == 0,
        };
        let size = position.checked_add(piece.size).filter(|_| end.since(segment) <= 1 << 31);
        let (true, true, Some(size)) = (fits && first >= self.log.log_end && first >= segment, end > first, size)
        else {
            self.damage = Some(Damage::Order { operation, end: self.log.log_end });
            return;
        };
        if position == 0 && self.log.segments.last().is_none_or(|(last, _)| last.base != segment) {
            self.log.segments.push((SegmentFacts::new(segment), IndexFiles::default()));
        }
        if let Some((last, _)) = self.log.segments.last_mut() {
            last.size = size;
        }
        self.log.log_end = end;
        self.pieces.push(piece);
    }

    fn truncate(&mut self, end: Offset, cut: Option<Place>) {
        self.pieces.retain(|piece| cut.is_some_and(|cut| piece.at < cut));
        while self.log.segments.last().is_some_and(|(last, _)| cut.is_none_or(|cut| last.base > cut.segment)) {
            self.log.segments.pop();
        }
        self.trusted.retain(|base, _| cut.is_some_and(|cut| *base <= cut.segment));
        if let (Some(cut), Some((last, index))) = (cut, self.log.segments.last_mut())
            && last.base == cut.segment
            && last.size > cut.position
        {
            last.size = cut.position;
            let trusted = self.trusted.get_mut(&cut.segment);
            // Only batches of the journal went: what the checkpoint said of the rest still holds.
            if let Some(trusted) = trusted.filter(|trusted| **trusted > cut.position) {
                *trusted = cut.position;
                last.newest.exact = false;
                *index = IndexFiles::default();
            }
            if cut.position == 0 {
                last.newest = Newest::NONE;
            }
        }
        self.log.log_end = end;
        self.log.cleaned = self.log.cleaned.min(end);
        self.log.log_start = self.log.log_start.min(end);
        self.log.epochs.truncate_to(end);
        if self.log.producers.as_ref().is_some_and(|producers| producers.offset > end) {
            self.log.producers = None;
        }
    }

    fn delete_before(&mut self, start: Offset) {
        self.log.log_start = self.log.log_start.max(start.min(self.log.log_end));
        let start = self.log.log_start;
        let gone = self
            .log
            .segments
            .windows(2)
            .take_while(|pair| matches!(pair, [_, (next, _)] if next.base <= start))
            .count();
        self.log.segments.drain(..gone);
        let first = self.log.segments.first().map(|(first, _)| first.base);
        self.pieces.retain(|piece| first.is_some_and(|first| piece.at.segment >= first));
        self.trusted.retain(|base, _| first.is_some_and(|first| *base >= first));
    }

    /// Compaction has put one segment, or none, in the place of some: its file was durable before the journal said so. Done twice it
    /// does the same, since the checkpoint may know it already.
    fn replace(
        &mut self,
        operation: u64,
        (first, last): (Offset, Offset),
        cleaned: Offset,
        new: Option<&(SegmentFacts, IndexFiles)>,
    ) {
        let segments = &mut self.log.segments;
        let follows = segments.last().is_some_and(|(newest, _)| newest.base > last);
        if !follows || first > last || new.is_some_and(|(facts, _)| facts.base != first) {
            self.damage = Some(Damage::Order { operation, end: self.log.log_end });
            return;
        }
        segments.retain(|(facts, _)| facts.base < first || facts.base > last);
        self.pieces.retain(|piece| piece.at.segment < first || piece.at.segment > last);
        self.trusted.retain(|base, _| *base < first || *base > last);
        if let Some((facts, index)) = new {
            let at = segments.partition_point(|(before, _)| before.base < first);
            segments.insert(at, (facts.clone(), *index));
            self.trusted.insert(first, facts.size);
        }
        self.log.cleaned = cleaned.min(self.log.log_end);
    }

    /// What the surviving pieces say of epochs, times and indexes. To be called when the bytes of all pieces are known.
    pub(super) fn settle(&mut self, batches: &[StoredBatch]) -> Vec<SegmentIndex> {
        const INTERVAL_BYTES: u32 = 4096;
        let mut indexes: Vec<SegmentIndex> = self
            .log
            .segments
            .iter()
            .map(|(facts, files)| SegmentIndex {
                files: *files,
                last_time_ms: (files.times.entries > 0).then_some(facts.newest.timestamp_ms),
                ..SegmentIndex::default()
            })
            .collect();
        for (piece, batch) in self.pieces.iter().zip(batches) {
            let found = self.log.segments.binary_search_by_key(&piece.at.segment, |(facts, _)| facts.base);
            let Ok(number) = found else { continue };
            let (Some((facts, _)), Some(index)) = (self.log.segments.get_mut(number), indexes.get_mut(number)) else {
                continue;
            };
            let header = batch.header();
            index.add(facts.base.get(), header, piece.at.position, piece.size, facts.newest, INTERVAL_BYTES);
            if piece.at.position == 0 {
                facts.first_timestamp_ms = header.max_timestamp;
            }
            facts.newest.add(header.newest_timestamp(), header.last_offset());
            if let Some(epoch) = batch.leader_epoch() {
                self.log.epochs.assign(epoch, batch.base_offset());
            }
        }
        let sealed = indexes.len().saturating_sub(1);
        for (index, (facts, _)) in indexes.iter_mut().zip(&self.log.segments).take(sealed) {
            if index.memory.is_some() {
                index.seal(facts.base.get(), facts.newest);
            }
        }
        self.log.epochs.delete_before(self.log.log_start);
        indexes
    }
}
