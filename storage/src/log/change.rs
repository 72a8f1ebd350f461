//! Changes of a log other than appends: cutting its end, moving its start, beginning anew, going away.
//!
//! Owns their effect in memory and what that asks of the files. Does not own the decision.
//! Invariant: files are cut and removed only after the journal holds the operation: else a crash could leave a file shorter than
//! the checkpoint says.

use model::Offset;

use super::{Entry, Log, LogChange, Place, Position};
use crate::disk::{DiskError, ReadMode, Step};
use crate::reader::{ReadError, ReadPlan};
use crate::segment::{FileKind, Newest};

/// Where a log ends after a truncation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutPoint {
    pub end: Offset,
    /// `None`: no batch is left.
    pub at: Option<Place>,
}

/// Finds the byte where a log must be cut; run without the log's lock.
#[derive(Debug)]
pub struct CutPlan {
    plan: ReadPlan,
}

impl CutPlan {
    /// # Errors
    /// As a read of the batch at the cut.
    pub fn run(&self, disk: &dyn crate::disk::Disk) -> Result<CutPoint, ReadError> {
        let found = self.plan.find_first(disk, ReadMode::Blocking)?;
        // Where compaction left a hole, the next batch lies behind the cut.
        Ok(CutPoint { end: found.base.min(self.plan.from), at: Some(found.at) })
    }
}

impl Log {
    /// Where the log ends when everything from `to` on goes: at the batch that holds `to`, as a whole. Resolved from memory where
    /// that is possible, else by a plan.
    ///
    /// # Errors
    /// When `to` lies below the log's start.
    pub fn cut_point(&self, to: Offset) -> Result<Result<CutPoint, CutPlan>, ReadError> {
        if to >= self.log_end {
            return Ok(Ok(CutPoint { end: self.log_end, at: self.end_place() }));
        }
        let in_memory = self.tail.first_offset().is_some_and(|first| first <= to);
        if in_memory && let Some(batch) = self.tail.from(to).next() {
            return Ok(Ok(CutPoint { end: batch.batch.base_offset().min(to), at: Some(batch.at) }));
        }
        if to == self.log_start && self.segments.first().is_some_and(|first| first.facts.base >= to) {
            let at = self.segments.first().map(|first| Place { segment: first.facts.base, position: 0 });
            return Ok(Ok(CutPoint { end: to, at }));
        }
        Ok(Err(CutPlan { plan: self.plan_read(to, self.log_end, 1)? }))
    }

    fn end_place(&self) -> Option<Place> {
        self.segments.last().map(|last| Place { segment: last.facts.base, position: last.facts.size })
    }

    /// Cuts the end off.
    ///
    /// # Panics
    /// When the point lies outside of the log.
    pub fn truncate_to(&mut self, point: CutPoint) -> Entry {
        assert!(point.end >= self.log_start);
        assert!(point.end <= self.log_end);
        let operation = self.next_operation();
        self.cut(point);
        self.files.cut(operation);
        self.check_invariants();
        self.entry(operation, LogChange::Truncate { end: point.end, cut: point.at })
    }

    fn cut(&mut self, point: CutPoint) {
        self.tail.truncate_to(point.end);
        self.log_end = point.end;
        self.cleaned = self.cleaned.min(point.end);
        // What comes in its place is in no checkpoint yet.
        self.covered = self.covered.min(point.at.map(|at| at.segment));
        self.epochs.truncate_to(point.end);
        while let Some(last) = self.segments.last() {
            if point.at.is_some_and(|at| last.facts.base <= at.segment) {
                break;
            }
            let gone = self.segments.pop().expect("the loop saw it");
            self.files.remove_in_order(gone.facts.name());
        }
        let Some(at) = point.at else { return self.rewind(point) };
        let last = self.segments.last_mut().expect("the cut lies in a segment");
        assert!(last.facts.base == at.segment);
        if at.position < last.facts.size {
            last.facts.size = at.position;
            // The newest record may be gone; its time is still an upper bound.
            last.facts.newest.exact = false;
            let relative = u32::try_from(point.end.since(last.facts.base)).expect("an offset of this segment");
            if at.position == 0 {
                last.facts.newest = Newest::NONE;
                last.index.clear();
            } else {
                last.index.truncate_to(at.position, relative);
            }
            let name = last.facts.name();
            self.files.set_len_in_order(name, at.position);
        }
        self.rewind(point);
    }

    /// What is written or synced reaches no further than the log.
    fn rewind(&mut self, point: CutPoint) {
        let newest = self.segments.last().map_or(Newest::NONE, |last| last.facts.newest);
        let back = |position: &mut Position| {
            if position.end > point.end || position.at > point.at {
                let end = position.end.min(point.end);
                *position =
                    Position { operation: position.operation, end, at: point.at, newest, index: position.index };
            }
        };
        back(&mut self.written);
        self.files.after_cut();
    }

    /// Drops everything; the log goes on at `start`.
    pub fn reset(&mut self, start: Offset) -> Entry {
        let operation = self.next_operation();
        self.tail.clear();
        for segment in self.segments.drain(..) {
            self.files.remove_in_order(segment.facts.name());
        }
        self.epochs = crate::epochs::LeaderEpochs::new();
        self.log_start = start;
        self.log_end = start;
        self.cleaned = start;
        self.covered = None;
        self.written = Position::start(self.written.operation, start);
        self.files.after_cut();
        self.files.cut(operation);
        self.check_invariants();
        self.entry(operation, LogChange::Reset { start })
    }

    /// Moves the start. Segments that lie below it as a whole go once the journal holds the entry; the entry is journalled also
    /// for logs whose appends are not. `None` when the start is there already.
    ///
    /// # Panics
    /// When `start` lies behind the end.
    pub fn delete_before(&mut self, start: Offset) -> Option<Entry> {
        assert!(start <= self.log_end);
        if start <= self.log_start {
            return None;
        }
        let before = self.durable_start();
        let operation = self.next_operation();
        self.starting = Some((operation, before));
        self.log_start = start;
        self.epochs.delete_before(start);
        // The last segment stays: it is the one that grows.
        let keep = self.segments.windows(2).position(|pair| matches!(pair, [_, next] if next.facts.base > start));
        let gone = keep.unwrap_or(self.segments.len().saturating_sub(1));
        // Only what is in its file for good may go: a write in flight could bring the file back.
        let written = self.written.at.map_or(Offset::ZERO, |at| at.segment);
        let gone = self.segments.iter().take(gone).take_while(|segment| segment.facts.base < written).count();
        for segment in self.segments.drain(..gone) {
            self.files.remove_when_durable(operation, segment.facts.name());
        }
        self.check_invariants();
        Some(self.entry(operation, LogChange::DeleteBefore { start }))
    }

    /// The journal's word that this log is gone. Its folder is removed with `removal_steps` when the journal holds the entry.
    pub fn delete(&mut self) -> Entry {
        let operation = self.next_operation();
        self.deletion = Some(operation);
        self.entry(operation, LogChange::Delete)
    }

    /// Whether this process made the log's folder, or found files of the log in it.
    pub fn has_folder(&self) -> bool {
        self.files.folder_made()
    }

    /// Moves the log's folder out of the way and removes it. To be run when the deletion is durable and no write is in flight.
    pub fn removal_steps(&self) -> Vec<Step> {
        let gone = self.shared.root.join(format!("{}.{}-delete", self.folder, self.id.partition.topic));
        let mut steps: Vec<Step> = self
            .segments
            .iter()
            .flat_map(|segment| FileKind::ALL.map(|kind| segment.facts.name().path(&self.dir, kind)))
            .map(|path| Step::Forget { file: self.shared.disk.file(&path) })
            .collect();
        if !self.files.folder_made() {
            // Not by this process: one that lost all its segments may still be there.
            steps.push(Step::RemoveDir { path: self.dir.to_path_buf() });
            return steps;
        }
        // The name frees at once: a topic of the same name may come while the old files go.
        steps.push(Step::Rename { from: self.dir.to_path_buf(), to: gone.clone() });
        steps.push(Step::SyncDir { dir: self.shared.root.clone() });
        steps.push(Step::RemoveDir { path: gone });
        steps
    }

    /// Whether this failure ends the use of the disk. A full disk heals; everything else is final.
    pub fn is_final(error: &DiskError) -> bool {
        !matches!(error, DiskError::Full { .. } | DiskError::NotCached)
    }
}
