//! What replicas say to each other, as checked values.
//!
//! Owns the translation between these and `proto/replica.proto`. Does not own what is done with them.
//! Invariant: what was read is checked: ids of 16 bytes, numbers in range, no more bytes named than the body has.

use bytes::Bytes;
use model::limits::OFFSET_MAX;
use model::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};
use replication::partition::follower::{EpochEnd, LeaderLimits, LogBounds};
use replication::partition::isr::Position;

use crate::peer::proto::{self, cut_part, replica_frame};
use crate::peer::{Frame, PeerLane};

/// The two lanes that carry records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum RecordLane {
    InSync,
    CatchUp,
}

impl RecordLane {
    pub(crate) fn of(lane: PeerLane) -> Option<RecordLane> {
        match lane {
            PeerLane::Control => None,
            PeerLane::InSync => Some(RecordLane::InSync),
            PeerLane::CatchUp => Some(RecordLane::CatchUp),
        }
    }
}

/// Something of each lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerLane<T> {
    in_sync: T,
    catch_up: T,
}

impl<T> PerLane<T> {
    pub(crate) fn new(in_sync: T, catch_up: T) -> PerLane<T> {
        PerLane { in_sync, catch_up }
    }

    pub(crate) fn get(&self, lane: RecordLane) -> &T {
        match lane {
            RecordLane::InSync => &self.in_sync,
            RecordLane::CatchUp => &self.catch_up,
        }
    }

    pub(crate) fn get_mut(&mut self, lane: RecordLane) -> &mut T {
        match lane {
            RecordLane::InSync => &mut self.in_sync,
            RecordLane::CatchUp => &mut self.catch_up,
        }
    }
}

/// Bytes on each lane.
pub(crate) type LaneBytes = PerLane<u64>;

impl LaneBytes {
    pub(crate) fn to_proto(&self) -> proto::Grant {
        proto::Grant { in_sync: self.in_sync, catch_up: self.catch_up }
    }

    pub(crate) fn from_proto(grant: Option<proto::Grant>) -> LaneBytes {
        let grant = grant.unwrap_or_default();
        LaneBytes { in_sync: grant.in_sync, catch_up: grant.catch_up }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ReplicaFrameError {
    #[error("a frame of replicas without its content")]
    Empty,
    #[error("a topic id of {0} bytes")]
    TopicId(usize),
    #[error("{field} is {value}, which is out of range")]
    Number { field: &'static str, value: u64 },
    #[error("a cut without its place")]
    Cut,
    #[error("a frame names {named} bytes of records and holds {held}")]
    Bytes { named: u64, held: usize },
}

/// A follower's wish for a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FollowPart {
    pub(crate) stream: u32,
    pub(crate) partition: TopicPartition,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) bounds: LogBounds,
    pub(crate) position: Position,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CutWhat {
    Parted(EpochEnd),
    BeginAt(Offset),
}

/// What a leader sends of one stream.
#[derive(Clone, Debug)]
pub(crate) struct RecordsPart {
    pub(crate) stream: u32,
    /// The leader has sent all that it has from there on; where it was compacted, the first batch may begin later.
    pub(crate) from: Offset,
    pub(crate) limits: LeaderLimits,
    pub(crate) records: Bytes,
}

fn offset(field: &'static str, value: u64) -> Result<Offset, ReplicaFrameError> {
    let raw = i64::try_from(value).ok().and_then(Offset::from_wire);
    raw.ok_or(ReplicaFrameError::Number { field, value })
}

pub(crate) fn epoch(field: &'static str, value: u32) -> Result<LeaderEpoch, ReplicaFrameError> {
    let raw = i32::try_from(value).ok().and_then(LeaderEpoch::from_wire);
    raw.ok_or(ReplicaFrameError::Number { field, value: u64::from(value) })
}

pub(crate) fn raw_offset(offset: Offset) -> u64 {
    u64::try_from(offset.get()).expect("an offset is never negative")
}

pub(crate) fn raw_epoch(epoch: LeaderEpoch) -> u32 {
    u32::try_from(epoch.get()).expect("an epoch is never negative")
}

impl FollowPart {
    pub(crate) fn to_proto(self) -> proto::FollowPart {
        proto::FollowPart {
            stream: self.stream,
            topic_id: Bytes::copy_from_slice(&self.partition.topic.0),
            partition: self.partition.partition.get(),
            leader_epoch: raw_epoch(self.epoch),
            log_start: raw_offset(self.bounds.start),
            log_end: raw_offset(self.bounds.end),
            latest_epoch: self.bounds.latest.map(raw_epoch),
            written: raw_offset(self.position.written),
            synced: raw_offset(self.position.synced),
        }
    }

    pub(crate) fn from_proto(part: &proto::FollowPart) -> Result<FollowPart, ReplicaFrameError> {
        let topic = part.topic_id[..].try_into().map_err(|_| ReplicaFrameError::TopicId(part.topic_id.len()))?;
        let raw = part.partition;
        let index = i32::try_from(raw).ok().and_then(PartitionIndex::from_wire);
        let index = index.ok_or(ReplicaFrameError::Number { field: "a partition", value: u64::from(raw) })?;
        Ok(FollowPart {
            stream: part.stream,
            partition: TopicPartition { topic: TopicId(topic), partition: index },
            epoch: epoch("a leader's epoch", part.leader_epoch)?,
            bounds: LogBounds {
                start: offset("a log's start", part.log_start)?,
                end: offset("a log's end", part.log_end)?,
                latest: part.latest_epoch.map(|raw| epoch("a log's epoch", raw)).transpose()?,
            },
            position: position(part.written, part.synced)?,
        })
    }
}

pub(crate) fn position(written: u64, synced: u64) -> Result<Position, ReplicaFrameError> {
    Ok(Position { written: offset("a written position", written)?, synced: offset("a synced position", synced)? })
}

/// Where the follower's log begins for good.
pub(crate) fn reported_start(part: &proto::Position) -> Result<Offset, ReplicaFrameError> {
    // A node of an earlier version does not say, and is not waited for.
    part.log_start.map_or(Ok(Offset::new(OFFSET_MAX)), |raw| offset("a log's start", raw))
}

pub(crate) fn position_to_proto(stream: u32, (position, start): (Position, Offset)) -> proto::Position {
    let log_start = Some(raw_offset(start));
    proto::Position { stream, written: raw_offset(position.written), synced: raw_offset(position.synced), log_start }
}

impl CutWhat {
    pub(crate) fn to_proto(self, stream: u32) -> proto::CutPart {
        let what = match self {
            CutWhat::Parted(end) => {
                cut_part::What::Parted(proto::EpochEnd { epoch: raw_epoch(end.epoch), end: raw_offset(end.end) })
            }
            CutWhat::BeginAt(start) => cut_part::What::BeginAt(raw_offset(start)),
        };
        proto::CutPart { stream, what: Some(what) }
    }

    pub(crate) fn from_proto(part: &proto::CutPart) -> Result<CutWhat, ReplicaFrameError> {
        match part.what {
            Some(cut_part::What::Parted(end)) => Ok(CutWhat::Parted(EpochEnd {
                epoch: epoch("an epoch that ended", end.epoch)?,
                end: offset("an epoch's end", end.end)?,
            })),
            Some(cut_part::What::BeginAt(start)) => Ok(CutWhat::BeginAt(offset("a new start", start)?)),
            None => Err(ReplicaFrameError::Cut),
        }
    }
}

/// The parts of a frame with their slices of its body.
pub(crate) fn records_parts(
    parts: &[proto::RecordsPart],
    mut body: Bytes,
) -> Result<Vec<RecordsPart>, ReplicaFrameError> {
    let (named, held) = (parts.iter().map(|part| u64::from(part.bytes)).sum(), body.len());
    if u64::try_from(held).ok() != Some(named) {
        return Err(ReplicaFrameError::Bytes { named, held });
    }
    let mut checked = Vec::with_capacity(parts.len());
    for part in parts {
        let limits = LeaderLimits {
            high_watermark: offset("a high watermark", part.high_watermark)?,
            log_start: offset("a log's start", part.log_start)?,
        };
        let bytes = usize::try_from(part.bytes).expect("no more than the body holds");
        let from = offset("where records begin", part.base_offset)?;
        checked.push(RecordsPart { stream: part.stream, from, limits, records: body.split_to(bytes) });
    }
    Ok(checked)
}

pub(crate) fn frame(kind: replica_frame::Kind, records: Vec<Bytes>) -> Frame {
    Frame::replica(proto::ReplicaFrame { kind: Some(kind) }, records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow() -> FollowPart {
        FollowPart {
            stream: 7,
            partition: TopicPartition { topic: TopicId([3; 16]), partition: PartitionIndex::new(4) },
            epoch: LeaderEpoch::new(9),
            bounds: LogBounds { start: Offset::new(1), end: Offset::new(50), latest: Some(LeaderEpoch::new(8)) },
            position: Position { written: Offset::new(50), synced: Offset::new(40) },
        }
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        assert_eq!(FollowPart::from_proto(&follow().to_proto()), Ok(follow()));
        let empty = LogBounds { start: Offset::ZERO, end: Offset::ZERO, latest: None };
        let empty = FollowPart { bounds: empty, ..follow() };
        assert_eq!(FollowPart::from_proto(&empty.to_proto()), Ok(empty));
        let end = EpochEnd { epoch: LeaderEpoch::new(3), end: Offset::new(70) };
        for cut in [CutWhat::Parted(end), CutWhat::BeginAt(Offset::new(5))] {
            assert_eq!(CutWhat::from_proto(&cut.to_proto(7)), Ok(cut));
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let sound = follow().to_proto();
        let parts = [
            proto::FollowPart { topic_id: Bytes::from_static(b"short"), ..sound.clone() },
            proto::FollowPart { partition: u32::MAX, ..sound.clone() },
            proto::FollowPart { leader_epoch: u32::MAX, ..sound.clone() },
            proto::FollowPart { log_end: u64::MAX, ..sound.clone() },
            proto::FollowPart { latest_epoch: Some(u32::MAX), ..sound.clone() },
            proto::FollowPart { synced: 1 << 63, ..sound },
        ];
        for part in parts {
            assert!(FollowPart::from_proto(&part).is_err(), "{part:?}");
        }
        assert_eq!(CutWhat::from_proto(&proto::CutPart { stream: 1, what: None }), Err(ReplicaFrameError::Cut));
    }

    #[test]
    fn parts_name_exactly_what_the_body_holds() {
        let part = |stream, bytes| proto::RecordsPart { stream, bytes, ..proto::RecordsPart::default() };
        let body = Bytes::from_static(b"aabbb");
        let read = records_parts(&[part(1, 2), part(2, 0), part(3, 3)], body.clone()).expect("it fits");
        let slices: Vec<&[u8]> = read.iter().map(|part| &part.records[..]).collect();
        assert_eq!(slices, [&b"aa"[..], b"", b"bbb"]);
        for wrong in [4, 6, u32::MAX] {
            assert!(records_parts(&[part(1, wrong)], body.clone()).is_err());
        }
    }
}
