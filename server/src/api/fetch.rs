//! Fetch (API key 1), versions 4..=18.
//!
//! Owns the byte budget, the long poll, and what a request changes in its session. Does not own limits nor reading.
//! Invariants: nothing at or beyond the published limit is read; a fetch waits only where nothing that it asked for is
//! there, or no memory is free for it; it never waits with a request of another kind behind it on its connection.
//! Invariant: the records of an answer are charged to the memory for answers, all of them; only a first batch that is
//! larger than the whole of it counts as that.
//! Versions: 7 has sessions (KIP-227), 9 epochs of leaders, 11 a consumer's rack (KIP-392), 12 is flexible and has
//! diverging epochs (KIP-595), 13 names topics by id, 15 moves the replica id, 16 names new leaders (KIP-951), 18 tells a
//! replica's high watermark (KIP-1166).

use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use model::limits::{FETCH_BYTES_MAX, FETCH_WAIT_SECONDS_MAX};
use model::units::wait_from_wire;
use model::{ErrorCode, LeaderEpoch, PartitionIndex, TopicPartition};
use node::requests::{FetchLimits, FetchPart, FetchedPart};
use replication::metadata::Image;
use storage::disk::ReadMode;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::context::{Api, Reply, RequestContext};
use super::fetch_answer::{self, Found, Look};
use super::fetch_sessions::{Begun, Lease, Session, Slot, TopicKey};
use super::leaders::elsewhere;
use super::preferred;
use super::topics::{find_name, id_of};
use crate::memory::{Allowance, Charge};
use crate::metrics::add;
use crate::net::reply::ReplyCell;
use crate::wire::StrBytes;
use crate::wire::messages::fetch_request::{FetchPartition, FetchTopic};
use crate::wire::messages::{FetchRequest, FetchResponse};

pub struct Fetch;

/// However little memory is free, a fetch asks for this.
const BYTES_MIN: u64 = 64 * 1024;

impl Api for Fetch {
    type Request = FetchRequest;
    const NAME: &'static str = "Fetch";
    const VERSIONS: RangeInclusive<i16> = 4..=18;

    async fn handle(ctx: RequestContext, request: FetchRequest) -> Reply<FetchResponse> {
        let replica = if ctx.version >= 15 { request.replica_state.replica_id } else { request.replica_id };
        if replica.0 >= 0 {
            // Nodes do not copy partitions over the Kafka protocol: whoever says so is no node.
            return fetch_answer::refuse(&ctx, &request, ErrorCode::ClusterAuthorizationFailed).into();
        }
        let by_id = ctx.version >= 13;
        let (id, epoch) = if ctx.version >= 7 { (request.session_id, request.session_epoch) } else { (0, -1) };
        let begun = match ctx.broker.sessions.begin(&ctx.broker.node, id, epoch, by_id) {
            Ok(begun) => begun,
            Err(code) => return FetchResponse::default().with_error_code(code.to_wire()).into(),
        };
        // Before anything is waited for: a request behind this one looks for it there.
        let cell = ReplyCell::new();
        if request.max_wait_ms > 0 {
            ctx.connection.park(&cell);
        }
        let wait = Wait::new(&request, cell, ctx.connection.quiet());
        match begun {
            Begun::Full(mut session) => {
                put_all(&mut session, &request.topics, by_id);
                let look = wait.look(&ctx, &mut session, false).await;
                fetch_answer::show(&ctx, &mut session, look, wait.committed_only, 0, true)
            }
            Begun::New(mut lease) => {
                let session = lease.session.as_mut().expect("a lease begins with its session");
                put_all(session, &request.topics, by_id);
                let look = wait.look(&ctx, session, true).await;
                let reply = fetch_answer::show(&ctx, session, look, wait.committed_only, lease.id, true);
                Lease::keep(lease);
                reply
            }
            Begun::Resumed(mut lease) => {
                let session = lease.session.as_ref().expect("a lease begins with its session");
                if !lease.has_room(new_partitions(session, &request, by_id)) {
                    // It ends here: the client opens another, with all that it wants.
                    return FetchResponse::default()
                        .with_error_code(ErrorCode::FetchSessionIdNotFound.to_wire())
                        .into();
                }
                let session = lease.session.as_mut().expect("a lease begins with its session");
                change(session, &request, by_id);
                let look = wait.look(&ctx, session, true).await;
                let reply = fetch_answer::show(&ctx, session, look, wait.committed_only, lease.id, false);
                Lease::keep(lease);
                reply
            }
        }
    }
}

fn key_of(topic: &FetchTopic, by_id: bool) -> TopicKey {
    if by_id { TopicKey::Id(id_of(topic.topic_id)) } else { TopicKey::Name(topic.topic.as_str().into()) }
}

fn put_all(session: &mut Session, topics: &[FetchTopic], by_id: bool) {
    for topic in topics {
        let key = key_of(topic, by_id);
        for partition in &topic.partitions {
            // Of a partition that is named twice the last one counts, as in Kafka; it is answered once.
            session.put(slot(&key, partition));
        }
    }
}

/// A fetch that goes on mostly names what its session has, at another offset.
fn new_partitions(session: &Session, request: &FetchRequest, by_id: bool) -> usize {
    let of_topic = |topic: &FetchTopic| {
        session.lacks(&key_of(topic, by_id), topic.partitions.iter().map(|partition| partition.partition))
    };
    request.topics.iter().map(of_topic).sum()
}

fn slot(topic: &TopicKey, partition: &FetchPartition) -> Slot {
    let mut slot = Slot::new(topic.clone(), partition.partition);
    slot.from = partition.fetch_offset;
    slot.bytes_max = partition.partition_max_bytes;
    slot.current_epoch = partition.current_leader_epoch;
    slot.last_fetched_epoch = partition.last_fetched_epoch;
    slot
}

fn change(session: &mut Session, request: &FetchRequest, by_id: bool) {
    for forgotten in &request.forgotten_topics_data {
        let key = if by_id {
            TopicKey::Id(id_of(forgotten.topic_id))
        } else {
            TopicKey::Name(forgotten.topic.as_str().into())
        };
        for partition in &forgotten.partitions {
            session.remove(&key, *partition);
        }
    }
    put_all(session, &request.topics, by_id);
}

/// How long, and for how much, a fetch waits.
struct Wait {
    cell: Arc<ReplyCell>,
    deadline: Option<Instant>,
    bytes_min: u64,
    bytes_max: u64,
    /// Since the client took an answer.
    away: Duration,
    committed_only: bool,
    /// Of the consumer; empty: it told none.
    rack: StrBytes,
}

impl Wait {
    fn new(request: &FetchRequest, cell: Arc<ReplyCell>, away: Duration) -> Wait {
        let wait = wait_from_wire(request.max_wait_ms).min(Duration::from_secs(FETCH_WAIT_SECONDS_MAX));
        let bytes_max = u64::try_from(request.max_bytes).unwrap_or(0).min(FETCH_BYTES_MAX);
        Wait {
            cell,
            deadline: (!wait.is_zero()).then(|| Instant::now() + wait),
            bytes_min: u64::try_from(request.min_bytes).unwrap_or(0).min(bytes_max),
            bytes_max,
            away,
            committed_only: request.isolation_level == 1,
            rack: request.rack_id.clone(),
        }
    }

    /// Looks until there is enough to answer with, or the wait is over. A session that stays is watched from the
    /// beginning; one of a single fetch only when it has to wait.
    async fn look(&self, ctx: &RequestContext, session: &mut Session, stays: bool) -> Look {
        let mut watch = stays;
        let mut held = Charge::default();
        loop {
            let mut look = self.look_once(ctx, session, watch, held.bytes()).await;
            let enough = look.must_answer || look.record_bytes >= self.bytes_min;
            if enough || session.is_empty() || self.is_over() {
                let needed = usize::try_from(look.record_bytes).unwrap_or(usize::MAX);
                if let Some(charge) = ctx.broker.answer_memory.adjust(std::mem::take(&mut held), needed) {
                    look.charge = charge;
                    return look;
                }
                // Others hold the memory. Before anything is waited for, the records go.
                // What else there is to tell waits as well: a partition that always fails would be told of again and again, at once.
                look.drop_records();
                let Some(charge) = self.turn(&ctx.broker.answer_memory, needed).await else { return look };
                held = charge;
                continue;
            }
            // What was read is read again: nothing that is not charged is kept over a wait.
            drop(look);
            held = Charge::default();
            if !watch {
                // What comes between the look and the watch would be missed: look again.
                watch = true;
                continue;
            }
            if session.watcher.park(self.cell.reply_to()) {
                self.park().await;
                session.watcher.unpark();
            }
        }
    }

    fn is_over(&self) -> bool {
        self.deadline.is_none_or(|deadline| deadline <= Instant::now()) || self.cell.is_hurried()
    }

    /// Waits in turn for memory: whoever has waited longest gets what becomes free, so one goes on whenever others are done.
    async fn turn(&self, memory: &Allowance, bytes: usize) -> Option<Charge> {
        let deadline = self.deadline?;
        let mut turn = pin!(memory.take(bytes));
        while !self.is_over() {
            tokio::select! {
                biased;
                charge = &mut turn => return Some(charge),
                () = self.cell.woken() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
        None
    }

    async fn park(&self) {
        let Some(deadline) = self.deadline else { return };
        tokio::select! {
            biased;
            () = self.cell.woken() => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }

    /// `held`: bytes of memory that this fetch has.
    async fn look_once(&self, ctx: &RequestContext, session: &mut Session, watch: bool, held: u64) -> Look {
        let image = ctx.broker.image();
        let mut look = Look::default();
        let mut parts = Vec::new();
        let mut at_slots = Vec::new();
        let slots = session.to_look_at();
        for at in &slots {
            let Some(slot) = session.slot(*at) else { continue };
            match part(&image, slot) {
                Ok(part) => {
                    if watch {
                        session.watch(*at, part.partition);
                    }
                    match preferred::replica(ctx, &image, &self.rack, &part) {
                        Some(found) => look.found.push(Found { at: *at, from: part.from, ..found }),
                        None => {
                            parts.push(part);
                            at_slots.push(*at);
                        }
                    }
                }
                Err(code) => look.unknown.push((*at, code)),
            }
        }
        look.must_answer = look.unknown.len() == session.len() || !look.found.is_empty();
        let limits = FetchLimits {
            bytes_max: self.bytes_allowed(ctx, held),
            committed_only: self.committed_only,
            // Who tells no rack was sent here by old metadata, and is to go to the leader.
            at_follower: ctx.version >= preferred::VERSION_MIN && !self.rack.is_empty(),
        };
        let (read, is_cut) = self.read(ctx, parts, limits).await;
        // More is there at once: waiting would bring no more.
        look.must_answer |= is_cut;
        for (at, (part, mut read)) in at_slots.into_iter().zip(read) {
            read.error = read.error.map(|error| elsewhere(&image, part.partition, error));
            look.record_bytes += read.record_bytes as u64;
            look.must_answer |= read.error.is_some() || read.diverging.is_some();
            look.found.push(Found { at, from: part.from, read, preferred: None });
        }
        look
    }

    /// Reads what is in memory here and the rest where waiting for the device harms nobody. True: of the rest only a part was read.
    async fn read(
        &self,
        ctx: &RequestContext,
        parts: Vec<FetchPart>,
        limits: FetchLimits,
    ) -> (Vec<(FetchPart, FetchedPart)>, bool) {
        if parts.is_empty() {
            return (Vec::new(), false);
        }
        let mut is_cut = false;
        let mut read = ctx.broker.node.fetch(&parts, limits, ReadMode::CachedOnly);
        if !read.cold.is_empty() {
            // A request is polled once when it comes and again when it is the next to be answered: what it held in between would be counted
            // nowhere, and a client may send hundreds behind each other.
            drop(read);
            yield_now().await;
            read = ctx.broker.node.fetch(&parts, limits, ReadMode::CachedOnly);
        }
        if !read.cold.is_empty() {
            add(&ctx.broker.metrics.cold_reads, 1);
            let cold: Vec<FetchPart> = read.cold.iter().filter_map(|at| parts.get(*at).copied()).collect();
            // Not below what the client waits for.
            let wanted = ctx.broker.cold.answer_bytes(self.away).max(self.bytes_min.saturating_sub(read.record_bytes));
            let room = limits.bytes_max.saturating_sub(read.record_bytes);
            let left = FetchLimits { bytes_max: room.min(wanted), ..limits };
            let node = ctx.broker.node.clone();
            if let Some(late) = ctx.broker.cold.run(move || node.fetch(&cold, left, ReadMode::InTurn)).await {
                is_cut = wanted < room && late.record_bytes > 0;
                for (at, part) in read.cold.iter().zip(late.parts) {
                    if let Some(place) = read.parts.get_mut(*at) {
                        *place = part;
                    }
                }
            }
        }
        (parts.into_iter().zip(read.parts).collect(), is_cut)
    }

    /// Answers share one allowance: the less of it is free, the smaller they get.
    fn bytes_allowed(&self, ctx: &RequestContext, held: u64) -> u64 {
        let statics = ctx.broker.image().statics().fetch_bytes_max;
        let free = if held > 0 { held } else { (ctx.broker.answer_memory.free() / 2).max(BYTES_MIN) };
        self.bytes_max.min(statics.into()).min(free)
    }
}

fn part(image: &Image, slot: &Slot) -> Result<FetchPart, ErrorCode> {
    let topic = match &slot.topic {
        TopicKey::Id(id) => image.topic_by_id(*id).ok_or(ErrorCode::UnknownTopicId)?,
        TopicKey::Name(name) => find_name(image, name)?,
    };
    let partition = PartitionIndex::from_wire(slot.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    topic.partition(partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok(FetchPart {
        partition: TopicPartition { topic: topic.id, partition },
        from: slot.from,
        bytes_max: u32::try_from(slot.bytes_max).unwrap_or(0),
        current_epoch: LeaderEpoch::from_wire(slot.current_epoch),
        last_fetched_epoch: LeaderEpoch::from_wire(slot.last_fetched_epoch),
    })
}
