//! Bytes on one disk: logs, journal, checkpoint, recovery. No thread of its own, no network, no Kafka requests.

pub mod checkpoint;
pub mod codec;
pub mod disk;
pub mod durable;
pub mod epochs;
mod fields;
mod headers;
mod index_reader;
pub mod journal;
pub mod lock;
pub mod log;
pub mod lost;
pub mod offset_index;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod retention;
pub mod segment;
pub mod store;
mod tail;
pub mod time_index;
pub mod time_reader;

pub use epochs::LeaderEpochs;
pub use headers::HeaderPlan;
pub use journal::carry::{Carried, Carry};
pub use journal::entry::{Entry, LogChange, LogEntry, Unit};
pub use journal::{Durable, Group, GroupPart, Journal, JournalFull};
pub use log::{Log, LogConfig};
pub use reader::{Read, ReadError, ReadPlan};
pub use recovery::{Judge, Look, OpenError, Recovered, RecoveredLog, WAY_OUT};
pub use store::{Options, Store};
pub use time_reader::{TimeFound, TimePlan, TimeTarget};

#[cfg(test)]
mod tests;
