//! Nodes in one process, over real sockets: birth, refusals, and what a peer port does with bytes that are none of its own.
//!
//! Owns no part of replication: that is tested where it is simulated. Invariant: every wait has a deadline and a condition.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::NodeId;
use node::Node;
use node::peer::{Frame, Greeting, HELLO_BYTES_MAX, Hello, PREFIX_BYTES, PeerLane, Prefix, Verdict};
use replication::metadata::Incarnation;
use server::config::Config;
use server::config::raw::Raw;
use server::run::{self, Opened};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const DEADLINE: Duration = Duration::from_secs(30);

/// One node with its sockets and threads, without Kafka's listener.
struct Running {
    opened: Option<Opened>,
    node: Arc<Node>,
    _ticks: Runtime,
}

impl Running {
    fn start(id: usize, dir: &TempDir, peer: TcpListener, join: &[SocketAddr]) -> Running {
        let mut raw = Raw::default();
        let join = join.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
        let at = peer.local_addr().expect("bound");
        let mut settings = vec![format!("node.id={id}"), format!("peer.listen={at}")];
        settings.extend((!join.is_empty()).then(|| format!("join={join}")));
        settings.iter().for_each(|setting| raw.add_set(setting).expect("key=value"));
        let config = Config::check(&raw).expect("valid settings");
        let clients = [SocketAddr::from(([127, 0, 0, 1], 9092))];
        let seed = u64::from(at.port()) << 8 | id as u64;
        let opened = run::open(&config, dir.path(), &clients, Some(peer), seed).expect("an empty directory opens");
        let ticks =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let node = opened.node.clone();
        ticks.spawn(opened.executor.clone().run_ticks(node.clone()));
        Running { opened: Some(opened), node, _ticks: ticks }
    }

    fn cluster(&self) -> Option<String> {
        self.node.hello().cluster_id
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(opened) = self.opened.take() else { return };
        if let Some((links, threads)) = opened.links {
            links.stop(threads);
        }
        opened.executor.stop(opened.threads);
    }
}

fn listeners(count: usize) -> (Vec<TcpListener>, Vec<SocketAddr>) {
    let bound = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        listener
    };
    let listeners: Vec<TcpListener> = (0..count).map(|_| bound()).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect();
    (listeners, addresses)
}

fn dirs(count: usize) -> Vec<TempDir> {
    (0..count).map(|_| tempfile::tempdir().expect("a directory")).collect()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "not within {} s: {what}", DEADLINE.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn send(stream: &mut TcpStream, message: Bytes) {
    let frame = Frame { head: message, records: Vec::new() };
    stream.write_all(&frame.prefix().expect("short")).expect("a socket");
    stream.write_all(&frame.head).expect("a socket");
}

fn verdict(stream: &mut TcpStream) -> Verdict {
    let mut prefix = [0; PREFIX_BYTES];
    stream.read_exact(&mut prefix).expect("an answer");
    let mut rest = vec![0; Prefix::read(prefix, HELLO_BYTES_MAX).expect("a frame").rest_bytes()];
    stream.read_exact(&mut rest).expect("an answer");
    Verdict::decode(rest.into()).expect("a verdict")
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream
}

fn stranger(node: i32) -> Hello {
    Hello {
        node: NodeId(node),
        incarnation: Incarnation([9; 16]),
        directory: [8; 16],
        cluster_id: None,
        join: Vec::new(),
        levels: (1, i16::MAX),
        founding: None,
        address: None,
    }
}

fn greet(at: SocketAddr, hello: Hello, to: Option<NodeId>) -> Verdict {
    let mut stream = connect(at);
    send(&mut stream, Greeting { lane: PeerLane::Control, hello, to }.encode());
    verdict(&mut stream)
}

#[test]
fn three_empty_nodes_with_one_list_found_one_cluster() {
    let (listeners, addresses) = listeners(3);
    let dirs = dirs(3);
    let nodes: Vec<Running> = listeners
        .into_iter()
        .zip(&dirs)
        .enumerate()
        .map(|(at, (listener, dir))| Running::start(at + 1, dir, listener, &addresses))
        .collect();
    wait_until("all belong to a cluster", || nodes.iter().all(|running| running.cluster().is_some()));
    let first = nodes[0].cluster();
    assert!(nodes.iter().all(|running| running.cluster() == first));
    let founding = nodes[2].node.hello().founding.expect("node 3 is a founder");
    assert_eq!(founding.founders.iter().map(|founder| founder.node.0).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn while_one_of_the_list_is_silent_nothing_is_founded_and_it_is_named() {
    let (mut listeners, addresses) = listeners(3);
    let dirs = dirs(3);
    // It is bound, so the kernel takes connections; nobody answers them.
    let silent = listeners.pop().expect("three");
    let mut nodes: Vec<Running> = listeners
        .into_iter()
        .zip(&dirs)
        .enumerate()
        .map(|(at, (listener, dir))| Running::start(at + 1, dir, listener, &addresses))
        .collect();
    let named = format!("waiting for an answer of {}: ", addresses[2]);
    let waits = |running: &Running| running.node.waiting().is_some_and(|why| why.to_string().starts_with(&named));
    wait_until("both wait for the third alone", || nodes.iter().all(waits));
    assert!(nodes.iter().all(|running| running.cluster().is_none()));
    nodes.push(Running::start(3, &dirs[2], silent, &addresses));
    wait_until("all belong to a cluster", || nodes.iter().all(|running| running.cluster().is_some()));
}

#[test]
fn an_empty_node_joins_the_cluster_that_one_of_its_list_belongs_to() {
    let (mut listeners, addresses) = listeners(2);
    let dirs = dirs(2);
    let second = listeners.pop().expect("two");
    let member = Running::start(1, &dirs[0], listeners.pop().expect("two"), &[]);
    let cluster = member.cluster();
    assert!(cluster.is_some(), "without a list a node founds at once");
    let joining = Running::start(2, &dirs[1], second, &addresses);
    wait_until("it joined", || joining.cluster() == cluster);
    // It tells others who founded, without having been there.
    assert_eq!(joining.node.hello().founding, member.node.hello().founding);
}

#[test]
fn a_node_of_another_cluster_is_refused_with_both_names() {
    let (mut listeners, addresses) = listeners(1);
    let dirs = dirs(1);
    let running = Running::start(1, &dirs[0], listeners.pop().expect("one"), &[]);
    let foreign = Hello { cluster_id: Some("elsewhere".to_owned()), ..stranger(2) };
    let Verdict::Refused(reason) = greet(addresses[0], foreign, None) else { panic!("it was let in") };
    for part in ["node 2", "elsewhere", &running.cluster().expect("born"), "never merge"] {
        assert!(reason.contains(part), "{part} is not in: {reason}");
    }
}

#[test]
fn who_means_another_node_or_has_this_ones_id_is_refused() {
    let (mut listeners, addresses) = listeners(1);
    let dirs = dirs(1);
    let _running = Running::start(1, &dirs[0], listeners.pop().expect("one"), &[]);
    let Verdict::Refused(reason) = greet(addresses[0], stranger(2), Some(NodeId(7))) else { panic!("it was let in") };
    assert!(reason.contains("node 7 was expected"), "{reason}");
    let Verdict::Refused(reason) = greet(addresses[0], stranger(1), None) else { panic!("it was let in") };
    assert!(reason.contains("used by two processes"), "{reason}");
    assert!(matches!(greet(addresses[0], stranger(2), Some(NodeId(1))), Verdict::Welcome(_)));
}

#[test]
fn bytes_that_are_no_handshake_end_the_connection_and_nothing_else() {
    let (mut listeners, addresses) = listeners(1);
    let dirs = dirs(1);
    let _running = Running::start(1, &dirs[0], listeners.pop().expect("one"), &[]);
    let noise: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 64],
        &[0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 12, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01],
    ];
    for bytes in noise {
        let mut stream = connect(addresses[0]);
        stream.write_all(bytes).expect("a socket");
        let mut answer = Vec::new();
        // A refusal may come first; then the connection ends, in order or with a reset.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 1024);
    }
    // One that says nothing is closed too.
    let mut quiet = connect(addresses[0]);
    assert_eq!(quiet.read(&mut [0; 1]).expect("closed in order"), 0);
    assert!(matches!(greet(addresses[0], stranger(2), None), Verdict::Welcome(_)));
}

#[test]
fn frames_of_no_known_kind_are_dropped_and_oversized_ones_end_the_link() {
    let (mut listeners, addresses) = listeners(1);
    let dirs = dirs(1);
    let running = Running::start(1, &dirs[0], listeners.pop().expect("one"), &[]);
    let mut stream = connect(addresses[0]);
    let hello = Hello { cluster_id: running.cluster(), ..stranger(2) };
    send(&mut stream, Greeting { lane: PeerLane::InSync, hello: hello.clone(), to: None }.encode());
    assert!(matches!(verdict(&mut stream), Verdict::Welcome(_)));
    send(&mut stream, Verdict::Welcome(hello).encode());
    send(&mut stream, Bytes::from_static(&[0x9a, 0x06, 0x00]));
    send(&mut stream, Bytes::from_static(&[0xff; 32]));
    stream.write_all(&u32::MAX.to_be_bytes()).expect("a socket");
    stream.write_all(&[0, 0, 0, 1]).expect("a socket");
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0, "nothing is ever answered, and the link ends");
}
