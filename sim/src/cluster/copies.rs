//! Where else what a host holds is: may its disk go, or lie?
//!
//! Owns the answer, as the images and the states of the hosts have it, for every fault that takes data away. Does not own those faults
//! (`faults`, `voters`). Changes nothing, draws nothing.
//! Invariant: a yes means that each partition of the host has all its replicas in sync, at least one of them on another host (where its
//! disk lies already: all the others).

use replication::metadata::{Image, PartitionInfo};

use super::host::Host;
use super::net::{HostIndex, node_id};
use super::world::World;

/// Whether everything that a host holds is elsewhere too, so that its disk may go.
pub(super) fn may_lose(world: &World, host: HostIndex) -> bool {
    let mut members = world.hosts.iter().filter(|host| host.is_member());
    members.all(|host| host.answers() && host.ready && !host.excused)
        && is_elsewhere(world, host, |_| true, all_in_sync)
}

/// As `may_lose`, of a host whose disk lies and which need not run.
pub(super) fn may_replace(world: &World, bad: HostIndex) -> bool {
    let node = node_id(bad);
    let others_in_sync = |partition: &PartitionInfo| {
        partition.replicas.iter().all(|replica| *replica == node || partition.isr.contains(replica))
    };
    let mut others = world.hosts.iter().filter(|host| host.is_member() && host.index != bad);
    let all_there = others.all(|host| host.answers() && host.ready && !host.excused);
    all_there && is_elsewhere(world, bad, |_| true, others_in_sync)
}

/// As `may_lose`, where another host lags: it need not know the newest topics, but has all that is on this one.
pub(super) fn may_lose_beside(world: &World, host: HostIndex, lagging: HostIndex) -> bool {
    let other = node_id(lagging);
    let has_all = |partition: &PartitionInfo| all_in_sync(partition) && partition.isr.contains(&other);
    is_elsewhere(world, host, |host| host.index != lagging, has_all)
}

fn all_in_sync(partition: &PartitionInfo) -> bool {
    partition.isr.len() == partition.replicas.len()
}

fn is_elsewhere(
    world: &World,
    host: HostIndex,
    knows: impl Fn(&Host) -> bool,
    complete: impl Fn(&PartitionInfo) -> bool,
) -> bool {
    let Some(image) = world.newest_image().filter(|_| world.hosts.len() > 2) else { return false };
    let agree = |image: &Image| {
        world
            .hosts
            .iter()
            .filter(|host| knows(host))
            .filter_map(|host| host.node.as_ref())
            .all(|node| node.image().partition_count() == image.partition_count())
    };
    let node = node_id(host);
    agree(&image)
        && image.topics().flat_map(|topic| &topic.partitions).all(|partition| {
            let elsewhere = partition.isr.iter().filter(|member| **member != node).count();
            !partition.replicas.contains(&node) || (elsewhere >= 1 && complete(partition))
        })
}
