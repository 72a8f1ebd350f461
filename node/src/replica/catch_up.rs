//! Records for followers that are behind, read from the disk.
//!
//! Owns the queue of reads and what is done with their bytes. Does not own the reading: it is an effect, since it may wait.
//! Invariant: at most one read of a stream is under way, and few for one node. No lock is held while one runs.

use std::sync::Arc;

use model::{NodeId, Now};
use replication::partition::follower::LeaderLimits;
use storage::ReadPlan;
use storage::disk::{Disk, DiskError, ReadMode};
use storage::reader::{Read, ReadError};

use super::outflow::Flow;
use super::serve::{Built, FRAME_RECORD_BYTES};
use super::throttle::{Pacing, Waiting};
use super::wire::RecordLane;
use super::{ReadKind, ReadWork};
use crate::core::Core;
use crate::effects::{Effect, Effects};
use crate::partition::handle::Partition;
use crate::peer::PeerLane;

/// Reads for one node at a time.
const READS_MAX: usize = 2;
/// Streams that one read serves: after a restart most of them lack little.
const PARTS_MAX: usize = 32;

/// Reads of several streams to one node.
#[derive(Debug)]
pub(crate) struct CatchUp {
    node: NodeId,
    generation: u64,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    stream: u32,
    partition: Arc<Partition>,
    plan: ReadPlan,
    /// What its throttle was charged; 0: it is not slowed.
    charged: u64,
}

#[derive(Debug)]
pub(crate) struct CaughtUp {
    node: NodeId,
    generation: u64,
    parts: Vec<PartRead>,
}

#[derive(Debug)]
struct PartRead {
    stream: u32,
    partition: Arc<Partition>,
    charged: u64,
    read: Result<Read, ReadError>,
}

impl CatchUp {
    /// May wait for the disk.
    pub(super) fn run(self, disk: &dyn Disk) -> CaughtUp {
        let CatchUp { node, generation, parts } = self;
        let read = |part: Part| PartRead {
            stream: part.stream,
            partition: part.partition,
            charged: part.charged,
            read: part.plan.run(disk, ReadMode::Blocking),
        };
        CaughtUp { node, generation, parts: parts.into_iter().map(read).collect() }
    }
}

/// Starts the reads that there is credit for.
pub(super) fn start_reads(core: &Core, now: Now, fx: &mut Effects) {
    loop {
        let mut serve = core.replicas.serve();
        let found = serve
            .peers
            .iter_mut()
            .find(|(_, peer)| !peer.cold.is_empty() && peer.reads < READS_MAX && peer.credit(RecordLane::CatchUp) > 0);
        let Some((node, peer)) = found else { return };
        let (node, generation) = (*node, peer.generation);
        let count = peer.cold.len().min(PARTS_MAX);
        let streams: Vec<(u32, Arc<Partition>)> = peer.cold.drain(..count).collect();
        peer.reads += 1;
        drop(serve);
        let bytes_max = FRAME_RECORD_BYTES / u64::try_from(count).expect("a few").max(1);
        let bytes_max = u32::try_from(bytes_max).expect("it is small");
        let parts: Vec<Part> = streams
            .into_iter()
            .filter_map(|(stream, partition)| plan(core, now, (node, stream), partition, bytes_max, fx))
            .collect();
        if parts.is_empty() {
            if let Some(peer) = core.replicas.serve().peers.get_mut(&node) {
                peer.reads -= 1;
            }
            continue;
        }
        let work = CatchUp { node, generation, parts };
        fx.push(Effect::Read(ReadWork(ReadKind::CatchUp(work))));
    }
}

/// What is read for a stream next: at most `bytes_max` bytes, and no more than its throttle allows, which is charged for it. `None`:
/// nothing; it waits, or is over.
fn plan(
    core: &Core,
    now: Now,
    (node, stream): (NodeId, u32),
    partition: Arc<Partition>,
    bytes_max: u32,
    fx: &mut Effects,
) -> Option<Part> {
    let throttling = &core.replicas.throttling;
    let allowed = match throttling.pacing(now, partition.id, node) {
        Pacing::Free => None,
        Pacing::Bytes(bytes) => Some(u32::try_from(bytes).unwrap_or(u32::MAX).min(bytes_max)),
        Pacing::Wait(at) => {
            throttling.wait(core, at, Waiting::Cold { node, stream, partition }, fx);
            return None;
        }
    };
    let plan = partition.plan_catch_up(core, node, stream, allowed.unwrap_or(bytes_max))?;
    let charged = allowed.map_or(0, u64::from);
    // Before it is read: others look meanwhile.
    throttling.take(partition.id, node, charged);
    Some(Part { stream, partition, plan, charged })
}

/// A read is done: its records go on their way.
pub(super) fn read_done(core: &Core, now: Now, done: CaughtUp, fx: &mut Effects) {
    let CaughtUp { node, generation, parts } = done;
    if let Some(peer) = core.replicas.serve().peers.get_mut(&node) {
        peer.reads -= 1;
    }
    let mut built = Built::default();
    for PartRead { stream, partition, charged, read } in parts {
        let sent = read.as_ref().map_or(0, |read| u64::try_from(read.bytes).unwrap_or(u64::MAX));
        core.replicas.throttling.settle(partition.id, node, charged, sent);
        match read {
            Ok(read) => partition.was_read(core, node, stream, read, &mut built),
            Err(error) => partition.was_not_read(core, now, node, stream, &error, fx),
        }
    }
    let mut serve = core.replicas.serve();
    if built.is_empty() {
        return;
    }
    if let Some(peer) = serve.current(node, generation) {
        let frame = peer.seal(RecordLane::CatchUp, built);
        fx.push(Effect::Send { to: node, lane: PeerLane::CatchUp, frame });
    }
}

impl Partition {
    fn plan_catch_up(self: &Arc<Self>, core: &Core, node: NodeId, stream: u32, bytes_max: u32) -> Option<ReadPlan> {
        let mut state = self.lock();
        let (log_start, log_end) = (state.log.log_start(), state.log.log_end());
        let outflow = state.outflows.iter_mut().find(|outflow| outflow.node == node && outflow.stream == stream)?;
        let from = outflow.next;
        if from < log_start {
            // What it needs is gone: the next look at its streams says so.
            self.mark_to_send(core, &mut state);
            return None;
        }
        assert!(outflow.flow == Flow::Cold);
        outflow.flow = Flow::Reading;
        state.log.plan_read(from, log_end, bytes_max).ok()
    }

    fn was_read(self: &Arc<Self>, core: &Core, node: NodeId, stream: u32, read: Read, built: &mut Built) {
        self.keep(core, &read.learned);
        let mut state = self.lock();
        let (log_end, limits) = (state.log.log_end(), state.replica.limits());
        let found = state.outflows.iter_mut().find(|outflow| outflow.node == node && outflow.stream == stream);
        let Some(outflow) = found else { return };
        let base = outflow.next;
        outflow.was_read(read.next.unwrap_or(base), log_end);
        let limits = LeaderLimits { high_watermark: limits.high_watermark, log_start: limits.log_start };
        outflow.told = Some(limits);
        let flow = outflow.flow;
        match flow {
            Flow::Cold => {
                if let Some(peer) = core.replicas.serve().peers.get_mut(&node) {
                    peer.cold.push_back((stream, Arc::clone(self)));
                }
            }
            Flow::Hot => self.mark_to_send(core, &mut state),
            Flow::Changing | Flow::Reading => {}
        }
        built.add(stream, base, limits, read.pieces);
    }

    fn was_not_read(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        node: NodeId,
        stream: u32,
        error: &ReadError,
        fx: &mut Effects,
    ) {
        let mut state = self.lock();
        let found = state.outflows.iter_mut().find(|outflow| outflow.node == node && outflow.stream == stream);
        let Some(outflow) = found else { return };
        outflow.flow = Flow::Cold;
        drop(state);
        if let ReadError::Corrupt { segment, at } = error {
            self.found_damage(core, *segment, *at);
        }
        // Retention may have taken the file between plan and read: then the next plan says so.
        if !matches!(error, ReadError::Disk(DiskError::NotFound { .. })) {
            tracing::error!(partition = %self.id, follower = %node, %error, "records for a follower cannot be read");
        }
        core.replicas.retry_read(now, node, stream, self);
        core.timer.by(now.mono.saturating_add(super::RETRY), fx);
    }
}
