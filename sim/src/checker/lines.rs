//! Histories of real processes: one JSON object on a line, in the order of time.
//!
//! ```text
//! {"at":NANOS,"event":"send","client":1,"producer":7,"epoch":0,"topic":"t","partition":0,"values":[1,2]}
//! {"at":…,"event":"acked", … as the send …,"base":17}
//! {"at":…,"event":"read","client":2,"topic":"t","partition":0,"invoked":NANOS,"leader_epoch":3,"from":17,
//!  "records":[[OFFSET,VALUE,TIMESTAMP],…],"high_watermark":19,"log_start":0}
//! {"at":…,"event":"committing"|"committed","group":0,"topic":"t","partition":0,"offset":19}
//! {"at":…,"event":"found_committed","group":0,"topic":"t","partition":0,"invoked":NANOS,"offset":19}
//! {"at":…,"event":"assigned","group":0,"generation":4,"client":2,"topic":"t","partitions":[0,1]}
//! {"at":…,"event":"healed"}
//! {"at":…,"event":"replica","node":1,"topic":"t","partition":0,"start":0,"batches":[[BASE,DIGEST],…]}
//! {"at":…,"event":"final","topic":"t","partition":0,"log_start":0,"high_watermark":19,"records":[…]}
//! {"at":…,"event":"final_committed","group":0,"topic":"t","partition":0,"offset":19}
//! ```
//! A consumer that is not told its leader's epoch leaves `leader_epoch` out; an offset that is not there is left out too.
//! Owns this format. Does not own judgement. Invariant: a line that lacks something is an error with its number.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use model::{PartitionIndex, TopicId, TopicPartition};
use serde_json::Value as Json;

use super::{BatchDigest, Checker, Event, ProducerIdentity, Read, Record, Sent};
use crate::cluster::hash::Hash;

/// How many events a good history has.
///
/// # Errors
/// A line that cannot be read, or the first thing that is wrong.
pub fn judge(text: &str) -> Result<u64> {
    let mut checker = Checker::new();
    let mut count = 0;
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let (at, event) = parse(line).with_context(|| format!("line {number}"))?;
        checker.observe(at, &event).with_context(|| format!("line {number}"))?;
        count += 1;
    }
    checker.finish()?;
    Ok(count)
}

struct Line(Json);

fn parse(line: &str) -> Result<(Duration, Event)> {
    let line = Line(serde_json::from_str(line)?);
    let at = Duration::from_nanos(line.unsigned("at")?);
    let kind = line.0.get("event").and_then(Json::as_str).context("no event")?;
    let event = match kind {
        "send" => Event::Send(line.sent()?),
        "acked" => Event::Acked { sent: line.sent()?, base: line.signed("base")? },
        "read" => Event::Read(line.read()?),
        "committing" => {
            Event::Committing { group: line.small("group")?, place: line.place()?, offset: line.signed("offset")? }
        }
        "committed" => {
            Event::Committed { group: line.small("group")?, place: line.place()?, offset: line.signed("offset")? }
        }
        "found_committed" => Event::FoundCommitted {
            group: line.small("group")?,
            place: line.place()?,
            invoked: Duration::from_nanos(line.unsigned("invoked")?),
            offset: line.0.get("offset").and_then(Json::as_i64),
        },
        "assigned" => Event::Assigned {
            group: line.small("group")?,
            generation: i32::try_from(line.signed("generation")?)?,
            member: line.small("client")?,
            places: line.places()?,
        },
        "healed" => Event::Healed,
        "replica" => Event::Replica {
            node: i32::try_from(line.signed("node")?)?,
            place: line.place()?,
            start: line.signed("start")?,
            batches: line.batches()?,
        },
        "final" => Event::Final {
            place: line.place()?,
            log_start: line.signed("log_start")?,
            high_watermark: line.signed("high_watermark")?,
            records: line.records()?,
        },
        "final_committed" => Event::FinalCommitted {
            group: line.small("group")?,
            place: line.place()?,
            offset: line.0.get("offset").and_then(Json::as_i64),
        },
        other => bail!("no event is called '{other}'"),
    };
    Ok((at, event))
}

impl Line {
    fn signed(&self, key: &str) -> Result<i64> {
        self.0.get(key).and_then(Json::as_i64).with_context(|| format!("'{key}' is not a number"))
    }

    fn unsigned(&self, key: &str) -> Result<u64> {
        self.0.get(key).and_then(Json::as_u64).with_context(|| format!("'{key}' is not a number from 0 on"))
    }

    fn small(&self, key: &str) -> Result<u32> {
        Ok(u32::try_from(self.unsigned(key)?)?)
    }

    fn list(&self, key: &str) -> Result<&Vec<Json>> {
        self.0.get(key).and_then(Json::as_array).with_context(|| format!("'{key}' is not a list"))
    }

    fn topic(&self) -> Result<TopicId> {
        let name = self.0.get("topic").and_then(Json::as_str).context("no topic")?;
        let mut id = [0; 16];
        for (half, salt) in id.chunks_mut(8).zip([1, 2]) {
            let mut hash = Hash::START;
            hash.add(salt);
            hash.add_bytes(name.as_bytes());
            half.copy_from_slice(&hash.0.to_be_bytes());
        }
        Ok(TopicId(id))
    }

    fn place(&self) -> Result<TopicPartition> {
        let partition = PartitionIndex::from_wire(i32::try_from(self.signed("partition")?)?);
        Ok(TopicPartition { topic: self.topic()?, partition: partition.context("a negative partition")? })
    }

    fn places(&self) -> Result<Vec<TopicPartition>> {
        let topic = self.topic()?;
        let place = |number: &Json| {
            let number = number.as_i64().and_then(|number| i32::try_from(number).ok());
            let partition = number.and_then(PartitionIndex::from_wire).context("a partition is no number")?;
            Ok(TopicPartition { topic, partition })
        };
        self.list("partitions")?.iter().map(place).collect()
    }

    fn sent(&self) -> Result<Sent> {
        let values = self.list("values")?.iter().map(|value| value.as_u64().context("a value is no number"));
        let identity = ProducerIdentity { id: self.signed("producer")?, epoch: i16::try_from(self.signed("epoch")?)? };
        let values = values.collect::<Result<Vec<u64>>>()?;
        Ok(Sent { client: self.small("client")?, identity, place: self.place()?, values: values.into() })
    }

    fn read(&self) -> Result<Read> {
        let epoch = self.0.get("leader_epoch").and_then(Json::as_i64);
        Ok(Read {
            client: self.small("client")?,
            place: self.place()?,
            invoked: Duration::from_nanos(self.unsigned("invoked")?),
            epoch: epoch.map(i32::try_from).transpose()?,
            from: self.signed("from")?,
            records: self.records()?,
            high_watermark: self.signed("high_watermark")?,
            log_start: self.signed("log_start")?,
        })
    }

    fn records(&self) -> Result<Vec<Record>> {
        let record = |record: &Json| {
            let number = |at| record.get(at).context("a record has three numbers");
            Ok(Record {
                offset: number(0)?.as_i64().context("an offset is no number")?,
                value: number(1)?.as_u64().context("a value is no number")?,
                timestamp_ms: number(2)?.as_i64().context("a timestamp is no number")?,
            })
        };
        self.list("records")?.iter().map(record).collect()
    }

    fn batches(&self) -> Result<Vec<BatchDigest>> {
        let batch = |batch: &Json| {
            let base = batch.get(0).and_then(Json::as_i64).context("a base offset is no number")?;
            let digest = batch.get(1).and_then(Json::as_u64).context("a digest is no number")?;
            Ok(BatchDigest { base, digest })
        };
        self.list("batches")?.iter().map(batch).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
{"at":1,"event":"send","client":1,"producer":7,"epoch":0,"topic":"t","partition":0,"values":[1,2]}
{"at":2,"event":"acked","client":1,"producer":7,"epoch":0,"topic":"t","partition":0,"values":[1,2],"base":0}
{"at":4,"event":"read","client":2,"topic":"t","partition":0,"invoked":3,"leader_epoch":3,"from":0,"records":[[0,1,5],[1,2,6]],"high_watermark":2,"log_start":0}
{"at":5,"event":"committing","group":0,"topic":"t","partition":0,"offset":2}
{"at":6,"event":"committed","group":0,"topic":"t","partition":0,"offset":2}
{"at":7,"event":"healed"}
{"at":8,"event":"final","topic":"t","partition":0,"log_start":0,"high_watermark":2,"records":[[0,1,5],[1,2,6]]}
{"at":9,"event":"final_committed","group":0,"topic":"t","partition":0,"offset":2}
"#;

    #[test]
    fn a_good_history_of_lines_passes() {
        assert_eq!(judge(GOOD).unwrap(), 8);
    }

    #[test]
    fn one_that_lost_a_record_is_refused_with_its_line() {
        let lost = GOOD
            .replace(r#""high_watermark":2,"records":[[0,1,5],[1,2,6]]"#, r#""high_watermark":1,"records":[[0,1,5]]"#);
        let error = format!("{:#}", judge(&lost).unwrap_err());
        assert!(error.contains("line 8") && error.contains("I1"), "{error}");
    }

    #[test]
    fn a_line_that_lacks_something_is_an_error() {
        assert!(judge(&GOOD.replace(r#""base":0"#, r#""basis":0"#)).is_err());
    }
}
