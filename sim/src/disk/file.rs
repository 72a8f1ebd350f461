//! One file: what is durable, what a process sees, and the operations between the two.

use bytes::Bytes;

use super::content::Content;

pub(crate) type Inode = u64;

#[derive(Clone, Debug)]
pub(crate) enum Pending {
    Write { at: u64, data: Bytes },
    SetLen { len: u64 },
}

#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(crate) durable: Content,
    pub(crate) current: Content,
    pub(crate) pending: Vec<Pending>,
    /// A failed sync dropped what the page cache still shows: both differ beyond what is pending.
    pub(super) diverged: bool,
}

impl File {
    pub(super) fn apply(content: &mut Content, op: &Pending) {
        match op {
            Pending::Write { at, data } => content.write(*at, data),
            Pending::SetLen { len } => content.set_len(*len),
        }
    }

    /// The durable content with those pending operations on top that survive.
    pub(crate) fn durable_with(&self, mut survives: impl FnMut(&Pending) -> bool) -> Content {
        let mut content = self.durable.clone();
        self.pending.iter().filter(|op| survives(op)).for_each(|op| File::apply(&mut content, op));
        content
    }

    pub(super) fn push(&mut self, op: Pending) {
        File::apply(&mut self.current, &op);
        self.pending.push(op);
    }

    /// Only what is pending reaches the device: what an earlier failed sync dropped stays in the page cache alone.
    pub(super) fn sync(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let only_writes = pending.iter().all(|op| matches!(op, Pending::Write { .. }));
        for op in pending {
            match op {
                Pending::Write { at, data } if only_writes && !self.diverged => {
                    self.durable.adopt(&self.current, at, data.len());
                }
                op => File::apply(&mut self.durable, &op),
            }
        }
    }

    /// Written and durable at once.
    pub(super) fn write_through(&mut self, at: u64, data: &[u8]) {
        self.sync();
        self.current.write(at, data);
        if self.diverged {
            self.durable.write(at, data);
        } else {
            self.durable.adopt(&self.current, at, data.len());
        }
    }

    pub(super) fn drop_pending(&mut self) {
        self.diverged |= !self.pending.is_empty();
        self.pending.clear();
    }
}
