//! kill -9 under load at random moments: acks=all, an idempotent producer (librdkafka), six partitions.
//!
//! No acked record is lost, none is there twice, each partition keeps the order in which it was written to.
//! `WEIR_COMPAT_KILLS=50 cargo test -p compat-tests --test kill9` for the long run; 10 kills unless told otherwise.
//! The moments come from a seed, which is printed: `WEIR_COMPAT_SEED` repeats them.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::broker::Broker;
use compat_tests::paths;
use compat_tests::program::{Program, run, unique, wait_until};

const PARTITIONS: usize = 6;
const STEP_MAX: Duration = Duration::from_secs(60);
const END_MAX: Duration = Duration::from_secs(300);
/// The latest moment of a kill, counted from the first ack after the start.
const MOMENT_MAX: Duration = Duration::from_millis(800);

fn number_from(variable: &str, otherwise: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text} is not a number")),
        Err(_) => Ok(otherwise),
    }
}

fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(paths::suites().join("kill9/run.sh"));
    command.args(arguments).env("CARGO_TARGET_DIR", paths::target()?);
    Ok(command)
}

/// A moment up to `MOMENT_MAX`; splitmix64, so that any seed will do.
fn moment(state: &mut u64) -> Duration {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let micros = (mixed ^ (mixed >> 31)) % u64::try_from(MOMENT_MAX.as_micros()).unwrap_or(1);
    Duration::from_micros(micros)
}

/// Waits for an ack that the broker gave after this call.
fn wait_for_acks(producer: &mut Program, output: &mut File) -> Result<()> {
    let mut seen = String::new();
    output.read_to_string(&mut seen)?;
    wait_until("an ack after the restart", STEP_MAX, || {
        if let Some(status) = producer.has_ended()? {
            anyhow::bail!("the producer ended with {status}");
        }
        Ok(output.read_to_string(&mut seen)? > 0)
    })
    .with_context(|| producer.tail())
}

/// The numbers in lines of three words, of which the first may be `word`.
fn triples<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = Vec<usize>> + 'a {
    let lines = text.lines().filter_map(move |line| line.strip_prefix(word));
    lines.map(|line| line.split_whitespace().filter_map(|number| number.parse().ok()).collect())
}

/// Every record that was sent is in its partition exactly once and in order, at the offset of its ack.
fn check(acks: &str, read: &str) -> Result<()> {
    let mut logs = vec![Vec::new(); PARTITIONS];
    for row in triples(read, "") {
        let [partition, offset, number] = row[..] else { continue };
        ensure!(
            logs[partition].len() == offset,
            "partition {partition}: {} is followed by {offset}",
            logs[partition].len()
        );
        logs[partition].push(number);
    }
    let mut acked = 0;
    for row in triples(acks, "acked ") {
        let [partition, offset, number] = row[..] else { continue };
        let found = logs[partition].get(offset);
        ensure!(found == Some(&number), "partition {partition}: {number} was acked at {offset}, there is {found:?}");
        acked += 1;
    }
    let mut sent_in_all = 0;
    for row in triples(acks, "sent ") {
        let [partition, sent] = row[..] else { continue };
        let log = &logs[partition];
        let odd = log.iter().enumerate().find(|(at, number)| at != *number);
        ensure!(odd.is_none(), "partition {partition}: not each record once and in order: {odd:?} (offset, number)");
        ensure!(
            log.len() == sent,
            "partition {partition}: {sent} records were sent and acked, {} are there",
            log.len()
        );
        sent_in_all += sent;
    }
    ensure!(acked > 0 && acked == sent_in_all, "{acked} acks for {sent_in_all} records");
    println!("{acked} records acked and found");
    Ok(())
}

#[test]
fn no_acked_record_is_lost_doubled_or_moved_by_kill_9() -> Result<()> {
    let (kills, seed) = (number_from("WEIR_COMPAT_KILLS", 10)?, number_from("WEIR_COMPAT_SEED", unique())?);
    println!("WEIR_COMPAT_KILLS={kills} WEIR_COMPAT_SEED={seed}");
    let folder = tempfile::tempdir()?;
    let mut broker = Broker::on_data("kill9", folder.path(), &[])?;
    let topic = format!("kill9-{}", unique());
    let partitions = PARTITIONS.to_string();
    let address = broker.kafka.clone();
    let mut load = command(&["produce", &address, &topic, &partitions])?;
    let mut producer = Program::start("kill9-producer", load.stdin(Stdio::piped()))?;
    let mut output = File::open(&producer.stdout)?;
    let mut state = seed;
    for kill in 1..=kills {
        wait_for_acks(&mut producer, &mut output).with_context(|| format!("before kill {kill}, seed {seed}"))?;
        std::thread::sleep(moment(&mut state));
        broker.kill_and_restart().with_context(|| format!("kill {kill}, seed {seed}"))?;
    }
    wait_for_acks(&mut producer, &mut output)?;
    producer.close_input();
    let status = producer.wait(END_MAX)?;
    ensure!(status.success(), "seed {seed}: the producer ended with {status}\n{}", producer.tail());
    let (read, status) = run("kill9-read", &mut command(&["read", &address, &topic, &partitions])?, "", END_MAX)?;
    ensure!(status.success(), "seed {seed}: reading ended with {status}\n{}", read.tail());
    check(&producer.output()?, &read.output()?).with_context(|| format!("seed {seed}, {kills} kills"))
}

#[test]
fn the_check_finds_a_lost_a_doubled_and_a_moved_record() {
    let acks = "acked 0 0 0\nacked 0 1 1\nsent 0 2\n";
    assert!(check(acks, "0 0 0\n0 1 1\n").is_ok());
    for (what, read) in [("lost", "0 0 0\n"), ("doubled", "0 0 0\n0 1 0\n0 2 1\n"), ("moved", "0 0 1\n0 1 0\n")] {
        assert!(check(acks, read).is_err(), "{what}");
    }
    assert!(check("acked 0 0 0\nsent 0 1\n", "0 0 0\n0 1 0\n").is_err(), "doubled at the end");
}
