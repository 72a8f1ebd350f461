//! Client suites: a folder each, with `run.sh`, `tests.allow` and the driver program.
//!
//! Owns running a suite and judging its `ok NAME` and `FAIL NAME reason` lines by `tests.allow`.
//! Invariant: every name in `tests.allow` must be reported as ok; a name that is not there may fail.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::program::run;

/// The longest that a suite may take, its first set-up included.
const SUITE_MAX: Duration = Duration::from_secs(600);

/// The suites in `compat-tests/`.
pub const SUITES: [&str; 6] = ["java", "confluent", "franz-go", "kafka-python", "aiokafka", "kafkajs"];

/// The codecs that every suite can be given.
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Runs `SUITE/run.sh BOOTSTRAP RUN PHASE…` and fails unless all names of `tests.allow` that `wanted` selects are ok.
pub fn run_suite(suite: &str, arguments: &[&str], wanted: impl Fn(&str) -> bool) -> Result<()> {
    let folder = paths::suites().join(suite);
    let mut command = Command::new(folder.join("run.sh"));
    command.args(arguments).env("CARGO_TARGET_DIR", paths::target()?);
    let (program, status) = run(suite, &mut command, "", SUITE_MAX).with_context(|| format!("suite {suite}"))?;
    let results = parse(&program.output()?);
    let allow = std::fs::read_to_string(folder.join("tests.allow"))?;
    let allowed: Vec<&str> = allow.lines().map(str::trim).filter(|name| !name.is_empty() && wanted(name)).collect();
    ensure!(!allowed.is_empty(), "{suite}/tests.allow selects nothing for {arguments:?}");
    let mut bad = Vec::new();
    for name in allowed {
        match results.get(name) {
            Some(Ok(())) => {}
            Some(Err(reason)) => bad.push(format!("{name}: {reason}")),
            None => bad.push(format!("{name}: not reported")),
        }
    }
    ensure!(bad.is_empty(), "{suite} ({status}):\n  {}\n{}", bad.join("\n  "), program.tail());
    for (name, result) in results {
        if !allow.lines().any(|allowed| allowed.trim() == name) {
            println!("{suite}: {name} is not in tests.allow: {result:?}");
        }
    }
    Ok(())
}

fn parse(output: &str) -> BTreeMap<String, Result<(), String>> {
    let line = |line: &str| {
        if let Some(name) = line.strip_prefix("ok ") {
            return Some((name.to_string(), Ok(())));
        }
        let (name, reason) = line.strip_prefix("FAIL ")?.split_once(' ')?;
        Some((name.to_string(), Err(reason.to_string())))
    };
    output.lines().filter_map(line).collect()
}
