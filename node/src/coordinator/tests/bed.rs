//! Coordinators over a log in memory whose appends complete when the test says so.
//!
//! Owns the log, the clock and who asks. Invariant: each request is answered once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use model::batch::{Batch, StoredBatch};
use model::{GroupId, LeaderEpoch, Now, Offset, PartitionIndex, TopicName};
use replication::group::*;
use replication::metadata::Image;

use super::super::*;
use crate::effects::{Effect, Effects, ReplySink, ReplyTo};
use crate::requests::{Answer, AppendError};

pub(super) const COUNT: u32 = 50;

/// One partition's log: batches, of which the first `committed` may be read.
#[derive(Default)]
pub(super) struct Partition {
    pub(super) batches: Vec<StoredBatch>,
    pub(super) committed: usize,
    pub(super) leads: bool,
}

#[derive(Default)]
pub(super) struct FakeLog {
    pub(super) partitions: Mutex<BTreeMap<PartitionIndex, Partition>>,
    pub(super) appends: Mutex<VecDeque<(PartitionIndex, u64)>>,
}

impl Partition {
    fn end(&self) -> Offset {
        self.batches.last().map_or(Offset::ZERO, StoredBatch::next_offset)
    }
}

impl GroupLog for FakeLog {
    fn append(&self, _: Now, partition: PartitionIndex, batch: Batch, token: u64, _: &mut Effects) {
        let mut partitions = self.partitions.lock().expect("no test panics with it");
        let log = partitions.entry(partition).or_default();
        let end = log.end();
        log.batches.push(batch.place(end, LeaderEpoch::ZERO));
        self.appends.lock().expect("no test panics with it").push_back((partition, token));
    }

    fn ends(&self, partition: PartitionIndex) -> Option<LogEnds> {
        let partitions = self.partitions.lock().expect("no test panics with it");
        let log = partitions.get(&partition).filter(|log| log.leads)?;
        Some(LogEnds { start: Offset::ZERO, end: log.end() })
    }

    fn read(&self, partition: PartitionIndex, from: Offset, _: u32) -> Result<Committed, LogError> {
        let partitions = self.partitions.lock().expect("no test panics with it");
        let log = partitions.get(&partition).filter(|log| log.leads).ok_or(LogError::NotLeader)?;
        let mut readable = log.batches.iter().take(log.committed);
        // One batch at a time: a load takes several reads.
        let found = readable.find(|batch| batch.next_offset() > from);
        Ok(Committed { pieces: found.map(StoredBatch::to_bytes).into_iter().collect() })
    }

    fn metadata(&self) -> (Arc<Image>, u64) {
        (Arc::default(), 0)
    }

    fn tick_by(&self, _: Duration, _: &mut Effects) {}
}

#[derive(Debug)]
struct NoSink;

impl ReplySink for NoSink {
    fn reply(&self, _: u64, _: Answer) {}
    fn wake(&self, _: u64) {}
}

pub(super) struct Bed {
    pub(super) log: FakeLog,
    pub(super) coordinators: Coordinators,
    pub(super) now: Now,
    pub(super) next_request: u64,
    pub(super) answers: BTreeMap<u64, GroupAnswer>,
}

impl Bed {
    pub(super) fn new() -> Bed {
        let bed = Bed {
            log: FakeLog::default(),
            coordinators: Coordinators::new(GroupConfig::default(), 1),
            now: Now { mono: Duration::from_secs(1), wall_ms: 1_700_000_000_000 },
            next_request: 0,
            answers: BTreeMap::new(),
        };
        bed.coordinators.set_partition_count(COUNT, &mut Effects::new());
        bed
    }

    pub(super) fn leading(groups: &[&str]) -> Bed {
        let mut bed = Bed::new();
        for group in groups {
            bed.lead(group, 0);
        }
        bed
    }

    pub(super) fn lead(&mut self, group: &str, epoch: i32) {
        let at = partition(group);
        self.log.partitions.lock().expect("ours").entry(at).or_default().leads = true;
        let mut fx = Effects::new();
        self.coordinators.lead(self.now, at, LeaderEpoch::new(epoch), &self.log, &mut fx);
        self.take(fx);
    }

    pub(super) fn ask(&mut self, group: &str, request: GroupRequest) -> u64 {
        let number = self.next_request;
        self.next_request += 1;
        let to = ReplyTo { sink: Arc::new(NoSink), request: number };
        let mut fx = Effects::new();
        self.coordinators.request(self.now, &GroupId::new(group), &request, to, &self.log, &mut fx);
        self.take(fx);
        number
    }

    pub(super) fn take(&mut self, fx: Effects) {
        for effect in fx {
            let Effect::Reply { to, answer: Answer::Group(answer) } = effect else { panic!("{effect:?}") };
            assert!(self.answers.insert(to.request, answer).is_none(), "answered twice");
        }
    }

    /// Completes the oldest append, if there is one.
    pub(super) fn complete(&mut self, result: Result<(), AppendError>) -> bool {
        let Some((at, token)) = self.log.appends.lock().expect("ours").pop_front() else { return false };
        if result.is_ok() {
            self.log.partitions.lock().expect("ours").get_mut(&at).expect("it has appends").committed += 1;
        } else {
            let mut partitions = self.log.partitions.lock().expect("ours");
            let log = partitions.get_mut(&at).expect("it has appends");
            log.batches.truncate(log.committed);
        }
        let mut fx = Effects::new();
        self.coordinators.appended(self.now, token, result, &self.log, &mut fx);
        self.take(fx);
        true
    }

    pub(super) fn tick(&mut self, millis: u64) {
        self.now.mono += Duration::from_millis(millis);
        self.now.wall_ms += i64::try_from(millis).expect("short");
        let mut fx = Effects::new();
        self.coordinators.tick(self.now, &self.log, &mut fx);
        self.take(fx);
    }

    pub(super) fn batches(&self, group: &str) -> usize {
        self.log.partitions.lock().expect("ours").get(&partition(group)).map_or(0, |log| log.batches.len())
    }

    /// The answer in short: its code, or what it says.
    pub(super) fn said(&self, request: u64) -> String {
        let Some(answer) = self.answers.get(&request) else { return "waits".to_owned() };
        let code = |error: &GroupError| format!("{}", error.code().to_wire());
        match answer {
            GroupAnswer::FetchOffsets(Ok(topics)) => {
                let offsets = topics.iter().flat_map(|topic| &topic.partitions);
                let one =
                    |at: &FetchedOffset| at.committed.as_ref().map_or(-1, |committed| committed.offset).to_string();
                offsets.map(one).collect::<Vec<_>>().join(" ")
            }
            GroupAnswer::List(Ok(groups)) => {
                groups.iter().map(|group| group.group.as_str().to_owned()).collect::<Vec<_>>().join(" ")
            }
            GroupAnswer::Join(Err(error))
            | GroupAnswer::Sync(Err(error))
            | GroupAnswer::Heartbeat(Err(error))
            | GroupAnswer::Leave(Err(error))
            | GroupAnswer::CommitOffsets(Err(error))
            | GroupAnswer::FetchOffsets(Err(error))
            | GroupAnswer::Describe(Err(error))
            | GroupAnswer::Delete(Err(error))
            | GroupAnswer::DeleteOffsets(Err(error))
            | GroupAnswer::List(Err(error)) => code(error),
            _ => "ok".to_owned(),
        }
    }
}

pub(super) fn partition(group: &str) -> PartitionIndex {
    partition_of(&GroupId::new(group), COUNT).expect("there are partitions")
}

/// Another group of the same shard.
pub(super) fn neighbour(group: &str) -> String {
    let mut names = (0..).map(|number| format!("other-{number}"));
    names.find(|name| partition(name) == partition(group)).expect("names go on")
}

pub(super) fn topic() -> TopicName {
    TopicName::new("t").expect("a name")
}

pub(super) fn commit(offset: i64) -> GroupRequest {
    GroupRequest::CommitOffsets(CommitOffsets {
        version: 10,
        member_id: None,
        instance_id: None,
        generation: None,
        retention_ms: None,
        offsets: vec![CommitOffset {
            topic: topic(),
            partition: PartitionIndex::new(0),
            offset,
            leader_epoch: None,
            metadata: String::new(),
        }],
    })
}

pub(super) fn fetch() -> GroupRequest {
    let topics = vec![FetchTopic { topic: topic(), partitions: vec![PartitionIndex::new(0)] }];
    GroupRequest::FetchOffsets(FetchOffsets {
        member_id: None,
        member_epoch: -1,
        topics: Some(topics),
        require_stable: false,
    })
}

pub(super) fn join() -> GroupRequest {
    GroupRequest::Join(Join {
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        member_id: None,
        instance_id: None,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol { name: "range".to_owned(), metadata: Bytes::new() }],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id_required: false,
        can_skip_assignment: true,
        reason: None,
    })
}

pub(super) fn heartbeat() -> GroupRequest {
    GroupRequest::Heartbeat(Heartbeat { member_id: MemberId::from_wire("m"), instance_id: None, generation: 1 })
}

pub(super) fn disk_full() -> AppendError {
    AppendError::Disk { reason: "no space left".to_owned() }
}
