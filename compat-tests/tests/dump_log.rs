//! Apache Kafka's dump-log on the broker's data directory: Weir keeps Kafka's layout on disk.

use std::path::Path;

use anyhow::Result;
use compat_tests::broker::Broker;
use compat_tests::program::unique;
use compat_tests::tools::tool_ok;

/// The files of a partition that end so, oldest segment first.
fn files(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == ending) {
            files.push(path.display().to_string());
        }
    }
    files.sort();
    Ok(files)
}

/// The segments, one after the other, hold each offset from 0 on.
fn check_log(folder: &Path, records: usize) -> Result<()> {
    let logs = files(folder, "log")?;
    assert!(logs.len() > 1, "the log was to roll: {logs:?}");
    let dumped = tool_ok(&["dump-log", "--files", &logs.join(","), "--deep-iteration"])?;
    let rows: Vec<Vec<&str>> = dumped.words().into_iter().filter(|words| words.first() == Some(&"|")).collect();
    assert_eq!(rows.len(), records, "records in {logs:?}");
    for (offset, words) in rows.iter().enumerate() {
        assert_eq!(words[1..3], ["offset:", &offset.to_string()], "{words:?}");
    }
    let bad = dumped.out.lines().find(|line| line.contains("isvalid: false") || line.contains("invalid bytes"));
    assert_eq!(bad, None, "{logs:?}");
    Ok(())
}

/// The tool's two looks at an index: at the file alone, and at each entry together with the batch that it points to.
fn check_indexes(folder: &Path, ending: &str) -> Result<()> {
    let indexes = files(folder, ending)?;
    let sane = tool_ok(&["dump-log", "--files", &indexes.join(","), "--index-sanity-check"])?;
    // The last segment may hold a single batch, which needs no entry; of the others that is asked below.
    let fine = sane.out.matches("passed sanity check").count() + sane.out.matches("is empty.").count();
    assert_eq!(fine, indexes.len(), "{sane:?}");
    let verified = tool_ok(&["dump-log", "--files", &indexes.join(","), "--verify-index-only"])?;
    assert!(verified.err.is_empty(), "{verified:?}");
    assert!(verified.out.lines().all(|line| line.starts_with("Dumping ")), "{verified:?}");
    for index in indexes.iter().rev().skip(1) {
        assert_ne!(std::fs::metadata(index)?.len(), 0, "a full segment leaves entries in {index}");
    }
    Ok(())
}

#[test]
fn dump_log_reads_every_record_and_finds_the_indexes_sane_after_a_clean_stop() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // the least that Kafka allows
    let mut broker = Broker::on_data("dump-log", folder.path(), &["log.segment.bytes=1048576"])?;
    let (plain, small) = (format!("dump-{}", unique()), format!("dump-zstd-{}", unique()));
    for (topic, codec) in [(&plain, "none"), (&small, "zstd")] {
        tool_ok(&[
            "producer-perf-test",
            "--bootstrap-server",
            &broker.kafka,
            "--topic",
            topic,
            "--num-records",
            "20000",
            "--record-size",
            "500",
            "--throughput",
            "-1",
            "--command-property",
            &format!("compression.type={codec}"),
        ])?;
    }
    if broker.is_ours() {
        broker.stop()?;
    }
    for topic in [&plain, &small] {
        let folder = broker.data.join(format!("{topic}-0"));
        check_log(&folder, 20_000)?;
        if !broker.is_ours() {
            continue; // a running Apache Kafka keeps its indexes preallocated
        }
        check_indexes(&folder, "index")?;
        check_indexes(&folder, "timeindex")?;
    }
    Ok(())
}
