//! What survives when the power goes.
//!
//! Owns the rules: any subset of a file's pending operations, each write cut at sectors, and any prefix of the pending name changes.

use std::sync::Arc;

use bytes::Bytes;
use storage::disk::{FileId, Step};

use super::SimDisk;
use super::content::Content;
use super::file::{File, Pending};
use crate::rng::Rng;

/// What a device writes as one piece.
pub const SECTOR: usize = 512;

/// How much of what was pending survives a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survival {
    Nothing,
    Everything,
    /// Drawn by the seed, operation by operation and sector by sector.
    Drawn,
}

impl SimDisk {
    /// The disk as a new process finds it after the power came back.
    #[must_use]
    pub fn after_crash(&self, survival: Survival, rng: &mut Rng) -> SimDisk {
        let state = self.lock();
        let kept = match survival {
            Survival::Nothing => 0,
            Survival::Everything => state.pending_names.len(),
            Survival::Drawn => rng.index(state.pending_names.len() + 1),
        };
        state.restarted(state.names_with(kept), |_, file| surviving_content(file, survival, rng))
    }

    /// A write of which only some sectors arrived when the power went.
    pub fn tear_write(&self, file: FileId, at: u64, data: &[u8], through: bool, rng: &mut Rng) {
        let mut state = self.lock();
        let Ok(inode) = state.inode(file) else { return };
        let torn = torn_sectors(at, data, rng);
        let file = Arc::make_mut(state.files.entry(inode).or_default());
        for (at, piece) in torn {
            let op = Pending::Write { at, data: piece };
            if through {
                File::apply(&mut file.durable, &op);
                File::apply(&mut file.current, &op);
            } else {
                file.push(op);
            }
        }
    }

    /// This step was under way when the power went.
    pub fn tear(&self, step: &Step, rng: &mut Rng) {
        match step {
            Step::Write { file, at, parts, cached: _ } => {
                let data: Vec<u8> = parts.iter().flatten().copied().collect();
                self.tear_write(*file, *at, &data, false, rng);
            }
            Step::WriteThrough { file, at, data } => self.tear_write(*file, *at, data.as_ref(), true, rng),
            Step::Sync { file, .. } => self.tear_sync(*file, rng),
            // One change of names or lengths: it is done or not.
            _ => {}
        }
    }

    /// A sync that had made only some of the pending operations durable when the power went.
    pub fn tear_sync(&self, file: FileId, rng: &mut Rng) {
        let mut state = self.lock();
        let Ok(inode) = state.inode(file) else { return };
        let file = Arc::make_mut(state.files.entry(inode).or_default());
        file.durable = surviving_content(file, Survival::Drawn, rng);
        file.current = file.durable.clone();
        file.pending.clear();
    }
}

fn torn_sectors(at: u64, data: &[u8], rng: &mut Rng) -> Vec<(u64, Bytes)> {
    let mut kept = Vec::new();
    let mut start = 0;
    while start < data.len() {
        let into_sector = usize::try_from((at + start as u64) % SECTOR as u64).expect("below a sector");
        let end = (start + SECTOR - into_sector).min(data.len());
        if rng.chance(1, 2) {
            kept.push((at + start as u64, Bytes::copy_from_slice(&data[start..end])));
        }
        start = end;
    }
    kept
}

fn surviving_content(file: &File, survival: Survival, rng: &mut Rng) -> Content {
    match survival {
        Survival::Nothing => file.durable.clone(),
        Survival::Everything => file.durable_with(|_| true),
        Survival::Drawn => {
            let mut content = file.durable.clone();
            for op in &file.pending {
                match (rng.below(4), op) {
                    (0, _) => {}
                    (1, Pending::Write { at, data }) => {
                        for (at, piece) in torn_sectors(*at, data, rng) {
                            content.write(at, &piece);
                        }
                    }
                    _ => File::apply(&mut content, op),
                }
            }
            content
        }
    }
}
