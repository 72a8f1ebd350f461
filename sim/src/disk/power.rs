//! What happened to a simulated disk, operation by operation, so that the power can go before, in and after each of them.
//!
//! Owns the trace, its replay, and the enumeration of post-crash states. Does not own the rules of what survives: `disk` does.
//! Invariant: replaying a trace on an empty disk gives the disk that it was recorded on.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use storage::disk::{AlignedBuf, Disk};

use crate::disk::{SimDisk, Survival};
use crate::rng::Rng;

/// One change of the disk, by path, so that it can be carried out again on another one.
#[derive(Clone)]
pub enum Mutation {
    Create {
        path: PathBuf,
    },
    CreateDir {
        dir: PathBuf,
    },
    Write {
        path: PathBuf,
        at: u64,
        parts: Vec<Bytes>,
    },
    WriteThrough {
        path: PathBuf,
        at: u64,
        data: Bytes,
    },
    SetLen {
        path: PathBuf,
        len: u64,
    },
    Sync {
        path: PathBuf,
    },
    SyncDir {
        dir: PathBuf,
    },
    SyncAll,
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    /// The power went and came back; what survived was drawn from this seed.
    Crash {
        survival: Survival,
        seed: u64,
    },
}

/// Of bytes it names the range only: a run has millions of them.
impl fmt::Debug for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mutation::Create { path } => write!(f, "Create({})", path.display()),
            Mutation::CreateDir { dir } => write!(f, "CreateDir({})", dir.display()),
            Mutation::Write { path, at, parts } => {
                let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
                write!(f, "Write({}, {at}..{})", path.display(), at + bytes)
            }
            Mutation::WriteThrough { path, at, data } => {
                write!(f, "WriteThrough({}, {at}..{})", path.display(), at + data.len() as u64)
            }
            Mutation::SetLen { path, len } => write!(f, "SetLen({}, {len})", path.display()),
            Mutation::Sync { path } => write!(f, "Sync({})", path.display()),
            Mutation::SyncDir { dir } => write!(f, "SyncDir({})", dir.display()),
            Mutation::SyncAll => write!(f, "SyncAll"),
            Mutation::Rename { from, to } => write!(f, "Rename({}, {})", from.display(), to.display()),
            Mutation::Remove { path } => write!(f, "Remove({})", path.display()),
            Mutation::Crash { survival, seed } => write!(f, "Crash({survival:?}, {seed})"),
        }
    }
}

fn aligned(data: &[u8]) -> AlignedBuf {
    let mut copy = AlignedBuf::with_capacity(data.len());
    copy.put(data);
    copy
}

impl SimDisk {
    /// From now on every mutation is remembered; `trace` hands them out.
    pub fn record(&self) {
        self.lock().trace.get_or_insert_default();
    }

    pub fn trace(&self) -> Vec<Mutation> {
        self.lock().trace.clone().unwrap_or_default()
    }

    /// How many mutations were carried out, those before earlier crashes of the same run included.
    pub fn mutations(&self) -> u64 {
        self.lock().mutations
    }

    /// The power goes after so many more mutations; from then on each of them fails.
    pub fn set_fuse(&self, mutations: u64) {
        self.lock().fuse = Some(mutations);
    }

    /// As `after_crash`, in a run that is recorded: the trace goes on behind it.
    #[must_use]
    pub fn crash_and_go_on(&self, survival: Survival, seed: u64) -> SimDisk {
        let after = self.after_crash(survival, &mut Rng::new(seed));
        let before = self.lock();
        {
            let mut state = after.lock();
            state.mutations = before.mutations + 1;
            state.trace.clone_from(&before.trace);
            if let Some(trace) = &mut state.trace {
                trace.push(Mutation::Crash { survival, seed });
            }
        }
        after
    }

    /// Carries a remembered mutation out on this disk. `Crash` gives another disk.
    ///
    /// # Panics
    /// When it fails: it did not when it was remembered.
    #[must_use]
    pub fn replay(self, mutation: &Mutation) -> SimDisk {
        let done = match mutation {
            Mutation::Create { path } => self.create(self.file(path)),
            Mutation::CreateDir { dir } => self.create_dir(dir),
            Mutation::Write { path, at, parts } => self.write_at(self.file(path), *at, parts),
            Mutation::WriteThrough { path, at, data } => self.write_through(self.file(path), *at, &aligned(data)),
            Mutation::SetLen { path, len } => self.set_len(self.file(path), *len),
            Mutation::Sync { path } => self.sync(self.file(path)),
            Mutation::SyncDir { dir } => self.sync_dir(dir),
            Mutation::SyncAll => self.sync_all(),
            Mutation::Rename { from, to } => self.rename(from, to),
            Mutation::Remove { path } => self.remove_file(path),
            Mutation::Crash { survival, seed } => return self.after_crash(*survival, &mut Rng::new(*seed)),
        };
        done.unwrap_or_else(|error| panic!("{mutation:?} failed when replayed: {error}"));
        self
    }

    /// The disk when the power goes in the middle of this mutation.
    #[must_use]
    pub fn torn_in(&self, mutation: &Mutation, rng: &mut Rng) -> SimDisk {
        let copy = self.fork();
        match mutation {
            Mutation::Write { path, at, parts } => {
                let data: Vec<u8> = parts.iter().flatten().copied().collect();
                copy.tear_write(copy.file(path), *at, &data, false, rng);
            }
            Mutation::WriteThrough { path, at, data } => copy.tear_write(copy.file(path), *at, data, true, rng),
            Mutation::Sync { path } => copy.tear_sync(copy.file(path), rng),
            // The others are one change of names or lengths: `after_crash` draws whether it survives.
            _ => return copy.replay(mutation),
        }
        copy
    }

    /// How many post-crash states there are, told apart by which whole operations survive, if they are at most so many.
    pub fn crash_states(&self, at_most: u64) -> Option<u64> {
        let state = self.lock();
        let operations: usize = state.files.values().map(|file| file.pending.len()).sum();
        let subsets = 1u64.checked_shl(u32::try_from(operations).ok()?).filter(|_| operations < 63)?;
        let states = subsets.checked_mul(state.pending_names.len() as u64 + 1)?;
        (states <= at_most).then_some(states)
    }

    /// The post-crash state with this number, of `crash_states`.
    #[must_use]
    pub fn crash_state(&self, number: u64) -> SimDisk {
        let state = self.lock();
        let prefixes = state.pending_names.len() as u64 + 1;
        let kept = usize::try_from(number % prefixes).expect("below the count of names");
        let mut subset = number / prefixes;
        let names = state.names_with(kept);
        let mut contents = BTreeMap::new();
        for (inode, file) in &state.files {
            let survives = |_: &_| {
                let keep = subset & 1 == 1;
                subset >>= 1;
                keep
            };
            contents.insert(*inode, file.durable_with(survives));
        }
        state.restarted(names, |inode, _| contents.remove(&inode).unwrap_or_default())
    }
}
