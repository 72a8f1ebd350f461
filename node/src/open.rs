//! The start of a node: recovery, the metadata, and the registration that makes it a member.
//!
//! Owns the order of these. Does not own recovery (`storage`) nor registration (`controller`).
//! Invariant: no partition is led before this start is registered.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{LogId, Now};
use replication::controller::Random;
use replication::group::GroupConfig;
use replication::metadata::BrokerConfig;
use storage::disk::{Disk, DiskError};
use storage::{Options, Recovered, Store};

use crate::cold::Cold;
use crate::config::NodeConfig;
use crate::controller::driver::{ControllerDriver, ControllerOpenError, ControllerOut, ControllerStart};
use crate::coordinator::Coordinators;
use crate::core::Core;
use crate::effects::Effects;
use crate::node::Node;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Storage(#[from] storage::OpenError),
    #[error(transparent)]
    Metadata(#[from] ControllerOpenError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Node {
    /// Recovers what is on the disk and begins to register with the cluster. `Effect::Ready` comes later, once this node leads
    /// its partitions. `seed` draws ids and the incarnation: it must differ between starts. Blocks.
    pub fn open(
        config: NodeConfig,
        disk: Arc<dyn Disk>,
        seed: u64,
        now: Now,
        fx: &mut Effects,
    ) -> Result<Node, OpenError> {
        let mut random = Random::new(seed);
        let options = Options { salt: random.next_u64(), directory_id: random.uuid(), only_copy: true };
        let recovered = Store::open(Arc::clone(&disk), &config.data_dir, options)?;
        let Recovered { store, journal, mut logs, damaged, notes, clean, report } = recovered;
        tracing::info!(?report, clean, logs = logs.len(), "the data directory is open");
        assert!(damaged.is_empty(), "the only copy was opened although it is damaged: {damaged:?}");
        let known: BTreeSet<String> = logs.values().map(|found| found.log.folder().to_owned()).collect();
        for folder in store.set_aside(&known)? {
            tracing::warn!(folder, "nobody knows this folder: it was moved to .weir/set-aside");
        }
        let log = logs.remove(&LogId::METADATA).map(|found| found.log);
        let groups = group_config(&config.statics);
        let core = Core::new(config, disk, journal);
        let mut out = ControllerOut::default();
        let seed = random.next_u64();
        let start = ControllerStart { config: &core.config, seed, store: &store, log, notes: &notes, clean };
        let driver = ControllerDriver::open(start, now, &mut out)?;
        let coordinators = Coordinators::new(groups, random.next_u64());
        let node = Node::assemble(core, store, Cold::new(driver, logs), coordinators, now);
        // What was recovered of the image is followed too: the logs find their topics before anything is led.
        out.replaced = true;
        out.image = Some(Arc::clone(node.cold().driver.image()));
        node.carry_out(&mut node.cold(), now, out, fx);
        node.settle(now, fx);
        Ok(node)
    }
}

fn group_config(statics: &BrokerConfig) -> GroupConfig {
    let signed = |count: u64| i32::try_from(count).unwrap_or(i32::MAX);
    let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let mut config = GroupConfig {
        session_timeout_ms_min: signed(statics.group_session_timeout_ms_min),
        session_timeout_ms_max: signed(statics.group_session_timeout_ms_max),
        members_max: size(statics.group_size_max),
        offset_metadata_max: size(statics.offset_metadata_bytes_max),
        offsets_retention_ms: i64::try_from(statics.offsets_retention_ms).unwrap_or(i64::MAX),
        ..GroupConfig::default()
    };
    if statics.get("group.initial.rebalance.delay.ms").is_some() {
        config.initial_rebalance_delay = std::time::Duration::from_millis(statics.group_initial_rebalance_delay_ms);
    }
    config
}
