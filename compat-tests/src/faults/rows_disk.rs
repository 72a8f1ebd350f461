//! Rows about the disk below a node: slow, full, failing, damaged, gone.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::inject::{Broken, SmallDisks};
use super::stage::{PARTITIONS, Stage, TOPIC};
use super::{Need, Row};
use crate::load::now;
use crate::program::wait_until;

/// The calls after which bytes are on the disk: the journal is written through.
const SYNCS: &str = "pwrite64,fdatasync,fsync,syncfs";
const MOVED_MAX: Duration = Duration::from_secs(30);

fn all() -> Vec<i32> {
    (0..PARTITIONS).collect()
}

fn pid(stage: &Stage, node: u32) -> Result<u32> {
    stage.cluster.node(node)?.pid().with_context(|| format!("node {node} is not running"))
}

fn disks(stage: &Stage) -> Result<&SmallDisks> {
    stage.disks.as_ref().context("the row was set without small disks")
}

/// Waits until a node leads nothing, or has ended; how long that took.
fn until_it_leads_nothing(stage: &mut Stage, node: u32) -> Result<f64> {
    let begun = Instant::now();
    let admin = stage.cluster.admin_without(node);
    wait_until("its leaders move", MOVED_MAX, || {
        let Ok(partitions) = admin.partitions(TOPIC) else { return Ok(false) };
        Ok(partitions.iter().all(|partition| partition.leader.is_some_and(|leader| leader != node)))
    })?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

pub(super) const SLOW_SYNC: Row = Row {
    number: 19,
    says: "each sync of a follower takes 200 ms, then one of a leader hangs",
    needs: Need::Strace,
    nodes: 3,
    is_short: false,
    run: |stage| {
        let (follower, length) = (stage.not_controller(0)?, Duration::from_secs(stage.pick(8, 60)));
        let others: Vec<u32> = [1, 2, 3].into_iter().filter(|id| *id != follower).collect();
        stage.spread(&others)?;
        let healthy = now();
        std::thread::sleep(Duration::from_secs(5));
        let at = stage.say(&format!("each sync of node {follower} takes 200 ms"));
        let broken = Broken::attach(pid(stage, follower)?, SYNCS, "delay_exit=200000")?;
        std::thread::sleep(Duration::from_secs(3));
        let settled = now();
        std::thread::sleep(length);
        let ended = now();
        stage.gap("slow follower", &all(), at, Some(3500.0));
        stage.latency("slow follower, after 3 s", (healthy, at), (settled, ended), 1.5);
        broken.mend()?;
        stage.recovered()?;

        let leader = stage.not_controller(1)?;
        stage.spread(&[1, 2, 3])?;
        let led = stage.led_by(leader)?;
        let at = stage.say(&format!("a sync of node {leader} hangs"));
        let broken = Broken::attach(pid(stage, leader)?, SYNCS, "delay_enter=20000000")?;
        let moved = until_it_leads_nothing(stage, leader)?;
        stage.number("time until the leader handed over, ms", moved, Some(2000.0));
        stage.calm()?;
        stage.gap("partitions of the hanging leader", &led, at, Some(4000.0));
        broken.mend()?;
        stage.recovered()
    },
};

pub(super) const FULL: Row = Row {
    number: 21,
    says: "the disk of a follower, of a leader, of all is full",
    needs: Need::SmallDisks,
    nodes: 3,
    is_short: false,
    run: |stage| {
        let (one, kept) = (stage.not_controller(0)?, Duration::from_secs(stage.pick(4, 15)));
        let others: Vec<u32> = [1, 2, 3].into_iter().filter(|id| *id != one).collect();
        for (what, leaders) in [("a follower", others), ("a leader", vec![1, 2, 3])] {
            stage.spread(&leaders)?;
            let at = stage.say(&format!("the disk of node {one}, {what}, is full"));
            disks(stage)?.fill(one)?;
            std::thread::sleep(kept);
            disks(stage)?.empty(one)?;
            stage.recovered()?;
            stage.gap(&format!("the disk of {what} is full"), &all(), at, None);
        }
        stage.say("the disks of all are full");
        for node in [1, 2, 3] {
            disks(stage)?.fill(node)?;
        }
        std::thread::sleep(kept);
        let admin = stage.cluster.admin();
        let answered = stage.partitions()?.iter().filter(|partition| admin.latest(TOPIC, partition).is_ok()).count();
        stage.number("partitions that do not answer ListOffsets", f64::from(PARTITIONS) - answered as f64, Some(0.0));
        let restarted = stage.not_controller(1)?;
        stage.cluster.kill(restarted)?;
        stage.cluster.up(restarted).context("a start on a full disk")?;
        let begun = Instant::now();
        for node in [1, 2, 3] {
            disks(stage)?.empty(node)?;
        }
        stage.load.wait_for_acks()?;
        stage.number("room to acknowledgements everywhere, ms", begun.elapsed().as_secs_f64() * 1000.0, Some(10_000.0));
        Ok(())
    },
};

/// Breaks a call of a leader and waits until others lead; the node may end, and is started again.
fn failing(stage: &mut Stage, calls: &str, what: &str) -> Result<()> {
    stage.spread(&[1, 2, 3])?;
    let victim = stage.not_controller(0)?;
    let led = stage.led_by(victim)?;
    let broken = Broken::attach(pid(stage, victim)?, calls, what)?;
    let at = stage.say(&format!("{calls} of node {victim}: {what}"));
    wait_until("a call that fails", Duration::from_secs(60), || broken.has_struck())?;
    let struck = Instant::now();
    until_it_leads_nothing(stage, victim)?;
    stage.number("failure to other leaders, ms", struck.elapsed().as_secs_f64() * 1000.0, Some(3000.0));
    stage.calm()?;
    stage.gap("partitions of the victim", &led, at, Some(4000.0));
    broken.mend()?;
    match stage.cluster.ended(victim)? {
        Some(status) => eprintln!("    node {victim} ended by itself with {status}"),
        // it goes on without its disk until somebody starts it again
        None => stage.cluster.kill(victim)?,
    }
    stage.cluster.up(victim)?;
    stage.recovered()
}

pub(super) const WRITE_ERROR: Row = Row {
    number: 23,
    says: "writing fails with EIO, once and for ever",
    needs: Need::Strace,
    nodes: 3,
    is_short: false,
    run: |stage| {
        for _ in 0..stage.pick(1, 5) {
            failing(stage, "pwrite64,pwritev,pwritev2", "error=EIO:when=2")?;
            failing(stage, "pwrite64,pwritev,pwritev2", "error=EIO:when=2+")?;
        }
        Ok(())
    },
};

pub(super) const SYNC_ERROR: Row = Row {
    number: 24,
    says: "a sync fails once with EIO and would then succeed",
    needs: Need::Strace,
    nodes: 3,
    is_short: false,
    run: |stage| {
        for _ in 0..stage.pick(1, 5) {
            // a write through O_DSYNC is a sync; `when=1` lets every later one succeed
            failing(stage, "pwrite64", "error=EIO:when=1")?;
            failing(stage, "fdatasync,fsync,syncfs", "error=EIO:when=1")?;
        }
        Ok(())
    },
};

/// Files of a partition that are caches of its segments.
const CACHES: [&str; 5] = ["index", "timeindex", "txnindex", "snapshot", "leader-epoch-checkpoint"];

fn caches(stage: &Stage, node: u32, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for partition in all() {
        let folder = stage.cluster.node(node)?.data.join(format!("{TOPIC}-{partition}"));
        for entry in folder.read_dir().with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            if path.display().to_string().ends_with(ending) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

pub(super) const DAMAGED_CACHES: Row = Row {
    number: 31,
    says: "indexes, snapshots and epoch caches are flipped, cut and removed while a node is down",
    needs: Need::Nothing,
    nodes: 3,
    is_short: true,
    run: |stage| {
        let node = stage.not_controller(0)?;
        for way in ["flipped", "cut", "removed"] {
            for ending in CACHES {
                stage.say(&format!("node {node}: {ending} {way}"));
                stage.cluster.stop(node)?;
                for file in caches(stage, node, ending)? {
                    let mut bytes = std::fs::read(&file)?;
                    match way {
                        "removed" => std::fs::remove_file(&file)?,
                        "cut" => std::fs::write(&file, bytes.get(..bytes.len() * 2 / 3).unwrap_or_default())?,
                        _ => {
                            let middle = bytes.len() / 2;
                            bytes.iter_mut().skip(middle).take(4).for_each(|byte| *byte ^= 0x55);
                            std::fs::write(&file, bytes)?;
                        }
                    }
                }
                let begun = Instant::now();
                stage.cluster.up(node)?;
                let took = begun.elapsed().as_secs_f64() * 1000.0;
                stage.number(&format!("start with {ending} {way}, ms"), took, None);
                stage.wait_isr(3)?;
                if stage.is_short {
                    break; // one kind of file for each way
                }
            }
        }
        Ok(())
    },
};

pub(super) const WIPED: Row = Row {
    number: 34,
    says: "a node's disk is wiped, and it is started again under its id",
    needs: Need::Nothing,
    nodes: 3,
    is_short: true,
    run: |stage| {
        for turn in 0..stage.pick(1, 5) {
            let node = if turn % 3 == 2 { stage.controller()? } else { stage.not_controller(turn)? };
            let at = stage.say(&format!("node {node} is killed and wiped"));
            stage.cluster.kill(node)?;
            std::fs::remove_dir_all(&stage.cluster.node(node)?.data)?;
            let begun = Instant::now();
            stage.cluster.up(node)?;
            stage.recovered()?;
            stage.number(
                "start to complete in-sync replicas, ms",
                begun.elapsed().as_secs_f64() * 1000.0,
                Some(60_000.0),
            );
            stage.gap("all partitions", &all(), at, Some(1000.0));
        }
        Ok(())
    },
};
