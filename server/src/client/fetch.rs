//! Reading partitions from their leaders.
//!
//! Owns the positions and the fetches. Does not own what a record means. Invariant: a position moves over whole batches only, after
//! their records were given.

use std::collections::BTreeMap;

use super::consumed::{Consumed, decode};
use super::refused::{AskError, check, is_passing};
use super::router::{PATIENCE, Router, TopicPartition};
use super::{ClientError, offsets};
use crate::wire::StrBytes;
use crate::wire::messages::FetchRequest;
use crate::wire::messages::fetch_request::{FetchPartition, FetchTopic};
use crate::wire::messages::fetch_response::PartitionData;

/// Version 13 names topics by their ids.
const NEWEST: i16 = 12;
const BYTES_MAX: i32 = 16 * 1024 * 1024;
const PARTITION_BYTES_MAX: i32 = 1024 * 1024;
/// FetchRequest's epoch of who wants no session.
const NO_SESSION: i32 = -1;
const OFFSET_OUT_OF_RANGE: i16 = 1;

/// Where reading stands.
#[derive(Debug)]
pub struct Fetcher {
    positions: BTreeMap<TopicPartition, i64>,
    /// Records of transactions that are not committed are not given.
    committed: bool,
    /// Since when nothing but errors that may pass came.
    troubled: Option<std::time::Instant>,
}

/// What came of one partition.
#[derive(Debug)]
pub struct Fetched {
    pub at: TopicPartition,
    pub records: Vec<Consumed>,
    /// The next position.
    pub next: i64,
}

impl Fetcher {
    pub fn new(positions: BTreeMap<TopicPartition, i64>, committed: bool) -> Fetcher {
        Fetcher { positions, committed, troubled: None }
    }

    pub fn positions(&self) -> &BTreeMap<TopicPartition, i64> {
        &self.positions
    }

    /// Reads a partition no more.
    pub fn stop(&mut self, at: &TopicPartition) {
        self.positions.remove(at);
    }

    /// Asks each leader once; a leader without records answers after its share of `wait_ms`.
    pub fn poll(&mut self, router: &mut Router, wait_ms: i32) -> Result<Vec<Fetched>, AskError> {
        let mut by_leader: BTreeMap<i32, Vec<(TopicPartition, i64)>> = BTreeMap::new();
        for (at, position) in &self.positions {
            by_leader.entry(router.leader(&at.0, at.1)?).or_default().push((at.clone(), *position));
        }
        let share = wait_ms / i32::try_from(by_leader.len().max(1)).unwrap_or(i32::MAX);
        let mut fetched = Vec::new();
        let mut trouble = None;
        for (leader, asked) in by_leader {
            match self.ask(router, leader, &asked, share, &mut fetched) {
                Ok(None) => {}
                Ok(Some(passing)) => trouble = Some(passing),
                // Its partitions may have another leader in a moment.
                Err(AskError::Client(error @ (ClientError::Io { .. } | ClientError::Connect { .. }))) => {
                    router.forget(leader);
                    asked.iter().for_each(|((topic, _), _)| router.forget_leaders(topic));
                    trouble = Some(error.into());
                }
                Err(error) => return Err(error),
            }
        }
        self.bear(trouble, &fetched)?;
        Ok(fetched)
    }

    /// An error that may pass is one only when it did not pass for long.
    fn bear(&mut self, trouble: Option<AskError>, fetched: &[Fetched]) -> Result<(), AskError> {
        match trouble {
            Some(error) if fetched.is_empty() => {
                let since = *self.troubled.get_or_insert_with(std::time::Instant::now);
                if since.elapsed() > PATIENCE {
                    return Err(error);
                }
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            _ => self.troubled = None,
        }
        Ok(())
    }

    /// Gives an error that may pass.
    fn ask(
        &mut self,
        router: &mut Router,
        leader: i32,
        asked: &[(TopicPartition, i64)],
        wait_ms: i32,
        fetched: &mut Vec<Fetched>,
    ) -> Result<Option<AskError>, AskError> {
        let topics = request_topics(asked);
        let isolation = i8::from(self.committed);
        let answer = router.node(leader)?.call_at_most(NEWEST, |version| {
            let mut request = FetchRequest::default()
                .with_replica_id((-1).into())
                .with_max_wait_ms(wait_ms)
                .with_min_bytes(1)
                .with_max_bytes(BYTES_MAX)
                .with_isolation_level(isolation)
                .with_topics(topics);
            if version >= 7 {
                request = request.with_session_id(0).with_session_epoch(NO_SESSION);
            }
            request
        })?;
        check(|| format!("reading from node {leader}"), answer.error_code, None)?;
        let mut trouble = None;
        for topic in answer.responses {
            let name = topic.topic.0.to_string();
            for partition in topic.partitions {
                let at = (name.clone(), partition.partition_index);
                if is_passing(partition.error_code) {
                    router.forget_leaders(&name);
                    trouble = check(|| format!("{} partition {}", at.0, at.1), partition.error_code, None).err();
                    continue;
                }
                fetched.extend(self.take(router, at, partition)?);
            }
        }
        Ok(trouble.map(AskError::from))
    }

    fn take(
        &mut self,
        router: &mut Router,
        at: TopicPartition,
        partition: PartitionData,
    ) -> Result<Option<Fetched>, AskError> {
        let Some(position) = self.positions.get(&at).copied() else { return Ok(None) };
        if partition.error_code == OFFSET_OUT_OF_RANGE {
            // Retention took what was to be read next: what is left begins later.
            let start = offsets::list_all(router, [at.clone()], offsets::START)?;
            let start = start.get(&at).copied().filter(|start| *start > position);
            if let Some(start) = start {
                self.positions.insert(at.clone(), start);
                return Ok(Some(Fetched { at, records: Vec::new(), next: start }));
            }
        }
        check(|| format!("{} partition {} at offset {position}", at.0, at.1), partition.error_code, None)?;
        let Some(bytes) = partition.records.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
        let aborted = partition.aborted_transactions.unwrap_or_default();
        let damaged = |reason| AskError::Records { topic: at.0.clone(), partition: at.1, reason };
        let decoded = decode(bytes, position, &aborted).map_err(damaged)?;
        let Some(next) = decoded.next.filter(|next| *next > position) else { return Ok(None) };
        self.positions.insert(at.clone(), next);
        Ok(Some(Fetched { at, records: decoded.records, next }))
    }
}

fn request_topics(asked: &[(TopicPartition, i64)]) -> Vec<FetchTopic> {
    let mut topics: BTreeMap<&str, Vec<FetchPartition>> = BTreeMap::new();
    for ((topic, partition), position) in asked {
        let one = FetchPartition::default()
            .with_partition(*partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(*position)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(PARTITION_BYTES_MAX);
        topics.entry(topic).or_default().push(one);
    }
    let topic = |(name, partitions): (&str, Vec<FetchPartition>)| {
        FetchTopic::default().with_topic(StrBytes::from_string(name.to_owned()).into()).with_partitions(partitions)
    };
    topics.into_iter().map(topic).collect()
}
