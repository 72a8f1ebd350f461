//! `/live`, `/ready` and `/metrics` over HTTP/1.1, one request per connection.
//!
//! Owns a parser of the request line that reads no more than it needs. Does not own the figures.
//! Invariants: a request takes at most `REQUEST_BYTES_MAX`, and `WAIT` each to be read, answered and taken away; at most
//! `CONNECTIONS_MAX` are served at once, and one more ends the one that has said nothing for longest: whoever holds
//! connections open keeps no probe from its answer; nothing here changes anything. What cannot be gathered in time is left
//! out of `/metrics`, which says so, and does not take the rest along.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use node::budget::BudgetLimits;
use replication::controller::topics::{CLUSTER_PARTITIONS_MAX, TOPIC_PARTITIONS_MAX};
use replication::group::GroupConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::api::dispatch;
use crate::broker::Broker;
use crate::clock;
use crate::exporter;
use crate::metrics::{gauge, series_head};

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
        let (broker, asked) = (broker.clone(), Arc::new(AtomicBool::new(false)));
        let heard = asked.clone();
        let task = tokio::spawn(async move {
            if let Err(step) = answer(stream, &broker, &heard).await {
                debug!(%peer, "http: {step} took more than {} s", WAIT.as_secs());
            }
        });
        served.push_back(Served { task: task.abort_handle(), asked });
    }
}

/// What took too long, if something did.
async fn answer(mut stream: TcpStream, broker: &Broker, heard: &AtomicBool) -> Result<(), &'static str> {
    let head = timeout(WAIT, read_head(&mut stream)).await.map_err(|_| "the request")?;
    let Some(head) = head else { return Ok(()) };
    heard.store(true, Ordering::Relaxed);
    let response = match is_http(&head) {
        true => respond(&head, broker).await,
        false => response("400 Bad Request", "text/plain", "this port speaks HTTP, not the Kafka protocol\n", true),
    };
    let written = async {
        // The client may be gone; there is nobody to tell.
        let _ = stream.write_all(response.as_bytes()).await;
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

async fn respond(head: &[u8], broker: &Broker) -> String {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let with_body = method != b"HEAD";
    if method != b"GET" && method != b"HEAD" {
        return response("405 Method Not Allowed", "text/plain", "only GET and HEAD are served\n", true);
    }
    match path {
        b"/live" => response("200 OK", "text/plain", "live\n", with_body),
        b"/ready" => match not_ready(broker) {
            None => response("200 OK", "text/plain", "ready\n", with_body),
            Some(why) => response("503 Service Unavailable", "text/plain", &format!("not ready: {why}\n"), with_body),
        },
        b"/metrics" => response("200 OK", "text/plain; version=0.0.4", &metrics(broker).await, with_body),
        _ => response("404 Not Found", "text/plain", "only /live, /ready and /metrics are served\n", with_body),
    }
}

fn response(status: &str, content_type: &str, body: &str, with_body: bool) -> String {
    let length = body.len();
    let body = if with_body { body } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

async fn metrics(broker: &Broker) -> String {
    let mut text = broker.metrics.text(dispatch::api_name);
    let image = broker.image();
    let stats = broker.node.stats();
    let gauges = [
        ("weir_ready", "1 once the node answers clients.", u64::from(broker.node.is_ready())),
        ("weir_topics", "Topics of the cluster.", image.topic_count() as u64),
        ("weir_cluster_partitions", "Partitions of the cluster.", image.partition_count() as u64),
        ("weir_partitions", "Partitions on this node.", stats.partitions),
        ("weir_partitions_offline", "Partitions on this node that cannot be used.", stats.partitions_offline),
        ("weir_groups", "Groups that this node coordinates.", stats.groups),
        ("weir_disk_operations_in_flight", "Writes and syncs that were begun.", stats.disk_operations_in_flight),
        ("weir_tail_unwritten_bytes", "Bytes of logs that no segment has yet.", stats.tail_bytes_unwritten),
        ("weir_append_bytes_in_flight", "Bytes of appends that wait for the disk.", stats.append_bytes_in_flight),
        ("weir_journal_bytes", "Bytes of journal since the last checkpoint.", stats.journal_bytes_since_checkpoint),
        ("weir_indexes", "Indexes of segments that are kept loaded.", stats.indexes_kept),
        ("weir_index_bytes", "Bytes of these, mapped or in memory.", stats.index_bytes_kept),
        ("weir_fetch_sessions", "Fetch sessions kept.", broker.sessions.count() as u64),
        ("weir_request_memory_free_bytes", "Memory free for requests.", broker.request_memory.free()),
        ("weir_answer_memory_free_bytes", "Memory free for answers.", broker.answer_memory.free()),
    ];
    for (name, help, value) in gauges {
        gauge(&mut text, name, help, value);
    }
    limits(&mut text, broker);
    let counters = [
        ("weir_journal_syncs_total", "Groups written and synced to the journal.", stats.journal_groups),
        ("weir_checkpoints_total", "Checkpoints written.", stats.checkpoints),
        ("weir_compactions_total", "Logs that were compacted.", stats.compactions),
        ("weir_indexes_let_go_total", "Loaded indexes let go to make room for others.", stats.indexes_let_go),
        ("weir_compaction_read_bytes_total", "Bytes read to compact logs.", stats.compaction_bytes_read),
        ("weir_compaction_written_bytes_total", "Bytes written to compact logs.", stats.compaction_bytes_written),
    ];
    for (name, help, value) in counters {
        crate::metrics::counter(&mut text, name, help, value);
    }
    text.push_str(&broker.telemetry.scraped(clock::mono).await);
    text.push_str(&exporter::text(broker, Instant::now() + WAIT).await);
    text.push_str("# HELP weir_build_info The version that runs.\n# TYPE weir_build_info gauge\n");
    text.push_str(concat!("weir_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n"));
    text
}

/// What is bounded, and where a refusal begins: each beside the gauge that it bounds.
fn limits(text: &mut String, broker: &Broker) {
    let budget = BudgetLimits::for_memory(broker.settings.memory_bytes);
    let of_groups = GroupConfig::default();
    let limits = [
        ("append_bytes", budget.append_bytes),
        ("answer_memory_bytes", broker.answer_memory.limit()),
        ("cluster_partitions", CLUSTER_PARTITIONS_MAX as u64),
        ("connections", broker.settings.connections.all as u64),
        ("connections_of_an_address", broker.settings.connections.per_address as u64),
        ("fetch_sessions", broker.sessions.limit() as u64),
        ("groups_of_an_offsets_partition", of_groups.groups_max as u64),
        ("offsets_of_a_group", of_groups.group_offsets_max as u64),
        ("partitions_of_a_topic", u64::from(TOPIC_PARTITIONS_MAX)),
        ("producers_of_a_partition", budget.producers as u64),
        ("request_memory_bytes", broker.request_memory.limit()),
        ("requests_waiting_for_a_partition", budget.waiters as u64),
    ];
    series_head(text, "weir_limit", "gauge", "Where refusals begin.");
    for (of, value) in limits {
        text.push_str(&format!("weir_limit{{of=\"{of}\"}} {value}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_request_gets_the_length_and_no_body() {
        let head = response("200 OK", "text/plain", "live\n", false);
        assert!(head.contains("Content-Length: 5\r\n"));
        assert!(head.ends_with("\r\n\r\n"));
    }
}
