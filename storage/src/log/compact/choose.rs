//! Which part of a log is to be cleaned, whether that is worth it, and which segments become one.
//!
//! Owns these choices, which are pure. Does not own reading or writing.
//! Invariant: only segments that are closed, that the checkpoint on the disk names, and whose records are all decided are chosen.

use std::ops::Range;

use model::{Offset, limits};

use crate::segment::SegmentFacts;

/// What a topic's configuration says to the cleaner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompactConfig {
    /// `delete.retention.ms`: how long a tombstone stays after it was first met.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`
    pub lag_min_ms: i64,
    /// `max.compaction.lag.ms`
    pub lag_max_ms: i64,
    /// `min.cleanable.dirty.ratio`, in millionths.
    pub dirty_ratio_min: u64,
}

/// How much there is to gain. The larger the better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Worth {
    /// A record waits longer than the topic allows.
    pub overdue: bool,
    /// Of what would be read, in millionths.
    pub dirty_ratio: u64,
}

/// What would be cleaned: the first so many segments of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chosen {
    pub segments: usize,
    /// Keys are taken from here on; older records were compared with each other before.
    pub dirty: Offset,
    /// Where the last of them ends.
    pub end: Offset,
    pub worth: Worth,
}

/// Of a log, what the choice depends on.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub log_start: Offset,
    /// Was cleaned below.
    pub cleaned: Offset,
    /// All below is committed, and every transaction in it decided.
    pub decided: Offset,
    /// The last segment that the checkpoint on the disk names: it, and what follows, is left alone.
    pub covered: Offset,
    pub now_ms: i64,
}

/// `None`: there is nothing to clean, or it is not worth it yet.
pub fn choose(segments: &[&SegmentFacts], bounds: Bounds, config: CompactConfig) -> Option<Chosen> {
    let Bounds { log_start, cleaned, decided, covered, now_ms } = bounds;
    let dirty = cleaned.max(log_start);
    let too_young = |facts: &SegmentFacts| {
        config.lag_min_ms > 0 && facts.newest.timestamp_ms > now_ms.saturating_sub(config.lag_min_ms)
    };
    let closed = segments.windows(2).take_while(|pair| match pair {
        [segment, next] => segment.base < covered && next.base <= decided && !too_young(segment),
        _ => false,
    });
    let count = closed.count();
    let chosen = segments.get(..count)?;
    let end = segments.get(count)?.base;
    if count == 0 || end <= dirty {
        return None;
    }
    let ends = segments.iter().skip(1).map(|next| next.base);
    let (mut dirty_bytes, mut all_bytes, mut overdue) = (0u64, 0u64, false);
    for (segment, end) in chosen.iter().zip(ends) {
        all_bytes += u64::from(segment.size);
        if end > dirty {
            dirty_bytes += u64::from(segment.size);
            let waits_ms = now_ms.saturating_sub(segment.first_timestamp_ms);
            overdue |= segment.first_timestamp_ms >= 0 && waits_ms > config.lag_max_ms;
        }
    }
    let worth = Worth { overdue, dirty_ratio: (dirty_bytes * 1_000_000).checked_div(all_bytes)? };
    // As Kafka: more than the ratio, so that 1 means never.
    let enough = worth.dirty_ratio > config.dirty_ratio_min;
    (overdue || enough).then_some(Chosen { segments: count, dirty, end, worth })
}

/// Neighbours that become one segment: as many as fit, since cleaning makes them small.
pub fn group(segments: &[&SegmentFacts], end: Offset, segment_bytes: u32) -> Vec<Range<usize>> {
    let bytes_max = u64::from(segment_bytes).min(limits::SEGMENT_BYTES_MAX);
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (at, segment) in segments.iter().enumerate() {
        let ends_at = segments.get(at + 1).map_or(end, |next| next.base);
        let fits = groups.last().and_then(|group| segments.get(group.start)).is_some_and(|first| {
            bytes + u64::from(segment.size) <= bytes_max && ends_at.since(first.base) <= i32::MAX.unsigned_abs().into()
        });
        match groups.last_mut() {
            Some(group) if fits => group.end = at + 1,
            _ => {
                bytes = 0;
                groups.push(at..at + 1);
            }
        }
        bytes += u64::from(segment.size);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Newest;

    const CONFIG: CompactConfig =
        CompactConfig { delete_retention_ms: 0, lag_min_ms: 0, lag_max_ms: i64::MAX, dirty_ratio_min: 500_000 };

    /// Of 100 bytes each, with ten offsets and the times 0 to 9, 10 to 19, …
    fn segments(count: i64) -> Vec<SegmentFacts> {
        let segment = |at: i64| SegmentFacts {
            size: 100,
            first_timestamp_ms: at * 10,
            newest: Newest { timestamp_ms: at * 10 + 9, offset: at * 10 + 9, exact: true },
            ..SegmentFacts::new(Offset::new(at * 10))
        };
        (0..count).map(segment).collect()
    }

    fn bounds() -> Bounds {
        let last = Offset::new(40);
        Bounds { log_start: Offset::ZERO, cleaned: Offset::ZERO, decided: last, covered: last, now_ms: 1_000 }
    }

    /// Segments, where the dirty part begins and ends, its ratio.
    fn check(bounds: Bounds, config: CompactConfig, expected: Option<(usize, i64, i64, u64)>) {
        let all = segments(5);
        let all: Vec<_> = all.iter().collect();
        let chosen = choose(&all, bounds, config);
        let shown = chosen
            .map(|chosen| (chosen.segments, chosen.dirty.get(), chosen.end.get(), chosen.worth.dirty_ratio / 1_000));
        assert_eq!(shown, expected);
    }

    #[test]
    fn closed_segments_are_cleaned_when_enough_of_them_is_dirty() {
        check(bounds(), CONFIG, Some((4, 0, 40, 1_000)));
        check(Bounds { cleaned: Offset::new(20), ..bounds() }, CONFIG, None);
        check(Bounds { cleaned: Offset::new(15), ..bounds() }, CONFIG, Some((4, 15, 40, 750)));
        check(Bounds { cleaned: Offset::new(40), ..bounds() }, CompactConfig { dirty_ratio_min: 0, ..CONFIG }, None);
        check(bounds(), CompactConfig { dirty_ratio_min: 1_000_000, ..CONFIG }, None);
    }

    #[test]
    fn what_is_not_decided_or_not_in_the_checkpoint_is_left_alone() {
        check(Bounds { decided: Offset::new(29), ..bounds() }, CONFIG, Some((2, 0, 20, 1_000)));
        check(Bounds { covered: Offset::new(10), ..bounds() }, CONFIG, Some((1, 0, 10, 1_000)));
        check(Bounds { covered: Offset::ZERO, ..bounds() }, CONFIG, None);
    }

    #[test]
    fn young_records_wait_and_those_that_waited_too_long_do_not() {
        let lag = |lag_min_ms| CompactConfig { lag_min_ms, ..CONFIG };
        check(bounds(), lag(980), Some((2, 0, 20, 1_000)));
        check(bounds(), lag(1_000), None);
        let cleaned = Bounds { cleaned: Offset::new(30), ..bounds() };
        check(cleaned, CompactConfig { lag_max_ms: 970, ..CONFIG }, None);
        check(cleaned, CompactConfig { lag_max_ms: 969, ..CONFIG }, Some((4, 30, 40, 250)));
    }

    #[test]
    fn neighbours_become_one_segment_while_they_fit() {
        let all = segments(5);
        let all: Vec<_> = all.iter().collect();
        let group = |bytes| group(&all, Offset::new(50), bytes);
        assert_eq!(group(250), [0..2, 2..4, 4..5]);
        assert_eq!(group(50), [0..1, 1..2, 2..3, 3..4, 4..5]);
        assert_eq!(group(5_000), std::iter::once(0..5).collect::<Vec<_>>());
        let far = SegmentFacts::new(Offset::new(i64::from(i32::MAX)));
        assert_eq!(super::group(&[all[0], &far], Offset::new(1 << 33), 5_000), [0..1, 1..2]);
    }
}
