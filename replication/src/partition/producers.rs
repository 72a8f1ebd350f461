//! Idempotent producers: what is remembered of each, so that a batch sent twice is appended once.
//!
//! Owns sequence numbers, producer epochs, the last five batches of each producer, expiry, and the snapshot of all that. Does not
//! own offsets: the leader hands them in. A producer is unknown until its first batch and after it expired: then any sequence
//! number is accepted, as Kafka does it, because records may have been deleted while their producer lived on.
//! Invariant: within one producer epoch the remembered batches are consecutive in sequence and rise in offset.
//! Invariant: the number of producers never exceeds the limit; the ones that were silent longest are forgotten first.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::batch::BatchHeader;
use model::{Offset, ProducerEpoch, ProducerId};

/// Batches remembered of each producer: clients have at most five requests in flight.
pub const BATCHES_REMEMBERED: usize = 5;

const SNAPSHOT_VERSION: u8 = 1;
const PRODUCER_BYTES_MIN: usize = 8 + 2 + 1;
const BATCH_BYTES: usize = 4 + 4 + 8 + 8;

/// One batch of an idempotent producer, as its header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sequenced {
    pub producer: i64,
    pub epoch: i16,
    pub first: i32,
    pub last: i32,
}

impl Sequenced {
    /// `None` for a batch of a producer without idempotence.
    pub fn of(header: &BatchHeader) -> Option<Sequenced> {
        let producer = header.producer_id()?;
        // A control batch has a producer id and no sequence: it moves nothing here.
        let last = header.last_sequence()?;
        Some(Sequenced { producer, epoch: header.producer_epoch, first: header.base_sequence, last })
    }
}

/// What the check of a batch found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checked {
    /// Append it, then call `Producers::appended`.
    New,
    /// It is in the log already, from here to there.
    Duplicate { base_offset: Offset, next_offset: Offset, timestamp_ms: i64 },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SequenceError {
    #[error("producer {producer} sent sequence {got} where {expected} was next")]
    OutOfOrder { producer: i64, expected: i32, got: i32 },
    #[error("producer {producer} sent epoch {got}, {current} is current")]
    StaleEpoch { producer: i64, current: i16, got: i16 },
}

/// Why a snapshot was not read. It is a cache: the caller rebuilds from the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("producer snapshot has version {got}, only {SNAPSHOT_VERSION} is known")]
    Version { got: u8 },
    #[error("producer snapshot ends after {bytes} bytes, inside a record")]
    Torn { bytes: usize },
    #[error("producer snapshot holds {batches} batches of producer {producer}")]
    Batches { producer: i64, batches: u8 },
    #[error("producer snapshot holds offset {raw}")]
    Offset { raw: i64 },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Remembered {
    first: i32,
    last: i32,
    base_offset: Offset,
    /// The batch's maximum timestamp, in milliseconds since 1970: what Kafka answers a duplicate with.
    timestamp_ms: i64,
}

impl Remembered {
    fn next_offset(&self) -> Offset {
        // `last - first` modulo 2^31: sequences wrap, a batch holds fewer than 2^31 records.
        let span = self.last.wrapping_sub(self.first) & i32::MAX;
        self.base_offset.plus(span.cast_unsigned() + 1)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Producer {
    epoch: i16,
    /// Milliseconds since 1970, by this node's clock: for expiry.
    last_seen_ms: i64,
    len: u8,
    /// Oldest first; the first `len` are valid.
    batches: [Remembered; BATCHES_REMEMBERED],
}

const NOTHING: Remembered = Remembered { first: 0, last: 0, base_offset: Offset::ZERO, timestamp_ms: 0 };

impl Producer {
    fn new(epoch: i16) -> Producer {
        Producer { epoch, last_seen_ms: 0, len: 0, batches: [NOTHING; BATCHES_REMEMBERED] }
    }

    fn remembered(&self) -> &[Remembered] {
        self.batches.get(..usize::from(self.len)).expect("len never exceeds the array")
    }

    fn push(&mut self, batch: Remembered) {
        if usize::from(self.len) == BATCHES_REMEMBERED {
            self.batches.rotate_left(1);
            self.len -= 1;
        }
        if let Some(newest) = self.remembered().last() {
            assert!(newest.next_offset() <= batch.base_offset);
        }
        *self.batches.get_mut(usize::from(self.len)).expect("room was made") = batch;
        self.len += 1;
    }
}

/// What is told of a producer (DescribeProducers).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownProducer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    /// Of its newest batch.
    pub last_sequence: i32,
    pub last_timestamp_ms: i64,
}

/// All producers of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Producers {
    by_id: BTreeMap<i64, Producer>,
    limit: usize,
    /// Behind the last batch taken in: a replay that begins earlier does not count it again.
    end: Offset,
}

/// The sequence number behind `sequence`: 2^31 − 1 is followed by 0.
pub fn next_sequence(sequence: i32) -> i32 {
    sequence.wrapping_add(1) & i32::MAX
}

impl Producers {
    /// # Panics
    /// With a limit of zero.
    pub fn new(limit: usize) -> Producers {
        assert!(limit > 0, "at least one producer must fit");
        Producers { by_id: BTreeMap::new(), limit, end: Offset::ZERO }
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Ascending by id.
    pub fn all(&self) -> impl Iterator<Item = KnownProducer> {
        self.by_id.iter().filter_map(|(id, producer)| {
            let newest = producer.remembered().last()?;
            Some(KnownProducer {
                id: ProducerId(*id),
                epoch: ProducerEpoch(producer.epoch),
                last_sequence: newest.last,
                last_timestamp_ms: newest.timestamp_ms,
            })
        })
    }

    /// The last offset of each producer's newest batch.
    pub fn last_offsets(&self) -> impl Iterator<Item = (i64, Offset)> {
        self.by_id.iter().filter_map(|(id, producer)| {
            let behind = producer.remembered().last()?.next_offset();
            Some((*id, Offset::from_wire(behind.get() - 1)?))
        })
    }

    /// Decides about a batch before it is appended. Changes nothing.
    pub fn check(&self, batch: Sequenced) -> Result<Checked, SequenceError> {
        let Some(known) = self.by_id.get(&batch.producer) else { return Ok(Checked::New) };
        let Sequenced { producer, epoch, first, .. } = batch;
        if epoch < known.epoch {
            return Err(SequenceError::StaleEpoch { producer, current: known.epoch, got: epoch });
        }
        if epoch > known.epoch {
            // A bumped epoch starts anew, so anything but zero means that a batch went missing.
            return if first == 0 {
                Ok(Checked::New)
            } else {
                Err(SequenceError::OutOfOrder { producer, expected: 0, got: first })
            };
        }
        let same = |have: &&Remembered| have.first == batch.first && have.last == batch.last;
        if let Some(found) = known.remembered().iter().find(same) {
            return Ok(Checked::Duplicate {
                base_offset: found.base_offset,
                next_offset: found.next_offset(),
                timestamp_ms: found.timestamp_ms,
            });
        }
        let Some(newest) = known.remembered().last() else { return Ok(Checked::New) };
        let expected = next_sequence(newest.last);
        if first == expected {
            Ok(Checked::New)
        } else {
            Err(SequenceError::OutOfOrder { producer, expected, got: first })
        }
    }

    /// Remembers a batch that is in the log: live, on a follower, or when the log is read again at start.
    pub fn appended(&mut self, batch: Sequenced, base_offset: Offset, timestamp_ms: i64, seen_ms: i64) {
        if !self.by_id.contains_key(&batch.producer) && self.by_id.len() >= self.limit {
            self.forget_oldest();
        }
        self.end = base_offset.plus(1);
        let producer = self.by_id.entry(batch.producer).or_insert_with(|| Producer::new(batch.epoch));
        let follows = producer.remembered().last().is_none_or(|newest| next_sequence(newest.last) == batch.first);
        if producer.epoch != batch.epoch || !follows {
            *producer = Producer::new(batch.epoch);
        }
        producer.push(Remembered { first: batch.first, last: batch.last, base_offset, timestamp_ms });
        producer.last_seen_ms = seen_ms;
    }

    /// As `appended`, for a batch read from the log at start, unless the snapshot has it already.
    pub fn replayed(&mut self, batch: Sequenced, base_offset: Offset, timestamp_ms: i64, seen_ms: i64) {
        if base_offset >= self.end {
            self.appended(batch, base_offset, timestamp_ms, seen_ms);
        }
    }

    /// Whether cutting the log to `end` takes the last that is known of some producer: what it did before must be read from the log.
    pub fn loses_any(&self, end: Offset) -> bool {
        self.by_id.values().any(|producer| producer.remembered().first().is_some_and(|first| first.base_offset >= end))
    }

    /// The log was cut to `end`: what came behind was never sent.
    pub fn cut(&mut self, end: Offset) {
        self.by_id.retain(|_, producer| {
            let kept = producer.remembered().iter().take_while(|batch| batch.base_offset < end).count();
            producer.len = u8::try_from(kept).expect("a handful");
            kept > 0
        });
        self.end = self.end.min(end);
    }

    /// The log begins anew.
    pub fn clear(&mut self) {
        self.by_id.clear();
        self.end = Offset::ZERO;
    }

    /// The most that are remembered.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Forgets producers that appended nothing since `before_ms`. Returns how many.
    pub fn expire(&mut self, before_ms: i64) -> usize {
        let count = self.by_id.len();
        self.by_id.retain(|_, producer| producer.last_seen_ms >= before_ms);
        count - self.by_id.len()
    }

    /// Drops an eighth of the producers, those silent for longest, so that the scan is rare.
    fn forget_oldest(&mut self) {
        let mut ages: Vec<(i64, i64)> = self.by_id.iter().map(|(id, producer)| (producer.last_seen_ms, *id)).collect();
        ages.sort_unstable();
        let count = (self.limit / 8).max(1);
        for (_, id) in ages.into_iter().take(count) {
            self.by_id.remove(&id);
        }
        assert!(self.by_id.len() < self.limit);
    }

    /// Layout, big-endian: version u8, end i64, then of each producer: id i64, epoch i16, last seen i64, batches u8, and of each batch:
    /// first i32, last i32, base offset i64, timestamp i64. Protected by the checksum of the checkpoint that carries it.
    pub fn encode(&self) -> Bytes {
        if self.by_id.is_empty() {
            return Bytes::new();
        }
        let mut out = BytesMut::with_capacity(
            1 + 8 + self.by_id.len() * (PRODUCER_BYTES_MIN + 8 + BATCHES_REMEMBERED * BATCH_BYTES),
        );
        out.put_u8(SNAPSHOT_VERSION);
        out.put_i64(self.end.get());
        for (id, producer) in &self.by_id {
            out.put_i64(*id);
            out.put_i16(producer.epoch);
            out.put_i64(producer.last_seen_ms);
            out.put_u8(producer.len);
            for batch in producer.remembered() {
                out.put_i32(batch.first);
                out.put_i32(batch.last);
                out.put_i64(batch.base_offset.get());
                out.put_i64(batch.timestamp_ms);
            }
        }
        out.freeze()
    }

    /// Reads what `encode` wrote. Nothing at all is an empty snapshot.
    pub fn decode(snapshot: &[u8], limit: usize) -> Result<Producers, SnapshotError> {
        let mut producers = Producers::new(limit);
        let mut rest = snapshot;
        let torn = SnapshotError::Torn { bytes: snapshot.len() };
        if rest.is_empty() {
            return Ok(producers);
        }
        let version = rest.get_u8();
        if version != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version { got: version });
        }
        producers.end = offset(rest.try_get_i64().map_err(|_| torn)?)?;
        while !rest.is_empty() {
            let id = rest.try_get_i64().map_err(|_| torn)?;
            let mut producer = Producer::new(rest.try_get_i16().map_err(|_| torn)?);
            producer.last_seen_ms = rest.try_get_i64().map_err(|_| torn)?;
            let batches = rest.try_get_u8().map_err(|_| torn)?;
            if usize::from(batches) > BATCHES_REMEMBERED {
                return Err(SnapshotError::Batches { producer: id, batches });
            }
            for _ in 0..batches {
                let (first, last) = (rest.try_get_i32().map_err(|_| torn)?, rest.try_get_i32().map_err(|_| torn)?);
                let base_offset = offset(rest.try_get_i64().map_err(|_| torn)?)?;
                let batch =
                    Remembered { first, last, base_offset, timestamp_ms: rest.try_get_i64().map_err(|_| torn)? };
                if producer.remembered().last().is_some_and(|newest| newest.next_offset() > batch.base_offset) {
                    return Err(SnapshotError::Offset { raw: base_offset.get() });
                }
                producer.push(batch);
            }
            if producers.by_id.len() >= limit {
                producers.forget_oldest();
            }
            producers.by_id.insert(id, producer);
        }
        Ok(producers)
    }
}

fn offset(raw: i64) -> Result<Offset, SnapshotError> {
    Offset::from_wire(raw).filter(|at| at.get() <= model::limits::OFFSET_MAX).ok_or(SnapshotError::Offset { raw })
}

#[cfg(test)]
#[path = "producers_tests.rs"]
mod tests;
