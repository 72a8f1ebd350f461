//! The power goes before and inside each effect of a run, and again during the recovery.
//!
//! What was told to be durable is there; the state is one that the operations passed through, of all logs at the same moment.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use model::batch::BatchHeader;
use model::{LogId, Offset};

use super::harness::*;
use super::mem_disk::{Crash, MemDisk};
use crate::disk::{Disk, ReadMode};
use crate::log::{Log, LogConfig};
use crate::store::{Options, Store};

/// Per log: start, end, and the batches as (base, next, size, crc).
type State = BTreeMap<LogId, (Offset, Offset, Vec<(i64, i64, usize, u32)>)>;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// What the logs were after each operation, by its number.
#[derive(Default)]
struct History {
    states: BTreeMap<u64, State>,
    acked: u64,
}

impl History {
    fn note(&mut self, log: &Log, change: impl FnOnce(&mut State)) {
        let mut state = self.states.last_key_value().map(|(_, state)| state.clone()).unwrap_or_default();
        change(&mut state);
        self.states.insert(log.last_operation(), state);
    }

    fn acked(&mut self, node: &Node) {
        self.acked = self.acked.max(node.acked.values().copied().max().unwrap_or(0));
    }
}

fn config(random: &mut Random) -> Arc<LogConfig> {
    let segment_bytes = 600 + u32::try_from(random.below(8_000)).unwrap();
    Arc::new(LogConfig { segment_bytes, index_interval_bytes: 200, ..LogConfig::default() })
}

fn append(node: &mut Node, random: &mut Random, history: &mut History, topic: u8, step: i64) {
    let end = node.log(topic).log_end();
    let bytes = if random.below(25) == 0 { 270_000 } else { random.below(700) as usize };
    let new =
        batch(end.get(), i32::try_from(step / 9).unwrap(), 1 + u32::try_from(random.below(3)).unwrap(), bytes, step);
    let next = new.next_offset();
    let what = (end.get(), next.get(), new.size(), new.header().crc);
    node.append(topic, new);
    history.note(node.log(topic), |state| {
        let (_, end, batches) = state.get_mut(&id(topic)).unwrap();
        *end = next;
        batches.push(what);
    });
}

fn truncate(node: &mut Node, random: &mut Random, history: &mut History, topic: u8) {
    let (start, end) = (node.log(topic).log_start(), node.log(topic).log_end());
    let to = start.plus(u32::try_from(random.below(end.since(start) + 1)).unwrap());
    let point = match node.log(topic).cut_point(to) {
        Ok(Ok(point)) => point,
        Ok(Err(plan)) => match plan.run(&*node.disk) {
            Ok(point) => point,
            Err(_) => return,
        },
        Err(_) => return,
    };
    if point.end < start {
        return;
    }
    let entry = node.log(topic).truncate_to(point);
    node.put(entry);
    history.note(node.log(topic), |state| {
        let (_, end, batches) = state.get_mut(&id(topic)).unwrap();
        *end = point.end;
        batches.retain(|(base, ..)| *base < point.end.get());
    });
}

fn delete_before(node: &mut Node, random: &mut Random, history: &mut History, topic: u8) {
    let (start, end) = (node.log(topic).log_start(), node.log(topic).log_end());
    let to = start.plus(u32::try_from(random.below(end.since(start) / 2 + 1)).unwrap());
    if let Some(entry) = node.log(topic).delete_before(to) {
        node.put(entry);
        history.note(node.log(topic), |state| state.get_mut(&id(topic)).unwrap().0 = to);
    }
}

/// Runs until the power goes or the steps are done.
fn workload(disk: Arc<dyn Disk>, root: &Path, seed: u64, history: &mut History) -> Option<Node> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut node = open_on(disk, root).ok()?;
    let config = config(&mut random);
    for topic in [1, 2] {
        node.create(topic, &config);
        history.note(node.log(topic), |state| drop(state.insert(id(topic), (Offset::ZERO, Offset::ZERO, Vec::new()))));
    }
    for step in 0..60 {
        let topic = 1 + u8::try_from(random.below(2)).unwrap();
        match random.below(16) {
            0..=7 => append(&mut node, &mut random, history, topic, step),
            8 => truncate(&mut node, &mut random, history, topic),
            9 => delete_before(&mut node, &mut random, history, topic),
            10 | 11 => node.commit(),
            12 => {
                node.commit();
                node.flush();
            }
            13 => {
                let entry = node.log(topic).reset(Offset::new(step * 100));
                node.put(entry);
                let start = Offset::new(step * 100);
                history.note(node.log(topic), |state| drop(state.insert(id(topic), (start, start, Vec::new()))));
            }
            14 => drop(node.log(topic).evict_tail(1_000)),
            _ => {
                node.commit();
                if !node.dead {
                    node.checkpoint(false);
                }
            }
        }
        history.acked(&node);
        if node.dead {
            return None;
        }
    }
    node.commit();
    history.acked(&node);
    Some(node)
}

fn state_of(node: &mut Node) -> State {
    let disk = Arc::clone(&node.disk);
    let of = |log: &mut Log| {
        // A batch that the start lies in is read as a whole.
        let batches = read_all(&*disk, log);
        let batches = batches.iter().map(|batch| {
            let header = batch.header();
            (header.base_offset, header.next_offset(), batch.size(), header.crc)
        });
        (log.log_start(), log.log_end(), batches.collect())
    };
    node.logs.iter_mut().map(|(id, log)| (*id, of(log))).collect()
}

/// Batches below the start are not seen by readers.
fn visible(state: &State) -> State {
    let mut state = state.clone();
    for (start, _, batches) in state.values_mut() {
        batches.retain(|(_, next, ..)| *next > start.get());
    }
    state
}

fn check(node: &mut Node, history: &History, what: &str) {
    assert!(node.damaged.is_empty(), "{what}: {:?}", node.damaged);
    let found = state_of(node);
    let possible = history.states.range(history.acked..).map(|(_, state)| state);
    let before_any = State::new();
    let mut possible = possible.chain((history.acked == 0).then_some(&before_any));
    assert!(possible.any(|state| visible(state) == visible(&found)), "{what}: {found:?} after {}", history.acked);
}

fn check_crash(seed: u64, fuse: u64, crash: Crash) {
    let root = Path::new("/d");
    let what = format!("seed {seed}, effect {fuse}, {crash:?}");
    let disk = Arc::new(MemDisk::new(seed * 1_000 + fuse));
    disk.set_fuse(fuse);
    let mut history = History::default();
    workload(disk.clone(), root, seed, &mut history);
    // The recovery is interrupted too, somewhere.
    let disk = Arc::new(disk.crashed(crash));
    disk.set_fuse(fuse % 23);
    let again = open_on(disk.clone(), root);
    drop(again);
    let disk = Arc::new(disk.crashed(crash));
    let mut node = open_on(disk, root).unwrap_or_else(|error| panic!("{what}: {error}"));
    check(&mut node, &history, &what);
    // And life goes on.
    for log in node.logs.keys().copied().collect::<Vec<_>>() {
        let end = node.logs[&log].log_end().get();
        let entry = node.logs.get_mut(&log).unwrap().append(batch(end, 1_000, 1, 50, 0), 0);
        node.put(entry);
    }
    node.commit();
    let before = state_of(&mut node);
    let disk = Arc::clone(&node.disk);
    drop(node);
    let mut node = open_on(disk, root).unwrap_or_else(|error| panic!("{what}, later: {error}"));
    assert!(visible(&state_of(&mut node)) == visible(&before), "{what}, later");
}

#[test]
fn no_acked_operation_is_lost_wherever_the_power_goes() {
    for seed in 1..=8 {
        let disk = Arc::new(MemDisk::new(seed));
        let mut history = History::default();
        let mut node = workload(disk.clone(), Path::new("/d"), seed, &mut history).unwrap();
        check(&mut node, &history, "without a crash");
        let effects = disk.effects();
        // Every second effect of one run, samples of the others.
        let stride = if seed == 1 { 2 } else { 19 };
        for fuse in (0..effects).step_by(stride) {
            for crash in [Crash::Everything, Crash::Nothing, Crash::Mixed] {
                check_crash(seed, fuse, crash);
            }
        }
    }
}

#[test]
fn a_full_disk_costs_nothing_that_was_appended_and_heals() {
    for seed in 1..=20 {
        let mut random = Random(seed);
        let disk = Arc::new(MemDisk::new(seed));
        let mut node = open_on(disk.clone(), Path::new("/d")).unwrap();
        let config = config(&mut random);
        node.create(1, &config);
        let mut history = History::default();
        history.note(node.log(1), |state| drop(state.insert(id(1), (Offset::ZERO, Offset::ZERO, Vec::new()))));
        for step in 0..80 {
            match random.below(6) {
                0..=2 => append(&mut node, &mut random, &mut history, 1, step),
                3 => truncate(&mut node, &mut random, &mut history, 1),
                4 => delete_before(&mut node, &mut random, &mut history, 1),
                _ => {
                    // Direct writes wait for room in the node; here the disk is full for segments only.
                    node.commit();
                    disk.set_full(random.below(2) == 0);
                    if let Some(write) = node.log(1).next_write(5_000) {
                        let result = write.steps().iter().try_for_each(|step| step.run(&*disk));
                        node.log(1).write_done(&result);
                    }
                    disk.set_full(false);
                }
            }
        }
        node.commit();
        node.checkpoint(false);
        node.log(1).evict_tail(0);
        history.acked(&node);
        check(&mut node, &history, "full");
        let mut node = open_on(Arc::new(disk.crashed(Crash::Nothing)), Path::new("/d")).unwrap();
        check(&mut node, &history, "full, after a crash");
    }
}

#[test]
fn a_start_after_a_crash_lists_each_folder_once() {
    const LOGS: u8 = 20;
    let disk = Arc::new(MemDisk::new(1));
    let mut node = open_on(disk.clone(), Path::new("/d")).unwrap();
    for topic in 1..=LOGS {
        node.create(topic, &small_segments(10_000));
        node.push(topic, 100);
    }
    node.commit();
    node.flush();
    node.checkpoint(false);
    drop(node);
    let before = disk.lists();
    let node = open_on(disk.clone(), Path::new("/d")).unwrap();
    assert_eq!(node.logs.len(), usize::from(LOGS));
    let lists = disk.lists() - before;
    // The directory itself, its journal and such are listed too.
    assert!(lists < 2 * u64::from(LOGS), "{lists} folders were listed for {LOGS} logs");
}

#[test]
fn a_start_after_a_crash_reads_no_segment_of_what_the_journal_has() {
    let disk = Arc::new(MemDisk::new(1));
    let mut node = open_on(disk.clone(), Path::new("/d")).unwrap();
    node.create(1, &Arc::default());
    for _ in 0..30 {
        node.push(1, 5_000);
    }
    node.commit();
    node.checkpoint(false);
    for _ in 0..30 {
        node.push(1, 5_000);
    }
    node.commit();
    let disk = Arc::new(disk.crashed(Crash::Nothing));
    let recovered = {
        let options = Options { salt: 42, directory_id: [7; 16], only_copy: true };
        Store::open(disk.clone(), Path::new("/d"), options).unwrap()
    };
    assert_eq!(disk.segment_reads(), 0);
    assert_eq!(recovered.logs[&id(1)].since.len(), 30, "the batches behind the snapshot of the producers");
}

/// Readers of cold data take a turn for each read, and may stand behind a write each time.
#[test]
fn a_walk_over_small_batches_takes_large_steps_and_one_over_large_batches_small_ones() {
    for (batches, bytes, reads_max) in [(2_000, 1_000, 10), (5, 400_000, 6)] {
        let disk = Arc::new(MemDisk::new(1));
        let mut node = open_on(disk.clone(), Path::new("/d")).unwrap();
        node.create(1, &Arc::default());
        for _ in 0..batches {
            node.push(1, bytes);
        }
        node.commit();
        node.flush();
        node.log(1).evict_tail(0);
        let before = disk.segment_reads();
        let mut seen = 0;
        for part in node.log(1).parts_from(Offset::ZERO) {
            let count = &mut |_, _: &BatchHeader| {
                seen += 1;
                false
            };
            part.walk(&*disk, ReadMode::InTurn, 0, count).unwrap();
        }
        assert_eq!(seen, batches);
        let reads = disk.segment_reads() - before;
        assert!(reads <= reads_max, "{reads} reads for {batches} batches of {bytes} bytes");
    }
}
