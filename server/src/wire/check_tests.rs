//! What the length check refuses, and where it says the fault is.

use super::*;
use crate::wire::tables::{Direction, message};

fn check_request(key: i16, version: i16, body: &[u8]) -> Result<(), CheckError> {
    check(message(key, Direction::Request).expect("known key"), version, body)
}

/// Metadata 9: topics, three flags, tags.
fn metadata_9(topics: &[u8], end: &[u8]) -> Result<(), CheckError> {
    check_request(3, 9, &[topics, &[1, 0, 0], end].concat())
}

#[test]
fn a_valid_body_is_accepted() {
    assert_eq!(metadata_9(&[0], &[0]), Ok(()));
    assert_eq!(metadata_9(&[2, 2, b'a', 0], &[0]), Ok(()));
    assert_eq!(check_request(3, 0, &[0, 0, 0, 1, 0, 1, b'a']), Ok(()));
}

#[test]
fn twelve_bytes_of_produce_cannot_ask_for_206_gigabytes() {
    // Produce 3: null transactional id, acks, timeout, topics claimed.
    let body = [0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff];
    let expected =
        CheckError::TooManyElements { field: "TopicData", at: 8, count: 0x7fff_ffff, max: ARRAY_ELEMENTS_MAX };
    assert_eq!(check_request(0, 3, &body), Err(expected));
    let body = [0xff, 0xff, 0, 1, 0, 0, 0, 1, 0, 0, 0xff, 0xff];
    let expected = CheckError::ElementsDoNotFit { field: "TopicData", at: 8, count: 0xffff, element_bytes: 6, left: 0 };
    assert_eq!(check_request(0, 3, &body), Err(expected));
}

#[test]
fn counts_are_compared_with_the_least_size_of_an_element() {
    // Two topics of three bytes or more do not fit into five bytes.
    let expected = CheckError::ElementsDoNotFit { field: "Topics", at: 0, count: 2, element_bytes: 2, left: 3 };
    assert_eq!(check_request(3, 9, &[3, 1, 0, 0]), Err(expected));
}

#[test]
fn negative_lengths_below_null_are_refused() {
    let expected = CheckError::NegativeLength { field: "Topics", at: 0, got: -2 };
    assert_eq!(check_request(3, 1, &[0xff, 0xff, 0xff, 0xfe]), Err(expected));
    let expected = CheckError::NegativeLength { field: "Name", at: 4, got: -2 };
    assert_eq!(check_request(3, 0, &[0, 0, 0, 1, 0xff, 0xfe]), Err(expected));
}

#[test]
fn null_is_refused_where_the_schema_has_none() {
    assert_eq!(metadata_9(&[2, 0, 0], &[0]), Err(CheckError::Null { field: "Name", at: 1 }));
    let null_topics = [0xff, 0xff, 0xff, 0xff];
    assert_eq!(check_request(3, 0, &null_topics), Err(CheckError::Null { field: "Topics", at: 0 }));
    assert_eq!(check_request(3, 1, &null_topics), Ok(()));
}

#[test]
fn overlong_varints_are_refused() {
    let expected = CheckError::OverlongVarint { field: "Topics", at: 0 };
    assert_eq!(check_request(3, 9, &[0xff; 10]), Err(expected));
    assert_eq!(metadata_9(&[0], &[0x80; 11]), Err(CheckError::OverlongVarint { field: TAGS, at: 4 }));
}

#[test]
fn tags_must_rise_and_be_few() {
    assert_eq!(metadata_9(&[0], &[2, 5, 0, 6, 1, 0]), Ok(()));
    let expected = CheckError::TagOrder { at: 7, tag: 5, previous: 5 };
    assert_eq!(metadata_9(&[0], &[2, 5, 0, 5, 0]), Err(expected));
    let expected = CheckError::TagOrder { at: 7, tag: 4, previous: 5 };
    assert_eq!(metadata_9(&[0], &[2, 5, 0, 4, 0]), Err(expected));
    let expected = CheckError::TooManyElements { field: TAGS, at: 4, count: 10_001, max: TAGGED_FIELDS_MAX };
    assert_eq!(metadata_9(&[0], &[0x91, 0x4e]), Err(expected));
}

#[test]
fn a_known_tagged_field_must_fill_its_length() {
    // Fetch 12 without topics; tag 0 is the cluster id.
    let body = |tags: &[u8]| {
        let mut body = vec![0; 4 + 4 + 4 + 4 + 1 + 4 + 4];
        body.extend_from_slice(&[1, 1, 1]); // topics, forgotten topics, rack
        body.extend_from_slice(tags);
        check_request(1, 12, &body)
    };
    assert_eq!(body(&[1, 0, 2, 2, b'x']), Ok(()));
    let expected = CheckError::TagLength { field: "ClusterId", at: 31, claimed: 3, used: 2 };
    assert_eq!(body(&[1, 0, 3, 2, b'x', 0]), Err(expected));
    let expected = CheckError::Truncated { field: "ClusterId", at: 31, needed: 9, left: 1 };
    assert_eq!(body(&[1, 0, 9, 1]), Err(expected));
}

#[test]
fn a_tag_of_a_later_version_is_refused() {
    // ProduceResponse: its tag 0, the leaders' addresses, came with version 10.
    let body = [1, 0, 0, 0, 0, 1, 0, 1, 1];
    let produce = message(0, Direction::Response).expect("known key");
    let expected = CheckError::TagVersion { field: "NodeEndpoints", at: 8, tag: 0, version: 9 };
    assert_eq!(check(produce, 9, &body), Err(expected));
    assert_eq!(check(produce, 10, &body), Ok(()));
}

#[test]
fn strings_must_fit_and_be_utf_8() {
    let expected = CheckError::Truncated { field: "Name", at: 6, needed: 5, left: 1 };
    assert_eq!(check_request(3, 0, &[0, 0, 0, 1, 0, 5, b'a']), Err(expected));
    let expected = CheckError::Utf8 { field: "Name", at: 7 };
    assert_eq!(check_request(3, 0, &[0, 0, 0, 1, 0, 2, b'a', 0xc0]), Err(expected));
    let mut long = vec![2, 0x81, 0x80, 0x02];
    long.resize(40_000, b'a');
    let expected = CheckError::LongString { field: "Name", at: 1, length: 32_768, max: STRING_BYTES_MAX };
    assert_eq!(check_request(3, 9, &long), Err(expected));
}

#[test]
fn trailing_bytes_are_refused() {
    assert_eq!(metadata_9(&[0], &[0, 9]), Err(CheckError::TrailingBytes { at: 5, left: 1 }));
}

#[test]
fn nested_arrays_cannot_multiply_past_the_budget() {
    // DescribeLogDirs 2 (flexible): topics of 40,000 partitions each.
    let body = |topics: u8| {
        let mut topic = vec![2, b't', 0xc1, 0xb8, 0x02];
        topic.resize(5 + 4 * 40_000, 0);
        topic.push(0);
        [vec![topics + 1], topic.repeat(usize::from(topics)), vec![0]].concat()
    };
    assert_eq!(check_request(35, 2, &body(9)), Ok(()));
    let error = check_request(35, 2, &body(10)).expect_err("400,010 elements");
    let expected = CheckError::TooMuchWork { field: "Partitions", at: 1_440_057, max: REQUEST_ELEMENTS_MAX };
    assert_eq!(error, expected);
}

#[test]
fn unknown_tags_in_every_element_use_up_the_budget() {
    // Metadata 9: each topic has one unknown tag, and a map node each would be made for it.
    let topics = |count: usize| {
        let mut body = Vec::new();
        crate::wire::primitives::put_varint(&mut body, u32::try_from(count + 1).expect("small"));
        body.extend([1, 1, 9, 0].repeat(count));
        metadata_9(&body, &[0])
    };
    assert_eq!(topics(40_000), Ok(()));
    assert!(matches!(topics(40_001), Err(CheckError::TooMuchWork { field: TAGS, .. })));
}

#[test]
fn a_presence_marker_is_one_or_minus_one() {
    // DescribeTopicPartitions 0: topics, limit, nullable cursor, tags.
    let with_marker = |marker: &[u8]| check_request(75, 0, &[&[1, 0, 0, 0, 1], marker, &[0]].concat());
    assert_eq!(with_marker(&[0xff]), Ok(()));
    assert_eq!(with_marker(&[1, 2, b't', 0, 0, 0, 0, 0]), Ok(()));
    assert_eq!(with_marker(&[2]), Err(CheckError::Marker { field: "Cursor", at: 5, got: 2 }));
}

#[test]
fn unknown_versions_are_refused() {
    for version in [-1, 2, 14, i16::MAX] {
        assert!(matches!(check_request(0, version, &[]), Err(CheckError::UnknownVersion { .. })));
    }
}

#[test]
fn every_prefix_of_a_body_is_refused() {
    let body = [2, 2, b'a', 0, 1, 0, 0, 1, 9, 3, 1, 2, 3];
    assert_eq!(check_request(3, 9, &body), Ok(()));
    for len in 0..body.len() {
        assert!(check_request(3, 9, &body[..len]).is_err(), "{len} bytes");
    }
}
