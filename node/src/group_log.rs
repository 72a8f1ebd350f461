//! The partitions of `__consumer_offsets` as coordinators use them: appends whose end is told, reads of what is committed.
//!
//! Owns that translation. Does not own groups (`coordinator`) nor partitions.
//! Invariant: an append is told about through the inbox, never on the stack of the coordinator that asked for it.

use std::sync::Arc;
use std::time::Duration;

use model::batch::Batch;
use model::{LeaderEpoch, Now, Offset, PartitionIndex, TopicId, TopicPartition};
use replication::metadata::Image;
use replication::partition::replica::Origin;
use storage::disk::ReadMode;

use crate::coordinator::{Committed, GroupLog, LogEnds, LogError};
use crate::core::{Core, Inward};
use crate::effects::Effects;
use crate::partition::driver::Append;
use crate::partition::handle::{Partition, PublishedRole};
use crate::partition::produce::Waiter;
use crate::requests::{Acks, AppendError, FetchError, FetchLimits, FetchPart};

/// Records of groups are committed or the disk fails: nothing else ends the wait.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(crate) struct GroupLogs<'a> {
    pub(crate) core: &'a Core,
    pub(crate) topic: Option<TopicId>,
    pub(crate) stopping: bool,
    pub(crate) image: Arc<Image>,
    pub(crate) image_version: u64,
}

impl GroupLogs<'_> {
    fn partition(&self, partition: PartitionIndex) -> Option<Arc<Partition>> {
        self.core.table.get(TopicPartition { topic: self.topic?, partition })
    }
}

impl GroupLog for GroupLogs<'_> {
    fn append(&self, now: Now, partition: PartitionIndex, batch: Batch, token: u64, fx: &mut Effects) {
        let Some(partition) = self.partition(partition).filter(|_| !self.stopping) else {
            let result = Err(AppendError::NotLeader { leader: None, epoch: LeaderEpoch::ZERO });
            return self.core.inward(Inward::Appended { token, result });
        };
        let (acks, origin, waiter) = (Acks::All, Origin::Internal, Waiter::Internal { token });
        partition.append(self.core, now, Append { batch, acks, timeout: NEVER, origin, waiter }, fx);
    }

    fn ends(&self, partition: PartitionIndex) -> Option<LogEnds> {
        let partition = self.partition(partition)?;
        let leads = partition.published.role() == PublishedRole::Leading;
        let (start, end) = (partition.published.limits().log_start, partition.published.log_end());
        leads.then_some(LogEnds { start, end })
    }

    fn read(&self, partition: PartitionIndex, from: Offset, bytes_max: u32) -> Result<Committed, LogError> {
        let partition = self.partition(partition).ok_or(LogError::NotLeader)?;
        let part = FetchPart {
            partition: partition.id,
            from: from.get(),
            bytes_max,
            current_epoch: None,
            last_fetched_epoch: None,
        };
        let limits = FetchLimits { bytes_max: u64::from(bytes_max), committed_only: false, at_follower: false };
        let read = partition.fetch(&part, limits, true, self.core, ReadMode::Blocking);
        let read = read.ok_or_else(|| LogError::Unreadable { reason: "a blocking read did not wait".to_owned() })?;
        match read.error {
            None => Ok(Committed { pieces: read.records }),
            // A leader that is new waits for its followers.
            Some(FetchError::OffsetNotAvailable { .. }) => Ok(Committed::default()),
            Some(FetchError::NotLeader { .. } | FetchError::UnknownPartition) => Err(LogError::NotLeader),
            Some(FetchError::OutOfRange { start, .. }) => Err(LogError::Gone { start }),
            Some(other) => Err(LogError::Unreadable { reason: other.to_string() }),
        }
    }

    fn metadata(&self) -> (Arc<Image>, u64) {
        (Arc::clone(&self.image), self.image_version)
    }

    fn tick_by(&self, mono: Duration, fx: &mut Effects) {
        self.core.timer.by(mono, fx);
    }
}
