//! Reads of a partition: records below a published limit, positions by time, ends of epochs.
//!
//! Owns which limit holds for whom and what is an error. Does not own where bytes are: `storage::log` plans, its plan reads.
//! Invariant: nothing at or above the high watermark is handed out, by a leader or by a follower, which knows one that is not larger.
//! The lock is held to plan, never to read.
//! Invariant: an end that may be too low is not told: a reader who believed it would begin anew (K7, K9).

use std::sync::Arc;

use model::planted::{self, Bug};
use model::{LeaderEpoch, Offset};
use storage::disk::{DiskError, ReadMode};
use storage::reader::{Learned, ReadError};
use storage::time_reader::TimeTarget;

use super::handle::{Partition, PublishedRole};
use crate::core::Core;
use crate::requests::{EpochEnd, FetchError, FetchLimits, FetchPart, FetchedPart, FoundOffset, ListError, Position};

/// A replica that meets damage again and again asks each time after so many reads for another one to lead.
const ASK_EVERY_READS: u64 = 64;

impl Partition {
    /// A segment holds other bytes than were written. Nothing of them is handed out. Where another replica is in sync it is to lead, and
    /// this node leaves all in-sync sets that have others, as where its disk hangs: a disk that lies must be replaceable. To be called
    /// without the partition's lock. `segment`, `at`: where the bytes lie.
    pub(crate) fn found_damage(&self, core: &Core, segment: Offset, at: u64) {
        let before = self.published.count_damaged_read();
        let (partition, file) = {
            let mut state = self.lock();
            let file = state.log.data_file(segment);
            state.note_damage(segment, &file, at);
            (state.log.folder().to_owned(), core.config.data_dir.join(file))
        };
        if !before.is_multiple_of(ASK_EVERY_READS) {
            return;
        }
        let leads = self.published.role() == PublishedRole::Leading;
        tracing::error!(
            partition, id = %self.id, file = %file.display(), at, leads,
            "a segment is damaged on the disk: what it holds there is not served"
        );
        if leads {
            core.replicas.asks().hand_over_damaged(self.id);
        }
    }

    /// At most as many bytes as both limits allow, or one batch if that is larger and `whole_batch` says so. `None`: the disk must be waited for.
    pub(crate) fn fetch(
        self: &Arc<Self>,
        part: &FetchPart,
        limits: FetchLimits,
        whole_batch: bool,
        core: &Core,
        mode: ReadMode,
    ) -> Option<FetchedPart> {
        match self.try_fetch(part, limits, whole_batch, core, mode) {
            Ok(fetched) => fetched,
            Err(error) => Some(self.refused(error)),
        }
    }

    fn try_fetch(
        self: &Arc<Self>,
        part: &FetchPart,
        asked: FetchLimits,
        whole_batch: bool,
        core: &Core,
        mode: ReadMode,
    ) -> Result<Option<FetchedPart>, FetchError> {
        let role = self.published.check_reader(part.current_epoch, asked.at_follower)?;
        let (limits, log_end) = (self.published.limits(), self.published.log_end());
        let unknown = || FetchError::OffsetNotAvailable { end: limits.high_watermark, got: part.from };
        if role == PublishedRole::Following && part.from > log_end.get() {
            // The leader has it; it is not here yet (K10).
            return Err(unknown());
        }
        if let Some(epoch) = part.last_fetched_epoch
            && let Some(diverging) = self.diverging(part.from, epoch)?
        {
            return match role {
                // Perhaps it is we who have parted from the leader, and not been told yet.
                PublishedRole::Following => Err(unknown()),
                _ => Ok(Some(FetchedPart { diverging: Some(diverging), ..self.empty() })),
            };
        }
        let outside = || FetchError::OutOfRange { start: limits.log_start, end: log_end, got: part.from };
        let from = Offset::from_wire(part.from).filter(|from| *from >= limits.log_start && *from <= log_end);
        let from = from.ok_or_else(outside)?;
        let limit = if asked.committed_only { limits.last_stable } else { limits.high_watermark };
        let beyond = role == PublishedRole::Following && planted::is(Bug::FollowerServesBeyond);
        let limit = if beyond { log_end } else { limit };
        if from >= limit && self.published.is_fresh() {
            return Err(unknown());
        }
        let bytes_max = u32::try_from(asked.bytes_max).unwrap_or(u32::MAX).min(part.bytes_max);
        if from >= limit || (bytes_max == 0 && !whole_batch) {
            return Ok(Some(self.empty()));
        }
        let mut plans = 0;
        let read = loop {
            plans += 1;
            // The lock's scope ends with the plan.
            let plan = {
                let mut state = self.lock();
                let plan = state.log.plan_read(from, limit, bytes_max);
                let plan = plan.map_err(|error| fetch_error(&error, part.from))?;
                state.log.note_reader(&plan);
                plan
            };
            match plan.run(&*core.disk, mode) {
                Ok(read) => break read,
                Err(ReadError::Disk(DiskError::NotCached)) => return Ok(None),
                // Retention may have taken the file between plan and read.
                Err(ReadError::Disk(DiskError::NotFound { .. })) if from < self.published.limits().log_start => {
                    let start = self.published.limits().log_start;
                    return Err(FetchError::OutOfRange { start, end: log_end, got: part.from });
                }
                Err(error) if is_replaced(&error, plans) => {}
                Err(error) => return Err(fetch_error(&error, part.from)),
            }
        };
        self.keep(core, &read.learned);
        if !whole_batch && read.bytes > usize::try_from(bytes_max).unwrap_or(usize::MAX) {
            return Ok(Some(FetchedPart { is_too_large: true, ..self.empty() }));
        }
        Ok(Some(FetchedPart { record_bytes: read.bytes, records: read.pieces, ..self.empty() }))
    }

    /// Keeps indexes that a read had to load, as many as the node may keep. To be called without any lock.
    pub(crate) fn keep(self: &Arc<Self>, core: &Core, learned: &[Learned]) {
        if learned.is_empty() {
            return;
        }
        {
            let mut state = self.lock();
            learned.iter().for_each(|learned| state.log.learn(learned.clone()));
        }
        core.indexes.keep(self, learned);
    }

    fn empty(&self) -> FetchedPart {
        let limits = self.published.limits();
        // Readers have seen a larger one, perhaps: it never goes back (I11).
        let known = !self.published.is_fresh();
        FetchedPart {
            error: None,
            high_watermark: known.then_some(limits.high_watermark),
            last_stable: known.then_some(limits.last_stable),
            log_start: Some(limits.log_start),
            records: Vec::new(),
            record_bytes: 0,
            is_too_large: false,
            diverging: None,
        }
    }

    fn refused(&self, error: FetchError) -> FetchedPart {
        // With an offset out of range, the client learns where the log begins and ends.
        let limits = matches!(error, FetchError::OutOfRange { .. }).then(|| self.published.limits());
        FetchedPart {
            error: Some(error),
            high_watermark: limits.map(|limits| limits.high_watermark),
            last_stable: limits.map(|limits| limits.last_stable),
            log_start: limits.map(|limits| limits.log_start),
            records: Vec::new(),
            record_bytes: 0,
            is_too_large: false,
            diverging: None,
        }
    }

    /// Where a fetcher's log that ends at `from` in `epoch` departs from ours. `None`: it does not.
    fn diverging(&self, from: i64, epoch: LeaderEpoch) -> Result<Option<EpochEnd>, FetchError> {
        let Some(found) = self.end_of_epoch(epoch) else {
            let (limits, end) = (self.published.limits(), self.published.log_end());
            return Err(FetchError::OutOfRange { start: limits.log_start, end, got: from });
        };
        Ok((found.epoch < epoch || found.end.get() < from).then_some(found))
    }

    fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        let state = self.lock();
        let log_end = state.log.log_end();
        // The log notes an epoch with its first batch; ours may have none yet.
        if epoch == state.replica.epoch() {
            return Some(EpochEnd { epoch, end: log_end });
        }
        let found = state.log.epochs().end_offset_for(epoch, log_end);
        let latest = || state.log.epochs().latest().filter(|latest| *latest < epoch && epoch < state.replica.epoch());
        let (epoch, end) = found.or_else(|| latest().map(|latest| (latest, log_end)))?;
        Some(EpochEnd { epoch, end })
    }

    pub(crate) fn epoch_end(
        &self,
        current_epoch: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    ) -> Result<Option<EpochEnd>, FetchError> {
        self.published.check_reader(current_epoch, false)?;
        Ok(self.end_of_epoch(epoch))
    }

    pub(crate) fn list_offset(
        self: &Arc<Self>,
        current_epoch: Option<LeaderEpoch>,
        position: Position,
        core: &Core,
        mode: ReadMode,
    ) -> Result<FoundOffset, ListError> {
        self.published.check_reader(current_epoch, false).map_err(list_refused)?;
        let limits = self.published.limits();
        let fresh = self.published.is_fresh();
        let at =
            |offset: Offset, epoch: Option<LeaderEpoch>| FoundOffset { offset: Some(offset), timestamp_ms: -1, epoch };
        let target = match position {
            Position::Earliest | Position::EarliestLocal => {
                let epoch = self.lock().log.epochs().epoch_at(limits.log_start);
                return Ok(at(limits.log_start, epoch));
            }
            Position::Latest { .. } if fresh => {
                return Err(ListError::OffsetNotAvailable { end: limits.high_watermark });
            }
            Position::Latest { committed_only } => {
                let end = if committed_only { limits.last_stable } else { limits.high_watermark };
                return Ok(at(end, Some(self.published.epoch())));
            }
            // Nothing is tiered: there is no such offset.
            Position::LatestTiered => return Ok(FoundOffset { offset: None, timestamp_ms: -1, epoch: None }),
            Position::MaxTimestamp => TimeTarget::Newest,
            Position::AtTime(timestamp_ms) => TimeTarget::AtLeast(timestamp_ms),
        };
        let mut plans = 0;
        let (found, learned) = loop {
            plans += 1;
            let plan = self.lock().log.plan_time(target, limits.high_watermark);
            match plan.run(&*core.disk, mode) {
                Ok(found) => break found,
                Err(error) if is_replaced(&error, plans) => {}
                Err(error) => {
                    if let ReadError::Corrupt { segment, at } = error {
                        self.found_damage(core, segment, at);
                    }
                    return Err(list_error(&error));
                }
            }
        };
        self.keep(core, &learned);
        Ok(match found {
            Some(found) => {
                FoundOffset { offset: Some(found.offset), timestamp_ms: found.timestamp_ms, epoch: found.epoch }
            }
            None if fresh => return Err(ListError::OffsetNotAvailable { end: limits.high_watermark }),
            None => FoundOffset { offset: None, timestamp_ms: -1, epoch: None },
        })
    }
}

/// Compaction, or retention, may have taken a file between plan and read: another plan names what is there.
fn is_replaced(error: &ReadError, plans: u32) -> bool {
    const PLANS_MAX: u32 = 4;
    matches!(error, ReadError::Disk(DiskError::NotFound { .. })) && plans < PLANS_MAX
}

fn fetch_error(error: &ReadError, got: i64) -> FetchError {
    match error {
        ReadError::BelowStart { start, .. } => FetchError::OutOfRange { start: *start, end: *start, got },
        ReadError::AboveLimit { limit, end, .. } => FetchError::OutOfRange { start: *limit, end: *end, got },
        ReadError::Corrupt { segment, at } => FetchError::Corrupt { segment: *segment, at: *at },
        error @ (ReadError::Disk(_) | ReadError::Records { .. }) => FetchError::Disk { reason: error.to_string() },
    }
}

fn list_error(error: &ReadError) -> ListError {
    match error {
        ReadError::Disk(DiskError::NotCached) => ListError::Cold,
        ReadError::Corrupt { segment, at } => ListError::Corrupt { segment: *segment, at: *at },
        ReadError::Records { segment } => ListError::Corrupt { segment: *segment, at: 0 },
        other => ListError::Disk { reason: other.to_string() },
    }
}

fn list_refused(error: FetchError) -> ListError {
    match error {
        FetchError::NotLeader { leader, epoch } => ListError::NotLeader { leader, epoch },
        FetchError::FencedEpoch { current, got } => ListError::FencedEpoch { current, got },
        FetchError::UnknownEpoch { current, got } => ListError::UnknownEpoch { current, got },
        FetchError::UnknownPartition => ListError::UnknownPartition,
        FetchError::Corrupt { segment, at } => ListError::Corrupt { segment, at },
        FetchError::OffsetNotAvailable { end, .. } => ListError::OffsetNotAvailable { end },
        other @ (FetchError::Disk { .. } | FetchError::OutOfRange { .. }) => {
            ListError::Disk { reason: other.to_string() }
        }
    }
}
