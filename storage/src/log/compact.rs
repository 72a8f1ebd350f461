//! Compaction: of each key the newest record stays.
//!
//! Owns the choice, the table of keys, what becomes of each batch, the new segments, and their swap into the log. Does not own when and
//! where a run is carried out: the node does, step by step, without the log's lock.
//! Invariant: a new segment is durable, its name included, before the log or the journal knows of it, and has a name that was never
//! used; the old files go only when the journal holds the swap. So a crash leaves the old segments or the new one, whole; what the log
//! does not know is removed by the next recovery.
//! Invariant: only segments that the checkpoint on the disk names are replaced: their batches are in no journal that counts.

mod choose;
mod cleaning;
mod filter;
mod map;
mod outcomes;
mod output;
mod sip;

use model::Offset;

use super::{Entry, Log, LogChange};
use crate::disk::Step;
use crate::offset_index::SegmentIndex;
use crate::segment::{Segment, SegmentFacts};

pub use choose::{CompactConfig, Worth};
pub use cleaning::{CleanError, Cleaning, Means, Stepped, Tally};
pub use map::SLOT_BYTES;

/// A segment, or nothing, in the place of some.
#[derive(Debug)]
pub struct Swap {
    sources: Vec<SegmentFacts>,
    new: Option<(SegmentFacts, SegmentIndex)>,
    /// What is cleaned once it is done.
    cleaned: Offset,
}

impl Swap {
    /// Steps that remove the new segment: the log does not take it.
    pub fn refuse(self, log: &Log) -> Vec<Step> {
        let name = self.new.map(|(facts, _)| facts.name());
        name.map_or_else(Vec::new, |name| output::remove_steps(&*log.shared.disk, &log.dir, name))
    }
}

impl Log {
    fn chosen(&self, now_ms: i64, decided: Offset) -> Option<choose::Chosen> {
        let (config, covered) = (self.config.compact?, self.covered?);
        let bounds = choose::Bounds { log_start: self.log_start, cleaned: self.cleaned, decided, covered, now_ms };
        let facts: Vec<&SegmentFacts> = self.segments.iter().map(|segment| &segment.facts).collect();
        choose::choose(&facts, bounds, config)
    }

    /// Whether it is worth while to clean the log. `decided`: all below is committed, and every transaction in it decided.
    pub fn worth_cleaning(&self, now_ms: i64, decided: Offset) -> Option<Worth> {
        self.chosen(now_ms, decided).map(|chosen| chosen.worth)
    }

    /// A run over what is worth while to be cleaned now.
    pub fn begin_cleaning(&self, decided: Offset, means: Means) -> Option<Cleaning> {
        let chosen = self.chosen(means.now_ms, decided)?;
        let source = |segment: &Segment| {
            let part = self.file_part(segment)?;
            (part.end == segment.facts.size).then(|| cleaning::Source { part, facts: segment.facts.clone() })
        };
        let sources: Option<Vec<_>> = self.segments.iter().take(chosen.segments).map(source).collect();
        let order = cleaning::Order {
            dir: std::sync::Arc::clone(&self.dir),
            sources: sources?,
            dirty: chosen.dirty,
            end: chosen.end,
            cleaned: self.cleaned,
            config: self.config.compact?,
            segment_bytes: self.config.segment_bytes,
            interval: self.config.index_interval_bytes,
        };
        Some(Cleaning::new(order, means))
    }

    /// Puts a new segment in the place of its sources. Its entry goes to the journal, also for a log whose appends do not; behind it
    /// the old files go. An error when the log is another by now: the run is to be abandoned.
    ///
    /// # Errors
    /// The steps that remove the new segment's files.
    pub fn adopt(&mut self, swap: Swap) -> Result<Entry, Vec<Step>> {
        let sources = &swap.sources;
        let at =
            sources.first().and_then(|first| self.segments.iter().position(|segment| segment.facts.base == first.base));
        let range = at.map(|at| at..at + sources.len());
        let held = range.clone().and_then(|range| self.segments.get(range));
        let same = held.is_some_and(|held| held.iter().map(|segment| &segment.facts).eq(sources));
        let closed = sources.last().zip(self.covered).is_some_and(|(last, covered)| last.base < covered);
        let (Some(range), Some(first), Some(last), true, true, None) =
            (range, sources.first(), sources.last(), same, closed, self.deletion)
        else {
            return Err(swap.refuse(self));
        };
        let (first, last) = (first.base, last.base);
        let Swap { sources, new, cleaned } = swap;
        let operation = self.next_operation();
        let files = new.as_ref().map(|(facts, index)| Box::new((facts.clone(), index.files)));
        self.segments.splice(range, new.map(|(facts, index)| Segment::recovered(facts, index)));
        for source in &sources {
            self.files.remove_when_durable(operation, source.name());
        }
        self.cleaned = cleaned.min(self.log_end);
        self.check_invariants();
        let what = LogChange::Replace { first, last, cleaned: self.cleaned, new: files };
        Ok(self.entry(operation, what))
    }

    /// What `checkpoint` gave is on the disk.
    pub fn checkpoint_saved(&mut self) {
        self.covered = self.synced.at.map(|at| at.segment);
    }

    /// Below it, compaction has seen everything.
    pub fn cleaned_end(&self) -> Offset {
        self.cleaned
    }

    #[cfg(test)]
    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len()
    }
}
