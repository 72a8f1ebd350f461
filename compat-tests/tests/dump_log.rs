//! Apache Kafka's dump-log on the broker's data directory: Weir keeps Kafka's layout on disk.

use std::path::Path;

use anyhow::Result;
use compat_tests::broker::Broker;
use compat_tests::program::unique;
use compat_tests::tools::tool_ok;

const FIRST: &str = "00000000000000000000";

fn check_log(folder: &Path, records: usize) -> Result<()> {
    let log = folder.join(format!("{FIRST}.log")).display().to_string();
    let dumped = tool_ok(&["dump-log", "--files", &log, "--deep-iteration"])?;
    let rows: Vec<Vec<&str>> = dumped.words().into_iter().filter(|words| words.first() == Some(&"|")).collect();
    assert_eq!(rows.len(), records, "records in {log}");
    for (offset, words) in rows.iter().enumerate() {
        assert_eq!(words[1..3], ["offset:", &offset.to_string()], "{words:?}");
    }
    let bad = dumped.out.lines().find(|line| line.contains("isvalid: false") || line.contains("invalid bytes"));
    assert_eq!(bad, None, "{log}");
    Ok(())
}

#[test]
fn dump_log_reads_every_record_and_finds_the_indexes_sane_after_a_clean_stop() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut broker = Broker::on_data("dump-log", folder.path(), &[])?;
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
        for index in ["index", "timeindex"] {
            let file = folder.join(format!("{FIRST}.{index}"));
            let checked = tool_ok(&["dump-log", "--files", &file.display().to_string(), "--index-sanity-check"])?;
            assert!(checked.out.contains("passed sanity check"), "{checked:?}");
            assert_ne!(file.metadata()?.len(), 0, "10 MB leave entries in {}", file.display());
        }
    }
    Ok(())
}
