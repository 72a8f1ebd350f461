//! I11: the high watermark and the log's start that leaders tell never go back.
//!
//! Owns the order in which answers can be compared: one that was asked for after another was known, from the same leader epoch or a newer
//! one. A leader that was deposed and does not know it yet may tell an old watermark: it is the truth of its epoch. Followers lag.

use std::collections::BTreeMap;
use std::time::Duration;

use model::TopicPartition;

use super::{ClientId, Event, Invariant, Read, Value};

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
    /// What a client was told last by whoever answered. Another may have been told of the past.
    ends: BTreeMap<(ClientId, TopicPartition), Told>,
    /// The highest offset that was acknowledged.
    acked: BTreeMap<TopicPartition, i64>,
}

impl Invariant for Watermarks {
    fn name(&self) -> &'static str {
        "I11 watermarks"
    }

    fn observe(&mut self, at: Duration, event: &Event, told: &[(i64, Value)]) -> Result<(), String> {
        match event {
            Event::Acked { sent, .. } => {
                let newest = told.last().map_or(-1, |(offset, _)| *offset);
                let acked = self.acked.entry(sent.place).or_insert(newest);
                *acked = (*acked).max(newest);
                Ok(())
            }
            Event::Ends { client, place, invoked, log_start, high_watermark } => {
                let now = Told { at, epoch: 0, high_watermark: *high_watermark, log_start: *log_start };
                self.on_ends(*client, *place, *invoked, now)
            }
            Event::Read(read) => self.on_read(at, read),
            Event::OutOfRange { place, invoked, epoch, from } => self.on_out_of_range(*place, *invoked, *epoch, *from),
            Event::Final { place, log_start, high_watermark, .. } => {
                let end = Told { at, epoch: i32::MAX, high_watermark: *high_watermark, log_start: *log_start };
                if let Some(acked) = self.acked.get(place).filter(|acked| *acked >= high_watermark) {
                    return Err(format!("{place}: it ends at {high_watermark}, and offset {acked} was acknowledged"));
                }
                self.compare(*place, at, end)
            }
            _ => Ok(()),
        }
    }
}

impl Watermarks {
    fn on_ends(&mut self, client: ClientId, place: TopicPartition, invoked: Duration, now: Told) -> Result<(), String> {
        let (start, end) = (now.log_start, now.high_watermark);
        if start > end {
            return Err(format!("{place}: client {client} was told that it goes from {start} to {end}"));
        }
        let before = self.ends.insert((client, place), now).filter(|before| before.at <= invoked);
        match before.filter(|before| before.log_start > start || before.high_watermark > end) {
            Some(Told { log_start, high_watermark, .. }) => Err(format!(
                "{place}: client {client} was told that it goes from {log_start} to {high_watermark}, then from {start} to {end}"
            )),
            None => Ok(()),
        }
    }

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
