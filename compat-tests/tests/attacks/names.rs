//! Attacks 24 to 27: partitions named twice, names that are no names or paths, floods of topics, odd partitions.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use compat_tests::program::unique;
use compat_tests::raw::{Writer, key, request};

use crate::batch::{Batch, Record};
use crate::requests::{self, FETCH_VERSION, PRODUCE_VERSION};
use crate::target::Target;

const INVALID_TOPIC: i16 = 17;
const UNKNOWN_TOPIC: i16 = 3;
const INVALID_REQUEST: i16 = 42;
/// Topics that one flood asks for.
const FLOOD: usize = 300;

fn one_record() -> Vec<u8> {
    Batch::of(&[Record::of(b"k", b"v")]).encode()
}

#[test]
fn a_partition_that_is_named_twice_is_served_once() -> Result<()> {
    let mut target = Target::start("attack-twice", &[])?;
    let topic = target.topic.clone();
    let name = topic.as_bytes();
    target.row("24: the same partition twice in Produce", |target| {
        let mut client = target.connect()?;
        let before = requests::list_offset(&mut client, name, 0, -1)?.1;
        let batch = one_record();
        let body = requests::produce_body(&[(name, 0, &batch), (name, 0, &batch)]);
        let parts = requests::produced(&client.ask(key::PRODUCE, PRODUCE_VERSION, &body)?)?;
        let after = requests::list_offset(&mut client, name, 0, -1)?.1;
        let errors: BTreeSet<i16> = parts.iter().map(|part| part.error).collect();
        ensure!(errors.len() == 1, "one partition, several results: {parts:?}");
        let expected = i64::from(errors.contains(&0));
        ensure!(after - before == expected, "the log grew by {} with {parts:?}", after - before);
        ensure!(errors.is_subset(&BTreeSet::from([0, INVALID_REQUEST])), "{parts:?}");
        Ok(())
    })?;
    target.row("24: the same partition twice in Fetch", |target| {
        let mut client = target.connect()?;
        let body = requests::fetch_body(&[(name, 0, 0), (name, 0, 0)], 1 << 20);
        let parts = requests::fetched(&client.ask(key::FETCH, FETCH_VERSION, &body)?)?;
        ensure!(!parts.is_empty() && parts.len() <= 2, "{parts:?}");
        ensure!(parts.iter().all(|part| [0, INVALID_REQUEST].contains(&part.error)), "{parts:?}");
        Ok(())
    })?;
    target.row("24: the same partition twice in OffsetCommit", |target| {
        let mut client = target.connect()?;
        let group = format!("twice-{}", unique());
        let errors = requests::commit(&mut client, &group, &[(name, 0, 5), (name, 0, 7)])?;
        let committed = requests::committed(&mut client, &group, name, 0)?;
        match errors.iter().all(|error| *error == 0) {
            true => ensure!([5, 7].contains(&committed), "{committed} was never committed"),
            false => ensure!(committed == -1, "refused with {errors:?} and yet {committed} is committed"),
        }
        Ok(())
    })?;
    target.finish()
}

/// Names that no topic may have.
fn bad_names() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("nothing", vec![]),
        ("a dot", b".".to_vec()),
        ("two dots", b"..".to_vec()),
        ("a slash", b"/".to_vec()),
        ("a path", b"/tmp/weir-attack".to_vec()),
        ("a path upwards", b"../../weir-attack".to_vec()),
        ("a path inside", b".weir/journal".to_vec()),
        ("NUL", b"weir\0attack".to_vec()),
        ("a line end", b"weir\nINJECTED".to_vec()),
        ("an escape", b"weir\x1b[31m".to_vec()),
        ("letters of other alphabets", "wéir-атака".as_bytes().to_vec()),
        ("a backslash", b"..\\weir".to_vec()),
        ("250 letters", vec![b'w'; 250]),
        ("32,767 letters", vec![b'w'; 32_767]),
    ]
}

#[test]
fn a_name_that_no_topic_may_have_is_refused_everywhere_and_makes_no_file() -> Result<()> {
    let mut target = Target::start("attack-names", &[])?;
    // what a first commit makes must be there before the directories are counted
    requests::commit(&mut target.connect()?, "names", &[(target.topic.clone().as_bytes(), 0, 1)])?;
    let before = target.directories()?;
    for (kind, name) in bad_names() {
        target.row(&format!("25: a topic named with {kind}"), |target| {
            let mut client = target.connect()?;
            let known = requests::metadata(&mut client, &[&name])?;
            ensure!(known == [INVALID_TOPIC], "Metadata: {known:?}");
            let created = requests::try_create_topic(&mut client, &name, 1, &[])?;
            ensure!(created.0 == INVALID_TOPIC || !target.is_ours(), "CreateTopics: {created:?}");
            let refused = [INVALID_TOPIC, UNKNOWN_TOPIC];
            let answers = [
                ("Produce", requests::produce(&mut client, &name, 0, &one_record())?.error),
                ("Fetch", requests::fetch(&mut client, &name, 0, 0, 1000)?.error),
                ("ListOffsets", requests::list_offset(&mut client, &name, 0, -1)?.0),
                ("OffsetCommit", requests::commit(&mut client, "names", &[(&name, 0, 1)])?[0]),
                ("DeleteTopics", requests::delete_topic(&mut client, &name)?),
                ("DescribeConfigs", requests::describe_config(&mut client, &name)?),
            ];
            for (api, error) in answers {
                // Apache Kafka answers the longest name with -1
                let answered = refused.contains(&error) || !target.is_ours() && error == -1;
                ensure!(answered, "{api}: error {error}");
            }
            Ok(())
        })?;
    }
    let after = target.directories()?;
    let made: Vec<_> = after.difference(&before).collect();
    ensure!(!target.is_ours() || made.is_empty(), "directories were made: {made:?}");
    ensure!(!std::path::Path::new("/tmp/weir-attack").exists(), "a topic's name was used as a path");
    target.finish()
}

#[test]
fn floods_of_topics_are_bounded() -> Result<()> {
    let mut target = Target::start("attack-flood", &[])?;
    let count = 1_000_000;
    let body = (0..count).fold(Writer::new().i32(count), |out, at| out.string(format!("{at:06}").as_bytes()));
    let bytes = request(key::METADATA, 1, 1, b"raw", &body.done());
    target.closes_here("25: a million topics in Metadata", "body", &bytes)?;
    target.row("26: topics that are made by asking for them", |target| {
        let names: Vec<String> = (0..FLOOD).map(|at| format!("flood-{at}-{}", unique())).collect();
        let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        let errors = requests::metadata(&mut target.connect()?, &names)?;
        ensure!(errors.len() == FLOOD, "{FLOOD} topics were asked for, {} are answered", errors.len());
        // made, being made, not made for now, or over a quota
        let odd: Vec<&i16> = errors.iter().filter(|error| ![0, 5, 3, 89].contains(*error)).collect();
        ensure!(odd.is_empty(), "{odd:?}");
        Ok(())
    })?;
    target.row("26: a topic with 2^31-1 partitions", |target| {
        let refused = requests::try_create_topic(&mut target.connect()?, b"flood-wide", i32::MAX, &[])?;
        ensure!(refused.0 != 0, "made: {refused:?}");
        Ok(())
    })?;
    for partitions in [0, -2, i32::MIN] {
        target.row(&format!("26: a topic with {partitions} partitions"), |target| {
            let refused = requests::try_create_topic(&mut target.connect()?, b"flood-none", partitions, &[])?;
            ensure!(refused.0 == 37, "not INVALID_PARTITIONS: {refused:?}");
            Ok(())
        })?;
    }
    target.finish()
}

#[test]
fn a_partition_that_does_not_exist_is_unknown_everywhere() -> Result<()> {
    let mut target = Target::start("attack-partitions", &[])?;
    let topic = target.topic.clone();
    let name = topic.as_bytes();
    for partition in [-1, 1, i32::MIN, i32::MAX] {
        target.row(&format!("27: partition {partition}"), |target| {
            let mut client = target.connect()?;
            let answers = [
                ("Produce", requests::produce(&mut client, name, partition, &one_record())?.error),
                ("Fetch", requests::fetch(&mut client, name, partition, 0, 1000)?.error),
                ("ListOffsets", requests::list_offset(&mut client, name, partition, -1)?.0),
                ("OffsetCommit", requests::commit(&mut client, "partitions", &[(name, partition, 1)])?[0]),
            ];
            for (api, error) in answers {
                ensure!(error == UNKNOWN_TOPIC, "{api}: error {error}");
            }
            Ok(())
        })?;
    }
    for offset in [-1, -2, i64::MIN, i64::MAX] {
        target.row(&format!("27: a fetch from offset {offset}"), |target| {
            let found = requests::fetch(&mut target.connect()?, name, 0, offset, 1000)?;
            ensure!(found.error == 1, "not OFFSET_OUT_OF_RANGE: {found:?}");
            Ok(())
        })?;
    }
    for bytes_max in [-1, 0, 1, i32::MIN] {
        target.row(&format!("27: a fetch of {bytes_max} bytes"), |target| {
            let found = requests::fetch(&mut target.connect()?, name, 0, 0, bytes_max)?;
            // Apache Kafka answers a negative size with -1
            let answered = found.error == 0 || !target.is_ours();
            ensure!(answered && found.records.len() < 1 << 20, "{found:?}");
            Ok(())
        })?;
    }
    target.row("27: a fetch with a replica's id", |target| {
        let body = Writer::new().i32(1).i32(0).i32(0).i32(1000).i8(0).i32(1).string(name).i32(1);
        let bytes = request(key::FETCH, 4, 1, b"raw", &body.i32(0).i64(0).i32(1000).done());
        let mut client = target.connect()?;
        client.send(&bytes)?;
        if let Some(answer) = client.receive()? {
            let parts = requests::fetched(answer.get(4..).context("no body")?)?;
            ensure!(!target.is_ours() || parts.iter().all(|part| part.records.is_empty()), "it got records: {parts:?}");
        }
        Ok(())
    })?;
    target.finish()
}
