//! Rows that end, stop and start processes.

use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;

use super::stage::{PARTITIONS, TOPIC};
use super::{Need, Row};
use crate::load::now;
use crate::program::{unique, wait_until};

const ANSWER_MAX: Duration = Duration::from_secs(120);

fn all() -> Vec<i32> {
    (0..PARTITIONS).collect()
}

pub(super) const KILL_LEADER: Row = Row {
    number: 1,
    says: "kill -9 of a leader",
    needs: Need::Nothing,
    nodes: 3,
    is_short: true,
    run: |stage| {
        for turn in 0..stage.pick(1, 20) {
            stage.spread(&[1, 2, 3])?;
            let victim = if turn % 3 == 2 { stage.controller()? } else { stage.not_controller(turn)? };
            let led = stage.led_by(victim)?;
            let at = stage.say(&format!("kill -9 of node {victim}"));
            stage.cluster.kill(victim)?;
            stage.calm()?;
            stage.gap("partitions of the victim", &led, at, Some(1000.0));
            stage.cluster.up(victim)?;
            stage.recovered()?;
        }
        Ok(())
    },
};

pub(super) const STOP_LEADER: Row = Row {
    number: 2,
    says: "SIGTERM of a leader",
    needs: Need::Nothing,
    nodes: 3,
    is_short: true,
    run: |stage| {
        for turn in 0..stage.pick(1, 10) {
            stage.spread(&[1, 2, 3])?;
            let victim = if turn % 3 == 2 { stage.controller()? } else { stage.not_controller(turn)? };
            let led = stage.led_by(victim)?;
            let at = stage.say(&format!("SIGTERM of node {victim}"));
            let took = stage.cluster.stop(victim)?;
            stage.calm()?;
            stage.gap("partitions of the victim", &led, at, Some(300.0));
            stage.number("SIGTERM to the end of the process, ms", took.as_secs_f64() * 1000.0, None);
            stage.cluster.up(victim)?;
            stage.recovered()?;
        }
        Ok(())
    },
};

pub(super) const KILL_FOLLOWER: Row = Row {
    number: 3,
    says: "kill -9 of a follower",
    needs: Need::Nothing,
    nodes: 3,
    is_short: true,
    run: |stage| {
        for turn in 0..stage.pick(1, 10) {
            let victim = stage.not_controller(turn)?;
            let others: Vec<u32> = [1, 2, 3].into_iter().filter(|id| *id != victim).collect();
            stage.spread(&others)?;
            let at = stage.say(&format!("kill -9 of node {victim}, which leads nothing"));
            stage.cluster.kill(victim)?;
            stage.calm()?;
            stage.gap("all partitions", &all(), at, Some(200.0));
            stage.cluster.up(victim)?;
            stage.recovered()?;
        }
        Ok(())
    },
};

pub(super) const KILL_CONTROLLER: Row = Row {
    number: 4,
    says: "kill -9 of the controller, which leads nothing",
    needs: Need::Nothing,
    nodes: 3,
    is_short: true,
    run: |stage| {
        for _ in 0..stage.pick(1, 20) {
            let victim = stage.controller()?;
            let others: Vec<u32> = [1, 2, 3].into_iter().filter(|id| *id != victim).collect();
            stage.spread(&others)?;
            let at = stage.say(&format!("kill -9 of node {victim}, the controller"));
            stage.cluster.kill(victim)?;
            let begun = Instant::now();
            let (admin, name) = (stage.cluster.admin(), format!("after-{}", unique()));
            wait_until("a topic created by the next controller", ANSWER_MAX, || {
                Ok(admin.create_topic(&name, 1, 2, &[]).is_ok())
            })?;
            stage.number("time until a topic is created, ms", begun.elapsed().as_secs_f64() * 1000.0, Some(3000.0));
            stage.calm()?;
            stage.gap("all partitions", &all(), at, Some(200.0));
            stage.cluster.up(victim)?;
            stage.recovered()?;
        }
        Ok(())
    },
};

pub(super) const KILL_ALL: Row = Row {
    number: 5,
    says: "kill -9 of all nodes at once",
    needs: Need::Nothing,
    nodes: 3,
    is_short: true,
    run: |stage| {
        for round in 0..stage.pick(1, 20) {
            stage.say(&format!("kill -9 of all, round {round}"));
            stage.cluster.kill_all()?;
            let begun = Instant::now();
            let ids: Vec<u32> = stage.cluster.nodes.keys().copied().collect();
            ids.iter().try_for_each(|id| stage.cluster.launch(*id))?;
            let admin = stage.cluster.admin();
            wait_until("every partition answers", ANSWER_MAX, || {
                let Ok(partitions) = admin.partitions(TOPIC) else { return Ok(false) };
                Ok(partitions.iter().all(|partition| admin.latest(TOPIC, partition).is_ok()))
            })?;
            stage.number("start to every partition answers, ms", begun.elapsed().as_secs_f64() * 1000.0, Some(2000.0));
            ids.iter().try_for_each(|id| stage.cluster.wait_ready(*id))?;
            stage.recovered()?;
        }
        Ok(())
    },
};

pub(super) const PAUSE_LEADER: Row = Row {
    number: 7,
    says: "SIGSTOP of a leader, SIGCONT later",
    needs: Need::Nothing,
    nodes: 3,
    is_short: true,
    run: |stage| {
        let times: &[u64] = stage.pick(&[3], &[1, 5, 30, 1, 5, 5]);
        for (turn, seconds) in times.iter().enumerate() {
            stage.spread(&[1, 2, 3])?;
            let victim = if turn % 3 == 2 { stage.controller()? } else { stage.not_controller(turn)? };
            let led = stage.led_by(victim)?;
            let at = stage.say(&format!("SIGSTOP of node {victim} for {seconds} s"));
            stage.cluster.signal(victim, Signal::STOP)?;
            std::thread::sleep(Duration::from_secs(*seconds));
            stage.cluster.signal(victim, Signal::CONT)?;
            stage.say(&format!("SIGCONT of node {victim}"));
            stage.recovered()?;
            stage.gap(&format!("partitions of the victim, {seconds} s"), &led, at, Some(4000.0));
        }
        Ok(())
    },
};

pub(super) const PAUSE_ALL: Row = Row {
    number: 8,
    says: "SIGSTOP of all nodes, SIGCONT later",
    needs: Need::Nothing,
    nodes: 3,
    is_short: false,
    run: |stage| {
        let seconds = stage.pick(4, 10);
        for _ in 0..stage.pick(1, 5) {
            let (epochs, ids) = (stage.epochs()?, stage.cluster.nodes.keys().copied().collect::<Vec<u32>>());
            stage.say(&format!("SIGSTOP of all for {seconds} s"));
            ids.iter().try_for_each(|id| stage.cluster.signal(*id, Signal::STOP))?;
            std::thread::sleep(Duration::from_secs(seconds));
            ids.iter().try_for_each(|id| stage.cluster.signal(*id, Signal::CONT))?;
            let at = stage.say("SIGCONT of all");
            stage.load.wait_for_acks()?;
            let took = (now() - at) as f64 / 1e6;
            stage.number("SIGCONT to acknowledgements everywhere, ms", took, Some(3000.0));
            stage.recovered()?;
            let changes = f64::from(stage.epochs()? - epochs) / f64::from(PARTITIONS);
            stage.number("leader changes a partition", changes, Some(2.0));
        }
        Ok(())
    },
};

pub(super) const RESTART_LOOP: Row = Row {
    number: 39,
    says: "one node killed every 3 s",
    needs: Need::Nothing,
    nodes: 3,
    is_short: false,
    run: |stage| {
        let victim = stage.not_controller(0)?;
        let others: Vec<u32> = [1, 2, 3].into_iter().filter(|id| *id != victim).collect();
        stage.spread(&others)?;
        let (size, at) = (size_of(&stage.cluster.node(victim)?.data), stage.say(&format!("node {victim} in a loop")));
        for _ in 0..stage.pick(4, 20) {
            stage.cluster.kill(victim)?;
            stage.cluster.launch(victim)?;
            std::thread::sleep(Duration::from_secs(3));
        }
        stage.cluster.wait_ready(victim)?;
        stage.gap("all partitions", &all(), at, Some(1000.0));
        stage.recovered()?;
        let grown = size_of(&stage.cluster.node(victim)?.data) as f64 / size.max(1) as f64;
        stage.number("bytes in the node's folder, times those before", grown, None);
        Ok(())
    },
};

/// Bytes of all files in a folder; one that goes meanwhile counts nothing.
fn size_of(folder: &std::path::Path) -> u64 {
    let entries = folder.read_dir().into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size_of(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

pub(super) const ROLLING: Row = Row {
    number: 40,
    says: "rolling restart",
    needs: Need::Nothing,
    nodes: 3,
    is_short: true,
    run: |stage| {
        for _ in 0..stage.pick(1, 3) {
            for id in stage.cluster.nodes.keys().copied().collect::<Vec<u32>>() {
                let at = stage.say(&format!("node {id} is restarted"));
                stage.cluster.stop(id)?;
                stage.cluster.up(id)?;
                stage.recovered()?;
                stage.gap("all partitions", &all(), at, Some(500.0));
            }
        }
        Ok(())
    },
};
