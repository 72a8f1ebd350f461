//! What a log does for each batch: validation and iteration of records, append, plan of a read, look-up in an index.
//!
//! Owns no limits: `cargo bench -p storage` compares with the run before. Nothing here waits for a disk.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use model::batch::{Batch, BatchBuilder, Codec, TimestampType};
use model::{LeaderEpoch, LogId, Offset, PartitionIndex, TopicId, TopicPartition};
use storage::codec::{DecompressLimits, compress};
use storage::disk::{Disk, RealDisk};
use storage::offset_index::{ENTRY_BYTES, lookup};
use storage::record::{ProduceRules, ReadLimits, RecordReader, validate_records};
use storage::{Log, Options, Store};

const NOW_MS: i64 = 1_700_000_000_000;
/// Records of 100 bytes in a batch: what a busy producer sends by default.
const RECORDS: usize = 150;
/// Appends of one measurement: the memory of a log's tail is in it.
const APPENDS: u64 = 1_000;
/// As many as a segment of 1 GiB has by default.
const INDEX_ENTRIES: u32 = 262_144;

fn batch(codec: Codec) -> Batch {
    let mut builder = BatchBuilder::new();
    for number in 0..RECORDS {
        let value = format!("{number:05} {}", "a line that somebody logged; ".repeat(3));
        builder.push(NOW_MS, Some(b"key"), Some(value.as_bytes()), &[]);
    }
    let compressed = compress(codec, builder.records());
    builder.finish_with(codec, &compressed)
}

fn records(criterion: &mut Criterion) {
    let rules = ProduceRules {
        batch_bytes_max: 1 << 20,
        keys_required: true,
        timestamp_type: TimestampType::CreateTime,
        now_ms: NOW_MS,
        timestamp_before_max_ms: None,
        timestamp_after_max_ms: Some(3_600_000),
    };
    let mut group = criterion.benchmark_group("records");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let batch = batch(codec);
        group.bench_with_input(BenchmarkId::new("validate", format!("{codec:?}")), &batch, |bencher, batch| {
            bencher.iter(|| validate_records(batch, DecompressLimits::DEFAULT, &rules).expect("a good batch"));
        });
        let bytes = batch.records();
        group.bench_with_input(BenchmarkId::new("read", format!("{codec:?}")), &batch, |bencher, batch| {
            bencher.iter(|| {
                let mut reader = RecordReader::new(batch.header(), &bytes, ReadLimits::default()).expect("a reader");
                while let Some(record) = reader.next().expect("a good record") {
                    black_box(record.value);
                }
            });
        });
    }
    group.finish();
}

fn append_all(log: &mut Log, batch: &Batch) {
    for _ in 0..APPENDS {
        let placed = batch.clone().place(log.log_end(), LeaderEpoch::new(1));
        black_box(log.append(placed, NOW_MS));
    }
}

fn log(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(folder.path(), 16));
    let options = Options { salt: 1, directory_id: [1; 16], only_copy: true };
    let store = Store::open(disk, folder.path(), options).expect("a new data directory").store;
    let partition = TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex::new(0) };
    let fresh = || store.create_log(LogId::records(partition), "bench-0", true, Offset::new(0)).0;
    let batch = batch(Codec::None);

    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(APPENDS));
    group.bench_function("append", |bencher| {
        bencher.iter_batched_ref(fresh, |log| append_all(log, &batch), BatchSize::PerIteration);
    });
    let mut full = fresh();
    append_all(&mut full, &batch);
    let (middle, end) = (Offset::new(full.log_end().get() / 2), full.log_end());
    group.throughput(Throughput::Elements(1));
    group.bench_function("read a megabyte of the tail", |bencher| {
        bencher.iter(|| full.plan_read(middle, end, 1 << 20).expect("within the log").memory_pieces());
    });
    group.finish();
}

fn index(criterion: &mut Criterion) {
    let bytes: Vec<u8> =
        (0..INDEX_ENTRIES).flat_map(|entry| [entry * 30, entry * 4096]).flat_map(u32::to_be_bytes).collect();
    assert!(bytes.len() == INDEX_ENTRIES as usize * ENTRY_BYTES);
    let mut at = 0_u32;
    criterion.bench_function("index/look up", |bencher| {
        bencher.iter(|| {
            at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            lookup(&bytes, at % (INDEX_ENTRIES * 30))
        });
    });
}

criterion_group!(benches, records, log, index);
criterion_main!(benches);
