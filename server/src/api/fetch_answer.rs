//! The answer to a fetch.
//!
//! Owns which partitions it names: all of them in a full fetch, those with news in a session.
//! Does not own what was read. Invariant: records are registered as pieces and never copied.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{ErrorCode, LeaderEpoch, NodeId, Offset};
use node::requests::{FetchError, FetchedPart};

use super::context::{Reply, RequestContext};
use super::fetch_sessions::{Session, Slot, Told, TopicKey};
use super::leaders::Leaders;
use super::topics::{text, uuid_of};
use crate::memory::Charge;
use crate::metrics::add;
use crate::wire::messages::fetch_response::{FetchableTopicResponse, NodeEndpoint, PartitionData};
use crate::wire::messages::{FetchRequest, FetchResponse};
use crate::wire::{Splices, StrBytes};

/// What one look at a session's partitions gave.
#[derive(Default)]
pub struct Look {
    pub found: Vec<Found>,
    /// Slots whose topic or partition is not there.
    pub unknown: Vec<(u32, ErrorCode)>,
    pub record_bytes: u64,
    /// Something that the client must hear of now.
    pub must_answer: bool,
    /// For the records.
    pub charge: Charge,
}

impl Look {
    /// The same answer without the records: they are there still when the client asks again.
    pub fn drop_records(&mut self) {
        self.record_bytes = 0;
        for found in &mut self.found {
            found.read.records = Vec::new();
            found.read.record_bytes = 0;
        }
    }
}

pub struct Found {
    pub at: u32,
    pub from: i64,
    pub read: FetchedPart,
    /// The consumer is to read from this node instead (KIP-392).
    pub preferred: Option<NodeId>,
}

/// Makes the answer, and notes in the session what the client knows by it.
pub fn show(
    ctx: &RequestContext,
    session: &mut Session,
    look: Look,
    committed_only: bool,
    session_id: i32,
    full: bool,
) -> Reply<FetchResponse> {
    add(&ctx.broker.metrics.records_bytes_out, look.record_bytes);
    let mut splices = Splices::new();
    let mut leaders = Leaders::default();
    let mut topics = Topics::new(ctx.version);
    for (at, code) in look.unknown {
        if let Some(slot) = session.slot_mut(at) {
            slot.told = None;
            topics.put(slot, failed(slot.partition, code));
        }
    }
    for Found { at, from, read, preferred } in look.found {
        if read.record_bytes > 0 {
            session.begin_after(at);
        }
        if preferred.is_none() && !may_have_more(&read, from, committed_only) && session.is_watched(at) {
            session.settle(at);
        }
        let Some(slot) = session.slot_mut(at) else { continue };
        let told =
            Told { high_watermark: read.high_watermark, last_stable: read.last_stable, log_start: read.log_start };
        let moved = read.record_bytes > 0 || slot.told != Some(told);
        let news = moved || read.error.is_some() || read.diverging.is_some() || preferred.is_some();
        slot.told = read.error.is_none().then_some(told);
        if full || news {
            let mut data = partition(ctx, slot, read, committed_only, &mut splices, &mut leaders);
            if let Some(preferred) = preferred {
                data.preferred_read_replica = preferred.0.into();
            }
            topics.put(slot, data);
        }
    }
    let mut response = FetchResponse::default().with_responses(topics.topics);
    if ctx.version >= 7 {
        response.session_id = session_id;
    }
    if ctx.version >= 16 {
        let endpoints = leaders.into_endpoints().map(|(node, endpoint, rack)| {
            NodeEndpoint::default()
                .with_node_id(node.0.into())
                .with_host(StrBytes::from_string(endpoint.host))
                .with_port(endpoint.port.into())
                .with_rack(rack.map(StrBytes::from_string))
        });
        response.node_endpoints = endpoints.collect();
    }
    Reply::Records { response, splices, charge: look.charge }
}

/// Whether the same look would find something without anything moving: records, or the same error.
fn may_have_more(read: &FetchedPart, from: i64, committed_only: bool) -> bool {
    let limit = if committed_only { read.last_stable } else { read.high_watermark };
    read.error.is_some() || read.diverging.is_some() || limit.is_some_and(|limit| limit.get() > from)
}

fn partition(
    ctx: &RequestContext,
    slot: &Slot,
    read: FetchedPart,
    committed_only: bool,
    splices: &mut Splices,
    leaders: &mut Leaders,
) -> PartitionData {
    if let Some(error) = &read.error {
        let mut data = failed(slot.partition, error.code());
        if let Some((leader, epoch)) = leader_of(error)
            && ctx.version >= 12
        {
            let (leader, epoch) = leaders.note(ctx, leader, epoch);
            data.current_leader.leader_id = leader.into();
            data.current_leader.leader_epoch = epoch;
        }
        return data;
    }
    let wire = |offset: Option<Offset>| offset.map_or(-1, Offset::get);
    let mut data = PartitionData::default()
        .with_partition_index(slot.partition)
        .with_high_watermark(wire(read.high_watermark))
        .with_last_stable_offset(wire(read.last_stable))
        .with_aborted_transactions(committed_only.then(Vec::new))
        .with_records(Some(splices.register(read.records)));
    if ctx.version >= 5 {
        data.log_start_offset = wire(read.log_start);
    }
    if let Some(diverging) = read.diverging
        && ctx.version >= 12
    {
        data.diverging_epoch.epoch = diverging.epoch.get();
        data.diverging_epoch.end_offset = diverging.end.get();
    }
    data
}

fn leader_of(error: &FetchError) -> Option<(Option<NodeId>, LeaderEpoch)> {
    match error {
        FetchError::NotLeader { leader, epoch } => Some((*leader, *epoch)),
        FetchError::UnknownPartition
        | FetchError::FencedEpoch { .. }
        | FetchError::UnknownEpoch { .. }
        | FetchError::OutOfRange { .. }
        | FetchError::OffsetNotAvailable { .. }
        | FetchError::Disk { .. }
        | FetchError::Corrupt { .. } => None,
    }
}

fn failed(partition: i32, code: ErrorCode) -> PartitionData {
    PartitionData::default()
        .with_partition_index(partition)
        .with_error_code(code.to_wire())
        .with_high_watermark(-1)
        .with_aborted_transactions(None)
        .with_records(Some(Bytes::new()))
}

/// The same error for everything that a request names.
pub fn refuse(ctx: &RequestContext, request: &FetchRequest, code: ErrorCode) -> FetchResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| failed(partition.partition, code));
        let shown = FetchableTopicResponse::default().with_partitions(partitions.collect());
        if ctx.version >= 13 { shown.with_topic_id(topic.topic_id) } else { shown.with_topic(topic.topic.clone()) }
    });
    let response = FetchResponse::default().with_responses(topics.collect());
    if ctx.version >= 7 { response.with_error_code(code.to_wire()) } else { response }
}

/// Partitions gathered by topic, in the order of their first one.
struct Topics {
    by_id: bool,
    places: BTreeMap<TopicKey, usize>,
    topics: Vec<FetchableTopicResponse>,
}

impl Topics {
    fn new(version: i16) -> Topics {
        Topics { by_id: version >= 13, places: BTreeMap::new(), topics: Vec::new() }
    }

    fn put(&mut self, slot: &Slot, data: PartitionData) {
        let place = *self.places.entry(slot.topic.clone()).or_insert_with(|| {
            self.topics.push(match &slot.topic {
                TopicKey::Id(id) => FetchableTopicResponse::default().with_topic_id(uuid_of(*id)),
                TopicKey::Name(name) => FetchableTopicResponse::default().with_topic(text(name).into()),
            });
            self.topics.len() - 1
        });
        debug_assert_eq!(self.by_id, matches!(slot.topic, TopicKey::Id(_)));
        self.topics.get_mut(place).expect("places are places of topics").partitions.push(data);
    }
}
