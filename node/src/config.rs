//! What a node must be told before it starts. Owns the shapes and defaults; the server's configuration makes one of these.
//!
//! Invariant: a `NodeConfig` is complete: nothing below reads a file, the environment or a clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::NodeId;
use model::units::MIB;
use replication::metadata::record::LEVEL;
use replication::metadata::{BrokerConfig, Listener};

use crate::budget::BudgetLimits;
use crate::indexes::IndexBudget;

#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub id: NodeId,
    pub data_dir: PathBuf,
    /// What other nodes and clients are told, where a listener does not answer for itself; clients are told the first.
    pub listeners: Vec<Listener>,
    /// Peer addresses of the nodes to ask for a cluster, sorted, without repetitions; this node's own among them when it may found
    /// one. Empty: an empty directory is a cluster of one.
    pub join: Vec<String>,
    pub rack: Option<String>,
    /// Of the machine's boot: after an unclean stop, another one means that unsynced pages are gone.
    pub boot_id: String,
    /// Kafka's own keys, checked: defaults of topics, retention, groups.
    pub statics: Arc<BrokerConfig>,
    pub limits: BudgetLimits,
    /// How many loaded indexes of segments are kept.
    pub indexes: IndexBudget,
    pub checkpoint_interval: Duration,
    /// A checkpoint is due after so many bytes of journal.
    pub checkpoint_journal_bytes: u64,
    /// A log's tail is written to its segment file from so many bytes on, or after `flush_age`.
    pub flush_bytes: u64,
    pub flush_age: Duration,
    /// How far the disk may lag behind in a log that is not journalled.
    pub relaxed_sync_interval: Duration,
    pub relaxed_sync_bytes: u64,
    /// The highest level of metadata that this node says it can work at, up to `LEVEL`: lower, it stands for an older version.
    pub level_max: u32,
}

impl NodeConfig {
    /// All defaults.
    pub fn new(id: NodeId, data_dir: PathBuf) -> NodeConfig {
        NodeConfig {
            id,
            data_dir,
            listeners: Vec::new(),
            join: Vec::new(),
            rack: None,
            boot_id: String::new(),
            statics: Arc::new(BrokerConfig::default()),
            limits: BudgetLimits::for_memory(512 * MIB),
            indexes: IndexBudget::default(),
            checkpoint_interval: Duration::from_secs(10),
            // What a start after a crash has to read: this, and what comes while the checkpoint runs. To write back more seldom saved
            // nothing that we could measure.
            checkpoint_journal_bytes: 160 * MIB,
            flush_bytes: MIB,
            flush_age: Duration::from_secs(1),
            relaxed_sync_interval: Duration::from_secs(5),
            relaxed_sync_bytes: 64 * MIB,
            level_max: LEVEL,
        }
    }
}
