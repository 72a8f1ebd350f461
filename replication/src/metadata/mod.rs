//! Metadata of the cluster: facts, the image that they add up to, and the configuration that it carries.
//!
//! Owns encoding, application and look-up. Decides nothing: `controller` does. Nothing here does I/O or reads a clock.

pub mod apply;
pub mod broker_config;
pub mod client_metrics;
pub mod config_value;
pub mod group_keys;
pub mod image;
pub mod record;
pub mod resolve;
pub mod snapshot;
mod sorted_map;
pub mod throttles;
pub mod topic_config;
pub mod topic_keys;

pub use broker_config::BrokerConfig;
pub use image::{
    Duty, Image, Listener, NodeInfo, NodeOrders, PEER_LISTENER, PartitionInfo, Resource, Topic, UncleanElection, Voting,
};
pub use record::{Fact, Incarnation};
pub use topic_config::TopicConfig;

#[cfg(test)]
mod tests;
