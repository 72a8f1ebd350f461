//! Which damaged logs a start may give up: those that other nodes have, as far as the metadata on this disk says.
//!
//! Owns that judgement. Does not own recovery (`storage`), nor what follows when the cluster is told (`replication::controller::nodes`).
//! Invariants: nothing is given up that may be the only copy, nor before all nodes understand that a start can lose single partitions.
//! The metadata here may be old: what is given up is set aside and not deleted, and the controller decides by what it knows.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{LogId, LogKind};
use replication::controller::{Controller, ControllerOptions, Output, Recovered};
use replication::metadata::{Image, PartitionInfo};
use storage::{Look, durable};

use super::driver::{ControllerOpenError, FOUNDING, HARD_STATE, founders, snapshot_path};
use super::entries;
use crate::config::NodeConfig;
use crate::peer::Founding;

/// From this level on every node reads what a registration says of lost partitions.
const LEVEL_MIN: u32 = 2;

/// Of the damaged logs those that somebody else holds all of.
pub(crate) fn elsewhere(config: &NodeConfig, look: &Look<'_>) -> BTreeSet<LogId> {
    let images = match images(config, look) {
        Ok(images) => images,
        Err(error) => {
            tracing::warn!(%error, "who else has the damaged logs is not known: the metadata here cannot be read");
            return BTreeSet::new();
        }
    };
    let has_others = |info: &PartitionInfo| info.isr.iter().chain(&info.elr).any(|node| *node != config.id);
    let (known, newest) = &images;
    let is_elsewhere = |id: &LogId| {
        let newest = newest.partition(id.partition).is_some_and(|info| has_others(info));
        let known = known.partition(id.partition).is_none_or(|info| has_others(info));
        id.kind == LogKind::RECORDS && known && newest
    };
    let may = newest.level() >= LEVEL_MIN;
    look.damaged.keys().filter(|id| may && is_elsewhere(id)).copied().collect()
}

/// As of the last entry that this node knew to be committed, and of the last one that it has. A crash forgets what was committed last.
fn images(config: &NodeConfig, look: &Look<'_>) -> Result<(Arc<Image>, Image), ControllerOpenError> {
    let disk = look.store.disk();
    let founding = look.notes.get(FOUNDING).and_then(|note| Founding::decode(note.clone()).ok());
    let options = ControllerOptions {
        node: config.id,
        seed: 0,
        statics: Arc::clone(&config.statics),
        founders: founders(founding.as_ref(), config.id, look.store.directory_id()),
    };
    let recovered = Recovered {
        hard_state: look.notes.get(HARD_STATE).cloned(),
        snapshot: durable::read(&**disk, &snapshot_path(look.store), u64::MAX)?,
        entries: look.metadata.map(|log| entries::read_all(log, &**disk)).transpose()?.unwrap_or_default(),
    };
    let mut controller = Controller::open(options, recovered)?;
    controller.collect(&mut Output::default())?;
    Ok((Arc::clone(controller.image()), controller.image_of_log()))
}
