//! The consumer's own protocol inside of the classic one: what members subscribe to, and what they are assigned.
//!
//! Owns the bytes of `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`, versions 0 to 3. Each version only
//! adds to the one before, so newer ones are read as the newest that is known.
//!
//! ```text
//! subscription:  version i16 | topics [string] | user data bytes?            version 0
//!                | owned [topic string | partitions [i32]]                   version 1
//!                | generation i32                                            version 2
//!                | rack string?                                              version 3
//! assignment:    version i16 | [topic string | partitions [i32]] | user data bytes?
//! ```

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use model::PartitionIndex;

use super::super::codec::{CodecError, Reader, put_string};
use super::catalog::Catalog;
use super::state::Partitions;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Subscription {
    pub(super) version: i16,
    pub(super) topics: BTreeSet<String>,
    pub(super) owned: Vec<(String, Vec<i32>)>,
    pub(super) rack: Option<String>,
}

const OWNED_FROM: i16 = 1;
const GENERATION_FROM: i16 = 2;
const RACK_FROM: i16 = 3;
const ASSIGNMENT_NEWEST: i16 = 3;

pub(super) fn subscription(bytes: &Bytes) -> Result<Subscription, CodecError> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.i16()?;
    let topics = (0..reader.count()?).map(|_| reader.string()).collect::<Result<_, _>>()?;
    reader.nullable_bytes()?;
    let mut subscription = Subscription { version, topics, ..Subscription::default() };
    if version >= OWNED_FROM {
        subscription.owned = topics_of(&mut reader)?;
    }
    if version >= GENERATION_FROM {
        reader.i32()?;
    }
    if version >= RACK_FROM {
        subscription.rack = reader.nullable_string()?.filter(|rack| !rack.is_empty());
    }
    Ok(subscription)
}

fn topics_of(reader: &mut Reader) -> Result<Vec<(String, Vec<i32>)>, CodecError> {
    let mut topics = Vec::new();
    for _ in 0..reader.count()? {
        let topic = reader.string()?;
        let partitions = (0..reader.count()?).map(|_| reader.i32()).collect::<Result<_, _>>()?;
        topics.push((topic, partitions));
    }
    Ok(topics)
}

/// With the ids of topics that exist; an empty assignment is none.
pub(super) fn assignment(bytes: &Bytes, catalog: &Catalog<'_>) -> Result<Partitions, CodecError> {
    if bytes.is_empty() {
        return Ok(Partitions::new());
    }
    let mut reader = Reader::new(bytes.clone());
    reader.i16()?;
    Ok(with_ids(&topics_of(&mut reader)?, catalog))
}

pub(super) fn with_ids(topics: &[(String, Vec<i32>)], catalog: &Catalog<'_>) -> Partitions {
    let mut partitions = Partitions::new();
    for (topic, indices) in topics {
        let Some(id) = catalog.id(topic) else { continue };
        let indices = indices.iter().filter_map(|index| PartitionIndex::from_wire(*index));
        partitions.entry(id).or_default().extend(indices);
    }
    partitions
}

/// As the member of this version understands it.
pub(super) fn encode_assignment(version: i16, partitions: &Partitions, catalog: &Catalog<'_>) -> Bytes {
    let named: Vec<_> = partitions.iter().filter_map(|(topic, all)| Some((catalog.name(*topic)?, all))).collect();
    let count = |length: usize| i32::try_from(length).expect("assignments are bounded where they are made");
    let mut out = BytesMut::new();
    out.put_i16(version.clamp(0, ASSIGNMENT_NEWEST));
    out.put_i32(count(named.len()));
    for (topic, partitions) in named {
        put_string(&mut out, topic);
        out.put_i32(count(partitions.len()));
        partitions.iter().for_each(|partition| out.put_i32(partition.to_wire()));
    }
    // No user data.
    out.put_i32(-1);
    out.freeze()
}
