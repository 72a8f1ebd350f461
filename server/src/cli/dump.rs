//! `weir log dump FILE`: what a segment or an index holds, read from the file alone.
//!
//! Owns the walk over a file that may be damaged. Invariants: nothing is believed behind the first damage, which is named with its byte; the
//! memory that is used is that of one batch.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::{Args, Subcommand, ValueHint};
use model::batch::{BatchHeader, HEADER_BYTES, StoredBatch, TimestampType};
use model::limits::BATCH_BYTES_MAX;
use serde_json::json;
use storage::record::{ReadLimits, RecordReader};
use storage::segment::SegmentName;
use storage::{offset_index, time_index};

use super::record;
use super::show::{Output, Table, counted, print, print_json, write_out};
use super::time;
use crate::client::consumed::Consumed;

#[derive(Debug, Subcommand)]
pub enum Log {
    /// Show the batches of a segment (.log), or the entries of its indexes (.index, .timeindex)
    Dump(Dump),
}

#[derive(Debug, Args)]
pub struct Dump {
    /// A file of a data directory; no node need run
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Also the records of each batch
    #[arg(long)]
    records: bool,
    /// How the result is shown: for people, with more columns, or as JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Log {
    pub fn run(self) -> anyhow::Result<()> {
        let Log::Dump(dump) = self;
        dump.run().with_context(|| dump.file.display().to_string())
    }
}

impl Dump {
    fn run(&self) -> anyhow::Result<()> {
        let found = std::fs::metadata(&self.file).context("it cannot be opened")?;
        ensure!(!found.is_dir(), "it is a folder: name one of the files in it");
        match self.file.extension().and_then(|extension| extension.to_str()) {
            Some("log") => self.segment(),
            Some("index") => self.offsets(),
            Some("timeindex") => self.times(),
            _ => bail!("it is no .log, .index or .timeindex of a partition; those lie in DATA-DIR/TOPIC-PARTITION/"),
        }
    }

    fn segment(&self) -> anyhow::Result<()> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(&self.file).context("opening it")?);
        let base = base_of(&self.file);
        let (mut at, mut batches, mut records) = (0_u64, 0_usize, 0_u64);
        let mut next = base;
        while let Some(batch) = read_batch(&mut file).with_context(|| format!("damaged at byte {at}"))? {
            let header = *batch.header();
            if let Some(next) = next {
                let got = header.base_offset;
                ensure!(
                    got >= next,
                    "damaged at byte {at}: a batch begins with offset {got} where {next} is the least"
                );
            }
            self.show_batch(at, &batch).with_context(|| format!("damaged at byte {at}"))?;
            next = Some(header.last_offset().saturating_add(1));
            at += u64::try_from(batch.size()).unwrap_or(0);
            batches += 1;
            records += u64::try_from(header.record_count).unwrap_or(0);
        }
        if self.output != Output::Json {
            let next = next.map(|next| format!(", next offset {next}")).unwrap_or_default();
            print(&format!("{}, {records} records, {at} bytes{next}\n", counted_batches(batches)))?;
        }
        Ok(())
    }

    fn show_batch(&self, at: u64, batch: &StoredBatch) -> anyhow::Result<()> {
        let header = batch.header();
        let codec = header.attributes.codec().map_or("unknown", |codec| codec.name());
        let append = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        let records = if self.records { read_records(batch)? } else { Vec::new() };
        if self.output == Output::Json {
            let mut shown = json!({
                "at": at, "bytes": batch.size(), "base_offset": header.base_offset, "last_offset": header.last_offset(),
                "records": header.record_count, "leader_epoch": header.leader_epoch, "codec": codec,
                "max_timestamp": header.max_timestamp, "append_time": append, "producer_id": header.producer_id,
                "producer_epoch": header.producer_epoch, "base_sequence": header.base_sequence,
                "transactional": batch.is_transactional(), "control": batch.is_control(), "crc": header.crc,
            });
            if self.records {
                let (topic, partition) = place_of(&self.file);
                let one =
                    |one: &Consumed| serde_json::from_str(&record::to_json(&topic, partition, one)).unwrap_or_default();
                shown["contents"] = records.iter().map(one).collect::<Vec<serde_json::Value>>().into();
            }
            return print_json(&shown);
        }
        let mut text = format!(
            "offsets {} to {} at byte {at}: {} records, {} bytes, {codec}, epoch {}, {}",
            header.base_offset,
            header.last_offset(),
            header.record_count,
            batch.size(),
            header.leader_epoch,
            time::shown(header.max_timestamp)
        );
        text.push_str(&marks(header, append));
        text.push('\n');
        for one in &records {
            let shown = |bytes: &Option<Vec<u8>>| match bytes {
                None => "NULL".to_owned(),
                Some(bytes) => String::from_utf8_lossy(bytes).escape_debug().to_string(),
            };
            let (key, value, headers) = (shown(&one.key), shown(&one.value), record::headers(one));
            let headers = headers.escape_debug();
            text.push_str(&format!("  {} {} {key} {value} {headers}", one.offset, time::shown(one.timestamp)));
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        write_out(text.as_bytes())
    }

    fn offsets(&self) -> anyhow::Result<()> {
        let entries = self.entries(offset_index::ENTRY_BYTES, |entry| {
            let (relative, position) = entry.split_first_chunk::<4>()?;
            let position = position.first_chunk::<4>()?;
            Some((i64::from(u32::from_be_bytes(*relative)), i64::from(u32::from_be_bytes(*position))))
        })?;
        let base = base_of(&self.file).unwrap_or(0);
        if self.output == Output::Json {
            return entries.iter().try_for_each(|(relative, position)| {
                print_json(&json!({ "offset": base.saturating_add(*relative), "position": position }))
            });
        }
        let mut table = Table::new(vec!["OFFSET", "POSITION"]);
        for (relative, position) in &entries {
            table.row(vec![base.saturating_add(*relative).to_string(), position.to_string()]);
        }
        print(&table.text())
    }

    fn times(&self) -> anyhow::Result<()> {
        let entries = self.entries(time_index::ENTRY_BYTES, |entry| {
            let (timestamp, relative) = entry.split_first_chunk::<8>()?;
            let relative = relative.first_chunk::<4>()?;
            Some((i64::from_be_bytes(*timestamp), i64::from(u32::from_be_bytes(*relative))))
        })?;
        let base = base_of(&self.file).unwrap_or(0);
        if self.output == Output::Json {
            return entries.iter().try_for_each(|(timestamp, relative)| {
                print_json(&json!({ "timestamp": timestamp, "offset": base.saturating_add(*relative) }))
            });
        }
        let mut table = Table::new(vec!["TIME", "OFFSET"]);
        for (timestamp, relative) in &entries {
            table.row(vec![time::shown(*timestamp), base.saturating_add(*relative).to_string()]);
        }
        print(&table.text())
    }

    /// The entries of an index. Kafka keeps the index of a running broker filled up with zeros.
    fn entries(&self, size: usize, parse: fn(&[u8]) -> Option<(i64, i64)>) -> anyhow::Result<Vec<(i64, i64)>> {
        let bytes = std::fs::read(&self.file).context("reading it")?;
        ensure!(bytes.len() % size == 0, "{} bytes are no whole number of entries of {size} bytes", bytes.len());
        let mut entries: Vec<(i64, i64)> = bytes.chunks_exact(size).filter_map(parse).collect();
        while entries.last() == Some(&(0, 0)) {
            entries.pop();
        }
        let falls = entries.windows(2).position(|pair| matches!(pair, [a, b] if b < a));
        if let Some(entry) = falls {
            bail!("damaged: entry {} of {} is not behind the one before it", entry + 1, entries.len());
        }
        Ok(entries)
    }
}

fn counted_batches(batches: usize) -> String {
    if batches == 1 { counted(1, "batch") } else { format!("{batches} batches") }
}

fn marks(header: &BatchHeader, append: bool) -> String {
    let mut text = String::new();
    if append {
        text.push_str(", times of the append");
    }
    if header.producer_id >= 0 {
        let BatchHeader { producer_id, producer_epoch, base_sequence, .. } = header;
        text.push_str(&format!(", producer {producer_id} epoch {producer_epoch} from sequence {base_sequence}"));
    }
    if header.attributes.is_transactional() {
        text.push_str(", transactional");
    }
    if header.attributes.is_control() {
        text.push_str(", control");
    }
    text
}

/// The base offset that a file's name says.
fn base_of(file: &Path) -> Option<i64> {
    let stem = file.file_name()?.to_str()?.split('.').next()?;
    SegmentName::of_data(&format!("{stem}.log")).map(|name| name.base.get())
}

/// Topic and partition, as the name of the folder says.
fn place_of(file: &Path) -> (String, i32) {
    let folder =
        std::path::absolute(file).ok().and_then(|file| file.parent()?.file_name()?.to_str().map(str::to_owned));
    let folder = folder.unwrap_or_default();
    let parts =
        folder.rsplit_once('-').and_then(|(topic, partition)| Some((topic.to_owned(), partition.parse().ok()?)));
    parts.unwrap_or((folder, -1))
}

/// The next batch, checked. `None` at the end, also where only zeros follow, as Kafka preallocates.
fn read_batch(file: &mut impl Read) -> anyhow::Result<Option<StoredBatch>> {
    let mut bytes = Vec::new();
    let header = u64::try_from(HEADER_BYTES).expect("61 fits 64 bits");
    let read = file.by_ref().take(header).read_to_end(&mut bytes).context("reading it")?;
    if read == 0 || bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let peeked = model::batch::peek(&bytes)?;
    let peeked = peeked.with_context(|| format!("{read} bytes are fewer than a batch's header has"))?;
    let size = u64::try_from(peeked.size()).unwrap_or(u64::MAX);
    ensure!(size <= BATCH_BYTES_MAX, "a batch of {size} bytes, at most {BATCH_BYTES_MAX} are possible");
    let rest = size.saturating_sub(header);
    let got = file.by_ref().take(rest).read_to_end(&mut bytes).context("reading it")?;
    ensure!(u64::try_from(got).ok() == Some(rest), "a batch of {size} bytes of which {} are there", read + got);
    Ok(Some(StoredBatch::parse(Bytes::from(bytes))?))
}

fn read_records(batch: &StoredBatch) -> anyhow::Result<Vec<Consumed>> {
    let body = batch.records();
    let mut reader = RecordReader::new(batch.header(), &body, ReadLimits::default())?;
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        records.push(Consumed::of(record));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use model::batch::BatchBuilder;

    use super::*;

    #[test]
    fn a_segment_ends_at_its_end_or_at_zeros_and_damage_is_told() {
        let batch = BatchBuilder::new().record(1, None, Some(b"value"), &[]).finish().bytes().to_vec();
        let read = |bytes: &[u8]| {
            let mut rest = bytes;
            let first = read_batch(&mut rest).map(|batch| batch.is_some());
            first.and_then(|_| read_batch(&mut rest).map(|batch| batch.is_some()))
        };
        assert!(!read(&batch).expect("one batch"));
        assert!(!read(&[batch.clone(), vec![0; 500]].concat()).expect("one batch and zeros"));
        assert!(read(&[batch.clone(), batch.clone()].concat()).expect("two"));
        assert!(read(&[batch.clone(), batch[..70].to_vec()].concat()).is_err());
        let mut flipped = batch;
        flipped[70] ^= 1;
        assert!(read(&flipped).is_err());
    }

    #[test]
    fn the_folder_names_topic_and_partition() {
        assert_eq!(place_of(Path::new("/data/a-b-7/00000000000000000042.log")), ("a-b".to_owned(), 7));
        assert_eq!(base_of(Path::new("/data/a-b-7/00000000000000000042.timeindex")), Some(42));
        assert_eq!(base_of(Path::new("/data/x.log")), None);
    }
}
