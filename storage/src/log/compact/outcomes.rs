//! Which transactions of a part of a log were aborted.
//!
//! Owns what the markers say. Does not own reading: `cleaning` shows it the batches in their order.
//! Invariant: nothing is said about a transaction whose marker was not seen: cleaning ends before it.

use std::collections::BTreeMap;

use model::Offset;
use model::batch::{BatchHeader, StoredBatch};

use crate::record::{ReadLimits, RecordReader};

#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Of each producer: from the first record to the marker.
    aborted: BTreeMap<i64, Vec<(i64, i64)>>,
    /// First records of transactions without a marker.
    open: BTreeMap<i64, i64>,
}

impl Outcomes {
    pub(super) fn see(&mut self, batch: &StoredBatch) {
        let header = batch.header();
        if !header.attributes.is_transactional() {
            return;
        }
        if !header.attributes.is_control() {
            self.open.entry(header.producer_id).or_insert(header.base_offset);
            return;
        }
        let Some(first) = self.open.remove(&header.producer_id) else { return };
        // What cannot be read as a commit counts as none: then the records stay out of the comparison, and stay.
        if marker_of(batch) == Some(Marker::Abort) {
            self.aborted.entry(header.producer_id).or_default().push((first, header.base_offset));
        }
    }

    /// Whether the records of this batch were taken back.
    pub(super) fn is_aborted(&self, header: &BatchHeader) -> bool {
        let of_producer = self.aborted.get(&header.producer_id);
        header.attributes.is_transactional()
            && !header.attributes.is_control()
            && of_producer
                .is_some_and(|all| all.iter().any(|(first, marker)| (*first..*marker).contains(&header.base_offset)))
    }

    /// The first record whose fate is not known.
    pub(super) fn first_open(&self) -> Option<Offset> {
        self.open.values().copied().min().and_then(Offset::from_wire)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Marker {
    Abort,
    Commit,
}

/// What a control batch says; its key is a version and a type, two bytes each.
pub(super) fn marker_of(batch: &StoredBatch) -> Option<Marker> {
    let records = batch.records();
    let mut reader = RecordReader::new(batch.header(), &records, ReadLimits::default()).ok()?;
    let key = reader.next().ok()??.key?;
    match key.get(2..4)? {
        [0, 0] => Some(Marker::Abort),
        [0, 1] => Some(Marker::Commit),
        _ => None,
    }
}
