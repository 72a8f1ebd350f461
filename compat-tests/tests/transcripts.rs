//! Kafka's command line tools word for word: the verbs of topics, configs, client-metrics, consumer-groups, groups, delete-records,
//! log-dirs, cluster and leader-election. Where Weir answers otherwise than Apache Kafka 4.3.1, the transcript says both.

use anyhow::Result;
use compat_tests::cluster::{Cluster, Plan};
use compat_tests::transcript;

fn check(name: &str, transcript: &str) -> Result<()> {
    transcript::check(transcript, &Cluster::start(Plan::new(name, 1)?)?)
}

#[test]
fn topics() -> Result<()> {
    check("transcript-topics", include_str!("../kafka-tools/transcripts/topics.txt"))
}

#[test]
fn configs_and_client_metrics() -> Result<()> {
    check("transcript-configs", include_str!("../kafka-tools/transcripts/configs.txt"))
}

#[test]
fn groups_and_their_offsets() -> Result<()> {
    check("transcript-groups", include_str!("../kafka-tools/transcripts/groups.txt"))
}

#[test]
fn records_directories_the_cluster_and_elections() -> Result<()> {
    check("transcript-cluster", include_str!("../kafka-tools/transcripts/cluster.txt"))
}
