//! Names and numbers of nodes, topics, partitions, producers and groups.
//!
//! Invariant: a `TopicName` and a `GroupId` obey the bounds that Kafka sets; no path is built from a name that was not checked.

use std::fmt;

use bytes::Bytes;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeId(pub i32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A topic's identity: a deleted topic's namesake has another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// What the wire sends where it names a topic by name only.
    pub const ZERO: TopicId = TopicId([0; 16]);

    pub fn is_zero(self) -> bool {
        self == TopicId::ZERO
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 16 bytes as 22 digits, as Kafka writes its ids: URL-safe base 64 without padding.
pub fn base64(id: &[u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = u128::from_be_bytes(*id);
    // 21 digits of 6 bits hold the upper 126 bits; the last digit holds 2 bits and four zeros.
    let digit = |at: u32| {
        let bits = if at < 21 { number >> (122 - 6 * at) } else { number << 4 };
        char::from(DIGITS[usize::try_from(bits & 63).expect("below 64")])
    };
    (0..22).map(digit).collect()
}

/// A partition's number within its topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PartitionIndex(u32);

impl PartitionIndex {
    pub fn from_wire(raw: i32) -> Option<PartitionIndex> {
        u32::try_from(raw).ok().map(PartitionIndex)
    }

    /// # Panics
    /// Above `i32::MAX`: for our own numbers only.
    pub const fn new(raw: u32) -> PartitionIndex {
        assert!(raw <= i32::MAX as u32, "a partition number fits in an i32");
        PartitionIndex(raw)
    }

    pub const fn get(self) -> u32 {
        self.0
    }

    pub const fn to_wire(self) -> i32 {
        self.0 as i32
    }
}

impl fmt::Display for PartitionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    pub topic: TopicId,
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Which of a partition's logs: its records, or (later) a companion such as its timers. Kind 255 is the metadata log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogKind(pub u8);

impl LogKind {
    pub const RECORDS: LogKind = LogKind(0);
    pub const METADATA: LogKind = LogKind(255);
}

/// The name of one log in journal and checkpoint. Never a path: topics are renamed to ids, directories are moved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogId {
    pub partition: TopicPartition,
    pub kind: LogKind,
}

impl LogId {
    /// The log of the metadata Raft group.
    pub const METADATA: LogId = LogId {
        partition: TopicPartition { topic: TopicId::ZERO, partition: PartitionIndex::new(0) },
        kind: LogKind::METADATA,
    };

    pub fn records(partition: TopicPartition) -> LogId {
        LogId { partition, kind: LogKind::RECORDS }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.kind.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProducerId(pub i64);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProducerEpoch(pub i16);

/// A checked topic name: `[A-Za-z0-9._-]{1,249}`, neither `.` nor `..`. Safe as a part of a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(std::sync::Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    #[error("the topic name is empty")]
    Empty,
    #[error("the topic name is {length} characters long, at most 249 are allowed")]
    TooLong { length: usize },
    #[error("the topic name is '{0}', which means a folder")]
    Dots(&'static str),
    #[error("the topic name holds a character at byte {at} that is not one of a-z, A-Z, 0-9, '.', '_' and '-'")]
    Character { at: usize },
}

impl TopicName {
    pub const LENGTH_MAX: usize = 249;

    pub fn new(raw: &str) -> Result<TopicName, TopicNameError> {
        match raw {
            "" => return Err(TopicNameError::Empty),
            "." => return Err(TopicNameError::Dots(".")),
            ".." => return Err(TopicNameError::Dots("..")),
            _ => {}
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if let Some(at) = raw.bytes().position(|byte| !allowed(byte)) {
            return Err(TopicNameError::Character { at });
        }
        if raw.len() > Self::LENGTH_MAX {
            return Err(TopicNameError::TooLong { length: raw.len() });
        }
        Ok(TopicName(raw.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Topics that Weir keeps for itself: written by coordinators only.
    pub fn is_internal(&self) -> bool {
        matches!(self.as_str(), "__consumer_offsets" | "__transaction_state" | "__share_group_state")
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A consumer group's name. Kafka allows any string, the empty one too (for offsets only).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(std::sync::Arc<str>);

impl GroupId {
    pub fn new(raw: &str) -> GroupId {
        GroupId(raw.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A group's name comes from a client: control characters must not reach a log line raw.
        write!(f, "{}", self.0.escape_debug())
    }
}

/// A copy that does not keep the request's frame alive.
pub fn detached(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_kafka_writes_it() {
        assert_eq!(base64(&[0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(base64(&[0xff; 16]), "_____________________w");
        let counting: [u8; 16] = std::array::from_fn(|at| u8::try_from(at).expect("small"));
        assert_eq!(base64(&counting), "AAECAwQFBgcICQoLDA0ODw");
    }

    #[test]
    fn a_topic_name_that_could_leave_its_folder_is_refused() {
        for raw in ["", ".", "..", "a/b", "../x", "a\0b", "ä", "a b", &"x".repeat(250)] {
            assert!(TopicName::new(raw).is_err(), "{raw:?}");
        }
    }

    #[test]
    fn a_topic_name_of_249_allowed_characters_is_accepted() {
        assert!(TopicName::new(&"aZ0._-x".repeat(40)[..249]).is_ok());
    }
}
