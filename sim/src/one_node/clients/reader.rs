//! Reads partitions through the node, record by record.

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use model::batch::split_stored;
use model::{PartitionIndex, TopicPartition};
use node::Node;
use node::requests::{FetchLimits, FetchPart};
use storage::disk::ReadMode;
use storage::record::{ReadLimits, RecordReader};

use super::topic_name;
use crate::one_node::history::{Place, Value};

pub fn partition_of(node: &Node, place: Place) -> Option<TopicPartition> {
    let topic = node.image().topic(&topic_name(place.0))?.id;
    Some(TopicPartition { topic, partition: PartitionIndex::new(place.1) })
}

/// The records from `from` on that one fetch gives, and the high watermark. Batches that compaction has emptied are passed over.
pub fn fetch(node: &Node, place: Place, from: i64) -> Result<(Vec<(i64, Value)>, i64)> {
    let mut from = from;
    loop {
        let ((records, next), high_watermark) = fetch_once(node, place, from)?;
        match next {
            Some(next) if records.is_empty() && next > from => from = next,
            _ => return Ok((records, high_watermark)),
        }
    }
}

/// Records, and where the last batch ends.
type Decoded = (Vec<(i64, Value)>, Option<i64>);

fn fetch_once(node: &Node, place: Place, from: i64) -> Result<(Decoded, i64)> {
    let partition = partition_of(node, place).with_context(|| format!("{place:?}: the topic is gone"))?;
    let part = FetchPart { partition, from, bytes_max: 1 << 20, current_epoch: None, last_fetched_epoch: None };
    let limits = FetchLimits { bytes_max: 1 << 20, committed_only: false, at_follower: false };
    let read = node.fetch(&[part], limits, ReadMode::Blocking);
    let part = read.parts.into_iter().next().context("a fetch of one part answers one part")?;
    if let Some(error) = part.error {
        anyhow::bail!("{place:?} from {from}: {error}");
    }
    let high_watermark = part.high_watermark.with_context(|| format!("{place:?}: no high watermark"))?.get();
    let mut joined = BytesMut::new();
    part.records.iter().for_each(|piece| joined.extend_from_slice(piece));
    let (records, next) = decode(joined.freeze(), from)?;
    if let Some((offset, _)) = records.last() {
        ensure!(
            *offset < high_watermark,
            "{place:?}: offset {offset} is served above the high watermark {high_watermark}"
        );
    }
    Ok(((records, next), high_watermark))
}

fn decode(bytes: Bytes, from: i64) -> Result<Decoded> {
    let (mut records, mut next) = (Vec::new(), None);
    for batch in split_stored(bytes) {
        let batch = batch?;
        next = Some(batch.next_offset().get());
        let body = batch.records();
        let mut reader = RecordReader::new(batch.header(), &body, ReadLimits::default())?;
        while let Some(record) = reader.next()? {
            // A tombstone says in a header which one it is.
            let header = record.headers.filter_map(|(_, number)| number).next();
            let value = record.value.or(header).and_then(<[u8]>::first_chunk::<8>);
            let value = value.context("a record without our value")?;
            if record.offset.get() >= from {
                records.push((record.offset.get(), Value::from_be_bytes(*value)));
            }
        }
    }
    Ok((records, next))
}

/// All records below the high watermark.
pub fn read_all(node: &Node, place: Place) -> Result<Vec<(i64, Value)>> {
    let mut all = Vec::new();
    let mut from = 0;
    loop {
        let (records, high_watermark) = fetch(node, place, from)?;
        let Some((last, _)) = records.last() else {
            ensure!(
                from >= high_watermark || place.0 == super::COMPACTED,
                "{place:?}: nothing at {from}, the high watermark is {high_watermark}"
            );
            return Ok(all);
        };
        from = last + 1;
        all.extend(records);
    }
}
