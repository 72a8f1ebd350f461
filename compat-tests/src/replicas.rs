//! The batches in a partition's segment files, read straight from a node's folder: what the checker compares between nodes.
//!
//! Owns the few fields of a batch's head that a comparison needs. Does not own their meaning (`checker`).
//! Invariant: bytes that are no whole batch end the reading; they are a tail that is being written, or damage that shows as a short log.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::checker::history::Batch;
use crate::raw::Reader;

/// Offset 8, length 4: what stands before the bytes that the length counts.
const PREFIX: usize = 12;

/// The segment files of a partition, oldest first.
pub fn segments(data: &Path, topic: &str, partition: i32) -> Result<Vec<PathBuf>> {
    let folder = data.join(format!("{topic}-{partition}"));
    let mut files = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Every whole batch of a partition.
pub fn batches(data: &Path, topic: &str, partition: i32) -> Result<Vec<Batch>> {
    let mut found = Vec::new();
    for file in segments(data, topic, partition)? {
        let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut rest = bytes.as_slice();
        while let Some((batch, after)) = first_batch(rest) {
            found.push(batch);
            rest = after;
        }
    }
    Ok(found)
}

fn first_batch(bytes: &[u8]) -> Option<(Batch, &[u8])> {
    let mut reader = Reader(bytes);
    let (first, length, epoch, magic) = (reader.i64().ok()?, reader.i32().ok()?, reader.i32().ok()?, reader.i8().ok()?);
    let (whole, rest) = bytes.split_at_checked(PREFIX + usize::try_from(length).ok()?)?;
    if magic != 2 {
        return None; // zeros of a file that is longer than what was written
    }
    let (_, _, last) = (reader.i32().ok()?, reader.i16().ok()?, reader.i32().ok()?);
    let hash = whole
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    Some((Batch { first, last: first + i64::from(last), epoch, hash }, rest))
}

/// A replica's lines of a history.
pub fn lines(node: u32, topic: &str, partition: i32, batches: &[Batch]) -> String {
    let place = format!(r#""node":{node},"k":"{topic}-{partition}""#);
    let mut lines = format!("{{\"f\":\"replica\",{place}}}\n");
    for Batch { first, last, epoch, hash } in batches {
        let _ = writeln!(lines, r#"{{"f":"batch",{place},"o":{first},"l":{last},"ep":{epoch},"h":{hash}}}"#);
    }
    lines
}
