//! What the log says of clients that send what is no request. A file of its own: the log is one for the process.

mod common;

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::{PATIENCE, Server};

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct ToLog;

impl Write for ToLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn lines_with(part: &str) -> Vec<String> {
    let log = String::from_utf8(LOG.lock().unwrap_or_else(PoisonError::into_inner).clone()).expect("text");
    log.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}

#[test]
fn what_is_no_request_is_logged_with_who_sent_it_and_what_and_not_too_often() {
    tracing_subscriber::fmt().with_ansi(false).with_writer(|| ToLog).init();
    let server = Server::start();
    let frames: [(&[u8], &[&str]); 3] = [
        // Metadata in a version whose array says that it has two thousand million topics.
        (
            &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 5, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff],
            &["Metadata", "api key 3", "version 1"],
        ),
        (&[0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 5, 0xff, 0xff], &["api key 3", "version 99"]),
        (&[0x7f, 0xff, 0xff, 0xff], &["2147483647 bytes", "socket.request.max.bytes"]),
    ];
    for (bytes, says) in frames {
        let mut client = server.client();
        let me = client.stream.local_addr().expect("connected").to_string();
        client.stream.write_all(bytes).expect("the server reads");
        assert_eq!(client.frame(), None);
        let deadline = Instant::now() + PATIENCE;
        let line = loop {
            match &lines_with(&me)[..] {
                [line] => break line.clone(),
                [] if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                other => panic!("{me}: {other:?}"),
            }
        };
        assert!(line.contains("WARN"), "{line}");
        for part in says {
            assert!(line.contains(part), "{part} is not in: {line}");
        }
    }
    for _ in 0..100 {
        let mut client = server.client();
        client.stream.write_all(&[0xff; 4]).expect("the server reads");
        assert_eq!(client.frame(), None);
    }
    assert!(lines_with("its connection was closed").len() <= 20, "at most ten a minute");
}
