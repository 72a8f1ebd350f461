//! A disk that lies: bits flip, writes that it acknowledged never arrived, or went to another place.
//!
//! Owns what is done to the bytes of segments, and of indexes on disks that do not lie, and the atlas for it: one disk at a time, only
//! while every partition on it has all its replicas in sync, and until that disk is replaced nothing else goes wrong but its own
//! machine's end. Does not own when (`faults`).
//! Invariant: what is damaged lies elsewhere too, whole.

use std::path::PathBuf;

use model::batch::{HEADER_BYTES, peek};
use replication::metadata::{Image, PartitionInfo};

use super::host::Host;
use super::net::{HostIndex, node_id};
use super::world::World;
use crate::disk::{SECTOR, SimDisk};
use crate::rng::Rng;

/// Base offset, length and leader epoch lie outside of a batch's CRC, but the length.
const UNCOVERED_BYTES: u64 = 16;

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

/// Damages one segment of a partition. Whether there was one.
pub(super) fn damage_segment(disk: &SimDisk, rng: &mut Rng) -> bool {
    let segments: Vec<(PathBuf, u64)> = disk
        .files()
        .into_iter()
        .filter(|(path, length)| {
            let of_partition = path.extension().is_some_and(|extension| extension == "log")
                && path.ancestors().all(|folder| !folder.ends_with(".weir"));
            of_partition && *length > 0
        })
        .collect();
    if segments.is_empty() {
        return false;
    }
    let (path, length) = &segments[rng.index(segments.len())];
    let sector = SECTOR as u64;
    let at = rng.below(length.div_ceil(sector)) * sector;
    let bytes = usize::try_from(sector << rng.below(4)).expect("small");
    match rng.below(3) {
        0 => flip_in_batch(disk, path, rng),
        // Nothing of this write arrived.
        1 => disk.overwrite(path, at, &vec![0; bytes]),
        // It arrived, but elsewhere.
        _ => {
            let held = disk.bytes_of(path);
            let from = usize::try_from(at).expect("small");
            let moved = held[from..held.len().min(from + bytes)].to_vec();
            let (other, length) = &segments[rng.index(segments.len())];
            let to = rng.below(length.div_ceil(sector)) * sector;
            disk.overwrite(path, at, &vec![0; moved.len()]);
            disk.overwrite(other, to, &moved);
        }
    }
    true
}

/// One bit of what a batch's CRC covers.
fn flip_in_batch(disk: &SimDisk, path: &std::path::Path, rng: &mut Rng) {
    let held = disk.bytes_of(path);
    let mut batches = Vec::new();
    let mut at = 0;
    while let Some(Ok(Some(header))) = held.get(at..at + HEADER_BYTES).map(peek) {
        batches.push((at as u64, header.size() as u64));
        at += header.size();
    }
    if !batches.is_empty() {
        let (at, size) = batches[rng.index(batches.len())];
        disk.flip_bit(path, at + UNCOVERED_BYTES + rng.below(size - UNCOVERED_BYTES));
    }
}

/// Flips a bit in some of the files that can be made again from others.
pub(super) fn damage_caches(world: &mut World, host: HostIndex, rng: &mut Rng) {
    let disk = &world.hosts[host].disk;
    for (path, length) in disk.files() {
        let is_cache = path.extension().is_some_and(|extension| extension == "index" || extension == "timeindex");
        if is_cache && length > 0 && rng.chance(1, 2) {
            disk.flip_bit(&path, rng.below(length));
        }
    }
}
