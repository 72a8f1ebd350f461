//! The text of `/metrics`: gathered from everywhere, and shared by those who ask at the same time.
//!
//! Owns which figures of the node are shown, and how many texts there may be. Does not own the counters (`metrics`), the series of topics
//! and groups (`exporter`), what clients push (`telemetry`), nor HTTP.
//! Invariants: one text is built at a time, and at most `TEXTS_MAX` are held by those who take them: one more scraper gets the newest of
//! them, which is as old as somebody needs to take it, at most. What cannot be gathered in time is left out and said to be, and does not
//! take the rest along.

use std::sync::{Arc, Weak};
use std::time::Duration;

use model::limits::REQUEST_PARTITIONS_MAX;
use model::units::{KIB, MIB};
use node::DiskSpace;
use replication::controller::topics::{CLUSTER_PARTITIONS_MAX, TOPIC_PARTITIONS_MAX};
use replication::group::GroupConfig;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::api::dispatch;
use crate::broker::Broker;
use crate::clock;
use crate::exporter;
use crate::metrics::{counter, gauge, series_head};

/// A text that was finished so shortly ago is of now.
const SAME_TIME: Duration = Duration::from_secs(1);
/// Each may have tens of megabytes.
const TEXTS_MAX: usize = 2;
/// For the figures of the file system.
const SPACE_WAIT: Duration = Duration::from_secs(1);
/// For what has to be asked for, such as offsets of groups.
const GATHER_WAIT: Duration = Duration::from_secs(5);

/// The texts that somebody holds, the newest last.
#[derive(Debug, Default)]
pub struct Scrapes(Mutex<Vec<Finished>>);

#[derive(Debug)]
struct Finished {
    at: Instant,
    text: Weak<String>,
}

impl Scrapes {
    /// For one scraper, who drops it when it is taken.
    pub async fn text(&self, broker: &Broker) -> Arc<String> {
        self.shared(Instant::now, || gather(broker)).await
    }

    async fn shared<F>(&self, clock: impl Fn() -> Instant, build: impl FnOnce() -> F) -> Arc<String>
    where
        F: Future<Output = String>,
    {
        let mut held = self.0.lock().await;
        held.retain(|one| one.text.strong_count() > 0);
        if let Some(newest) = held.last()
            && (clock().saturating_duration_since(newest.at) < SAME_TIME || held.len() >= TEXTS_MAX)
            && let Some(text) = newest.text.upgrade()
        {
            return text;
        }
        let text = Arc::new(build().await);
        held.push(Finished { at: clock(), text: Arc::downgrade(&text) });
        text
    }
}

/// `None`: not told in time. A file system may hang, and who asks runs on the thread that keeps the node's time, or one that serves clients.
pub async fn disk_space(broker: &Broker) -> Option<DiskSpace> {
    let node = broker.node.clone();
    let asked = tokio::task::spawn_blocking(move || node.disk_space(clock::now()));
    timeout(SPACE_WAIT, asked).await.ok()?.ok()?
}

/// Why appends of clients are refused, if they are.
pub fn disk_full(space: &DiskSpace) -> Option<String> {
    let DiskSpace { free_bytes, reserve_bytes, refuses_above, .. } = *space;
    let (what, so) = match refuses_above? / KIB {
        0 => (String::new(), ", so clients append nothing more; reads"),
        kib => (format!(" for appends of more than {kib} KiB"), "; smaller appends, reads"),
    };
    let (free, reserve) = (free_bytes / MIB, reserve_bytes / MIB);
    Some(format!(
        "the disk is full{what}: {free} MiB are free and {reserve} MiB are kept in reserve{so}, commits and deletes go on"
    ))
}

async fn gather(broker: &Broker) -> String {
    let mut text = broker.metrics.text(dispatch::api_name);
    let image = broker.image();
    let stats = broker.node.stats();
    let gauges = [
        ("weir_ready", "1 once the node answers clients.", u64::from(broker.node.is_ready())),
        ("weir_topics", "Topics of the cluster.", image.topic_count() as u64),
        ("weir_cluster_partitions", "Partitions of the cluster.", image.partition_count() as u64),
        ("weir_partitions", "Partitions on this node.", stats.partitions),
        ("weir_partitions_offline", "Partitions on this node that cannot be used.", stats.partitions_offline),
        (
            "weir_partitions_damaged",
            "Partitions here in which a read met damage on the disk.",
            stats.partitions_damaged,
        ),
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
    if let Some(space) = disk_space(broker).await {
        let gauges = [
            ("weir_disk_bytes", "Size of the file system of the data directory.", space.total_bytes),
            ("weir_disk_free_bytes", "What is free of it.", space.free_bytes),
            ("weir_disk_reserve_bytes", "What is kept free: appends of clients do not get it.", space.reserve_bytes),
            (
                "weir_disk_full",
                "1 while clients' appends, or the large ones among them, are refused for want of room.",
                u64::from(space.refuses_above.is_some()),
            ),
        ];
        for (name, help, value) in gauges {
            gauge(&mut text, name, help, value);
        }
    }
    limits(&mut text, broker);
    let counters = [
        ("weir_journal_syncs_total", "Groups written and synced to the journal.", stats.journal_groups),
        ("weir_checkpoints_total", "Checkpoints written.", stats.checkpoints),
        ("weir_compactions_total", "Logs that were compacted.", stats.compactions),
        ("weir_index_evictions_total", "Loaded indexes that made room for others.", stats.index_evictions),
        ("weir_compaction_read_bytes_total", "Bytes read to compact logs.", stats.compaction_bytes_read),
        ("weir_compaction_written_bytes_total", "Bytes written to compact logs.", stats.compaction_bytes_written),
    ];
    for (name, help, value) in counters {
        counter(&mut text, name, help, value);
    }
    broker.telemetry.put(clock::mono(), &mut text);
    exporter::put(broker, Instant::now() + GATHER_WAIT, &mut text).await;
    text.push_str("# HELP weir_build_info The version that runs.\n# TYPE weir_build_info gauge\n");
    text.push_str(concat!("weir_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n"));
    text
}

/// What is bounded, and where a refusal begins: each beside the gauge that it bounds.
fn limits(text: &mut String, broker: &Broker) {
    let budget = broker.node.memory_limits();
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
        ("partitions_of_a_request", REQUEST_PARTITIONS_MAX as u64),
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
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_full_disk_says_whether_it_refuses_all_or_what_is_large() {
        let space =
            |refuses_above| DiskSpace { total_bytes: 0, free_bytes: 9 * MIB, reserve_bytes: 8 * MIB, refuses_above };
        assert_eq!(disk_full(&space(None)), None);
        let all = disk_full(&space(Some(0))).expect("it refuses");
        assert!(all.contains("the disk is full: 9 MiB") && all.contains("nothing more; reads"), "{all}");
        let large = disk_full(&space(Some(MIB))).expect("it refuses");
        assert!(large.contains("full for appends of more than 1024 KiB: 9 MiB"), "{large}");
        assert!(large.contains("; smaller appends, reads, commits and deletes go on"), "{large}");
    }

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_share_a_text_and_no_more_than_two_are_held() {
        let (scrapes, start) = (Scrapes::default(), Instant::now());
        let ask = |seconds, text: &'static str| {
            let now = start + SAME_TIME * seconds;
            scrapes.shared(move || now, move || async move { text.to_owned() })
        };
        let first = ask(0, "1").await;
        assert!(Arc::ptr_eq(&first, &ask(0, "2").await));
        let second = ask(1, "2").await;
        assert_eq!(*second, "2", "the first is too old");
        assert!(Arc::ptr_eq(&second, &ask(2, "3").await), "two are held still");
        drop(first);
        assert_eq!(*ask(2, "3").await, "3");
        drop(second);
        assert_eq!(*ask(2, "4").await, "4", "nobody held the third");
    }

    #[tokio::test]
    async fn one_text_is_built_at_a_time_and_a_scraper_who_goes_leaves_the_next_to_build() {
        let scrapes = Scrapes::default();
        let build = || async { "built".to_owned() };
        let mut first = Box::pin(scrapes.shared(Instant::now, std::future::pending::<String>));
        let mut second = Box::pin(scrapes.shared(Instant::now, build));
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending(), "the first is being built");
        drop(first);
        assert_eq!(*second.await, "built");
    }
}
