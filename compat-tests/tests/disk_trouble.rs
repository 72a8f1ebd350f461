//! Disk trouble of one node as a real process: a small file system that is full to its last byte, and system calls that fail.
//!
//! Needs root (`mount`, `strace` on a running process); without it the tests fail and name the command that failed.
//! What must hold is design.md's "disk trouble is a state": a full disk refuses produces alone and heals by itself; a file that fails
//! takes its own log offline; a journal that fails ends the process, since it holds the metadata. Nothing acknowledged is lost, ever.

#[path = "attacks/batch.rs"]
#[expect(dead_code, reason = "the attacks use the rest")]
mod batch;
#[path = "attacks/requests.rs"]
#[expect(dead_code, reason = "the attacks use the rest")]
mod requests;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use compat_tests::broker::Broker;
use compat_tests::faults::inject::{Broken, SmallDisk, packages};
use compat_tests::paths;
use compat_tests::program::wait_until;
use compat_tests::raw::{Client, http_get};

use batch::{Batch, Record};

/// `KAFKA_STORAGE_ERROR`.
const STORAGE_ERROR: i16 = 56;
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The promise: so long after there is room again, writing goes on.
const HEALED_MAX: Duration = Duration::from_secs(10);

/// A topic with one partition, and what was acknowledged in it: the value at each offset.
struct Journal {
    topic: String,
    acked: Vec<(i64, Vec<u8>)>,
    sent: usize,
}

impl Journal {
    fn create(client: &mut Client, topic: &str) -> Result<Journal> {
        requests::create_topic(client, topic, 1, &[])?;
        Ok(Journal { topic: topic.to_owned(), acked: Vec::new(), sent: 0 })
    }

    /// Writes one record of so many bytes with acks=all; the error that it was answered with.
    fn produce(&mut self, client: &mut Client, bytes: usize) -> Result<i16> {
        let mut value = format!("{} {}:", self.topic, self.sent).into_bytes();
        self.sent += 1;
        value.resize(bytes.max(value.len()), b'.');
        let batch = Batch::of(&[Record::of(b"k", &value)]).encode();
        let produced = requests::produce(client, self.topic.as_bytes(), 0, &batch)?;
        if produced.error == 0 {
            self.acked.push((produced.base_offset, value));
        }
        Ok(produced.error)
    }

    fn must_produce(&mut self, client: &mut Client, bytes: usize) -> Result<()> {
        let error = self.produce(client, bytes)?;
        ensure!(error == 0, "{}: a produce was answered with {error}", self.topic);
        Ok(())
    }

    /// Reads back every acknowledged record, each at its own offset.
    fn check(&self, client: &mut Client) -> Result<()> {
        for (offset, value) in &self.acked {
            // one batch, however small the bound is
            let read = requests::fetch(client, self.topic.as_bytes(), 0, *offset, 1)?;
            ensure!(read.error == 0, "{} at {offset}: error {}", self.topic, read.error);
            let is_there = read.records.windows(value.len()).any(|window| window == value);
            ensure!(is_there, "{} at {offset}: an acknowledged record is lost", self.topic);
        }
        Ok(())
    }

    /// Writes until it is let in again, within the promise; refusals meanwhile must be what clients retry.
    fn wait_healed(&mut self, client: &mut Client, since: Instant) -> Result<()> {
        wait_until("writing goes on by itself", HEALED_MAX, || {
            let error = self.produce(client, 100)?;
            ensure!(error == 0 || error == STORAGE_ERROR, "{}: error {error} while healing", self.topic);
            Ok(error == 0)
        })?;
        println!("{}: writing again {} ms after there was room", self.topic, since.elapsed().as_millis());
        Ok(())
    }
}

/// Everything but produces: reads of all that was acknowledged, offsets, commits, metadata.
fn check_alive(client: &mut Client, journal: &Journal, commit: i64) -> Result<()> {
    journal.check(client)?;
    let (error, _) = requests::list_offset(client, journal.topic.as_bytes(), 0, -1)?;
    ensure!(error == 0, "ListOffsets: error {error}");
    let committed = requests::commit(client, "group", &[(journal.topic.as_bytes(), 0, commit)])?;
    ensure!(committed == [0], "a commit on a full disk: {committed:?}");
    let known = requests::committed(client, "group", journal.topic.as_bytes(), 0)?;
    ensure!(known == commit, "committed {commit}, found {known}");
    Ok(())
}

/// Writes large records until one is refused for want of room.
fn write_until_refused(client: &mut Client, journal: &mut Journal, disk_bytes: usize) -> Result<()> {
    const LARGE: usize = 1 << 19;
    for _ in 0..disk_bytes / LARGE {
        let error = journal.produce(client, LARGE)?;
        if error != 0 {
            ensure!(error == STORAGE_ERROR, "a full disk was answered with {error}");
            return Ok(());
        }
    }
    anyhow::bail!("{disk_bytes} bytes went onto a disk of that size, and none was refused")
}

/// The value of one of the broker's own figures.
fn figure(broker: &Broker, name: &str) -> Result<String> {
    let metrics = http_get(&broker.http, "/metrics")?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.with_context(|| format!("{name} is not in the metrics"))?.to_owned())
}

/// What `weir doctor` says.
fn doctor(broker: &Broker) -> Result<String> {
    let output = Command::new(paths::weir()?).args(["doctor", "--bootstrap", &broker.kafka]).output()?;
    // 10: it found something.
    let is_told = matches!(output.status.code(), Some(0 | 10)) && !output.stdout.is_empty();
    ensure!(is_told, "the doctor ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Who runs the node sees that its disk is full, and soon after room was made that it is no more.
fn check_told(broker: &Broker, full: bool) -> Result<()> {
    let gauge = if full { "1" } else { "0" };
    wait_until(&format!("weir_disk_full is {gauge}"), HEALED_MAX, || Ok(figure(broker, "weir_disk_full")? == gauge))?;
    for said in [doctor(broker)?, http_get(&broker.http, "/ready")?] {
        ensure!(said.contains("the disk is full") == full, "full: {full}, and it says {said}");
    }
    Ok(())
}

fn delete(client: &mut Client, topic: &str) -> Result<()> {
    let error = requests::delete_topic(client, topic.as_bytes())?;
    ensure!(error == 0, "a delete on a full disk: error {error}");
    Ok(())
}

#[test]
fn a_disk_that_its_own_clients_fill_refuses_them_alone_and_heals_when_a_topic_is_deleted() -> Result<()> {
    const DISK_BYTES: usize = 256 << 20;
    let folder = tempfile::tempdir()?;
    let disk = SmallDisk::mount(folder.path(), &DISK_BYTES.to_string())?;
    let mut broker = Broker::on_data("disk-filled", &disk.folder.join("data"), &[])?;
    let mut client = Client::connect(&broker.kafka)?;
    let mut kept = Journal::create(&mut client, "kept")?;
    let mut large = Journal::create(&mut client, "large")?;
    kept.must_produce(&mut client, 100)?;
    check_alive(&mut client, &kept, 0)?;
    write_until_refused(&mut client, &mut large, DISK_BYTES)?;
    let error = kept.produce(&mut client, 1 << 19)?;
    ensure!(error == STORAGE_ERROR, "a produce to another topic: {error}");
    check_alive(&mut client, &kept, 1)?;
    check_told(&broker, true)?;
    large.check(&mut client)?;
    requests::create_topic(&mut client, "made-meanwhile", 1, &[])?;
    broker.kill_and_restart().context("a start on a full disk")?;
    let mut client = Client::connect(&broker.kafka)?;
    large.check(&mut client)?;
    check_alive(&mut client, &kept, 2)?;
    delete(&mut client, "large")?;
    let since = Instant::now();
    kept.wait_healed(&mut client, since)?;
    check_told(&broker, false)?;
    check_alive(&mut client, &kept, 3)?;
    broker.stop()
}

#[test]
fn a_disk_that_others_fill_to_the_last_byte_under_load_loses_nothing_and_heals() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let disk = SmallDisk::mount(folder.path(), "384m")?;
    let mut broker = Broker::on_data("disk-full", &disk.folder.join("data"), &[])?;
    let mut client = Client::connect(&broker.kafka)?;
    let mut journal = Journal::create(&mut client, "t")?;
    let mut gone = Journal::create(&mut client, "gone")?;
    for _ in 0..20 {
        journal.must_produce(&mut client, 10_000)?;
        gone.must_produce(&mut client, 10_000)?;
    }
    check_alive(&mut client, &journal, 0)?;
    for turn in 0..3 {
        // produces go on while the last bytes vanish below them
        std::thread::scope(|scope| {
            let filling = scope.spawn(|| disk.fill());
            while !filling.is_finished() {
                let error = journal.produce(&mut client, 10_000)?;
                ensure!(error == 0 || error == STORAGE_ERROR, "while the disk fills: error {error}");
            }
            filling.join().expect("filling a disk does not panic")
        })?;
        wait_until("produces are refused", WAIT_MAX, || Ok(journal.produce(&mut client, 10_000)? == STORAGE_ERROR))?;
        check_alive(&mut client, &journal, turn + 1)?;
        if turn == 1 {
            delete(&mut client, "gone")?;
            broker.kill_and_restart().context("a start on a full disk")?;
            client = Client::connect(&broker.kafka)?;
            check_alive(&mut client, &journal, 100)?;
        }
        disk.empty()?;
        let since = Instant::now();
        journal.wait_healed(&mut client, since)?;
        check_alive(&mut client, &journal, turn + 200)?;
    }
    let (error, _) = requests::list_offset(&mut client, b"gone", 0, -1)?;
    ensure!(error != 0, "the topic that was deleted on the full disk is there");
    broker.stop()
}

/// A broker with records in two topics.
struct Bed {
    broker: Broker,
    client: Client,
    one: Journal,
    other: Journal,
    _folder: tempfile::TempDir,
}

fn bed(name: &str) -> Result<Bed> {
    packages("strace")?;
    let folder = tempfile::tempdir()?;
    let broker = Broker::on_data(name, &folder.path().join("data"), &[])?;
    let mut client = Client::connect(&broker.kafka)?;
    let mut one = Journal::create(&mut client, "one")?;
    let mut other = Journal::create(&mut client, "other")?;
    for _ in 0..20 {
        one.must_produce(&mut client, 1_000)?;
        other.must_produce(&mut client, 1_000)?;
    }
    Ok(Bed { broker, client, one, other, _folder: folder })
}

impl Bed {
    fn segment(&self, topic: &str) -> PathBuf {
        self.broker.data.join(format!("{topic}-0")).join("00000000000000000000.log")
    }

    /// Started again, everything acknowledged is there and writing goes on.
    fn check_after_restart(&mut self) -> Result<()> {
        self.broker.up()?;
        self.client = Client::connect(&self.broker.kafka)?;
        for journal in [&mut self.one, &mut self.other] {
            journal.check(&mut self.client)?;
            journal.must_produce(&mut self.client, 1_000)?;
            journal.check(&mut self.client)?;
        }
        self.broker.stop()
    }
}

/// What the journal needs fails under load: the process ends by itself and says why; nothing acknowledged is lost. With `on_segment`
/// only calls on one segment fail, which what is large goes to directly; the journal's group is durable only with it.
fn check_ends(name: &str, on_segment: bool, calls: &str, what: &str) -> Result<()> {
    let mut bed = bed(name)?;
    let (pid, bytes) = (bed.broker.pid()?, if on_segment { 1 << 19 } else { 1_000 });
    let segment = bed.segment("one");
    wait_until("the segment is made", WAIT_MAX, || Ok(segment.exists()))?;
    let broken = match on_segment {
        true => Broken::attach_on(pid, &segment, calls, what)?,
        false => Broken::attach(pid, calls, what)?,
    };
    let until = Instant::now() + WAIT_MAX;
    // what is in flight when it ends has no answer; what had one counts
    while let Ok(error) = bed.one.produce(&mut bed.client, bytes) {
        ensure!(error == 0 || error == STORAGE_ERROR, "{calls} {what}: error {error}");
        ensure!(Instant::now() < until, "{calls} {what}: the process goes on");
    }
    let (status, tail) = bed.broker.ended(WAIT_MAX)?;
    ensure!(broken.has_struck()?, "{calls} {what}: it ended before a call failed\n{tail}");
    ensure!(!status.success(), "{calls} {what}: it ended with success\n{tail}");
    ensure!(tail.contains("(os error 5)"), "it does not say why it ended\n{tail}");
    broken.mend()?;
    bed.check_after_restart()
}

#[test]
fn a_journal_that_cannot_be_written_ends_the_process_and_nothing_acknowledged_is_lost() -> Result<()> {
    check_ends("journal-eio", false, "pwrite64", "error=EIO:when=3+")
}

#[test]
fn a_journal_write_that_fails_once_is_not_tried_again_and_believed() -> Result<()> {
    check_ends("journal-eio-once", false, "pwrite64", "error=EIO:when=3")
}

#[test]
fn a_sync_beside_the_journal_that_fails_once_is_not_tried_again_and_believed() -> Result<()> {
    check_ends("segment-sync", true, "fdatasync,fsync", "error=EIO:when=1")
}

#[test]
fn a_segment_that_cannot_be_written_takes_its_own_log_offline_and_no_other() -> Result<()> {
    let mut bed = bed("segment-eio")?;
    let segment = bed.segment("one");
    wait_until("the segment is made", WAIT_MAX, || Ok(segment.exists()))?;
    let broken = Broken::attach_on(bed.broker.pid()?, &segment, "pwrite64,pwritev,pwritev2", "error=EIO:when=1")?;
    wait_until("the log is offline", WAIT_MAX, || {
        let error = bed.one.produce(&mut bed.client, 1_000)?;
        ensure!(error == 0 || error == STORAGE_ERROR, "beside a failing segment: error {error}");
        bed.other.must_produce(&mut bed.client, 1_000)?;
        Ok(error == STORAGE_ERROR)
    })?;
    ensure!(broken.has_struck()?, "offline before a call failed");
    broken.mend()?;
    // the disk works again, and is not believed
    let error = bed.one.produce(&mut bed.client, 1_000)?;
    ensure!(error == STORAGE_ERROR, "a log behind a failed write took a record: error {error}");
    bed.other.must_produce(&mut bed.client, 1_000)?;
    bed.other.check(&mut bed.client)?;
    let offline = figure(&bed.broker, "weir_partitions_offline")?;
    ensure!(offline == "1", "weir_partitions_offline is {offline}");
    let told = doctor(&bed.broker)?;
    ensure!(told.contains("1 partition offline on node 1: one/0 ("), "{told}");
    bed.broker.kill()?;
    bed.check_after_restart()
}

#[test]
fn a_segment_that_holds_other_bytes_is_named_by_metrics_and_doctor_and_served_but_for_these() -> Result<()> {
    let mut bed = bed("segment-rots")?;
    // read from the disk from now on, and written there
    bed.broker.kill_and_restart()?;
    bed.client = Client::connect(&bed.broker.kafka)?;
    let segment = bed.segment("one");
    let good = std::fs::read(&segment)?;
    let mut bad = good.clone();
    let last = bad.last_mut().context("the segment is empty")?;
    *last ^= 0x10;
    std::fs::write(&segment, &bad)?;
    let (offset, _) = *bed.one.acked.last().context("nothing was acknowledged")?;
    let read = requests::fetch(&mut bed.client, b"one", 0, offset, 1)?;
    ensure!(read.error != 0, "other bytes than were written are served");
    let damaged = figure(&bed.broker, "weir_partitions_damaged")?;
    ensure!(damaged == "1", "weir_partitions_damaged is {damaged}");
    let told = doctor(&bed.broker)?;
    let place = format!("damaged on the disk of node 1: one/0 ({} at byte ", segment.display());
    ensure!(told.contains(&place) && told.contains("move the file away"), "{told}");
    let (first, value) = bed.one.acked.first().context("nothing was acknowledged")?;
    let read = requests::fetch(&mut bed.client, b"one", 0, *first, 1)?;
    ensure!(read.records.windows(value.len()).any(|window| window == value), "what is not damaged is not served");
    bed.other.check(&mut bed.client)?;
    bed.broker.kill()?;
    std::fs::write(&segment, &good)?;
    bed.check_after_restart()
}
