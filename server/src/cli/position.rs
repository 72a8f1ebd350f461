//! Positions in partitions as people write them: `start`, `end`, `7`, `+7`, `-7`, `@TIME`.
//!
//! Owns the grammar and its meaning. Invariant: what is resolved lies between a partition's start and end.

use std::collections::BTreeMap;

use anyhow::Context;

use super::time;
use crate::client::offsets::{self, END, START};
use crate::client::refused::AskError;
use crate::client::router::{Router, TopicPartition};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Position {
    Start,
    End,
    /// An offset.
    At(i64),
    /// So many behind the start.
    Behind(i64),
    /// So many before the end.
    Before(i64),
    /// The first record at or after it, in milliseconds since 1970.
    Time(i64),
}

/// For clap.
pub fn parse(text: &str) -> Result<Position, String> {
    position(text, time::now_ms()).map_err(|error| format!("{error:#}"))
}

fn position(text: &str, now_ms: i64) -> anyhow::Result<Position> {
    let how = || {
        format!(
            "'{text}' is no position: start, end, 7 (an offset), +7 (behind the start), -7 (before the end) or @TIME are"
        )
    };
    let number = |text: &str| text.parse::<u32>().map(i64::from).with_context(how);
    match text {
        "start" | "beginning" | "earliest" => return Ok(Position::Start),
        "end" | "latest" => return Ok(Position::End),
        _ => {}
    }
    if let Some(time) = text.strip_prefix('@') {
        return time::parse(time, now_ms).map(Position::Time);
    }
    if let Some(behind) = text.strip_prefix('+') {
        return number(behind).map(Position::Behind);
    }
    if let Some(before) = text.strip_prefix('-') {
        return number(before).map(Position::Before);
    }
    let offset = text.parse::<i64>().ok().filter(|offset| *offset >= 0);
    offset.map(Position::At).with_context(how)
}

/// Where partitions begin and end.
pub struct Bounds {
    pub start: BTreeMap<TopicPartition, i64>,
    pub end: BTreeMap<TopicPartition, i64>,
}

/// `committed`: the end is before the first transaction that is open.
pub fn bounds(router: &mut Router, partitions: &[TopicPartition], committed: bool) -> Result<Bounds, AskError> {
    let start = offsets::list_all(router, partitions.to_vec(), START)?;
    let wanted = partitions.iter().map(|at| (at.clone(), END)).collect();
    let end = offsets::list(router, &wanted, committed)?;
    Ok(Bounds { start, end: end.into_iter().map(|(at, offset)| (at, offset.unwrap_or(0))).collect() })
}

/// The offset of a position in each partition.
pub fn resolve(
    router: &mut Router,
    bounds: &Bounds,
    position: Position,
) -> Result<BTreeMap<TopicPartition, i64>, AskError> {
    let times = match position {
        Position::Time(ms) => {
            offsets::list(router, &bounds.end.keys().map(|at| (at.clone(), ms.max(0))).collect(), false)?
        }
        _ => BTreeMap::new(),
    };
    let one = |(at, end): (&TopicPartition, &i64)| {
        let start = bounds.start.get(at).copied().unwrap_or(0);
        let wanted = match position {
            Position::Start => start,
            Position::End => *end,
            Position::At(offset) => offset,
            Position::Behind(count) => start.saturating_add(count),
            Position::Before(count) => end.saturating_sub(count),
            Position::Time(_) => times.get(at).copied().flatten().unwrap_or(*end),
        };
        (at.clone(), wanted.clamp(start, start.max(*end)))
    };
    Ok(bounds.end.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read() {
        for (text, expected) in [
            ("start", Position::Start),
            ("end", Position::End),
            ("0", Position::At(0)),
            ("12", Position::At(12)),
            ("+3", Position::Behind(3)),
            ("-10", Position::Before(10)),
            ("@now", Position::Time(5000)),
            ("@-1s", Position::Time(4000)),
        ] {
            assert_eq!(position(text, 5000).expect(text), expected);
        }
        for text in ["", "+", "-", "@", "x", "--1", "1.5", "@soon"] {
            assert!(position(text, 5000).is_err(), "{text}");
        }
    }
}
