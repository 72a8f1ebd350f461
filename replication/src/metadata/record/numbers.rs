//! Ids and numbers of the metadata as they are written, and checked when they are read.

use bytes::Bytes;
use model::{LeaderEpoch, NodeId, PartitionIndex, TopicId};

use super::{FactError, Incarnation};

pub(crate) fn partition_index(raw: u32) -> Result<PartitionIndex, FactError> {
    let index = i32::try_from(raw).ok().and_then(PartitionIndex::from_wire);
    index.ok_or(FactError::Number { field: "partition", value: i64::from(raw) })
}

pub(crate) fn leader_epoch(raw: i32) -> Result<LeaderEpoch, FactError> {
    LeaderEpoch::from_wire(raw).ok_or(FactError::Number { field: "leader epoch", value: i64::from(raw) })
}

pub(crate) fn node_numbers(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

pub(crate) fn node_id(raw: i32) -> Result<NodeId, FactError> {
    match raw {
        0.. => Ok(NodeId(raw)),
        _ => Err(FactError::Number { field: "node id", value: i64::from(raw) }),
    }
}

pub(crate) fn id_bytes(id: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(id)
}

pub(crate) fn id16(field: &'static str, raw: &Bytes) -> Result<[u8; 16], FactError> {
    raw.as_ref().try_into().map_err(|_| FactError::Id { field, length: raw.len() })
}

pub(crate) fn topic_id(raw: &Bytes) -> Result<TopicId, FactError> {
    id16("topic id", raw).map(TopicId)
}

pub(crate) fn incarnation(raw: &Bytes) -> Result<Incarnation, FactError> {
    id16("incarnation", raw).map(Incarnation)
}
