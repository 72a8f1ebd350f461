//! One member of a classic group, and how members get their ids.
//!
//! Owns what a member offered, what it was assigned, which answers it waits for, and when it is given up.
//! Invariant: a member waits for at most one join and one sync.

use std::time::Duration;

use bytes::Bytes;

use super::config::CLIENT_ID_BYTES_MAX;
use super::record::MemberMetadata;
use super::types::{InstanceId, Join, JoinedMember, MemberId, Protocol};

/// A member without its names and metadata, about.
const MEMBER_BYTES: usize = 512;

/// Names a request that waits for its answer. The caller chooses it; each is answered once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<InstanceId>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// In the order of the member's preference; each name once.
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// Has not been told a generation yet: it cannot heartbeat, so its parked join counts as silence.
    pub(super) is_new: bool,
    pub(super) join: Option<Token>,
    pub(super) sync: Option<Token>,
    pub(super) deadline: Duration,
}

impl Member {
    pub(super) fn new(join: &Join, protocols: Vec<Protocol>) -> Member {
        Member {
            instance_id: join.instance_id.clone(),
            client_id: clipped(&join.client_id, CLIENT_ID_BYTES_MAX).to_owned(),
            client_host: clipped(&join.client_host, CLIENT_ID_BYTES_MAX).to_owned(),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols,
            assignment: Bytes::new(),
            is_new: true,
            join: None,
            sync: None,
            deadline: Duration::ZERO,
        }
    }

    /// As the log has it: of its protocols only the chosen one is known.
    pub(super) fn loaded(metadata: &MemberMetadata, protocol: &str, now: Duration) -> Member {
        let session = metadata.session_timeout_ms;
        let rebalance = metadata.rebalance_timeout_ms;
        Member {
            instance_id: metadata.instance_id.clone(),
            client_id: metadata.client_id.clone(),
            client_host: metadata.client_host.clone(),
            rebalance_timeout_ms: if rebalance == -1 { session } else { rebalance },
            session_timeout_ms: session,
            protocols: vec![Protocol { name: protocol.to_owned(), metadata: metadata.subscription.clone() }],
            assignment: metadata.assignment.clone(),
            is_new: false,
            join: None,
            sync: None,
            deadline: now + milliseconds(session),
        }
    }

    /// A member that waits for an answer of ours is not silent, unless it is new.
    pub(super) fn expires_at(&self) -> Option<Duration> {
        let waits = self.join.is_some() || self.sync.is_some();
        (self.is_new || !waits).then_some(self.deadline)
    }

    pub(super) fn heard(&mut self, now: Duration) {
        self.deadline = now + milliseconds(self.session_timeout_ms);
    }

    /// The first of its protocols that all members have.
    pub(super) fn vote(&self, is_candidate: impl Fn(&str) -> bool) -> Option<&str> {
        self.protocols.iter().map(|protocol| protocol.name.as_str()).find(|name| is_candidate(name))
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|offered| offered.name == protocol);
        found.map(|offered| offered.metadata.clone()).unwrap_or_default()
    }

    pub(super) fn joined(&self, id: &MemberId, protocol: &str) -> JoinedMember {
        JoinedMember { member_id: id.clone(), instance_id: self.instance_id.clone(), metadata: self.metadata(protocol) }
    }

    pub(super) fn to_record(&self, id: &MemberId, protocol: &str) -> MemberMetadata {
        MemberMetadata {
            member_id: id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }

    /// What the member costs in memory, about.
    pub(super) fn bytes(&self) -> usize {
        let instance = self.instance_id.as_ref().map_or(0, |id| id.as_str().len());
        let names = instance + self.client_id.len() + self.client_host.len();
        MEMBER_BYTES + names + self.assignment.len() + protocols_bytes(&self.protocols)
    }
}

pub(super) fn protocols_bytes(protocols: &[Protocol]) -> usize {
    protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
}

pub(super) fn milliseconds(raw: i32) -> Duration {
    model::units::wait_from_wire(raw)
}

/// The longest start of `text` that is at most `bytes_max` long.
pub(super) fn clipped(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Gives out member ids: the client's name and a random UUID, as Kafka forms them, from a seed.
#[derive(Clone, Debug)]
pub(super) struct MemberIds {
    state: u64,
}

impl MemberIds {
    pub(super) fn new(seed: u64) -> MemberIds {
        MemberIds { state: seed }
    }

    /// SplitMix64: every seed gives a full period, and no two calls of one generator the same number.
    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn next(&mut self, client_id: &str, instance_id: Option<&InstanceId>) -> MemberId {
        let name = instance_id.map_or_else(|| clipped(client_id, CLIENT_ID_BYTES_MAX), InstanceId::as_str);
        // The version (4) and variant bits of a random UUID.
        let high = self.next_u64() & !0xf000 | 0x4000;
        let low = self.next_u64() & !(0b11 << 62) | (0b10 << 62);
        let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xffff);
        let (d, e) = (low >> 48, low & 0xffff_ffff_ffff);
        MemberId::from_wire(&format!("{name}-{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")).expect("it is never empty")
    }
}
