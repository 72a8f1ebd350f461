//! What the checker is told of the nodes themselves: whom their metadata name as leaders, what they hold at the end.
//!
//! Does not own judgement. Invariant: only what changed since the last look is told.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use model::batch::split_stored;
use model::{LeaderEpoch, Offset, TopicPartition};
use node::Node;
use node::requests::{FetchLimits, FetchPart};
use replication::metadata::{Image, Topic};
use storage::disk::ReadMode;
use storage::record::{ReadLimits, RecordReader};

use super::hash::Hash;
use super::net::HostIndex;
use super::world::World;
use crate::checker::{BatchDigest, Event, Keyed, Record, Value};

const READ_BYTES: u32 = 1 << 20;

impl World {
    pub(super) fn look_at_image(&mut self, host: HostIndex) {
        let Some(node) = &self.hosts[host].node else { return };
        let image = node.image();
        let before = self.hosts[host].seen_image.as_ref();
        if before.is_some_and(|before| Arc::ptr_eq(before, &image)) {
            return;
        }
        let changed: Vec<Arc<Topic>> = image
            .topics()
            .filter(|topic| {
                !before.and_then(|before| before.topic_by_id(topic.id)).is_some_and(|old| Arc::ptr_eq(old, topic))
            })
            .cloned()
            .collect();
        self.hosts[host].seen_image = Some(image);
        let node = i32::try_from(host + 1).expect("few nodes");
        for topic in changed {
            for (partition, info) in topic.partitions() {
                tracing::trace!(ms = self.at / 1_000_000, node, topic = %topic.name, %partition, ?info, "as a node knows it");
                let Some(leader) = info.leader else { continue };
                let place = TopicPartition { topic: topic.id, partition };
                let epoch = info.leader_epoch.get();
                self.hash.add((epoch as u64) << 32 | leader.0 as u64);
                self.note(&Event::Led { node, place, epoch, leader: leader.0 });
            }
        }
    }

    /// The newest image that a node has.
    pub fn newest_image(&self) -> Option<Arc<Image>> {
        let up = self.hosts.iter().filter_map(|host| host.node.as_ref());
        up.map(Node::image).max_by_key(|image| {
            image
                .topics()
                .flat_map(|topic| &topic.partitions)
                .map(|partition| u64::from(partition.partition_epoch))
                .sum::<u64>()
        })
    }
}

/// All batches below the high watermark that a node serves, and the high watermark.
pub fn batches_of(node: &Node, place: TopicPartition) -> Result<(Vec<Bytes>, i64, i64), String> {
    let mut from = 0;
    let mut batches = Vec::new();
    loop {
        let part =
            FetchPart { partition: place, from, bytes_max: READ_BYTES, current_epoch: None, last_fetched_epoch: None };
        let limits = FetchLimits { bytes_max: u64::from(READ_BYTES), committed_only: false, at_follower: true };
        let read = node.fetch(&[part], limits, ReadMode::Blocking);
        let part = read.parts.into_iter().next().ok_or("a fetch of one part was not answered")?;
        if let Some(error) = part.error {
            return Err(format!("{place} from {from}: {error}"));
        }
        let high_watermark = part.high_watermark.map_or(0, Offset::get);
        let log_start = part.log_start.map_or(0, Offset::get);
        if part.record_bytes == 0 {
            return Ok((batches, log_start, high_watermark));
        }
        for batch in split_stored(join(&part.records)) {
            let batch = batch.map_err(|error| format!("{place} from {from}: {error}"))?;
            from = batch.next_offset().get();
            batches.push(batch.to_bytes());
        }
    }
}

fn join(pieces: &[Bytes]) -> Bytes {
    if let [one] = pieces {
        return one.clone();
    }
    let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
    joined.freeze()
}

pub fn digests_of(batches: &[Bytes]) -> Vec<BatchDigest> {
    let digest = |batch: &Bytes| {
        let mut hash = Hash::START;
        hash.add_bytes(batch);
        let stored = split_stored(batch.clone()).next().and_then(Result::ok);
        let base = stored.as_ref().map_or(-1, |stored| stored.base_offset().get());
        let last = stored.as_ref().map_or(-1, |stored| stored.next_offset().get() - 1);
        let epoch = stored.as_ref().and_then(|stored| stored.leader_epoch()).map_or(-1, LeaderEpoch::get);
        BatchDigest { base, last, epoch, digest: hash.0 }
    };
    batches.iter().map(digest).collect()
}

/// The records from `from` on.
pub fn records_of(pieces: &[Bytes], from: i64) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    for batch in split_stored(join(pieces)) {
        let batch = batch.map_err(|error| error.to_string())?;
        let body = batch.records();
        let mut reader =
            RecordReader::new(batch.header(), &body, ReadLimits::default()).map_err(|error| error.to_string())?;
        while let Some(record) = reader.next().map_err(|error| error.to_string())? {
            let value = record.value.and_then(<[u8]>::first_chunk::<8>).ok_or("a record without a value of ours")?;
            if record.offset.get() >= from {
                let (offset, timestamp_ms) = (record.offset.get(), record.timestamp);
                records.push(Record { offset, value: Value::from_be_bytes(*value), timestamp_ms });
            }
        }
    }
    Ok(records)
}

/// All records of whole batches, for a comparison by keys.
pub fn keyed_of(batches: &[Bytes]) -> Result<Vec<Keyed>, String> {
    let mut records = Vec::new();
    for batch in batches.iter().flat_map(|batch| split_stored(batch.clone())) {
        let batch = batch.map_err(|error| error.to_string())?;
        let epoch = batch.leader_epoch().map_or(-1, LeaderEpoch::get);
        let body = batch.records();
        let mut reader =
            RecordReader::new(batch.header(), &body, ReadLimits::default()).map_err(|error| error.to_string())?;
        while let Some(record) = reader.next().map_err(|error| error.to_string())? {
            let offset = record.offset.get();
            let key = hash_of(&[record.key.ok_or_else(|| format!("the record at {offset} has no key"))?]);
            let value = record.value.unwrap_or_default();
            let digest = hash_of(&[&record.timestamp.to_be_bytes(), &key.to_be_bytes(), value]);
            records.push(Keyed { offset, epoch, key, digest, tombstone: record.value.is_none() });
        }
    }
    Ok(records)
}

fn hash_of(parts: &[&[u8]]) -> u64 {
    let mut hash = Hash::START;
    parts.iter().for_each(|part| hash.add_bytes(part));
    hash.0
}
