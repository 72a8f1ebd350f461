//! kcat as a reader whose output is easy to compare: everything that a consumer sees of a record.
//!
//! Owns how it is called and what its JSON means. Invariant: a call ends by itself, at the ends of all partitions or at a count.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::paths;
use crate::program::run;

const KCAT_MAX: Duration = Duration::from_secs(60);

/// A record as a consumer sees it; bytes that are no UTF-8 are not told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub partition: u64,
    pub offset: u64,
    /// "create" or "logappend", and milliseconds since 1970.
    pub timestamp: (String, u64),
    pub key: Option<String>,
    pub value: Option<String>,
    /// Names and values in turn, in the order of the record.
    pub headers: Vec<Option<String>>,
}

/// Every record of a topic, by partition and offset.
pub fn records(bootstrap: &str, topic: &str) -> Result<Vec<Record>> {
    let mut records = kcat(&["-C", "-b", bootstrap, "-t", topic, "-o", "beginning", "-e", "-q", "-J"])?;
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// The next `count` records of a topic for a group, which commits behind them; from the beginning where it has committed nothing.
pub fn group_reads(bootstrap: &str, group: &str, topic: &str, count: usize) -> Result<Vec<Record>> {
    let (count, earliest) = (count.to_string(), "auto.offset.reset=earliest");
    kcat(&["-b", bootstrap, "-X", earliest, "-c", &count, "-q", "-J", "-G", group, topic])
}

fn kcat(arguments: &[&str]) -> Result<Vec<Record>> {
    let mut command = Command::new("bash");
    let script =
        format!("source '{}'; command_from kcat kcat; exec kcat \"$@\"", paths::suites().join("setup.sh").display());
    command.args(["-c", &script, "kcat"]).args(arguments).env("CARGO_TARGET_DIR", paths::target()?);
    let (program, status) = run("kcat", &mut command, "", KCAT_MAX)?;
    ensure!(status.success(), "kcat {arguments:?} ended with {status}\n{}", program.tail());
    program.output()?.lines().map(|line| parse(line).with_context(|| format!("kcat wrote {line}"))).collect()
}

fn parse(line: &str) -> Result<Record> {
    let record: Value = serde_json::from_str(line)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let number = |name: &str| record[name].as_u64().with_context(|| format!("no {name}"));
    Ok(Record {
        partition: number("partition")?,
        offset: number("offset")?,
        timestamp: (text(&record["tstype"]).context("no tstype")?, number("ts")?),
        key: text(&record["key"]),
        value: text(&record["payload"]),
        headers: record["headers"].as_array().into_iter().flatten().map(text).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_kcat_is_a_record() {
        let line = concat!(
            r#"{"topic":"t","partition":2,"offset":7,"tstype":"create","ts":1700000000000,"broker":1,"#,
            r#""headers":["a","1","a",null],"key":"k","payload":null}"#
        );
        let want = Record {
            partition: 2,
            offset: 7,
            timestamp: ("create".into(), 1_700_000_000_000),
            key: Some("k".into()),
            value: None,
            headers: vec![Some("a".into()), Some("1".into()), Some("a".into()), None],
        };
        assert_eq!(parse(line).unwrap(), want);
    }
}
