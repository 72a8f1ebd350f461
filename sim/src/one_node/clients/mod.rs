//! Model clients: they speak decoded requests, retry as real ones do, and note in the history what they were told.

pub mod member;
pub mod producer;
pub mod reader;

use model::TopicName;

use crate::one_node::history::Value;

/// The one of the run's topics that is compacted.
pub const COMPACTED: usize = 2;
/// Keys in it.
const KEYS: Value = 7;

/// The key under which a value is put there.
pub fn key_of(value: Value) -> Value {
    value % KEYS
}

/// Whether it deletes its key instead.
pub fn is_tombstone(value: Value) -> bool {
    value.is_multiple_of(11)
}

/// The run's topics have numbers; these are their names.
pub fn topic_name(topic: usize) -> TopicName {
    TopicName::new(&format!("topic-{topic}")).expect("a plain name")
}
