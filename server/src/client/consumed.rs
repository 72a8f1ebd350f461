//! Records as they are read: out of fetched batches, without those of aborted transactions.
//!
//! Owns decoding and the filter. Does not own fetching. Invariant: control records are never given, and damage is an error, not an end.

use std::collections::BTreeSet;

use bytes::Bytes;
use model::batch::{HEADER_BYTES, StoredBatch, peek};
use storage::record::{ReadLimits, Record, RecordReader};

use crate::wire::messages::fetch_response::AbortedTransaction;

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Consumed {
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Consumed {
    /// The record of a batch, with bytes of its own.
    pub fn of(record: Record<'_>) -> Consumed {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        Consumed {
            offset: record.offset.get(),
            timestamp: record.timestamp,
            key: owned(record.key),
            value: owned(record.value),
            headers: record.headers.map(|(name, value)| (name.to_vec(), owned(value))).collect(),
        }
    }
}

/// What was in one partition's part of an answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decoded {
    pub records: Vec<Consumed>,
    /// Behind the last whole batch.
    pub next: Option<i64>,
}

/// Decodes the records from `from` on. The last batch may be cut, as Kafka cuts what it sends at its limit of bytes. `aborted`: the
/// transactions whose records are left out.
pub fn decode(mut bytes: Bytes, from: i64, aborted: &[AbortedTransaction]) -> Result<Decoded, String> {
    let mut aborted: Vec<(i64, i64)> = aborted.iter().map(|one| (one.first_offset, one.producer_id.0)).collect();
    aborted.sort_unstable();
    let mut aborted = aborted.into_iter().peekable();
    let mut open = BTreeSet::new();
    let mut decoded = Decoded::default();
    while bytes.len() >= HEADER_BYTES {
        let header = peek(&bytes).map_err(|error| error.to_string())?.ok_or("a batch without header")?;
        if header.size() > bytes.len() {
            break;
        }
        let batch = StoredBatch::parse(bytes.split_to(header.size())).map_err(|error| error.to_string())?;
        let last = batch.last_offset().get();
        decoded.next = Some(last.saturating_add(1));
        while let Some((_, producer)) = aborted.next_if(|(first, _)| *first <= last) {
            open.insert(producer);
        }
        let producer = batch.header().producer_id;
        if batch.is_control() {
            // A marker ends the transaction; of an aborted one nothing follows it.
            open.remove(&producer);
            continue;
        }
        if batch.is_transactional() && open.contains(&producer) {
            continue;
        }
        read(&batch, from, &mut decoded.records)?;
    }
    Ok(decoded)
}

fn read(batch: &StoredBatch, from: i64, records: &mut Vec<Consumed>) -> Result<(), String> {
    let body = batch.records();
    let mut reader =
        RecordReader::new(batch.header(), &body, ReadLimits::default()).map_err(|error| error.to_string())?;
    while let Some(record) = reader.next().map_err(|error| error.to_string())? {
        if record.offset.get() < from {
            continue;
        }
        records.push(Consumed::of(record));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::batch::BatchBuilder;

    use super::*;

    /// The bytes of a batch as a leader stores it: base offset in front.
    fn at(base: i64, batch: BatchBuilder) -> Vec<u8> {
        let mut bytes = batch.finish().bytes().to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes
    }

    fn values(decoded: &Decoded) -> Vec<(i64, String)> {
        let text = |value: &Option<Vec<u8>>| String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned();
        decoded.records.iter().map(|record| (record.offset, text(&record.value))).collect()
    }

    #[test]
    fn records_before_the_asked_offset_and_a_cut_batch_are_left_out() {
        let batch = BatchBuilder::new().record(1, Some(b"k"), Some(b"a"), &[]).record(2, None, Some(b"b"), &[]);
        let mut bytes = at(10, batch);
        let next = at(12, BatchBuilder::new().record(3, None, Some(b"c"), &[]));
        bytes.extend_from_slice(&next[..next.len() - 1]);
        let decoded = decode(bytes.into(), 11, &[]).expect("whole batches");
        assert_eq!((values(&decoded), decoded.next), (vec![(11, "b".to_owned())], Some(12)));
    }

    #[test]
    fn records_of_aborted_transactions_are_left_out_and_offsets_go_on() {
        let of = |producer: i64, text: &[u8]| {
            BatchBuilder::new().producer(producer, 0, 0).transactional().record(1, None, Some(text), &[])
        };
        let marker =
            || BatchBuilder::new().producer(7, 0, -1).transactional().control().record(1, Some(b"\0\0\0\0"), None, &[]);
        let batches = [at(0, of(7, b"lost")), at(1, of(8, b"kept")), at(2, marker()), at(3, of(7, b"later"))];
        let aborted = [AbortedTransaction::default().with_producer_id(7.into()).with_first_offset(0)];
        let decoded = decode(batches.concat().into(), 0, &aborted).expect("whole batches");
        let expected = vec![(1, "kept".to_owned()), (3, "later".to_owned())];
        assert_eq!((values(&decoded), decoded.next), (expected, Some(4)));
    }

    #[test]
    fn damage_is_an_error() {
        let mut bytes = at(0, BatchBuilder::new().record(1, None, Some(b"abc"), &[]));
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        assert!(decode(bytes.into(), 0, &[]).is_err());
    }
}
