//! A log as the checkpoint holds it.
//!
//! Owns which of its facts belong to the synced position. Invariant: what is captured was synced, facts and all.

use model::Offset;

use super::Log;
use crate::checkpoint::{LogCheckpoint, ProducerSnapshot};

impl Log {
    /// The log's part of a checkpoint. `producers` may be ahead of what is synced. `None` while a cut is on its way to the disk: then
    /// no earlier state can be told any more; write, sync, ask again.
    pub fn checkpoint(&self, high_watermark: Offset, producers: Option<ProducerSnapshot>) -> Option<LogCheckpoint> {
        if !self.files.cut_is_over(self.synced.operation) {
            return None;
        }
        let mut segments = Vec::new();
        if let Some(at) = self.synced.at {
            for segment in self.segments.iter().take_while(|segment| segment.facts.base <= at.segment) {
                let mut facts = segment.facts.clone();
                let mut index = segment.index.files;
                if facts.base == at.segment {
                    facts.size = at.position;
                    facts.newest = self.synced.newest;
                    index = self.synced.index;
                }
                segments.push((facts, index));
            }
        }
        let mut epochs = self.epochs.clone();
        epochs.truncate_to(self.synced.end);
        Some(LogCheckpoint {
            id: self.id,
            folder: self.folder.to_string(),
            journalled: self.journalled,
            // The files are still there: it is the journal that says that they go.
            operation: self.deletion.map_or(self.synced.operation, |deletion| self.synced.operation.min(deletion - 1)),
            // The start may have moved beyond what is synced; then nothing of that counts.
            log_start: self.log_start.min(self.synced.end),
            log_end: self.synced.end,
            high_watermark,
            cleaned: self.cleaned.min(self.synced.end),
            producers,
            epochs,
            segments,
        })
    }
}
