//! What a connection does, whatever is asked on it: frames, order, long polls, versions.

mod common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::{Server, batch, produce, text};
use server::wire::messages::fetch_request::{FetchPartition, FetchTopic};
use server::wire::messages::{FetchRequest, FetchResponse, MetadataRequest, ProduceRequest};
use server::wire::tables::{Direction, messages};
use server::wire::value::Fields;
use server::wire::{ApiVersionsRequest, Splices, codec, encode_request};

/// Far longer than any test runs: what comes earlier did not wait for it.
const LONG_MS: i32 = 300_000;

fn fetch(topic: &str, from: i64, max_wait_ms: i32) -> FetchRequest {
    let partition =
        FetchPartition::default().with_partition(0).with_fetch_offset(from).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(text(topic).into()).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

#[test]
fn what_is_no_frame_closes_the_connection_and_no_other() {
    let server = Server::start();
    let mut bystander = server.client();
    let attacks: [&[u8]; 8] = [
        &[0xff, 0xff, 0xff, 0xff],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x06, 0x40, 0x00, 0x01],
        &[0, 0, 0, 0],
        &[0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00],
        // A header of no API.
        &[0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
    ];
    for attack in attacks {
        let mut client = server.client();
        client.stream.write_all(attack).expect("the server reads");
        let began = Instant::now();
        assert_eq!(client.frame(), None, "{attack:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{attack:?}");
        bystander.call(0, &ApiVersionsRequest::default());
    }
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0_and_the_connection_goes_on() {
    let server = Server::start();
    let mut client = server.client();
    client.stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 99, 0, 0, 0, 5, 0xff, 0xff]).expect("the server reads");
    let (id, response) = client.receive::<ApiVersionsRequest>(0);
    assert_eq!((id, response.error_code), (5, 35));
    let range = response.api_keys.iter().find(|range| range.api_key == 18).expect("its own versions");
    assert_eq!((range.min_version, range.max_version), (0, 5));
    assert_eq!(client.call(0, &ApiVersionsRequest::default()).error_code, 0);
}

#[test]
fn answers_leave_in_the_order_of_the_requests() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("order", 1);
    let mut sent = Vec::new();
    for number in 0..200 {
        let request = produce("order", 0, -1, batch(&[&format!("value {number}")]));
        sent.push(client.send(9, &request));
        sent.push(client.send(1, &MetadataRequest::default().with_topics(Some(Vec::new()))));
    }
    for (at, expected) in sent.into_iter().enumerate() {
        if at % 2 == 0 {
            let (id, response) = client.receive::<ProduceRequest>(9);
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!((id, partition.error_code), (expected, 0));
            assert_eq!(partition.base_offset, (at / 2) as i64);
        } else {
            assert_eq!(client.receive::<MetadataRequest>(1).0, expected);
        }
    }
}

#[test]
fn a_client_that_does_not_read_is_not_read_and_loses_nothing() {
    const REQUESTS: i32 = 20_000;
    let server = Server::start();
    let mut client = server.client();
    let mut sender = client.stream.try_clone().expect("a socket");
    let sending = std::thread::spawn(move || {
        for id in 0..REQUESTS {
            let frame = encode_request(0, id, None, &ApiVersionsRequest::default(), Splices::new()).expect("encodes");
            sender.write_all(&frame.to_bytes()).expect("the server reads in the end");
        }
    });
    for id in 0..REQUESTS {
        assert_eq!(client.receive::<ApiVersionsRequest>(0).0, id);
    }
    sending.join().expect("all was sent");
}

#[test]
fn a_parked_fetch_is_answered_when_another_request_arrives_behind_it() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("parked", 1);
    let began = Instant::now();
    let parked = client.send(11, &fetch("parked", 0, LONG_MS));
    let behind = client.send(1, &MetadataRequest::default().with_topics(Some(Vec::new())));
    let (id, response) = client.receive::<server::wire::messages::FetchRequest>(11);
    assert_eq!((id, response.error_code), (parked, 0));
    assert_eq!(client.receive::<MetadataRequest>(1).0, behind);
    assert!(began.elapsed() < Duration::from_millis(LONG_MS.unsigned_abs().into()));
}

#[test]
fn a_long_poll_ends_when_records_come() {
    let server = Server::start();
    let (mut reader, mut writer) = (server.client(), server.client());
    writer.create_topic("polled", 1);
    reader.send(11, &fetch("polled", 0, LONG_MS));
    let response = writer.call(9, &produce("polled", 0, -1, batch(&["a", "b"])));
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    let (_, response) = reader.receive::<FetchRequest>(11);
    let partition = &response.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (0, 2));
    assert!(partition.records.as_ref().is_some_and(|records| records.len() > 61));
}

#[test]
fn a_fetch_for_which_no_memory_is_free_gets_no_records_and_goes_on_when_some_is() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("scarce", 1);
    client.call(9, &produce("scarce", 0, -1, batch(&["a", "b"])));
    let records = |response: FetchResponse| {
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, 2));
        partition.records.as_ref().map_or(0, |records| records.len())
    };
    // As answers hold it that others do not take.
    let memory = &server.broker.answer_memory;
    let limit = usize::try_from(memory.limit()).expect("bytes of memory");
    let all = memory.try_take(limit).expect("nothing else is asked");
    assert_eq!(records(client.call(11, &fetch("scarce", 0, 0))), 0);
    assert_eq!(records(client.call(11, &fetch("scarce", 0, 50))), 0, "when its wait is over");
    // Also beside a partition that fails each time, which is told of at once where there is memory.
    let mut with_failing = fetch("scarce", 0, 50);
    with_failing.topics.extend(fetch("scarce-no-more", 9, 50).topics);
    client.create_topic("scarce-no-more", 1);
    let began = Instant::now();
    let response = client.call(11, &with_failing);
    assert!(began.elapsed() >= Duration::from_millis(50), "{:?}", began.elapsed());
    assert_eq!(response.responses[1].partitions[0].error_code, 1);
    assert_eq!(records(response), 0);
    client.send(11, &fetch("scarce", 0, LONG_MS));
    drop(all);
    assert!(records(client.receive::<FetchRequest>(11).1) > 0);
    // One that waits for memory does not hold up another request.
    let all = memory.take(limit);
    let all = tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(all);
    client.send(11, &fetch("scarce", 0, LONG_MS));
    client.send(1, &MetadataRequest::default().with_topics(Some(Vec::new())));
    assert_eq!(records(client.receive::<FetchRequest>(11).1), 0);
    client.receive::<MetadataRequest>(1);
    drop(all);
}

#[test]
fn a_session_names_only_partitions_with_news() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("session", 1);
    client.create_topic("quiet", 1);
    let mut first = fetch("session", 0, 0).with_session_epoch(0);
    first.topics.extend(fetch("quiet", 0, 0).topics);
    let response = client.call(11, &first);
    assert_eq!((response.error_code, response.responses.len()), (0, 2));
    let session = response.session_id;
    assert_ne!(session, 0);
    let next = |epoch| fetch("", 0, 0).with_session_id(session).with_session_epoch(epoch).with_topics(Vec::new());
    assert_eq!(client.call(11, &next(1)).responses, []);
    client.call(9, &produce("session", 0, -1, batch(&["a"])));
    let news = client.call(11, &next(2)).responses;
    assert_eq!(news.iter().map(|topic| topic.topic.as_str()).collect::<Vec<_>>(), ["session"]);
    // An epoch twice: the first answer may be lost, and the client must begin again.
    assert_eq!(client.call(11, &next(2)).error_code, 71);
    assert_eq!(client.call(11, &next(1).with_session_id(session + 1000)).error_code, 70);
}

#[test]
fn a_partition_named_twice_is_appended_to_zero_times_and_answered_once() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("twice", 1);
    let mut request = produce("twice", 0, -1, batch(&["a"]));
    request.topic_data.extend(produce("twice", 0, -1, batch(&["b"])).topic_data);
    let response = client.call(9, &request);
    let codes: Vec<i16> =
        response.responses.iter().flat_map(|topic| &topic.partition_responses).map(|one| one.error_code).collect();
    assert_eq!(codes, [42]);
    let response = client.call(9, &produce("twice", 0, 1, batch(&["c"])));
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 0);
}

#[test]
fn a_failure_with_acks_0_closes_the_connection() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("silent", 1);
    client.send(9, &produce("silent", 0, 0, batch(&["a"])));
    client.call(0, &ApiVersionsRequest::default());
    client.send(9, &produce("no such topic", 0, 0, batch(&["a"])));
    assert_eq!(client.frame(), None);
}

#[test]
fn a_replica_id_on_a_client_port_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("replica", 1);
    let response = client.call(11, &fetch("replica", 0, 0).with_replica_id(2.into()));
    assert_eq!(response.error_code, 31);
}

#[test]
fn everything_advertised_can_be_asked_and_nothing_else_is_answered() {
    let server = Server::start();
    let response = server.client().call(
        5,
        &ApiVersionsRequest {
            client_software_name: text("t"),
            client_software_version: text("1"),
            ..ApiVersionsRequest::default()
        },
    );
    // The emptiest request of each version of each API that Kafka has: what is refused here is so for its key or version.
    for message in messages(Direction::Request) {
        let advertised = response.api_keys.iter().find(|range| range.api_key == message.key);
        let is_served = |version| advertised.is_some_and(|one| (one.min_version..=one.max_version).contains(&version));
        for version in message.min..=message.max {
            let body = codec::encode(message, version, &Fields::new()).expect("every field has a default");
            let mut frame = Vec::from(message.key.to_be_bytes());
            frame.extend(version.to_be_bytes());
            frame.extend([0, 0, 0, 77, 0xff, 0xff]);
            if message.is_flexible(version) {
                frame.push(0);
            }
            frame.extend(body);
            let mut client = server.client();
            let length = i32::try_from(frame.len()).expect("small");
            // A produce without acks is not answered; what is asked behind it is.
            let behind = encode_request(0, 78, None, &ApiVersionsRequest::default(), Splices::new()).expect("encodes");
            let both = [&length.to_be_bytes()[..], &frame, &behind.to_bytes()].concat();
            client.stream.write_all(&both).expect("the server reads");
            let answers = client.frame().is_some();
            assert_eq!(answers, is_served(version), "{} version {version}", message.name);
        }
    }
}

#[test]
fn a_silent_connection_is_closed_and_one_that_waits_for_records_is_not() {
    let server = Server::start_with(&["connections.max.idle.ms=1000"]);
    let (mut silent, mut waiting) = (server.client(), server.client());
    waiting.create_topic("idle", 1);
    silent.call(0, &ApiVersionsRequest::default());
    waiting.send(11, &fetch("idle", 0, LONG_MS));
    let began = Instant::now();
    assert_eq!(silent.frame(), None);
    assert!(began.elapsed() >= Duration::from_millis(900), "closed after {:?}", began.elapsed());
    server.client().call(9, &produce("idle", 0, -1, batch(&["a"])));
    assert_eq!(waiting.receive::<FetchRequest>(11).1.responses[0].partitions[0].high_watermark, 1);
}

#[test]
fn connections_that_say_nothing_keep_no_probe_from_its_answer() {
    let server = Server::start();
    let address = server.http();
    // Many times as many as are served at once: if each held its place until its time is over, this would take minutes.
    let silent: Vec<_> = (0..1000).map(|_| std::net::TcpStream::connect(address).expect("http listens")).collect();
    let mut probe = std::net::TcpStream::connect(address).expect("http listens");
    probe.set_read_timeout(Some(common::PATIENCE)).expect("a socket");
    probe.write_all(b"GET /live HTTP/1.1\r\n\r\n").expect("http reads");
    let mut answer = String::new();
    probe.read_to_string(&mut answer).expect("an answer and its end");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    drop(silent);
}

#[test]
fn http_says_whether_the_node_lives_and_what_it_did() {
    let server = Server::start();
    server.client().create_topic("counted", 3);
    let address = server.http();
    let get = |request: &str| {
        let mut stream = std::net::TcpStream::connect(address).expect("http listens");
        stream.set_read_timeout(Some(common::PATIENCE)).expect("a socket");
        stream.write_all(request.as_bytes()).expect("http reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer and its end");
        answer
    };
    assert!(get("GET /live HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(get("GET /ready HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nready\n"));
    assert!(get("GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(get("POST /live HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    let metrics = get("GET /metrics?x=1 HTTP/1.1\r\n\r\n");
    for line in [
        "weir_ready 1\n",
        "weir_topics 1\n",
        "weir_partitions 3\n",
        "weir_requests_total{api=\"CreateTopics\"} 1\n",
        "weir_request_seconds_bucket{api=\"CreateTopics\",le=\"+Inf\"} 1\n",
        "weir_request_seconds_count{api=\"CreateTopics\"} 1\n",
        "weir_journal_seconds_bucket{le=\"+Inf\"} ",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}
