//! Writing records: to which partition, in which batches, once.
//!
//! Owns the partitioner of Kafka's own clients, batches, and repeats after a leader moved. Does not own where records come from.
//! Invariant: with acks=all each record is written once, also where a request was repeated, as far as the cluster hands out producer ids:
//! a batch keeps its sequence number over all its repeats.

use std::collections::BTreeMap;

use model::batch::{BatchBuilder, Codec};
use storage::codec::compress;

use super::refused::{AskError, check, is_passing};
use super::router::{Patience, Router};
use super::{Client, ClientError};
use crate::wire::Request;
use crate::wire::StrBytes;
use crate::wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use crate::wire::messages::{InitProducerIdRequest, ProduceRequest};

/// Version 13 names topics by their ids.
const NEWEST: i16 = 12;
const WAIT_MS: i32 = 30_000;
/// A batch is sent when it has so many bytes, which every broker takes by default.
const BATCH_BYTES: usize = 256 * 1024;
const DUPLICATE_SEQUENCE: i16 = 46;
/// The offset of a record where the server does not say it.
const NO_OFFSET: i64 = -1;

/// When the answer comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    All,
    Leader,
    None,
}

impl Acks {
    fn to_wire(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        }
    }
}

/// A record to write.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewRecord {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub partition: Option<i32>,
}

/// What was written: a run of records in one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    pub partition: i32,
    /// `None` without acknowledgement.
    pub first: Option<i64>,
    pub count: i32,
}

/// Writes to one topic.
pub struct Producer {
    topic: String,
    partitions: i32,
    acks: Acks,
    codec: Codec,
    /// Id and epoch.
    identity: Option<(i64, i16)>,
    sequences: BTreeMap<i32, i32>,
    open: BTreeMap<i32, BatchBuilder>,
    /// Where records without a key go until the next batch.
    sticky: i32,
}

impl Producer {
    /// `seed` decides where the first records without a key go.
    pub fn new(router: &mut Router, topic: &str, acks: Acks, codec: Codec, seed: u64) -> Result<Producer, AskError> {
        let seen = router.topic(topic, true)?;
        let partitions = i32::try_from(seen.partitions.len()).unwrap_or(i32::MAX).max(1);
        let identity = if acks == Acks::All { identity(router)? } else { None };
        let spread = u64::try_from(partitions).unwrap_or(1);
        let sticky = i32::try_from(seed % spread).unwrap_or(0);
        let (sequences, open) = (BTreeMap::new(), BTreeMap::new());
        Ok(Producer { topic: topic.to_owned(), partitions, acks, codec, identity, sequences, open, sticky })
    }

    /// Takes a record; writes the batch that is full with it.
    pub fn add(&mut self, router: &mut Router, record: &NewRecord) -> Result<Option<Written>, AskError> {
        let partition = self.partition_of(record)?;
        let builder = match self.open.remove(&partition) {
            Some(builder) => builder,
            None => self.builder(partition),
        };
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref())).collect();
        let builder = builder.record(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
        if builder.size() < BATCH_BYTES {
            self.open.insert(partition, builder);
            return Ok(None);
        }
        self.sticky = (self.sticky + 1) % self.partitions;
        self.write(router, partition, builder).map(Some)
    }

    /// Writes what is left; tells `written` of each batch as soon as it is, so that those before an error are known.
    pub fn flush(&mut self, router: &mut Router, mut written: impl FnMut(&Written)) -> Result<(), AskError> {
        while let Some((partition, builder)) = self.open.pop_first() {
            written(&self.write(router, partition, builder)?);
        }
        Ok(())
    }

    fn partition_of(&self, record: &NewRecord) -> Result<i32, AskError> {
        let partitions = self.partitions;
        match (record.partition, &record.key) {
            (Some(partition), _) if (0..partitions).contains(&partition) => Ok(partition),
            (Some(partition), _) => Err(AskError::NoPartition { topic: self.topic.clone(), partitions, partition }),
            (None, Some(key)) => Ok((murmur2(key) & 0x7fff_ffff).cast_signed() % partitions),
            (None, None) => Ok(self.sticky),
        }
    }

    fn builder(&self, partition: i32) -> BatchBuilder {
        let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
        match self.identity {
            Some((id, epoch)) => BatchBuilder::new().producer(id, epoch, sequence),
            None => BatchBuilder::new(),
        }
    }

    fn write(&mut self, router: &mut Router, partition: i32, builder: BatchBuilder) -> Result<Written, AskError> {
        let count = builder.count();
        let compressed = compress(self.codec, builder.records());
        let batch = builder.finish_with(self.codec, &compressed);
        let sequence = self.sequences.entry(partition).or_insert(0);
        *sequence = sequence.checked_add(count).unwrap_or_else(|| sequence.wrapping_add(count) & i32::MAX);
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.bytes().clone()));
        let topic = TopicProduceData::default()
            .with_name(StrBytes::from_string(self.topic.clone()).into())
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(self.acks.to_wire())
            .with_timeout_ms(WAIT_MS)
            .with_topic_data(vec![topic]);
        let first = self.send(router, partition, &request)?;
        Ok(Written { partition, first, count })
    }

    /// The offset of the first record, where the server says it.
    fn send(&self, router: &mut Router, partition: i32, request: &ProduceRequest) -> Result<Option<i64>, AskError> {
        let patience = Patience::new();
        loop {
            let leader = router.leader(&self.topic, partition)?;
            let sent = router.node(leader).and_then(|client| self.exchange(client, request));
            let (code, message, offset) = match sent {
                // Written or not: with a sequence number it can be sent again.
                Err(AskError::Client(error)) if self.may_repeat(&error) => {
                    router.forget(leader);
                    router.forget_leaders(&self.topic);
                    if !patience.wait() {
                        return Err(error.into());
                    }
                    continue;
                }
                other => other?,
            };
            if code == DUPLICATE_SEQUENCE {
                return Ok(None);
            }
            if is_passing(code) && patience.wait() {
                router.forget_leaders(&self.topic);
                continue;
            }
            check(|| format!("writing to {} partition {partition}", self.topic), code, message.as_ref())?;
            return Ok((offset > NO_OFFSET).then_some(offset));
        }
    }

    fn may_repeat(&self, error: &ClientError) -> bool {
        match error {
            ClientError::Connect { .. } => true,
            ClientError::Io { .. } => self.identity.is_some(),
            _ => false,
        }
    }

    fn exchange(
        &self,
        client: &mut Client,
        request: &ProduceRequest,
    ) -> Result<(i16, Option<StrBytes>, i64), AskError> {
        if self.acks == Acks::None {
            let version = client.version::<ProduceRequest>().unwrap_or(ProduceRequest::MIN).min(NEWEST);
            client.send(version, request)?;
            return Ok((0, None, NO_OFFSET));
        }
        let answer = client.call_at_most(NEWEST, |_| request.clone())?;
        let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        let node = client.address().to_owned();
        let partition = partition.ok_or(AskError::Incomplete { node, what: "the partition that was written to" })?;
        let message = partition.record_errors.iter().find_map(|one| one.batch_index_error_message.clone());
        let message = message.or_else(|| partition.error_message.clone());
        Ok((partition.error_code, message, partition.base_offset))
    }
}

/// `None`: the cluster hands out no producer ids to this client.
fn identity(router: &mut Router) -> Result<Option<(i64, i16)>, AskError> {
    let patience = Patience::new();
    if router.any().version::<InitProducerIdRequest>().is_none() {
        return Ok(None);
    }
    loop {
        let answer = router.ask(|_| {
            InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(60_000)
                .with_producer_id((-1).into())
                .with_producer_epoch(-1)
        })?;
        match answer.error_code {
            0 => return Ok(Some((answer.producer_id.0, answer.producer_epoch))),
            code if is_passing(code) && patience.wait() => {}
            _ => return Ok(None),
        }
    }
}

/// The hash that Kafka's Java clients choose a key's partition by, so that all clients choose the same.
pub fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0_u32, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafkas_own_clients_put_them() {
        // from the tests of Kafka's own hash
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }
}
