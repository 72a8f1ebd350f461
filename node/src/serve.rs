//! Requests about partitions: produce, fetch, long polls, offsets by time, ends of epochs.
//!
//! Owns the split of a request into its partitions and the byte budget over them. Decisions are the partitions'.
//! Invariant: each produce request is answered once, whatever becomes of its parts.

use std::sync::Arc;
use std::time::Duration;

use model::limits::FETCH_BYTES_MAX;
use model::{LeaderEpoch, Now, TopicPartition};
use replication::partition::replica::Origin;
use storage::disk::ReadMode;

use crate::effects::{Effects, ReplyTo};
use crate::node::Node;
use crate::partition::delete_records::{DeleteRequest, Deletion};
use crate::partition::driver::Append;
use crate::partition::produce::{ProduceRequest, Waiter};
use crate::partition::waiters::Watcher;
use crate::requests::{
    AppendError, DeletePart, DeleteRecordsError, EpochEnd, FetchError, FetchLimits, FetchPart, FetchRead, FetchedPart,
    FoundOffset, ListError, Position, Produce,
};

impl Node {
    /// Appends. Answers with `Answer::Produced`, unless acks is none.
    pub fn produce(&self, now: Now, produce: Produce, fx: &mut Effects) {
        let Produce { acks, timeout, parts, reply } = produce;
        let bytes = parts.iter().map(|part| u64::try_from(part.batch.size()).unwrap_or(u64::MAX)).sum();
        let refused = self.refuse_appends(now, bytes);
        let held = if refused.is_some() { 0 } else { bytes };
        let request = ProduceRequest::new(acks, reply, parts.len(), held, Arc::clone(&self.core.budget));
        for (part, sent) in parts.into_iter().enumerate() {
            let waiter = Waiter::Client { request: Arc::clone(&request), part };
            match (&refused, self.core.table.get(sent.partition)) {
                (Some(error), _) => request.answer(part, Err(error.clone()), fx),
                (None, None) => request.answer(part, Err(AppendError::UnknownPartition), fx),
                (None, Some(partition)) => {
                    let append = Append { batch: sent.batch, acks, timeout, origin: Origin::Client, waiter };
                    partition.append(&self.core, now, append, fx);
                }
            }
        }
        request.close(fx);
        self.settle(now, fx);
    }

    /// Moves the starts of logs. Answers with `Answer::RecordsDeleted` when no member of the ISRs could bring the records back, or
    /// after `timeout`: then they go all the same.
    pub fn delete_records(&self, now: Now, parts: &[DeletePart], timeout: Duration, reply: ReplyTo, fx: &mut Effects) {
        let request = DeleteRequest::new(reply, parts.len());
        let deadline = now.mono.saturating_add(timeout);
        for (part, asked) in parts.iter().enumerate() {
            match self.core.table.get(asked.partition) {
                None => request.answer(part, Err(DeleteRecordsError::UnknownPartition), fx),
                Some(partition) => {
                    let deletion = Deletion { request: Arc::clone(&request), part, before: asked.before, deadline };
                    partition.delete_records(&self.core, now, deletion, fx);
                }
            }
        }
        self.settle(now, fx);
    }

    fn refuse_appends(&self, now: Now, bytes: u64) -> Option<AppendError> {
        if self.is_stopping() {
            return Some(AppendError::NotLeader { leader: None, epoch: LeaderEpoch::ZERO });
        }
        if self.core.memory.is_full() {
            return Some(AppendError::Busy { limit: self.core.budget.limits().append_bytes });
        }
        let core = &self.core;
        let owed = core.owed_bytes();
        if let Err(over) = core.budget.take_append(bytes) {
            return Some(AppendError::Busy { limit: over.limit });
        }
        let full = core.room.take(&*core.disk, now, owed, bytes).err()?;
        core.budget.give_append(bytes);
        core.replicas.asks().no_room(now);
        Some(AppendError::Disk { reason: full.to_string() })
    }

    /// Reads what lies below the published limits; never waits for records to come.
    pub fn fetch(&self, parts: &[FetchPart], limits: FetchLimits, mode: ReadMode) -> FetchRead {
        let mut left = limits.bytes_max.min(FETCH_BYTES_MAX);
        let mut read = FetchRead { parts: Vec::with_capacity(parts.len()), record_bytes: 0, cold: Vec::new() };
        for (at, part) in parts.iter().enumerate() {
            let Some(partition) = self.core.table.get(part.partition) else {
                read.parts.push(nothing(Some(FetchError::UnknownPartition)));
                continue;
            };
            let whole_batch = read.record_bytes == 0 && read.cold.is_empty();
            let here = FetchLimits { bytes_max: left, ..limits };
            let fetched = partition.fetch(part, here, whole_batch, &self.core, mode);
            let Some(fetched) = fetched else {
                read.cold.push(at);
                read.parts.push(nothing(None));
                continue;
            };
            if let Some(FetchError::Corrupt { segment, at }) = fetched.error {
                partition.found_damage(&self.core, segment, at);
            }
            let bytes = u64::try_from(fetched.record_bytes).unwrap_or(u64::MAX);
            read.record_bytes = read.record_bytes.saturating_add(bytes);
            left = left.saturating_sub(bytes);
            if fetched.is_too_large && mode == ReadMode::InTurn {
                // What others have on the device would mostly be read to be thrown away as well.
                left = 0;
            }
            read.parts.push(fetched);
        }
        read
    }

    /// Registers for moves of the partition's limits, epoch or start under `slot`, until `unwatch`. Unknown partition: false.
    #[must_use]
    pub fn watch(&self, watcher: &Arc<Watcher>, partition: TopicPartition, slot: u32) -> bool {
        let Some(partition) = self.core.table.get(partition) else { return false };
        partition.lock().registrations.add(watcher, slot);
        true
    }

    pub fn unwatch(&self, watcher: &Arc<Watcher>, partition: TopicPartition, slot: u32) {
        if let Some(partition) = self.core.table.get(partition) {
            partition.lock().registrations.remove(watcher, slot);
        }
    }

    /// Finds an offset. With `CachedOnly` the answer may be `Cold`.
    pub fn list_offset(
        &self,
        partition: TopicPartition,
        current_epoch: Option<LeaderEpoch>,
        position: Position,
        mode: ReadMode,
    ) -> Result<FoundOffset, ListError> {
        let partition = self.core.table.get(partition).ok_or(ListError::UnknownPartition)?;
        partition.list_offset(current_epoch, position, &self.core, mode)
    }

    /// Where the largest epoch at or below `epoch` ends here (OffsetForLeaderEpoch). `None`: no such epoch is known.
    pub fn epoch_end(
        &self,
        partition: TopicPartition,
        current_epoch: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    ) -> Result<Option<EpochEnd>, FetchError> {
        let partition = self.core.table.get(partition).ok_or(FetchError::UnknownPartition)?;
        partition.epoch_end(current_epoch, epoch)
    }
}

fn nothing(error: Option<FetchError>) -> FetchedPart {
    FetchedPart {
        error,
        high_watermark: None,
        last_stable: None,
        log_start: None,
        records: Vec::new(),
        record_bytes: 0,
        is_too_large: false,
        diverging: None,
    }
}
