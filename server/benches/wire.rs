//! Produce and Fetch between bytes and types: the length check, decoding, and answers whose records are not copied.
//!
//! Owns no limits: `cargo bench -p server --bench wire` compares with the run before.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use server::wire::messages::fetch_request::{FetchPartition, FetchTopic};
use server::wire::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use server::wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use server::wire::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use server::wire::messages::{FetchRequest, FetchResponse, ProduceRequest, ProduceResponse};
use server::wire::{Request, Splices, Uuid, decode_request, encode_request, encode_response, split_request};

/// The versions that name topics by id.
const PRODUCE: i16 = 13;
const FETCH: i16 = 18;
const PARTITIONS: [i32; 2] = [1, 100];
/// A batch of each partition; its content is not looked at here.
const BATCH_BYTES: usize = 16 * 1024;

fn topic() -> Uuid {
    Uuid::from_bytes([7; 16])
}

fn produce_request(partitions: i32) -> ProduceRequest {
    let records = Bytes::from(vec![7; BATCH_BYTES]);
    let part = |index| PartitionProduceData::default().with_index(index).with_records(Some(records.clone()));
    let data =
        TopicProduceData::default().with_topic_id(topic()).with_partition_data((0..partitions).map(part).collect());
    ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![data])
}

fn produce_response(partitions: i32) -> ProduceResponse {
    let part = |index| PartitionProduceResponse::default().with_index(index).with_base_offset(1_000_000);
    let topic = TopicProduceResponse::default().with_topic_id(topic());
    ProduceResponse::default().with_responses(vec![topic.with_partition_responses((0..partitions).map(part).collect())])
}

fn fetch_request(partitions: i32) -> FetchRequest {
    let part = |partition| {
        FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(1_000_000)
            .with_partition_max_bytes(1 << 20)
    };
    let topic = FetchTopic::default().with_topic_id(topic()).with_partitions((0..partitions).map(part).collect());
    FetchRequest::default().with_max_wait_ms(500).with_min_bytes(1).with_topics(vec![topic])
}

/// The records come as pieces and leave as pieces.
fn fetch_response(partitions: i32, records: &Bytes) -> (FetchResponse, Splices) {
    let mut splices = Splices::new();
    let parts = (0..partitions).map(|partition| {
        let records = splices.register(vec![records.clone()]);
        PartitionData::default()
            .with_partition_index(partition)
            .with_high_watermark(1_000_000)
            .with_records(Some(records))
    });
    let parts = parts.collect();
    let topic = FetchableTopicResponse::default().with_topic_id(topic()).with_partitions(parts);
    (FetchResponse::default().with_responses(vec![topic]), splices)
}

/// A request's frame behind its length.
fn frame<R: Request>(version: i16, request: &R) -> Bytes {
    let frame = encode_request(version, 7, Some("bench"), request, Splices::new()).expect("a request of ours");
    frame.to_bytes().slice(4..)
}

fn decode<R: Request>(frame: &Bytes) -> R {
    let (header, body) = split_request(frame.clone()).expect("a good header");
    decode_request(header.api_version, body).expect("a good body")
}

fn wire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    for partitions in PARTITIONS {
        group.throughput(Throughput::Elements(u64::from(partitions.unsigned_abs())));
        let produced = frame(PRODUCE, &produce_request(partitions));
        group.bench_with_input(BenchmarkId::new("decode Produce", partitions), &produced, |bencher, frame| {
            bencher.iter(|| decode::<ProduceRequest>(frame));
        });
        let answer = produce_response(partitions);
        group.bench_with_input(BenchmarkId::new("encode Produce", partitions), &answer, |bencher, answer| {
            bencher.iter(|| encode_response::<ProduceRequest>(PRODUCE, 7, answer, Splices::new()).expect("an answer"));
        });
        let fetched = frame(FETCH, &fetch_request(partitions));
        group.bench_with_input(BenchmarkId::new("decode Fetch", partitions), &fetched, |bencher, frame| {
            bencher.iter(|| decode::<FetchRequest>(frame));
        });
        let records = Bytes::from(vec![7; BATCH_BYTES]);
        group.bench_with_input(BenchmarkId::new("encode Fetch", partitions), &records, |bencher, records| {
            bencher.iter(|| {
                let (answer, splices) = fetch_response(partitions, records);
                encode_response::<FetchRequest>(FETCH, 7, &answer, splices).expect("an answer")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, wire);
criterion_main!(benches);
