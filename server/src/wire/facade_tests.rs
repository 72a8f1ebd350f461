//! Typed messages there and back, and records spliced into a response.

use super::*;
use crate::wire::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use crate::wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::wire::{ApiVersionsRequest, StrBytes, Uuid, split_request};

fn without_prefix(frame: &Frame) -> Bytes {
    let bytes = frame.to_bytes();
    assert_eq!(bytes.len(), frame.bytes());
    let prefix = i32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
    assert_eq!(usize::try_from(prefix).expect("positive"), bytes.len() - 4);
    bytes.slice(4..)
}

fn check_round_trip<R: Request + PartialEq + std::fmt::Debug>(version: i16, request: &R) {
    let frame = encode_request(version, 7, Some("client"), request, Splices::new()).expect("encodes");
    let (header, body) = split_request(without_prefix(&frame)).expect("a valid header");
    assert_eq!((header.api_key, header.api_version, header.correlation_id), (R::KEY, version, 7));
    assert_eq!(header.client_id_text(), "client");
    assert_eq!(&decode_request::<R>(version, body).expect("decodes"), request);
}

#[test]
fn a_commit_by_topic_id_looks_like_one_by_name_to_a_handler() {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(42)
        .with_committed_leader_epoch(3)
        .with_committed_metadata(None);
    let topic = OffsetCommitRequestTopic::default().with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default().with_group_id(StrBytes::from_static_str("g").into());
    let by_name = topic.clone().with_name(StrBytes::from_static_str("t").into());
    check_round_trip(9, &request.clone().with_topics(vec![by_name]));
    let by_id = topic.with_topic_id(Uuid::from_u128(77));
    check_round_trip(10, &request.with_topics(vec![by_id]));
}

#[test]
fn an_api_versions_request_names_the_cluster_from_version_5() {
    let mut request = ApiVersionsRequest::default();
    (0..3).for_each(|version| check_round_trip(version, &request));
    request.client_software_name = StrBytes::from_static_str("weir");
    (3..5).for_each(|version| check_round_trip(version, &request));
    request.cluster_id = Some(StrBytes::from_static_str("c"));
    request.node_id = 3;
    check_round_trip(5, &request);
}

#[test]
fn records_of_a_fetch_are_spliced_and_the_bytes_are_those_of_the_crate() {
    let records: Vec<Bytes> = [vec![1; 16], vec![2; 5000], vec![3; 700]].map(Bytes::from).into();
    let response = |records: Bytes| {
        let partition = PartitionData::default().with_high_watermark(9).with_records(Some(records));
        let topic = FetchableTopicResponse::default().with_partitions(vec![partition.clone(), partition]);
        FetchResponse::default().with_responses(vec![topic])
    };
    for version in FetchRequest::MIN..=FetchRequest::MAX {
        let plain = response(records.concat().into());
        let plain = encode_response::<FetchRequest>(version, 7, &plain, Splices::new()).expect("encodes");
        let mut splices = Splices::new();
        let spliced = response(splices.register(records.clone()));
        let spliced = encode_response::<FetchRequest>(version, 7, &spliced, splices).expect("encodes");
        assert_eq!(spliced.to_bytes(), plain.to_bytes());
        let shared = |piece: &&Bytes| records.iter().any(|records| records.as_ptr() == piece.as_ptr());
        assert_eq!(spliced.pieces().iter().filter(shared).count(), 6);
        let (correlation_id, back) =
            decode_response::<FetchRequest>(version, without_prefix(&spliced)).expect("decodes");
        assert_eq!((correlation_id, back), (7, response(records.concat().into())));
    }
}

#[test]
fn a_version_outside_of_the_facade_is_refused_both_ways() {
    let error = decode_request::<InitProducerIdRequest>(6, Bytes::new()).expect_err("refused");
    let message = "InitProducerIdRequest";
    assert_eq!(error, WireError::Version { message, version: 6, min: 0, max: 5 });
    let response = InitProducerIdResponse::default();
    assert!(encode_response::<InitProducerIdRequest>(6, 0, &response, Splices::new()).is_err());
}

#[test]
fn a_value_that_the_version_cannot_carry_is_an_error_of_the_handler() {
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![StrBytes::from_static_str("g")]);
    let error = encode_request(0, 0, None, &request, Splices::new()).expect_err("refused");
    assert!(matches!(error, WireError::Encode { version: 0, .. }), "{error}");
}
