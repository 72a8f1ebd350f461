//! The start of a node: recovery, the metadata, and the registration that makes it a member.
//!
//! Owns the order of these. Does not own recovery (`storage`) nor registration (`controller`).
//! Invariant: no partition is led before this start is registered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use model::{LogId, Now};
use replication::controller::Random;
use replication::group::{Assignor, ConsumerConfig, GroupConfig};
use replication::metadata::BrokerConfig;
use replication::metadata::record::LEVEL;
use storage::disk::{Disk, DiskError};
use storage::log::Log;
use storage::{Look, Options, Recovered, Store, WAY_OUT};

use crate::birth;
use crate::clean::Cleaner;
use crate::cold::Cold;
use crate::config::NodeConfig;
use crate::controller::copies;
use crate::controller::driver::{ControllerDriver, ControllerOpenError, ControllerOut, ControllerStart, FOUNDING};
use crate::coordinator::Coordinators;
use crate::core::Core;
use crate::effects::Effects;
use crate::node::Node;
use crate::peer::{Founder, Founding, Hello, HelloError, Peers, peer_address};

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Storage(#[from] storage::OpenError),
    #[error("{0}{way_out}", way_out = .0.way_out())]
    Metadata(#[from] ControllerOpenError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("the note of the cluster that this directory belongs to cannot be read: {0}; {WAY_OUT}")]
    Founding(#[from] HelloError),
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
        let judge = |look: &Look<'_>| copies::elsewhere(&config, look);
        let recovered = Store::open_judged(Arc::clone(&disk), &config.data_dir, options, Some(&judge))?;
        let Recovered { store, journal, mut logs, damaged, lost, notes, clean, report } = recovered;
        tracing::info!(?report, clean, logs = logs.len(), "the data directory is open");
        // What is damaged and not given up is refused.
        assert!(damaged.keys().all(|id| lost.contains(id)), "opened with {damaged:?}, given up: {lost:?}");
        let known: BTreeSet<String> = logs.values().map(|found| found.log.folder().to_owned()).collect();
        for folder in store.set_aside(&known)? {
            tracing::warn!(folder, "this folder is no log of this start: it was moved to .weir/set-aside");
        }
        let log = logs.remove(&LogId::METADATA).map(|found| found.log);
        let me = Hello {
            node: config.id,
            incarnation: random.incarnation(),
            directory: store.directory_id(),
            cluster_id: None,
            join: config.join.clone(),
            levels: (1, i16::try_from(config.level_max.min(LEVEL)).expect("levels are small")),
            founding: None,
            address: peer_address(&config.listeners),
        };
        let founding = founding(&me, log.as_ref(), &notes, &mut random)?;
        let groups = group_config(&config.statics);
        let core = Core::new(config, disk, journal);
        core.wall.read(now);
        let mut out = ControllerOut::default();
        let seed = random.next_u64();
        let start = ControllerStart {
            config: &core.config,
            seed,
            incarnation: me.incarnation,
            founding: founding.clone(),
            store: &store,
            log,
            notes: &notes,
            clean,
            lost: lost.into_iter().map(|id| id.partition).collect(),
        };
        let driver = ControllerDriver::open(start, now, &mut out)?;
        let peers = Peers::new(me, founding, driver.image(), random.next_u64());
        let coordinators = Coordinators::new(groups, random.next_u64());
        let cleaner = Cleaner::new(random.next_u64(), now, &core.config.statics);
        let node = Node::assemble(core, store, Cold::new(driver, logs), coordinators, peers, cleaner, now);
        // What was recovered of the image is followed too: the logs find their topics before anything is led.
        out.replaced = true;
        out.image = Some(Arc::clone(node.cold().driver.image()));
        node.carry_out(&mut node.cold(), now, out, fx);
        node.link_peers(fx);
        node.settle(now, fx);
        Ok(node)
    }
}

/// The cluster that this directory belongs to. An empty one without a join list is a cluster of one from now on; with a list it belongs to
/// none yet. One that is older than the note of it says in its image which one it is.
fn founding(
    me: &Hello,
    log: Option<&Log>,
    notes: &BTreeMap<String, Bytes>,
    random: &mut Random,
) -> Result<Option<Founding>, HelloError> {
    if let Some(note) = notes.get(FOUNDING) {
        return Founding::decode(note.clone()).map(Some);
    }
    let is_empty = notes.is_empty() && log.is_none_or(|log| log.log_start() == log.log_end());
    Ok((is_empty && me.join.is_empty())
        .then(|| birth::alone(Founder { node: me.node, directory: me.directory }, me.levels.1, random)))
}

fn consumer_config(statics: &BrokerConfig) -> ConsumerConfig {
    let set = |name: &str| statics.get(name)?.parse::<i32>().ok();
    let default = ConsumerConfig::default();
    let assignor = |name: &str| match name.trim() {
        "org.apache.kafka.coordinator.group.assignor.UniformAssignor" => Some(Assignor::Uniform),
        "org.apache.kafka.coordinator.group.assignor.RangeAssignor" => Some(Assignor::Range),
        name => Assignor::find(name),
    };
    let assignors = statics.get("group.consumer.assignors").map(|list| list.split(',').filter_map(assignor).collect());
    let policy = statics.get("group.consumer.migration.policy").unwrap_or("bidirectional").to_ascii_lowercase();
    let members_max = set("group.consumer.max.size").and_then(|limit| usize::try_from(limit).ok());
    let (session, heartbeat, assignment) = ("session.timeout.ms", "heartbeat.interval.ms", "assignment.interval.ms");
    let own = |what: &str| set(&format!("group.consumer.{what}"));
    let min = |what: &str, default: i32| set(&format!("group.consumer.min.{what}")).unwrap_or(default);
    let max = |what: &str, default: i32| set(&format!("group.consumer.max.{what}")).unwrap_or(default);
    ConsumerConfig {
        assignors: assignors.filter(|known: &Vec<Assignor>| !known.is_empty()).unwrap_or(default.assignors),
        session_timeout_ms: own(session).unwrap_or(default.session_timeout_ms),
        session_timeout_ms_min: min(session, default.session_timeout_ms_min),
        session_timeout_ms_max: max(session, default.session_timeout_ms_max),
        heartbeat_interval_ms: own(heartbeat),
        heartbeat_interval_ms_min: min(heartbeat, default.heartbeat_interval_ms_min),
        heartbeat_interval_ms_max: max(heartbeat, default.heartbeat_interval_ms_max),
        assignment_interval_ms: own(assignment),
        assignment_interval_ms_min: min(assignment, default.assignment_interval_ms_min),
        assignment_interval_ms_max: max(assignment, default.assignment_interval_ms_max),
        members_max: members_max.unwrap_or(default.members_max),
        may_upgrade: matches!(policy.as_str(), "bidirectional" | "upgrade"),
        may_downgrade: matches!(policy.as_str(), "bidirectional" | "downgrade"),
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
        consumer: consumer_config(statics),
        ..GroupConfig::default()
    };
    config.initial_rebalance_delay = std::time::Duration::from_millis(statics.group_initial_rebalance_delay_ms);
    config
}

#[cfg(test)]
mod tests {
    use replication::controller::ControllerError;
    use replication::controller::raft_node::RaftError;

    use super::*;

    fn refusal(error: RaftError) -> String {
        OpenError::Metadata(ControllerOpenError::Controller(ControllerError::Raft(error))).to_string()
    }

    #[test]
    fn a_metadata_log_that_cannot_be_used_says_what_can_be_done_and_another_nodes_is_not_to_be_emptied() {
        let lost = refusal(RaftError::Lost { last: 3, commit: 7 });
        assert!(lost.starts_with("the metadata log ends at 3, but 7 entries were committed; "), "{lost}");
        assert!(lost.contains("from a copy") && lost.contains("empty the directory"), "{lost}");
        let new = refusal(RaftError::TooNew { what: "snapshot", got: 9 });
        assert!(new.contains("start the version of weir that wrote it") && !new.contains("empty"), "{new}");
        let other = refusal(RaftError::OtherNode { stored: model::NodeId(1), given: model::NodeId(2) });
        assert!(!other.contains("empty"), "{other}");
    }
}
