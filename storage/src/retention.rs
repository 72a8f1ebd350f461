//! Which segments are too old or too many.
//!
//! Owns the choice, which is pure. Does not remove anything: `Log::delete_before` does.
//! Invariant: everything at or above the high watermark stays. The last segment stays on the disk, as the one that grows, but when all of
//! it is too old the log begins at its end, as Kafka's does: an idle topic keeps nothing for longer than it promised.

use model::Offset;

use crate::log::LogConfig;
use crate::segment::SegmentFacts;

/// The new start of a log, or `None` when nothing may go.
pub fn choose(
    segments: &[&SegmentFacts],
    config: &LogConfig,
    wall_ms: i64,
    (log_start, log_end): (Offset, Offset),
    high_watermark: Offset,
) -> Option<Offset> {
    // Records without time do not age.
    let is_too_old = |segment: &SegmentFacts| {
        let age = wall_ms.saturating_sub(segment.newest.timestamp_ms);
        segment.newest.timestamp_ms >= 0 && config.retention_ms.is_some_and(|kept| age > kept)
    };
    let total: u64 = segments.iter().map(|segment| u64::from(segment.size)).sum();
    let mut excess = config.retention_bytes.map_or(0, |bytes| total.saturating_sub(bytes));
    let mut start = None;
    let ends = segments.iter().skip(1).map(|next| next.base).chain([log_end]);
    for (at, (segment, end)) in segments.iter().zip(ends).enumerate() {
        if end > high_watermark {
            break;
        }
        let is_last = at + 1 == segments.len();
        let too_old = is_too_old(segment);
        // As Kafka: a segment goes only if the rest still holds what was promised.
        let too_many = !is_last && excess > 0 && excess >= u64::from(segment.size);
        // What an earlier deletion already hides goes with the next segment.
        let hidden = end <= log_start;
        if !(too_old || too_many || hidden) {
            break;
        }
        excess = excess.saturating_sub(u64::from(segment.size));
        start = Some(end);
    }
    start.filter(|start| *start > log_start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Newest;

    fn check(config: LogConfig, high_watermark: i64, expected: Option<i64>) {
        let segment = |base: i64| {
            let newest = Newest { timestamp_ms: base * 10, offset: base + 9, exact: true };
            SegmentFacts { base: Offset::new(base), generation: 0, size: 100, first_timestamp_ms: base * 10, newest }
        };
        let all: Vec<_> = [0, 10, 20, 30].map(segment).into();
        let all: Vec<_> = all.iter().collect();
        let ends = (Offset::ZERO, Offset::new(40));
        let start = choose(&all, &config, 1_000, ends, Offset::new(high_watermark));
        assert_eq!(start, expected.map(Offset::new));
    }

    fn config(retention_ms: Option<i64>, retention_bytes: Option<u64>) -> LogConfig {
        LogConfig { retention_ms, retention_bytes, ..LogConfig::default() }
    }

    #[test]
    fn segments_older_than_retention_ms_go_oldest_first() {
        check(config(Some(850), None), 40, Some(20));
        check(config(Some(1_000), None), 40, None);
        check(config(None, None), 40, None);
    }

    #[test]
    fn a_log_of_which_all_is_too_old_begins_at_its_end() {
        check(config(Some(0), None), 40, Some(40));
        check(config(Some(0), None), 39, Some(30));
    }

    #[test]
    fn the_last_segment_stays_however_large_it_is() {
        check(config(None, Some(0)), 40, Some(30));
    }

    #[test]
    fn a_segment_goes_by_size_only_if_the_rest_still_holds_what_was_promised() {
        check(config(None, Some(250)), 40, Some(10));
        check(config(None, Some(300)), 40, Some(10));
        check(config(None, Some(301)), 40, None);
    }

    #[test]
    fn nothing_above_the_high_watermark_goes() {
        check(config(Some(0), None), 15, Some(10));
    }
}
