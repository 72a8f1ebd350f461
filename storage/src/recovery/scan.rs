//! Reads batches back from segments: the end of a log that is not journalled, and headers for the producers' state.
//!
//! Owns where a scan stops. Invariant: a batch counts only when it is whole, its CRC is right and it follows the one before.

use std::path::Path;

use bytes::BytesMut;
use model::batch::{BatchHeader, HEADER_BYTES, StoredBatch, peek};
use model::{Offset, limits};

use super::fold::Layout;
use super::rewrite::Dirty;
use crate::disk::{Disk, DiskError, FileId, ReadMode};
use crate::log::Log;
use crate::offset_index::IndexFiles;
use crate::reader::ReadError;
use crate::segment::{FileKind, SegmentFacts, SegmentName};

/// Takes in what an unjournalled log's files hold behind the checkpoint, up to the last valid batch.
/// `files`: what its folder has.
pub(super) fn scan_tail(
    disk: &dyn Disk,
    root: &Path,
    files: &[(SegmentName, u64)],
    layout: &mut Layout,
    dirty: &mut Dirty,
) -> Result<(), DiskError> {
    let dir = root.join(&layout.log.folder);
    // The file may have been cut and not synced since: then the checkpoint says too much.
    let short = layout.log.segments.iter().position(|(facts, _)| {
        files.iter().find(|(name, _)| *name == facts.name()).is_none_or(|(_, len)| *len < u64::from(facts.size))
    });
    if let Some(short) = short {
        layout.log.segments.truncate(short + 1);
        if let Some((facts, index)) = layout.log.segments.last_mut() {
            *facts = SegmentFacts::of(facts.name());
            *index = IndexFiles::default();
            layout.log.log_end = facts.base.max(layout.log.log_start);
            layout.log.epochs.truncate_to(facts.base);
            layout.log.producers = None;
        }
    }
    let from = layout.log.segments.last().map_or(layout.log.log_start, |(last, _)| last.base);
    for (name, len) in files.iter().copied().filter(|(name, _)| name.base >= from) {
        let base = name.base;
        let known = layout.log.segments.last().is_some_and(|(last, _)| last.name() == name);
        if !known && name.generation > 0 {
            // What compaction left half done.
            continue;
        }
        if layout.log.segments.last().is_none_or(|(last, _)| last.base < base) {
            if base < layout.log.log_end {
                break;
            }
            layout.log.segments.push((SegmentFacts::new(base), IndexFiles::default()));
        }
        if layout.name(base) != name {
            continue;
        }
        let file = disk.file(&name.path(&dir, FileKind::Data));
        dirty.file(file);
        if !scan_segment(disk, file, len, layout)? {
            break;
        }
    }
    let end = layout.log.log_end;
    if layout.log.producers.as_ref().is_some_and(|producers| producers.offset > end) {
        layout.log.producers = None;
    }
    Ok(())
}

/// False when the segment ends in bytes that are no batch.
fn scan_segment(disk: &dyn Disk, file: FileId, len: u64, layout: &mut Layout) -> Result<bool, DiskError> {
    let Some((facts, _)) = layout.log.segments.last_mut() else { return Ok(false) };
    while u64::from(facts.size) < len.min(limits::SEGMENT_BYTES_MAX) {
        let Some(batch) = batch_at(disk, file, u64::from(facts.size), len)? else { return Ok(false) };
        if batch.base_offset() < layout.log.log_end || batch.base_offset() < facts.base {
            return Ok(false);
        }
        let header = *batch.header();
        let bytes = u32::try_from(batch.size()).unwrap_or(u32::MAX);
        if facts.size.checked_add(bytes).is_none() {
            return Ok(false);
        }
        facts.add(bytes, header.newest_timestamp(), header.last_offset());
        if let Some(epoch) = batch.leader_epoch() {
            layout.log.epochs.assign(epoch, batch.base_offset());
        }
        layout.log.log_end = batch.next_offset();
    }
    Ok(u64::from(facts.size) == len)
}

fn batch_at(disk: &dyn Disk, file: FileId, at: u64, len: u64) -> Result<Option<StoredBatch>, DiskError> {
    let mut head = [0; HEADER_BYTES];
    let got = disk.read_at(file, at, &mut head, ReadMode::Blocking)?;
    let header = peek(head.get(..got).unwrap_or_default()).ok().flatten();
    let Some(header) = header.filter(|header| header.size() as u64 <= limits::BATCH_BYTES_MAX.min(len - at)) else {
        return Ok(None);
    };
    let mut buffer = BytesMut::zeroed(header.size());
    let got = disk.read_at(file, at, &mut buffer, ReadMode::Blocking)?;
    if got < header.size() {
        return Ok(None);
    }
    Ok(StoredBatch::parse(buffer.freeze()).ok())
}

/// Headers of the batches from `from` on.
pub(super) fn headers(disk: &dyn Disk, log: &Log, from: Offset) -> Result<Vec<BatchHeader>, ReadError> {
    let mut headers = Vec::new();
    for part in log.parts_from(from) {
        let Some(found) = part.find(disk, ReadMode::Blocking, from, &mut Vec::new())? else { continue };
        part.walk(disk, ReadMode::Blocking, found.at.position, &mut |_, header| {
            headers.push(*header);
            false
        })?;
    }
    Ok(headers)
}
