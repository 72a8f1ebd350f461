//! I6: a poll gives what stands from its position on, without a gap, and nothing at or above the high watermark.

use std::time::Duration;

use super::{Event, Invariant, Record, Value};

#[derive(Default)]
pub(super) struct Polls;

impl Invariant for Polls {
    fn name(&self) -> &'static str {
        "I6 polls"
    }

    fn observe(&mut self, _at: Duration, event: &Event, _told: &[(i64, Value)]) -> Result<(), String> {
        match event {
            Event::Read(read) => {
                let from = read.from.max(read.log_start);
                contiguous(&read.records, from, read.high_watermark).map_err(|what| format!("{}: {what}", read.place))
            }
            Event::Final { place, log_start, high_watermark, records } => {
                contiguous(records, *log_start, *high_watermark).map_err(|what| format!("{place}: {what}"))?;
                let end = records.last().map_or(*log_start, |last| last.offset + 1);
                if end == *high_watermark {
                    return Ok(());
                }
                Err(format!("{place}: all that is there ends at {end}, the high watermark is {high_watermark}"))
            }
            _ => Ok(()),
        }
    }
}

fn contiguous(records: &[Record], from: i64, high_watermark: i64) -> Result<(), String> {
    for (expected, record) in (from..).zip(records) {
        if record.offset != expected {
            return Err(format!("offset {} came where {expected} was next", record.offset));
        }
        if record.offset >= high_watermark {
            return Err(format!("offset {} was served at the high watermark {high_watermark}", record.offset));
        }
    }
    Ok(())
}
