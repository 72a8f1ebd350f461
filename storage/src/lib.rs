//! Bytes on one disk: logs, journal, checkpoint, recovery. No thread of its own, no network, no Kafka requests.

pub mod codec;
pub mod disk;
pub mod record;
