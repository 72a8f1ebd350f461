//! Bounded mutation fuzz of batches: whatever bytes come, no panic, bounded memory, bounded time.
//!
//! Good batches of every codec are mutated, their length and CRC corrected so that the checks behind them are
//! reached, then checked, validated and read. A counting allocator sees the peak of each round. (The C code of zstd
//! allocates elsewhere; its window has a limit of its own.) A failure prints the seed of its round.

#![expect(clippy::disallowed_methods, reason = "the test bounds its own running time")]

use bytes::Bytes;
use model::batch::{Batch, BatchBuilder, Codec, HEADER_BYTES, StoredBatch, TimestampType, crc32c, split_batches};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use storage::codec::{DecompressLimits, compress};
use storage::record::{ProduceRules, ReadLimits, RecordReader, validate_records};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const LIMITS: DecompressLimits =
    DecompressLimits { output_bytes_max: 1 << 20, block_bytes_max: 1 << 20, zstd_window_log_max: 20 };
/// The largest lz4 frame: two output blocks of 4 MiB and its window, one input block of 4 MiB.
const LZ4_BYTES: usize = (12 << 20) + (64 << 10);
/// A block of snappy, a buffered record, and what a codec needs to work.
const ROUND_BYTES_MAX: usize = LZ4_BYTES + (4 << 20);
const RUN: Duration = Duration::from_secs(5);
const ROUND_MAX: Duration = Duration::from_secs(2);

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % bound
    }
}

/// Records of a good batch, not compressed.
fn records(random: &mut Random) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    for index in 0..=random.below(20) {
        let value = vec![b'v'; [0, 5, 100, 5_000][random.below(4)]];
        let headers: &[(&[u8], Option<&[u8]>)] =
            if random.below(3) == 0 { &[(b"name", Some(b"x")), (b"name", None)] } else { &[] };
        let key = (index % 2 == 0).then_some(&b"key"[..]);
        builder.push(1_000 + i64::try_from(index).expect("small"), key, Some(&value), headers);
    }
    builder
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next().to_le_bytes()[0],
            2 => bytes[at] = [0x00, 0x7f, 0x80, 0xff][random.below(4)],
            3 => bytes.truncate(at),
            4 => {
                let end = (at + random.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 => {
                let end = (at + random.below(40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                let end = (at + 5).min(bytes.len());
                bytes[at..end].fill([0xff, 0x80][random.below(2)]);
            }
        }
    }
}

/// A mutated batch; mostly with a length and CRC that hide the mutation.
fn hostile_batch(random: &mut Random) -> Vec<u8> {
    let builder = records(random);
    let codec = CODECS[random.below(CODECS.len())];
    let mut plain = builder.records().to_vec();
    if random.below(2) == 0 {
        mutate(random, &mut plain);
    }
    let mut payload = compress(codec, &plain);
    if random.below(2) == 0 {
        mutate(random, &mut payload);
    }
    let mut bytes = builder.encode(codec, &payload, |_| ()).to_vec();
    if random.below(4) == 0 {
        let mut header = bytes[..HEADER_BYTES].to_vec();
        mutate(random, &mut header);
        bytes.splice(..HEADER_BYTES, header);
    }
    if bytes.len() >= HEADER_BYTES && random.below(8) > 0 {
        let length = i32::try_from(bytes.len() - 12).expect("small");
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

/// Does with a batch all that a server does. Says whether a validator took it.
fn exercise(bytes: Bytes) -> bool {
    let rules = ProduceRules {
        batch_bytes_max: 1 << 20,
        keys_required: false,
        timestamp_type: TimestampType::CreateTime,
        now_ms: 1_000,
        timestamp_before_max_ms: None,
        timestamp_after_max_ms: None,
    };
    for batch in split_batches(bytes.clone()).flatten() {
        let _ = batch.with_max_timestamp(TimestampType::LogAppendTime, 7);
    }
    let limits = ReadLimits { decompress: LIMITS, record_bytes_max: 1 << 20 };
    let mut read = None;
    if let Ok(stored) = StoredBatch::parse(bytes.clone()) {
        let records = stored.records();
        if let Ok(mut reader) = RecordReader::new(stored.header(), &records, limits) {
            let mut count = 0;
            read = loop {
                match reader.next() {
                    Ok(Some(record)) => count += i32::from(record.headers.count() < 1_000_000),
                    Ok(None) => break Some(count),
                    Err(_) => break None,
                }
            };
        }
    }
    let Ok(batch) = Batch::check(bytes) else { return false };
    let Ok(summary) = validate_records(&batch, LIMITS, &rules) else { return false };
    assert_eq!(read, Some(summary.count), "what the validator takes, a consumer can read");
    true
}

#[test]
fn no_bytes_make_a_batch_reader_panic_or_take_more_than_its_memory() {
    let begin = Instant::now();
    let (mut rounds, mut taken) = (0_u64, 0_u64);
    while begin.elapsed() < RUN {
        let bytes = Bytes::from(hostile_batch(&mut Random(rounds)));
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let round = Instant::now();
        let result = std::panic::catch_unwind(|| exercise(bytes));
        let took = round.elapsed();
        let allocated = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        match result {
            Ok(valid) => taken += u64::from(valid),
            Err(_) => panic!("seed {rounds} panicked, see above"),
        }
        assert!(allocated <= ROUND_BYTES_MAX, "seed {rounds} allocated {allocated} bytes");
        assert!(took <= ROUND_MAX, "seed {rounds} took {took:?}");
        rounds += 1;
    }
    // Both ways must have been gone often, or the mutations are too weak or too strong to prove anything.
    assert!(rounds > 1_000, "only {rounds} rounds");
    assert!(taken * 100 > rounds && taken * 2 < rounds, "{taken} of {rounds} batches were taken");
}
