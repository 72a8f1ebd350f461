//! A disk that lies: bits flip, writes that it acknowledged never arrived, or went to another place.
//!
//! Owns what is done to the bytes of segments. Does not own when, nor what else may go wrong until that disk is replaced (`faults`).
//! Invariant: only segments of partitions are damaged, so what `copies` says of the disk's partitions holds for all that was damaged.

use std::path::PathBuf;

use model::batch::{HEADER_BYTES, peek};

use crate::disk::{SECTOR, SimDisk};
use crate::rng::Rng;

/// Base offset, length and leader epoch lie outside of a batch's CRC, but the length.
const UNCOVERED_BYTES: u64 = 16;

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
