//! The row `groups`: how long a group takes from one member to three, and what many idle members cost.
//!
//! Owns what is run and what is asked of it. The classic protocol is spoken by librdkafka, the consumer protocol by `members`, to both
//! servers alike. Invariant: members beat as the server tells them, so that a server's own intervals are part of what is measured.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::members::Member;
use crate::pair::Pair;
use crate::process;
use crate::rows::{Bench, number};
use crate::servers::{Kind, Server};
use crate::table::Report;
use crate::wire;

const TOPIC: &str = "g";
const PARTITIONS: usize = 12;
const SETTLE_MAX: Duration = Duration::from_secs(120);
/// A group at rest: all intervals have passed at least once.
const AT_REST: Duration = Duration::from_secs(7);

pub fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let (mut consumer, mut classic) = (Pair::default(), Pair::default());
    let (mut one_group, mut many_groups) = (Pair::default(), Pair::default());
    let (idle, seconds) = (usize::try_from(bench.count(1_000))?, (20 / bench.shrink).max(10));
    for kind in bench.kinds(Kind::Kafka) {
        let (server, is_weir) = (bench.start(kind)?, kind == Kind::Weir);
        wire::create_topic(server.address, TOPIC, i32::try_from(PARTITIONS)?, &[])?;
        // the first of all makes the coordinator's topic, and is not counted
        for run in 0..=bench.runs {
            let took = one_to_three(&server, run)?;
            let properties = [format!("group.id=classic-{run}")];
            let properties: Vec<&str> = properties.iter().map(String::as_str).collect();
            let span = bench.span(&server, "group", TOPIC, &["-n".into(), "3".into()], &properties)?;
            if run > 0 {
                consumer.push(is_weir, took.as_secs_f64());
                classic.push(is_weir, number(&span.answer, "seconds")?);
            }
        }
        let members = |groups: usize| -> Result<Vec<Member>> {
            let group = move |at: usize| format!("idle-{groups}-{}", at % groups);
            (0..idle).map(|at| Member::join(server.address, &group(at), at as u128 + 1, TOPIC)).collect()
        };
        one_group.push(is_weir, idle_cost(&server, members(1)?, seconds)?);
        many_groups.push(is_weir, idle_cost(&server, members(idle)?, seconds)?);
    }
    let says = format!("{PARTITIONS} partitions, 1 to 3 members");
    report.add(consumer.median_at_most(&format!("{says}, consumer protocol"), "s", 1.0));
    report.add(classic.no_slower(&format!("{says}, classic protocol (librdkafka)"), "s", 0.02));
    report.add(one_group.median_at_most(&format!("CPU of {idle} idle members of one group"), "%", 5.0));
    report.add(many_groups.median_at_most(&format!("CPU of {idle} groups of one idle member"), "%", 5.0));
    Ok(())
}

/// Lets members beat until `is_done` holds; how long that took.
fn turns(members: &mut [Member], limit: Duration, mut is_done: impl FnMut(&[Member]) -> bool) -> Result<Duration> {
    let begun = Instant::now();
    while !is_done(members) {
        ensure!(begun.elapsed() < limit, "members have {:?} partitions after {limit:?}", shares(members));
        let mut any = false;
        for member in members.iter_mut() {
            any |= member.turn()?;
        }
        if !any {
            let next = members.iter().map(Member::due).min().unwrap_or_else(Instant::now);
            std::thread::sleep(next.saturating_duration_since(Instant::now()).min(Duration::from_millis(5)));
        }
    }
    Ok(begun.elapsed())
}

fn shares(members: &[Member]) -> Vec<usize> {
    members.iter().map(Member::owned).filter(|owned| *owned > 0).collect()
}

fn one_to_three(server: &Server, run: usize) -> Result<Duration> {
    let group = format!("consumer-{run}");
    let mut members = vec![Member::join(server.address, &group, 1, TOPIC)?];
    turns(&mut members, SETTLE_MAX, |members| shares(members) == [PARTITIONS])?;
    // two come in the midst of the first one's interval, another midst in each run
    let until = Instant::now() + AT_REST + Duration::from_millis(700 * run as u64);
    turns(&mut members, SETTLE_MAX, |_| Instant::now() >= until)?;
    let begun = Instant::now();
    for id in [2, 3] {
        members.push(Member::join(server.address, &group, id, TOPIC)?);
    }
    turns(&mut members, SETTLE_MAX, |members| shares(members) == [PARTITIONS / 3; 3])?;
    Ok(begun.elapsed())
}

/// Percent of a core that the server uses while nothing happens but heartbeats.
fn idle_cost(server: &Server, mut members: Vec<Member>, seconds: u64) -> Result<f64> {
    let until = Instant::now() + AT_REST;
    turns(&mut members, SETTLE_MAX, |_| Instant::now() >= until)?;
    let (cpu, begun) = (process::cpu_seconds_fine(server.pid())?, Instant::now());
    turns(&mut members, SETTLE_MAX, |_| begun.elapsed() >= Duration::from_secs(seconds))?;
    Ok(100.0 * (process::cpu_seconds_fine(server.pid())? - cpu) / begun.elapsed().as_secs_f64())
}
