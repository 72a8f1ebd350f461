//! What leaders of partitions want of the controller: other in-sync sets, other leaders.
//!
//! Owns the gathering, so that many partitions make one request, and one is under way at a time. Does not own the wishes (the replicas)
//! nor the way to the controller.
//! Invariant: a partition that was refused is told so; what was decided it learns from the image.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{Now, TopicPartition};
use replication::controller::requests::{ControllerAnswer, ControllerRequest, HandOver, IsrChange, Refusal};
use replication::metadata::{Image, Incarnation};
use replication::partition::replica::{Event, IsrWish};

use crate::core::Core;
use crate::effects::Effects;

/// Changes in one request.
const CHANGES_MAX: usize = 5_000;
/// How long an answer is waited for before the replicas, which ask again, are heard again.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct ReplicaAsks {
    isr: BTreeMap<TopicPartition, IsrWish>,
    hand_over: BTreeSet<TopicPartition>,
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

    /// The next request, if there is something to ask. `own`: the incarnation of this process.
    pub(super) fn next(&mut self, node: model::NodeId, own: Incarnation, image: &Image) -> Option<ControllerRequest> {
        if self.under_way.is_some() {
            return None;
        }
        if !self.hand_over.is_empty() {
            let partitions = std::mem::take(&mut self.hand_over).into_iter().collect();
            self.under_way = Some(Vec::new());
            let what = HandOver::Partitions(partitions);
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

    fn take_under_way(&mut self) -> Vec<(TopicPartition, u32)> {
        self.under_way.take().unwrap_or_default()
    }
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
