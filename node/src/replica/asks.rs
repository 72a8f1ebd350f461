//! What leaders of partitions want of the controller: other in-sync sets, other leaders.
//!
//! Owns the gathering, so that many partitions make one request, and one is under way at a time. Does not own the wishes (the replicas)
//! nor the way to the controller.
//! Invariant: a partition that was refused is told so; what was decided it learns from the image.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{NodeId, Now, TopicPartition};
use replication::controller::requests::{ControllerAnswer, ControllerRequest, HandOver, IsrChange, Refusal};
use replication::metadata::{Image, Incarnation, PartitionInfo};
use replication::partition::replica::{Event, IsrWish};

use crate::core::Core;
use crate::effects::Effects;

/// Changes in one request.
const CHANGES_MAX: usize = 5_000;
/// How long an answer is waited for before the replicas, which ask again, are heard again.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How soon a node without room hands over again what it leads: when the disks of all are full, leaderships must not go round.
const FULL_AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct ReplicaAsks {
    isr: BTreeMap<TopicPartition, IsrWish>,
    /// Their leader's disk hangs.
    hand_over: BTreeSet<TopicPartition>,
    /// Led here, and damaged on the disk.
    damaged: BTreeSet<TopicPartition>,
    /// The disk is full: everything that is led here is to be handed over. And when that may be asked for again.
    full: bool,
    full_again_at: Duration,
    /// What was asked against which partition epoch, in the order of the request.
    under_way: Option<Vec<(TopicPartition, u32)>>,
}

impl ReplicaAsks {
    pub(crate) fn alter_isr(&mut self, partition: TopicPartition, wish: IsrWish) {
        self.isr.insert(partition, wish);
    }

    pub(crate) fn hand_over(&mut self, partition: TopicPartition) {
        self.hand_over.insert(partition);
    }

    /// Nothing comes of it where no other replica is in sync.
    pub(crate) fn hand_over_damaged(&mut self, partition: TopicPartition) {
        self.damaged.insert(partition);
    }

    /// Clients are refused here since the disk is full: others may have room.
    pub(crate) fn no_room(&mut self, now: Now) {
        if now.mono >= self.full_again_at {
            self.full = true;
            self.full_again_at = now.mono.saturating_add(FULL_AGAIN);
        }
    }

    /// The next request, if there is something to ask. `own`: the incarnation of this process.
    pub(super) fn next(&mut self, node: NodeId, own: Incarnation, image: &Image) -> Option<ControllerRequest> {
        if self.under_way.is_some() {
            return None;
        }
        let handed_over = self.due_to_hand_over(node, image);
        if !handed_over.is_empty() {
            self.under_way = Some(Vec::new());
            let what = HandOver::Partitions(handed_over.into_iter().collect());
            return Some(ControllerRequest::HandOver { node, incarnation: own, what });
        }
        if self.isr.is_empty() {
            return None;
        }
        let later = self.isr.keys().nth(CHANGES_MAX).copied();
        let later = later.map(|at| self.isr.split_off(&at)).unwrap_or_default();
        let wishes = std::mem::replace(&mut self.isr, later);
        let asked = wishes.iter().map(|(partition, wish)| (*partition, wish.partition_epoch)).collect();
        self.under_way = Some(asked);
        let incarnation = |node| image.node(node).map_or_else(Incarnation::default, |info| info.incarnation);
        let changes = wishes
            .into_iter()
            .map(|(partition, wish)| IsrChange {
                partition,
                leader_epoch: wish.epoch,
                partition_epoch: wish.partition_epoch,
                isr: wish
                    .isr
                    .into_iter()
                    .map(|(node, seen)| (node, seen.unwrap_or_else(|| incarnation(node))))
                    .collect(),
            })
            .collect();
        Some(ControllerRequest::AlterIsr { node, incarnation: own, changes })
    }

    fn due_to_hand_over(&mut self, node: NodeId, image: &Image) -> BTreeSet<TopicPartition> {
        let mut partitions = std::mem::take(&mut self.hand_over);
        let mut damaged = std::mem::take(&mut self.damaged);
        // An only copy would stay here, and all else would leave in vain, again and again.
        damaged.retain(|id| image.partition(*id).is_some_and(|info| info.leader == Some(node) && info.isr.len() > 1));
        if !damaged.is_empty() {
            tracing::warn!(
                count = damaged.len(),
                "what is led here is damaged: this node leaves the in-sync sets that have others"
            );
        }
        partitions.append(&mut damaged);
        if !partitions.is_empty() {
            // The disk hangs: the leaders of what this node follows wait for it too, and clients for their answers, in order. Or it gives
            // other bytes than were written: nothing must be on it alone, so that it can be replaced (seed 33 of the simulator's lying
            // disks).
            partitions.extend(in_sync_with_others(node, image).map(|(id, _)| id));
        }
        if std::mem::take(&mut self.full) {
            tracing::warn!("the disk is full: other replicas are to lead what this node leads");
            let led = in_sync_with_others(node, image).filter(|(_, info)| info.leader == Some(node));
            partitions.extend(led.map(|(id, _)| id));
        }
        partitions
    }

    fn take_under_way(&mut self) -> Vec<(TopicPartition, u32)> {
        self.under_way.take().unwrap_or_default()
    }
}

/// Partitions that this node is in sync for, and another node too.
fn in_sync_with_others(node: NodeId, image: &Image) -> impl Iterator<Item = (TopicPartition, &PartitionInfo)> {
    let all = image.topics().flat_map(|topic| {
        topic.partitions().map(move |(partition, info)| (TopicPartition { topic: topic.id, partition }, info.as_ref()))
    });
    all.filter(move |(_, info)| info.isr.len() > 1 && info.isr.contains(&node))
}

/// The controller has answered, or nobody has.
pub(super) fn answered(core: &Core, now: Now, answer: Result<ControllerAnswer, Refusal>, fx: &mut Effects) {
    let asked = core.replicas.asks().take_under_way();
    match answer {
        Ok(ControllerAnswer::IsrAltered(results)) => {
            for ((id, partition_epoch), result) in asked.into_iter().zip(results) {
                let Err(refusal) = result else { continue };
                tracing::info!(partition = %id, %refusal, "the in-sync set stays as it is");
                if let Some(partition) = core.table.get(id) {
                    partition.step(core, now, Event::IsrRefused { partition_epoch }, fx);
                }
            }
        }
        Ok(_) => {}
        // Whether it was decided is not known: the replicas go on counting it, and ask again.
        Err(refusal) => tracing::info!(%refusal, "the controller does not answer the leaders of partitions"),
    }
}
