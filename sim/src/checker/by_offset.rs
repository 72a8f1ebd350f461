//! Something for each offset of a partition, where most offsets have it.

/// Offsets are counted from 0; a history of a partition that begins higher costs memory, no more.
#[derive(Clone, Debug)]
pub(super) struct ByOffset<T> {
    all: Vec<Option<T>>,
}

impl<T> Default for ByOffset<T> {
    fn default() -> ByOffset<T> {
        ByOffset { all: Vec::new() }
    }
}

impl<T: Copy> ByOffset<T> {
    fn slot(&mut self, offset: i64) -> &mut Option<T> {
        let at = usize::try_from(offset).expect("offsets are not negative");
        if self.all.len() <= at {
            self.all.resize(at + 1, None);
        }
        &mut self.all[at]
    }

    pub(super) fn set(&mut self, offset: i64, what: T) {
        *self.slot(offset) = Some(what);
    }

    /// What is there, or from now on `what`.
    pub(super) fn get_or_set(&mut self, offset: i64, what: T) -> T {
        *self.slot(offset).get_or_insert(what)
    }

    pub(super) fn get(&self, offset: i64) -> Option<T> {
        self.all.get(usize::try_from(offset).ok()?).copied().flatten()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, T)> + '_ {
        (0..).zip(&self.all).filter_map(|(offset, what)| what.map(|what| (offset, what)))
    }
}
