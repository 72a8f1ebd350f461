//! I11: the high watermark and the log's start that leaders tell never go back.
//!
//! Owns the order in which answers can be compared: one that was asked for after another was known, from the same leader epoch or a newer
//! one. A leader that was deposed and does not know it yet may tell an old watermark: it is the truth of its epoch. Followers lag.

use std::collections::BTreeMap;
use std::time::Duration;

use model::TopicPartition;

use super::{Event, Invariant, Read, Value};

#[derive(Clone, Copy)]
struct Told {
    at: Duration,
    epoch: i32,
    high_watermark: i64,
    log_start: i64,
}

#[derive(Default)]
pub(super) struct Watermarks {
    /// Only answers that say more than all before them.
    told: BTreeMap<TopicPartition, Vec<Told>>,
}

impl Invariant for Watermarks {
    fn name(&self) -> &'static str {
        "I11 watermarks"
    }

    fn observe(&mut self, at: Duration, event: &Event, _told: &[(i64, Value)]) -> Result<(), String> {
        match event {
            Event::Read(read) => self.on_read(at, read),
            Event::OutOfRange { place, invoked, epoch, from } => self.on_out_of_range(*place, *invoked, *epoch, *from),
            Event::Final { place, log_start, high_watermark, .. } => {
                let end = Told { at, epoch: i32::MAX, high_watermark: *high_watermark, log_start: *log_start };
                self.compare(*place, at, end)
            }
            _ => Ok(()),
        }
    }
}

impl Watermarks {
    fn on_read(&mut self, at: Duration, read: &Read) -> Result<(), String> {
        if read.log_start > read.high_watermark {
            return Err(format!(
                "{}: the log starts at {}, above the high watermark {}",
                read.place, read.log_start, read.high_watermark
            ));
        }
        let Some(epoch) = read.epoch else { return Ok(()) };
        let now = Told { at, epoch, high_watermark: read.high_watermark, log_start: read.log_start };
        self.compare(read.place, read.invoked, now)?;
        let told = self.told.entry(read.place).or_default();
        let says_more = told.last().is_none_or(|last| {
            last.epoch != epoch || last.high_watermark < now.high_watermark || last.log_start < now.log_start
        });
        if says_more {
            told.push(now);
        }
        Ok(())
    }

    fn on_out_of_range(&self, place: TopicPartition, invoked: Duration, epoch: i32, from: i64) -> Result<(), String> {
        let known = |told: &&Told| told.at < invoked && told.epoch <= epoch;
        let mut told = self.told.get(&place).into_iter().flatten().filter(known);
        match told.find(|told| (told.log_start..=told.high_watermark).contains(&from)) {
            Some(told) => Err(format!(
                "{place}: epoch {epoch} refuses offset {from}, epoch {} told {} to {}",
                told.epoch, told.log_start, told.high_watermark
            )),
            None => Ok(()),
        }
    }

    fn compare(&self, place: TopicPartition, invoked: Duration, now: Told) -> Result<(), String> {
        let before = self.told.get(&place).into_iter().flatten();
        // The last few of each epoch decide: watermarks of one epoch grow.
        for told in before.rev().take(64).filter(|told| told.at < invoked && told.epoch <= now.epoch) {
            if told.high_watermark > now.high_watermark {
                return Err(format!(
                    "{place}: epoch {} told the high watermark {}, later epoch {} tells {}",
                    told.epoch, told.high_watermark, now.epoch, now.high_watermark
                ));
            }
            if told.log_start > now.log_start {
                return Err(format!(
                    "{place}: epoch {} told the start {}, later epoch {} tells {}",
                    told.epoch, told.log_start, now.epoch, now.log_start
                ));
            }
        }
        Ok(())
    }
}
