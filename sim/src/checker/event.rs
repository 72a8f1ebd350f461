//! What a history is made of: what clients asked and were told, and what the nodes' replicas hold at the end.
//!
//! Owns the shapes only. Rules of evidence: a refusal that leaves open whether something was written is no event at all; only an answer
//! that says "done" is. Values are unique in a history.

use std::sync::Arc;
use std::time::Duration;

use model::{TopicId, TopicPartition};

/// One record's value.
pub type Value = u64;
/// A client of the history: producers, readers and members count together.
pub type ClientId = u32;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ProducerIdentity {
    pub id: i64,
    pub epoch: i16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub offset: i64,
    pub value: Value,
    pub timestamp_ms: i64,
}

/// One batch on its way. The same batch sent again is the same operation: it is invoked once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    pub client: ClientId,
    pub identity: ProducerIdentity,
    pub place: TopicPartition,
    pub values: Arc<[Value]>,
}

/// The answer to a fetch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Read {
    pub client: ClientId,
    pub place: TopicPartition,
    /// When it was asked for.
    pub invoked: Duration,
    /// The leader epoch that the answering node confirmed; `None`: a follower answered.
    pub epoch: Option<i32>,
    pub from: i64,
    pub records: Vec<Record>,
    pub high_watermark: i64,
    pub log_start: i64,
}

/// The answer to a search by time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundTime {
    pub place: TopicPartition,
    pub invoked: Duration,
    /// As in `Read`.
    pub epoch: i32,
    pub wanted_ms: i64,
    pub found: Option<(i64, i64)>,
}

/// One batch of a replica: its first and last offset, its leader epoch, and what its bytes hash to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchDigest {
    pub base: i64,
    pub last: i64,
    pub epoch: i32,
    pub digest: u64,
}

/// One record of a compacted partition. `key`, `digest`: what its key, and all of it, hash to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keyed {
    pub offset: i64,
    pub epoch: i32,
    pub key: u64,
    pub digest: u64,
    pub tombstone: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A batch is handed over for the first time.
    Send(Sent),
    /// It was answered: its first record lies at `base`.
    Acked {
        sent: Sent,
        base: i64,
    },
    Read(Read),
    FoundTime(FoundTime),
    /// The ends of a partition as a client was told them, without the epoch of who told it.
    Ends {
        client: ClientId,
        place: TopicPartition,
        invoked: Duration,
        log_start: i64,
        high_watermark: i64,
    },
    /// A leader called an offset out of range.
    OutOfRange {
        place: TopicPartition,
        invoked: Duration,
        epoch: i32,
        from: i64,
    },
    /// A group's commit is asked for.
    Committing {
        group: u32,
        place: TopicPartition,
        offset: i64,
    },
    /// It was answered.
    Committed {
        group: u32,
        place: TopicPartition,
        offset: i64,
    },
    /// What a group had committed, as a member was told.
    FoundCommitted {
        group: u32,
        place: TopicPartition,
        invoked: Duration,
        offset: Option<i64>,
    },
    /// A member was given these partitions.
    Assigned {
        group: u32,
        generation: i32,
        member: ClientId,
        places: Vec<TopicPartition>,
    },
    TopicCreated {
        topic: TopicId,
    },
    /// Asked for: from now on its content promises nothing.
    TopicDeleting {
        topic: TopicId,
    },
    TopicDeleted {
        topic: TopicId,
    },
    /// A node's metadata name this leader.
    Led {
        node: i32,
        place: TopicPartition,
        epoch: i32,
        leader: i32,
    },
    /// A process acknowledged a write while it led under this epoch. `start`: counts the processes of a node.
    AckedUnder {
        place: TopicPartition,
        epoch: i32,
        node: i32,
        start: u64,
    },
    /// All faults are over.
    Healed,
    /// The topics that a node knows, after the heal.
    Topics {
        node: i32,
        topics: Vec<TopicId>,
    },
    /// A replica's content below the high watermark, after the heal.
    Replica {
        node: i32,
        place: TopicPartition,
        start: i64,
        batches: Vec<BatchDigest>,
    },
    /// As `Replica`, where the topic is compacted: each replica drops superseded records when it likes.
    Compacted {
        node: i32,
        place: TopicPartition,
        start: i64,
        records: Vec<Keyed>,
    },
    /// All that a partition holds, after the heal.
    Final {
        place: TopicPartition,
        log_start: i64,
        high_watermark: i64,
        records: Vec<Record>,
    },
    /// What a group has committed, after the heal.
    FinalCommitted {
        group: u32,
        place: TopicPartition,
        offset: Option<i64>,
    },
}
