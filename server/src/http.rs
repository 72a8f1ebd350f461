//! `/live`, `/ready` and `/metrics` over HTTP/1.1, one request per connection.
//!
//! Owns a parser of the request line that reads no more than it needs. Does not own the figures (`scrape`).
//! Invariants: a request takes at most `REQUEST_BYTES_MAX`, and `WAIT` each to be read, answered and taken away; at most
//! `CONNECTIONS_MAX` are served at once, and one more ends the one that has said nothing for longest: whoever holds
//! connections open keeps no probe from its answer; nothing here changes anything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::debug;

use crate::broker::Broker;
use crate::clock;
use crate::scrape::{Scrapes, disk_full, disk_space};

const REQUEST_BYTES_MAX: usize = 8 * 1024;
const WAIT: Duration = Duration::from_secs(5);
const CONNECTIONS_MAX: usize = 64;
/// So long without a controller is no election any more.
const CONTROLLER_WAIT: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One connection that is served.
struct Served {
    task: AbortHandle,
    /// It has said what it wants.
    asked: Arc<AtomicBool>,
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, broker: Arc<Broker>) {
    // In the order of their coming.
    let mut served: VecDeque<Served> = VecDeque::with_capacity(CONNECTIONS_MAX);
    let scrapes = Arc::new(Scrapes::default());
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        served.retain(|one| !one.task.is_finished());
        if served.len() >= CONNECTIONS_MAX {
            let silent = served.iter().position(|one| !one.asked.load(Ordering::Relaxed));
            // Where all have asked, the first of them does not take its answer.
            if let Some(one) = served.remove(silent.unwrap_or(0)) {
                one.task.abort();
            }
        }
        let (broker, scrapes, asked) = (broker.clone(), scrapes.clone(), Arc::new(AtomicBool::new(false)));
        let heard = asked.clone();
        let task = tokio::spawn(async move {
            if let Err(step) = answer(stream, &broker, &scrapes, &heard).await {
                debug!(%peer, "http: {step} took more than {} s", WAIT.as_secs());
            }
        });
        served.push_back(Served { task: task.abort_handle(), asked });
    }
}

/// What took too long, if something did.
async fn answer(
    mut stream: TcpStream,
    broker: &Broker,
    scrapes: &Scrapes,
    heard: &AtomicBool,
) -> Result<(), &'static str> {
    let head = timeout(WAIT, read_head(&mut stream)).await.map_err(|_| "the request")?;
    let Some(head) = head else { return Ok(()) };
    heard.store(true, Ordering::Relaxed);
    let response = match is_http(&head) {
        true => respond(&head, broker, scrapes).await,
        false => Response::short("400 Bad Request", "this port speaks HTTP, not the Kafka protocol\n"),
    };
    let written = async {
        // The client may be gone; there is nobody to tell.
        let _ = stream.write_all(response.head().as_bytes()).await;
        let _ = stream.write_all(response.body()).await;
        let _ = stream.shutdown().await;
    };
    timeout(WAIT, written).await.map_err(|_| "taking the answer")
}

async fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::with_capacity(1024);
    while is_http(&head) && !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() >= REQUEST_BYTES_MAX || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// Why clients had better go elsewhere. `None`: they need not.
fn not_ready(broker: &Broker) -> Option<String> {
    if !broker.node.is_ready() {
        return Some("this node is not registered with its cluster yet".to_owned());
    }
    let alone = broker.node.without_controller(clock::now()).filter(|alone| *alone >= CONTROLLER_WAIT)?;
    let seconds = alone.as_secs();
    Some(format!(
        "no controller was heard for {seconds} s: without a majority of the voters no leader is chosen and nothing is made"
    ))
}

/// Methods are letters. Who sends something else, such as a client of Kafka's protocol, is told at once and does not wait in vain.
fn is_http(head: &[u8]) -> bool {
    head.first().is_none_or(u8::is_ascii_alphabetic)
}

async fn respond(head: &[u8], broker: &Broker, scrapes: &Scrapes) -> Response {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    if method != b"GET" && method != b"HEAD" {
        return Response::short("405 Method Not Allowed", "only GET and HEAD are served\n");
    }
    let response = match path {
        b"/live" => Response::short("200 OK", "live\n"),
        b"/ready" => match not_ready(broker) {
            // Without room the node still serves reads, and elsewhere it would not be better: it says so and stays ready.
            None => match disk_space(broker).await.and_then(|space| disk_full(&space)) {
                None => Response::short("200 OK", "ready\n"),
                Some(full) => Response::short("200 OK", &format!("ready, but {full}\n")),
            },
            Some(why) => Response::short("503 Service Unavailable", &format!("not ready: {why}\n")),
        },
        b"/metrics" => Response {
            content_type: "text/plain; version=0.0.4",
            text: scrapes.text(broker).await,
            ..Response::short("200 OK", "")
        },
        _ => Response::short("404 Not Found", "only /live, /ready and /metrics are served\n"),
    };
    Response { with_body: method != b"HEAD", ..response }
}

/// One answer. Its text may be shared with others: it is not copied behind the head.
struct Response {
    status: &'static str,
    content_type: &'static str,
    text: Arc<String>,
    with_body: bool,
}

impl Response {
    fn short(status: &'static str, text: &str) -> Response {
        Response { status, content_type: "text/plain", text: Arc::new(text.to_owned()), with_body: true }
    }

    fn head(&self) -> String {
        let (status, content_type, length) = (self.status, self.content_type, self.text.len());
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    }

    fn body(&self) -> &[u8] {
        if self.with_body { self.text.as_bytes() } else { &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_request_gets_the_length_and_no_body() {
        let response = Response { with_body: false, ..Response::short("200 OK", "live\n") };
        assert!(response.head().contains("Content-Length: 5\r\n"));
        assert!(response.head().ends_with("\r\n\r\n") && response.body().is_empty());
    }
}
