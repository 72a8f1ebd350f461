//! A server in this process, on a port of its own, and a client that speaks frames.
// Each test file takes what it needs.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::batch::BatchBuilder;
use server::broker::Broker;
use server::config::Config;
use server::config::raw::Raw;
use server::disk::writers::{Executor, WriterThreads};
use server::net::listener;
use server::net::shards::Shards;
use server::run;
use server::wire::messages::create_topics_request::CreatableTopic;
use server::wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use server::wire::messages::{CreateTopicsRequest, ProduceRequest};
use server::wire::{Request, Splices, StrBytes, decode_response, encode_request};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// However slow the machine: a test that waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Server {
    pub address: SocketAddr,
    pub broker: Arc<Broker>,
    runtime: Option<Runtime>,
    executor: Arc<Executor>,
    threads: Option<WriterThreads>,
    _dir: TempDir,
}

impl Server {
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    pub fn start_with(settings: &[&str]) -> Server {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut raw = Raw::default();
        settings.iter().for_each(|setting| raw.add_set(setting).expect("key=value"));
        let config = Config::check(&raw).expect("valid settings");
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        socket.set_nonblocking(true).expect("a socket");
        let address = socket.local_addr().expect("bound");
        let opened = run::open(&config, dir.path(), &[address], None, 7).expect("an empty directory opens");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
        let settings = run::settings(&config, &[address]);
        let (node, executor) = (opened.node.clone(), opened.executor.clone());
        let broker = Arc::new(Broker::new(node, executor, opened.metrics, opened.cold, settings));
        let shards = Arc::new(Shards::start(2, &broker).expect("threads"));
        runtime.spawn(opened.executor.clone().run_ticks(opened.node.clone()));
        let (node, executor) = (opened.node, opened.executor);
        runtime.block_on(async {
            let ready = async {
                while !node.is_ready() {
                    executor.ready.notified().await;
                }
            };
            tokio::time::timeout(PATIENCE, ready).await.expect("ready in time");
            let listening = tokio::net::TcpListener::from_std(socket).expect("a socket");
            let (broker, shards) = (broker.clone(), shards.clone());
            tokio::spawn(async move { listener::accept(vec![listening], broker, &shards).await });
        });
        Server { address, broker, runtime: Some(runtime), executor, threads: Some(opened.threads), _dir: dir }
    }

    /// Serves HTTP on a port of its own.
    pub fn http(&self) -> SocketAddr {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        socket.set_nonblocking(true).expect("a socket");
        let address = socket.local_addr().expect("bound");
        let runtime = self.runtime.as_ref().expect("runs");
        let _context = runtime.enter();
        let listening = tokio::net::TcpListener::from_std(socket).expect("a socket");
        runtime.spawn(server::http::serve(listening, self.broker.clone()));
        address
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }
}

/// What `/metrics` says.
pub fn scrape(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.http()).expect("http listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("http reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer and its end");
    answer
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
        if let Some(threads) = self.threads.take() {
            self.executor.stop(threads);
        }
    }
}

pub struct Client {
    pub stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Client { stream, correlation_id: 0 }
    }

    /// Sends without waiting; gives the correlation id.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        let frame =
            encode_request(version, self.correlation_id, Some("test"), request, Splices::new()).expect("encodes");
        self.stream.write_all(&frame.to_bytes()).expect("the server reads");
        self.correlation_id
    }

    /// The next response, which must be to `R` in `version`.
    pub fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        decode_response::<R>(version, self.frame().expect("an answer")).expect("decodes")
    }

    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request);
        let (answered, response) = self.receive::<R>(version);
        assert_eq!(answered, sent);
        response
    }

    /// The next frame, or `None` when the server has closed the connection.
    pub fn frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer within {PATIENCE:?}"),
            Err(_) => return None,
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).expect("a whole frame");
        Some(frame.into())
    }

    pub fn create_topic(&mut self, name: &str, partitions: i32) {
        let topic = CreatableTopic::default()
            .with_name(text(name).into())
            .with_num_partitions(partitions)
            .with_replication_factor(-1);
        let response = self.call(7, &CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000));
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
    }
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A batch of one record for each value.
pub fn batch(values: &[&str]) -> Bytes {
    let builder = BatchBuilder::new();
    let fill = |builder: BatchBuilder, value: &&str| builder.record(1_000, None, Some(value.as_bytes()), &[]);
    values.iter().fold(builder, fill).finish().bytes().clone()
}

/// Produces to one partition.
pub fn produce(topic: &str, partition: i32, acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(text(topic).into()).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic])
}
