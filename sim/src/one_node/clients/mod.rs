//! Model clients: they speak decoded requests, retry as real ones do, and note in the history what they were told.

pub mod member;
pub mod producer;
pub mod reader;

use model::TopicName;

/// The run's topics have numbers; these are their names.
pub fn topic_name(topic: usize) -> TopicName {
    TopicName::new(&format!("topic-{topic}")).expect("a plain name")
}
