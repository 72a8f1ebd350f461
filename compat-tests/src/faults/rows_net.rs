//! Rows that drop packets between nodes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::net::Net;
use super::stage::{PARTITIONS, Stage};
use super::{Need, Row};

fn all() -> Vec<i32> {
    (0..PARTITIONS).collect()
}

fn net(stage: &Stage) -> Result<&Net> {
    stage.net.as_ref().context("the row was set without namespaces")
}

fn others(stage: &Stage, node: u32) -> Vec<u32> {
    stage.cluster.nodes.keys().copied().filter(|id| *id != node).collect()
}

/// One cut: made, kept, healed; the partitions of the victim and the leader changes are told.
fn cut_for(
    stage: &mut Stage,
    what: &str,
    seconds: u64,
    watched: &[i32],
    limit_ms: f64,
    cut: impl Fn(&Stage) -> Result<()>,
) -> Result<()> {
    let epochs = stage.epochs()?;
    let at = stage.say(&format!("{what} for {seconds} s"));
    cut(stage)?;
    std::thread::sleep(Duration::from_secs(seconds));
    net(stage)?.heal()?;
    stage.say("healed");
    stage.recovered()?;
    stage.gap(what, watched, at, Some(limit_ms));
    let changes = f64::from(stage.epochs()? - epochs) / f64::from(PARTITIONS);
    stage.number(&format!("{what}: leader changes a partition"), changes, None);
    Ok(())
}

pub(super) const LEADER_ALONE: Row = Row {
    number: 10,
    says: "a leader hears nobody, and nobody hears it",
    needs: Need::Network,
    nodes: 3,
    is_short: false,
    run: |stage| {
        for turn in 0..stage.pick(1, 10) {
            stage.spread(&[1, 2, 3])?;
            let victim = if turn % 3 == 2 { stage.controller()? } else { stage.not_controller(turn)? };
            let led = stage.led_by(victim)?;
            let (what, seconds) = (format!("node {victim} cut from all"), stage.pick(8, 30));
            cut_for(stage, &what, seconds, &led, 5000.0, |stage| net(stage)?.cut_from_all(victim))?;
        }
        Ok(())
    },
};

pub(super) const ONE_WAY: Row = Row {
    number: 12,
    says: "packets of a leader pass in one direction only",
    needs: Need::Network,
    nodes: 3,
    is_short: false,
    run: |stage| {
        for turn in 0..stage.pick(1, 5) {
            let seconds = stage.pick(6, 15);
            for is_deaf in [true, false] {
                stage.spread(&[1, 2, 3])?;
                let victim = if turn % 2 == 1 { stage.controller()? } else { stage.not_controller(turn)? };
                let (led, peers) = (stage.led_by(victim)?, others(stage, victim));
                let what = if is_deaf { "is deaf to the others" } else { "is not heard by the others" };
                cut_for(stage, &format!("node {victim} {what}"), seconds, &led, 5000.0, |stage| {
                    peers.iter().try_for_each(|peer| {
                        if is_deaf { net(stage)?.deafen(victim, *peer) } else { net(stage)?.deafen(*peer, victim) }
                    })
                })?;
            }
        }
        Ok(())
    },
};

pub(super) const PARTIAL: Row = Row {
    number: 13,
    says: "two nodes are cut from each other, the third sees both",
    needs: Need::Network,
    nodes: 3,
    is_short: false,
    run: |stage| {
        for turn in 0..stage.pick(1, 10) {
            stage.spread(&[1, 2, 3])?;
            let one = stage.not_controller(0)?;
            let other = if turn % 2 == 1 { stage.controller()? } else { stage.not_controller(1)? };
            let what = format!("nodes {one} and {other} cut from each other");
            cut_for(stage, &what, stage.pick(8, 15), &all(), 5000.0, |stage| net(stage)?.cut(one, other))?;
        }
        Ok(())
    },
};

pub(super) const CUT_FROM_PEERS: Row = Row {
    number: 14,
    says: "a leader is cut from its peers, clients still reach it",
    needs: Need::Network,
    nodes: 3,
    is_short: false,
    run: |stage| {
        for turn in 0..stage.pick(1, 10) {
            stage.spread(&[1, 2, 3])?;
            let victim = if turn % 3 == 2 { stage.controller()? } else { stage.not_controller(turn)? };
            let (led, peers) = (stage.led_by(victim)?, others(stage, victim));
            cut_for(stage, &format!("node {victim} cut from its peers"), stage.pick(8, 15), &led, 5000.0, |stage| {
                peers.iter().try_for_each(|peer| net(stage)?.cut(victim, *peer))
            })?;
        }
        Ok(())
    },
};

pub(super) const FLAPPING: Row = Row {
    number: 15,
    says: "a node's links to its peers come and go every second",
    needs: Need::Network,
    nodes: 3,
    is_short: false,
    run: |stage| {
        let (victim, length) = (stage.not_controller(0)?, Duration::from_secs(stage.pick(10, 60)));
        let (peers, epochs) = (others(stage, victim), stage.epochs()?);
        let at = stage.say(&format!("node {victim} flaps for {} s", length.as_secs()));
        let begun = Instant::now();
        while begun.elapsed() < length {
            peers.iter().try_for_each(|peer| net(stage)?.cut(victim, *peer))?;
            std::thread::sleep(Duration::from_secs(1));
            net(stage)?.heal()?;
            std::thread::sleep(Duration::from_secs(1));
        }
        stage.recovered()?;
        stage.gap("all partitions", &all(), at, None);
        let changes = f64::from(stage.epochs()? - epochs) / f64::from(PARTITIONS);
        stage.number("leader changes a partition in 10 s", changes / (length.as_secs_f64() / 10.0), Some(1.0));
        Ok(())
    },
};
