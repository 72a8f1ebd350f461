//! Rows about clocks, and about what an operator does under load.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::stage::{PARTITIONS, Stage, TOPIC};
use super::{Need, Row};
use crate::cluster::Place;
use crate::failover::place_leaders;
use crate::program::wait_until;

const MOVED_MAX: Duration = Duration::from_secs(120);

fn all() -> Vec<i32> {
    (0..PARTITIONS).collect()
}

pub(super) const CLOCKS: Row = Row {
    number: 38,
    says: "the clock of one node jumps by a day, back and forth, and by half a second",
    needs: Need::Clocks,
    nodes: 3,
    is_short: false,
    run: |stage| {
        for turn in 0..stage.pick(1, 5) {
            for to in ["-1d", "+0", "+1d", "+0", "+0.5", "-0.5", "+0"] {
                let node = if turn % 2 == 1 { stage.controller()? } else { stage.not_controller(turn)? };
                let epochs = stage.epochs()?;
                let at = stage.say(&format!("the clock of node {node} is {to} from the true one"));
                stage.clocks.as_ref().context("the row was set without clocks")?.jump(node, to)?;
                std::thread::sleep(Duration::from_secs(stage.pick(4, 12)));
                stage.calm()?;
                stage.gap(&format!("clock {to}"), &all(), at, Some(500.0));
                let changes = f64::from(stage.epochs()? - epochs);
                stage.number(&format!("leader changes, clock {to}"), changes, Some(0.0));
            }
        }
        Ok(())
    },
};

/// Waits until each partition has exactly these replicas, all of them in sync.
fn until_replicas_are(stage: &Stage, wanted: &[Vec<u32>]) -> Result<()> {
    let admin = stage.cluster.admin();
    let mut last = Vec::new();
    wait_until("a reassignment has ended", MOVED_MAX, || {
        last = admin.partitions(TOPIC)?;
        Ok(last.iter().zip(wanted).all(|(partition, wanted)| {
            let same = |ids: &[u32]| ids.len() == wanted.len() && wanted.iter().all(|id| ids.contains(id));
            same(&partition.replicas) && same(&partition.isr)
        }))
    })
    .with_context(|| format!("wanted {wanted:?}, last {last:?}"))
}

/// Each partition on all nodes but one, and that one turns.
fn targets(nodes: &[u32], turn: usize) -> Vec<Vec<u32>> {
    let without = |partition: usize| {
        let left_out = nodes.get((partition + turn) % nodes.len()).copied();
        let mut kept: Vec<u32> = nodes.iter().copied().filter(|id| Some(*id) != left_out).collect();
        let first = partition % kept.len();
        kept.rotate_left(first);
        kept
    };
    (0..usize::try_from(PARTITIONS).unwrap_or(0)).map(without).collect()
}

fn reassign(stage: &Stage, wanted: &[Vec<u32>]) -> Result<()> {
    let targets: Vec<(i32, Option<Vec<u32>>)> = (0..).zip(wanted.iter().cloned().map(Some)).collect();
    stage.cluster.admin().reassign(TOPIC, &targets)
}

pub(super) const REASSIGN: Row = Row {
    number: 42,
    says: "replicas are reassigned; a leader is killed meanwhile; a reassignment is cancelled",
    needs: Need::Nothing,
    nodes: 4,
    is_short: false,
    run: |stage| {
        let nodes = [1, 2, 3, 4];
        for turn in 0..stage.pick(2, 10) {
            let wanted = targets(&nodes, turn);
            let at = stage.say(&format!("reassign to {wanted:?}"));
            reassign(stage, &wanted)?;
            let leader = stage.partitions()?.first().and_then(|partition| partition.leader).context("no leader")?;
            let victim = (turn % 2 == 1).then_some(leader);
            if let Some(victim) = victim {
                stage.say(&format!("kill -9 of node {victim} meanwhile"));
                stage.cluster.kill(victim)?;
                stage.load.wait_for_acks()?;
                stage.cluster.up(victim)?;
            }
            until_replicas_are(stage, &wanted)?;
            stage.recovered()?;
            stage.gap("reassignment", &all(), at, Some(if victim.is_none() { 500.0 } else { 1500.0 }));
        }
        let before: Vec<Vec<u32>> = stage.partitions()?.into_iter().map(|partition| partition.replicas).collect();
        let away = targets(&nodes, 7);
        stage.say("reassign, then cancel");
        reassign(stage, &away)?;
        let cancel: Vec<(i32, Option<Vec<u32>>)> = all().into_iter().map(|index| (index, None)).collect();
        stage.cluster.admin().reassign(TOPIC, &cancel)?;
        // each partition is where it was, or was already where it should go
        wait_until("the cancelled reassignment is over", MOVED_MAX, || {
            let now = stage.partitions()?;
            Ok(now.iter().zip(before.iter().zip(&away)).all(|(partition, (before, away))| {
                let same = |ids: &[u32]| ids.len() == 3 && partition.replicas.iter().all(|id| ids.contains(id));
                partition.replicas.len() == 3 && (same(before) || same(away))
            }))
        })
    },
};

pub(super) const MEMBERS: Row = Row {
    number: 43,
    says: "nodes are added, decommissioned and removed",
    needs: Need::Nothing,
    nodes: 3,
    is_short: false,
    run: |stage| {
        let (begun, length) = (Instant::now(), Duration::from_secs(stage.pick(20, 180)));
        while begun.elapsed() < length {
            let at = stage.say("a node is added");
            let added = stage.cluster.add(Place::default())?;
            stage.cluster.wait_for_members(stage.cluster.nodes.values().filter(|node| node.is_running()).count())?;
            let members: Vec<u32> =
                stage.cluster.nodes.values().filter(|node| node.is_running()).map(|n| n.id).collect();
            ensure!(members.contains(&added) && members.len() == 4, "members {members:?}");
            // what the cluster gives it by itself would come behind an order; this waits until it has its share
            stage.cluster.node_command(added, &["add", &added.to_string(), "--timeout", "90"])?;
            // the new one gets replicas, then takes the place of another, the vote of which goes too
            reassign(stage, &targets(&members, 0))?;
            until_replicas_are(stage, &targets(&members, 0))?;
            let leaving = members.iter().copied().find(|id| *id != added).context("four nodes")?;
            stage.say(&format!("node {leaving} is decommissioned, stopped and removed"));
            let id = leaving.to_string();
            stage.cluster.node_command(added, &["decommission", &id, "--timeout", "90"])?;
            stage.cluster.stop(leaving)?;
            stage.cluster.nodes.remove(&leaving);
            stage.recovered()?;
            wait_until("the cluster forgets the node", MOVED_MAX, || {
                Ok(stage.cluster.node_command(added, &["remove", &id, "--timeout", "10"]).is_ok())
            })?;
            stage.gap("one node replaced by another", &all(), at, Some(1000.0));
        }
        Ok(())
    },
};

pub(super) const PING_PONG: Row = Row {
    number: 44,
    says: "leaders are moved every 500 ms",
    needs: Need::Nothing,
    nodes: 3,
    is_short: true,
    run: |stage| {
        let (begun, length) = (Instant::now(), Duration::from_secs(stage.pick(5, 60)));
        let at = stage.say("leaders are moved every 500 ms");
        let mut moves = 0.0;
        for turn in 0u32.. {
            if begun.elapsed() >= length {
                break;
            }
            let wanted: Vec<u32> = (0..PARTITIONS.unsigned_abs()).map(|partition| 1 + (partition + turn) % 3).collect();
            let next = begun + Duration::from_millis(500) * (turn + 1);
            place_leaders(&stage.cluster, TOPIC, &wanted)?;
            moves += 1.0;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        stage.number("moves of all leaders", moves, None);
        stage.gap("all partitions", &all(), at, Some(200.0));
        Ok(())
    },
};
