//! Which leader epoch begins at which offset of one log (KIP-101, KIP-279), and its file `leader-epoch-checkpoint`.
//!
//! Owns the list and Kafka's text format of it. Does not own the comparison of two logs: `replication` decides.
//! Invariant: epochs and offsets both grow strictly from entry to entry.
//!
//! ```text
//! 0                  version
//! 2                  number of entries
//! 0 0                epoch, first offset
//! 3 4711
//! ```

use std::fmt::Write;

use model::{LeaderEpoch, Offset};

/// The epochs of one log, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaderEpochs {
    starts: Vec<(LeaderEpoch, Offset)>,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EpochsError {
    #[error("line {line} of the epochs is not what was expected there")]
    Line { line: usize },
    #[error("epoch {epoch} at offset {offset} does not come after epoch {last_epoch} at {last_offset}")]
    Order { epoch: LeaderEpoch, offset: Offset, last_epoch: LeaderEpoch, last_offset: Offset },
    #[error("the epochs have version {version}, only 0 is known")]
    Version { version: i64 },
    #[error("{says} epochs announced, {has} are there")]
    Count { says: usize, has: usize },
}

impl LeaderEpochs {
    pub fn new() -> LeaderEpochs {
        LeaderEpochs::default()
    }

    /// # Errors
    /// When epochs or offsets do not grow.
    pub fn from_starts(starts: Vec<(LeaderEpoch, Offset)>) -> Result<LeaderEpochs, EpochsError> {
        for pair in starts.windows(2) {
            let [(last_epoch, last_offset), (epoch, offset)] = *pair else { continue };
            if epoch <= last_epoch || offset <= last_offset {
                return Err(EpochsError::Order { epoch, offset, last_epoch, last_offset });
            }
        }
        Ok(LeaderEpochs { starts })
    }

    pub fn starts(&self) -> &[(LeaderEpoch, Offset)] {
        &self.starts
    }

    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.starts.last().map(|(epoch, _)| *epoch)
    }

    /// Notes that `epoch` wrote at `start`. An epoch that is not newer than the latest changes nothing.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if self.latest().is_some_and(|latest| epoch <= latest) {
            return;
        }
        // An epoch that wrote nothing before the next one began leaves no trace.
        while self.starts.last().is_some_and(|(_, last)| *last >= start) {
            self.starts.pop();
        }
        self.starts.push((epoch, start));
    }

    /// The epoch that wrote at `offset`.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.starts.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).and_then(|at| self.starts.get(at)).map(|(epoch, _)| *epoch)
    }

    /// The newest epoch that is at most `epoch`, and the offset where it ended here. `None` when all epochs here are newer,
    /// or when `epoch` is newer than all of them (KIP-279: the asker then has to ask for an older one).
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.latest()?;
        if epoch > latest {
            return None;
        }
        let after = self.starts.partition_point(|(have, _)| *have <= epoch);
        let found = after.checked_sub(1).and_then(|at| self.starts.get(at))?;
        let end = self.starts.get(after).map_or(log_end, |(_, start)| *start);
        Some((found.0, end))
    }

    /// Forgets all that begins at `end` or behind.
    pub fn truncate_to(&mut self, end: Offset) {
        while self.starts.last().is_some_and(|(_, start)| *start >= end) {
            self.starts.pop();
        }
    }

    /// Forgets what ended before `start`; the epoch that was current there now begins there.
    pub fn delete_before(&mut self, start: Offset) {
        let after = self.starts.partition_point(|(_, have)| *have <= start);
        if let Some(current) = after.checked_sub(1) {
            self.starts.drain(..current);
            if let Some(first) = self.starts.first_mut() {
                first.1 = start.max(first.1);
            }
        }
    }

    /// Kafka's text of `leader-epoch-checkpoint`.
    pub fn to_text(&self) -> String {
        let mut text = format!("0\n{}\n", self.starts.len());
        for (epoch, start) in &self.starts {
            writeln!(text, "{epoch} {start}").expect("writing to a string cannot fail");
        }
        text
    }

    /// # Errors
    /// On anything but the format that `to_text` writes.
    pub fn from_text(text: &str) -> Result<LeaderEpochs, EpochsError> {
        let mut lines = text.lines().zip(1..);
        let mut number = |line: usize| -> Result<i64, EpochsError> {
            let (text, _) = lines.next().ok_or(EpochsError::Line { line })?;
            text.trim().parse().map_err(|_| EpochsError::Line { line })
        };
        let version = number(1)?;
        if version != 0 {
            return Err(EpochsError::Version { version });
        }
        let says = usize::try_from(number(2)?).map_err(|_| EpochsError::Line { line: 2 })?;
        let mut starts = Vec::new();
        for (text, line) in lines {
            let (epoch, offset) = text.trim().split_once(' ').ok_or(EpochsError::Line { line })?;
            let epoch = epoch.parse().ok().and_then(LeaderEpoch::from_wire).ok_or(EpochsError::Line { line })?;
            let offset = offset.parse().ok().and_then(Offset::from_wire).ok_or(EpochsError::Line { line })?;
            starts.push((epoch, offset));
        }
        if starts.len() != says {
            return Err(EpochsError::Count { says, has: starts.len() });
        }
        LeaderEpochs::from_starts(starts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(starts: &[(i32, i64)]) -> LeaderEpochs {
        let starts = starts.iter().map(|(epoch, start)| (LeaderEpoch::new(*epoch), Offset::new(*start)));
        LeaderEpochs::from_starts(starts.collect()).unwrap()
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let epochs = epochs(&[(0, 0), (2, 10), (5, 30)]);
        let end =
            |epoch| epochs.end_offset_for(LeaderEpoch::new(epoch), Offset::new(40)).map(|(e, o)| (e.get(), o.get()));
        assert_eq!(end(0), Some((0, 10)));
        assert_eq!(end(1), Some((0, 10)));
        assert_eq!(end(4), Some((2, 30)));
        assert_eq!(end(5), Some((5, 40)));
        assert_eq!(end(6), None);
    }

    #[test]
    fn an_epoch_without_records_leaves_no_trace() {
        let mut list = epochs(&[(0, 0), (2, 10)]);
        list.assign(LeaderEpoch::new(3), Offset::new(10));
        assert_eq!(list, epochs(&[(0, 0), (3, 10)]));
        list.assign(LeaderEpoch::new(1), Offset::new(20));
        assert_eq!(list, epochs(&[(0, 0), (3, 10)]));
    }

    #[test]
    fn deleting_the_start_keeps_the_epoch_that_is_current_there() {
        let mut list = epochs(&[(0, 0), (2, 10), (5, 30)]);
        list.delete_before(Offset::new(20));
        assert_eq!(list, epochs(&[(2, 20), (5, 30)]));
        list.truncate_to(Offset::new(30));
        assert_eq!(list, epochs(&[(2, 20)]));
    }

    #[test]
    fn the_text_is_the_one_of_kafka_and_reads_back() {
        let list = epochs(&[(0, 0), (3, 4711)]);
        assert_eq!(list.to_text(), "0\n2\n0 0\n3 4711\n");
        assert_eq!(LeaderEpochs::from_text(&list.to_text()).unwrap(), list);
        for bad in ["", "1\n0\n", "0\n2\n0 0\n", "0\n1\nx 0\n", "0\n2\n3 4\n1 9\n", "0\n1\n0 -1\n", "0\n-1\n"] {
            assert!(LeaderEpochs::from_text(bad).is_err(), "{bad:?}");
        }
    }
}
