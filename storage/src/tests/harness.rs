//! `Node`: appends, journal groups, flushes, syncs and checkpoints, one after the other, on a real folder.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::batch::{BatchBuilder, StoredBatch};
use model::{LeaderEpoch, LogId, Offset, PartitionIndex, TopicId, TopicPartition};

use crate::checkpoint::ProducerSnapshot;
use crate::disk::{Disk, DiskError, ReadMode, RealDisk, Step};
use crate::journal::GroupPart;
use crate::journal::entry::{Entry, Unit};
use crate::log::{Log, LogConfig};
use crate::reader::ReadError;
use crate::recovery::{Damage, OpenError, Recovered, RecoveredLog, Report};
use crate::store::Options;
use crate::{Journal, Store};

pub(crate) struct Node {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) store: Store,
    pub(crate) journal: Journal,
    pub(crate) logs: BTreeMap<LogId, Log>,
    pub(crate) queue: VecDeque<Unit>,
    pub(crate) damaged: BTreeMap<LogId, Damage>,
    pub(crate) lost: BTreeSet<LogId>,
    pub(crate) report: Report,
    pub(crate) clean: bool,
    /// The newest operation of each log that was told to be durable.
    pub(crate) acked: BTreeMap<LogId, u64>,
    /// The disk failed: nothing is done any more.
    pub(crate) dead: bool,
}

pub(crate) fn id(topic: u8) -> LogId {
    LogId::records(TopicPartition { topic: TopicId([topic; 16]), partition: PartitionIndex::new(0) })
}

pub(crate) fn folder(topic: u8) -> String {
    format!("t{topic}-0")
}

/// A batch of `count` records whose values have `bytes` bytes, the first at `time_ms`, each one later by 1 ms.
pub(crate) fn batch(base: i64, epoch: i32, count: u32, bytes: usize, time_ms: i64) -> StoredBatch {
    let mut builder = BatchBuilder::new();
    for at in 0..count {
        let value: Vec<u8> = (0..bytes).map(|byte| (byte as u8).wrapping_mul(31).wrapping_add(base as u8)).collect();
        builder.push(time_ms + i64::from(at), None, Some(&value), &[]);
    }
    builder.finish().place(Offset::new(base), LeaderEpoch::new(epoch))
}

pub(crate) fn try_open(root: &Path) -> Result<Node, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(root, 64));
    open_on(disk, root)
}

/// Opens as a node does that has no other copy of its logs.
pub(crate) fn try_open_only_copy(root: &Path) -> Result<Node, OpenError> {
    open_with(Arc::new(RealDisk::new(root, 64)), root, true)
}

pub(crate) fn open_on(disk: Arc<dyn Disk>, root: &Path) -> Result<Node, OpenError> {
    open_with(disk, root, false)
}

fn open_with(disk: Arc<dyn Disk>, root: &Path, only_copy: bool) -> Result<Node, OpenError> {
    let options = Options { salt: 42, directory_id: [7; 16], only_copy };
    let recovered = Store::open(Arc::clone(&disk), root, options)?;
    let Recovered { store, journal, logs, damaged, lost, clean, report, .. } = recovered;
    let logs = logs.into_iter().map(|(id, found)| (id, checked(&*disk, found))).collect();
    Ok(Node {
        disk,
        store,
        journal,
        logs,
        queue: VecDeque::new(),
        damaged,
        lost,
        report,
        clean,
        acked: BTreeMap::new(),
        dead: false,
    })
}

/// What a start says of the batches behind the producers' snapshot is what the log has there; one that is damaged says nothing.
fn checked(disk: &dyn Disk, found: RecoveredLog) -> Log {
    let RecoveredLog { mut log, producers, since, .. } = found;
    let from = producers.map_or(log.log_start(), |producers| producers.offset);
    let Ok(batches) = try_read_all(disk, &mut log) else { return log };
    let behind = batches.into_iter().filter(|batch| batch.next_offset() > from);
    let expected: Vec<_> = behind.map(|batch| *batch.header()).collect();
    let known: Vec<_> = since.into_iter().filter(|header| header.next_offset() > log.log_start().get()).collect();
    assert_eq!(known, expected, "headers of {}, the producers are known up to {from}", log.id());
    log
}

pub(crate) fn open(root: &Path) -> Node {
    try_open(root).unwrap()
}

pub(crate) fn small_segments(bytes: u32) -> Arc<LogConfig> {
    Arc::new(LogConfig { segment_bytes: bytes, index_interval_bytes: 100, ..LogConfig::default() })
}

impl Node {
    pub(crate) fn create(&mut self, topic: u8, config: &Arc<LogConfig>) {
        let (mut log, entry) = self.store.create_log(id(topic), &folder(topic), true, Offset::ZERO);
        log.configure(Arc::clone(config));
        self.logs.insert(id(topic), log);
        self.queue.push_back(Unit::one(entry));
    }

    pub(crate) fn log(&mut self, topic: u8) -> &mut Log {
        self.logs.get_mut(&id(topic)).unwrap()
    }

    pub(crate) fn append(&mut self, topic: u8, batch: StoredBatch) {
        let entry = self.log(topic).append(batch, 0);
        self.queue.push_back(Unit::one(entry));
    }

    /// Appends a batch of one record at the end.
    pub(crate) fn push(&mut self, topic: u8, bytes: usize) -> Offset {
        let end = self.log(topic).log_end();
        self.append(topic, batch(end.get(), 0, 1, bytes, end.get()));
        end
    }

    pub(crate) fn put(&mut self, entry: Entry) {
        self.queue.push_back(Unit::one(entry));
    }

    /// Writes all that waits to the journal, and direct writes beside it.
    pub(crate) fn commit(&mut self) {
        while self.commit_one(true) {}
    }

    /// One group; `with_directs`: else a crash comes before the direct writes.
    pub(crate) fn commit_one(&mut self, with_directs: bool) -> bool {
        let logs = &mut self.logs;
        let group = self.journal.group(&mut self.queue, &mut |log, operations| logs.get_mut(&log)?.direct(operations));
        let group = match group {
            Ok(Some(group)) => group,
            Ok(None) => return false,
            Err(_) => {
                self.grow_or_checkpoint();
                return true;
            }
        };
        if self.run(&group.steps).is_err() {
            return false;
        }
        let mut durable = self.journal.part_done(group.sequence, GroupPart::Journal);
        for (log, write) in group.directs.iter().filter(|_| with_directs) {
            let result = self.run(&write.steps());
            if result.is_err() {
                return false;
            }
            self.logs.get_mut(log).unwrap().direct_done(write, &result);
            durable = self.journal.part_done(group.sequence, GroupPart::Direct);
        }
        for (log, operation) in durable.logs {
            self.acked.insert(log, operation);
            if let Some(log) = self.logs.get_mut(&log) {
                log.durable_to(operation);
            }
        }
        true
    }

    fn grow_or_checkpoint(&mut self) {
        match self.journal.grow() {
            Some(steps) => {
                let result = self.run(&steps);
                self.journal.grown(&result);
            }
            None => self.checkpoint(false),
        }
    }

    pub(crate) fn run(&mut self, steps: &[Step]) -> Result<(), DiskError> {
        let result = steps.iter().try_for_each(|step| step.run(&*self.disk));
        self.dead |= result.is_err();
        result
    }

    /// Writes the tails to the segment files.
    pub(crate) fn flush(&mut self) {
        for id in self.logs.keys().copied().collect::<Vec<_>>() {
            while let Some(write) = self.logs.get_mut(&id).unwrap().next_write(100_000).filter(|_| !self.dead) {
                let result = self.run(&write.steps());
                self.logs.get_mut(&id).unwrap().write_done(&result);
            }
        }
    }

    pub(crate) fn sync(&mut self) {
        for id in self.logs.keys().copied().collect::<Vec<_>>() {
            if let Some(work) = self.logs.get_mut(&id).unwrap().sync_work().filter(|_| !self.dead) {
                let result = self.run(&work.steps());
                self.logs.get_mut(&id).unwrap().sync_done(&result);
            }
        }
    }

    pub(crate) fn checkpoint(&mut self, clean: bool) {
        let from = self.journal.next_sequence();
        self.flush();
        self.sync();
        if self.dead {
            return;
        }
        let producers = |log: &Log| Some(ProducerSnapshot { offset: log.log_end(), bytes: bytes::Bytes::new() });
        let logs = self.logs.values().map(|log| log.checkpoint(log.log_end(), producers(log)).unwrap()).collect();
        let steps = self.store.checkpoint_steps(&self.journal, from, logs, None, clean);
        if self.run(&steps).is_ok() {
            self.journal.recycle(from, None);
            self.logs.values_mut().for_each(Log::checkpoint_saved);
        }
    }

    pub(crate) fn stop(mut self) {
        self.commit();
        self.flush();
        for id in self.logs.keys().copied().collect::<Vec<_>>() {
            if self.dead {
                return;
            }
            let steps = self.logs.get_mut(&id).unwrap().close_steps();
            let _crashed = self.run(&steps);
        }
        self.checkpoint(true);
    }

    /// What reads of so many bytes each give of a log until damage shows, and the damage.
    #[track_caller]
    pub(crate) fn read_until_damage(&mut self, topic: u8, from: Offset, bytes_max: u32) -> (Vec<u8>, ReadError) {
        let (end, mut next, mut served) = (self.log(topic).log_end(), from, Vec::new());
        loop {
            let plan = self.log(topic).plan_read(next, end, bytes_max).unwrap();
            match plan.run(&*self.disk, ReadMode::Blocking) {
                Ok(read) => {
                    served.extend(read.pieces.iter().flat_map(|piece| piece.to_vec()));
                    next = read.next.unwrap();
                }
                Err(error) => return (served, error),
            }
            assert!(next < end, "all was served, and no damage showed");
        }
    }

    /// All batches of a log, by many small reads.
    pub(crate) fn read_all(&mut self, topic: u8) -> Vec<StoredBatch> {
        let disk = Arc::clone(&self.disk);
        let log = self.log(topic);
        read_all(&*disk, log)
    }
}

pub(crate) fn read_all(disk: &dyn Disk, log: &mut Log) -> Vec<StoredBatch> {
    try_read_all(disk, log).unwrap()
}

fn try_read_all(disk: &dyn Disk, log: &mut Log) -> Result<Vec<StoredBatch>, ReadError> {
    let mut at = log.log_start();
    let mut batches = Vec::new();
    while at < log.log_end() {
        let read = log.plan_read(at, log.log_end(), 3_000)?.run(disk, ReadMode::Blocking)?;
        let bytes: Vec<u8> = read.pieces.iter().flat_map(|piece| piece.to_vec()).collect();
        assert_eq!(bytes.len(), read.bytes);
        let cut = model::batch::split_stored(bytes.into()).collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(cut.last().map(StoredBatch::next_offset), read.next, "at {at} of {:?}", log.log_end());
        at = read.next.unwrap();
        batches.extend(cut);
        for learned in read.learned {
            log.learn(learned);
        }
    }
    Ok(batches)
}

/// A data directory as a process left it that died when one record of topic 1 was committed.
pub(crate) fn crashed_with_one_record(root: &Path) {
    let mut node = open(root);
    node.create(1, &Arc::default());
    node.push(1, 100);
    node.commit();
}

/// A copy of a data directory: what a crash leaves when everything written so far has reached the disk.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn temp() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    (dir, root)
}
