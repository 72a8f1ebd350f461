//! From which replica a consumer had better read: one in its own rack (KIP-392).
//!
//! Owns the choice, which is Kafka's `RackAwareReplicaSelector`: the leader where it stands in the consumer's rack, else a
//! live member of the ISR there. It is made where `replica.selector.class` names that selector.
//! Invariants: the leader alone sends a consumer elsewhere; nobody outside of the ISR is chosen, as a replica that falls
//! behind would hold the consumer back for as long as it is chosen.

use model::{NodeId, Offset};
use node::requests::{FetchPart, FetchedPart};
use replication::metadata::{Image, PartitionInfo};

use super::context::RequestContext;
use super::fetch_answer::Found;

/// First version of Fetch in which a consumer tells its rack.
pub const VERSION_MIN: i16 = 11;
const SELECTOR: &str = "RackAwareReplicaSelector";

/// The answer that sends the consumer to another replica. `None`: this one serves it, or tells it what is wrong.
pub fn replica(ctx: &RequestContext, image: &Image, rack: &str, part: &FetchPart) -> Option<Found> {
    if ctx.version < VERSION_MIN || rack.is_empty() || !is_on(image) {
        return None;
    }
    let own = ctx.broker.node.id();
    let partition = image.partition(part.partition).filter(|partition| partition.leader == Some(own))?;
    let chosen = choose(image, own, rack, partition)?;
    let status = ctx.broker.node.partition_status(part.partition)?;
    let known = part.current_epoch.is_none_or(|epoch| epoch == status.epoch) && part.last_fetched_epoch.is_none();
    let from = Offset::from_wire(part.from)?;
    if !known || from < status.log_start || from > status.high_watermark {
        return None;
    }
    let read = FetchedPart {
        error: None,
        high_watermark: Some(status.high_watermark),
        last_stable: Some(status.high_watermark),
        log_start: Some(status.log_start),
        records: Vec::new(),
        record_bytes: 0,
        is_too_large: false,
        diverging: None,
    };
    Some(Found { at: 0, from: part.from, read, preferred: Some(chosen) })
}

fn is_on(image: &Image) -> bool {
    image.statics().get("replica.selector.class").is_some_and(|class| class.ends_with(SELECTOR))
}

/// `None`: the leader itself.
fn choose(image: &Image, leader: NodeId, rack: &str, partition: &PartitionInfo) -> Option<NodeId> {
    let is_there = |node: &NodeId| image.node(*node).is_some_and(|info| info.rack.as_deref() == Some(rack));
    if is_there(&leader) {
        return None;
    }
    // In order of preference, so that all leaders of one replica set spread their readers alike.
    let in_sync = partition.replicas.iter().filter(|node| partition.isr.contains(node));
    in_sync.copied().find(|node| image.is_live(*node) && is_there(node))
}
