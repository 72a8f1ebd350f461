//! What a produced batch costs before it has a place: CRC, header, counts; and its place.
//!
//! Owns no limits: `cargo bench -p model` compares with the run before.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use model::batch::{Batch, BatchBuilder, crc32c};
use model::{LeaderEpoch, Offset};

/// Batches with records of 100 bytes: one, what a busy producer sends by default, and a large one.
const RECORDS: [usize; 3] = [1, 150, 10_000];

fn batch(records: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    (0..records).for_each(|_| builder.push(1_700_000_000_000, None, Some(&[b'x'; 100]), &[]));
    builder.finish()
}

fn check(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    for records in RECORDS {
        let bytes = batch(records).bytes().clone();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::new("crc32c", bytes.len()), &bytes, |bencher, bytes| {
            bencher.iter(|| crc32c(bytes));
        });
        group.bench_with_input(BenchmarkId::new("check", bytes.len()), &bytes, |bencher, bytes| {
            bencher.iter(|| Batch::check(bytes.clone()));
        });
    }
    group.throughput(Throughput::Elements(1));
    let checked = batch(150);
    group.bench_function("place", |bencher| {
        bencher.iter(|| checked.clone().place(Offset::new(1_000_000), LeaderEpoch::new(7)));
    });
    group.finish();
}

criterion_group!(benches, check);
criterion_main!(benches);
