//! Attack 38: compressed payloads that give far more than they are, or lie about it.

use anyhow::Result;
use compat_tests::program::unique;

use crate::batch::{Batch, GZIP, LZ4, SNAPPY, ZSTD, payload};
use crate::batches::{CORRUPT, INVALID_RECORD, Row, TOO_LARGE, check_rows};
use crate::codecs::{self, compress};
use crate::requests;
use crate::target::Target;

/// More than comes out of any batch that is accepted.
const BOMB_MEBIBYTES: usize = 256;

fn one(name: &str, codec: i16, bytes: Vec<u8>, errors: &'static [i16]) -> Row {
    (format!("38: {name}"), Batch::raw(1, codec, bytes).encode(), errors)
}

#[test]
fn a_decompression_bomb_is_refused_within_bounds() -> Result<()> {
    let mut target = Target::start("attack-bombs", &[])?;
    if !target.is_ours() {
        return target.finish(); // Apache Kafka 4.3 has no bound yet
    }
    // snappy gives 21 for 1, so its bomb needs a topic with large batches
    let topic = format!("bombs-{}", unique());
    requests::create_topic(&mut target.connect()?, &topic, 1, &[("max.message.bytes", "16777216")])?;
    let value = codecs::record_head(i64::try_from(BOMB_MEBIBYTES << 20)?);
    let value_32 = u32::try_from(BOMB_MEBIBYTES)?;
    // one value that is too long, or records that are good until there are too many bytes of them
    let large: &[i16] = &[TOO_LARGE];
    let mut rows = vec![
        one("gzip, one value of 256 MiB", GZIP, codecs::gzip_bomb(&value, BOMB_MEBIBYTES)?, large),
        one("zstd, one value of 256 MiB", ZSTD, codecs::zstd_bomb(&value, value_32, 7 << 3), large),
        one("zstd, 10 GiB from 320 KiB", ZSTD, codecs::zstd_ten_gibibytes(), large),
        one(
            "gzip, zeros that are no records",
            GZIP,
            codecs::gzip_bomb(&[], BOMB_MEBIBYTES)?,
            &[INVALID_RECORD, TOO_LARGE],
        ),
    ];
    let (count, bytes) = (8_000, 16 * 1024);
    let plain = codecs::zero_records(count, bytes);
    for (name, codec) in &codecs::ALL[1..] {
        let batch = Batch::raw(count, *codec, compress(*codec, &plain)?);
        rows.push((format!("38: {name}, 125 MiB of good records"), batch.encode(), large));
    }
    check_rows(&mut target, &topic, rows)?;
    target.finish()
}

#[test]
fn compressed_bytes_that_lie_about_their_size_are_refused() -> Result<()> {
    let mut target = Target::start("attack-compressed", &[])?;
    let plain = payload(&[crate::batch::Record::of(b"k", &[7; 5000])]);
    let bad: &[i16] = &[CORRUPT, INVALID_RECORD, TOO_LARGE];
    let mut rows = vec![
        one("snappy that says it gives 4 GiB", SNAPPY, codecs::snappy_claim(false), bad),
        one("snappy in frames that says it gives 4 GiB", SNAPPY, codecs::snappy_claim(true), bad),
        one("a snappy frame of length -1", SNAPPY, [&codecs::XERIAL[..], &[0xff; 8]].concat(), bad),
        one("a snappy frame of 2^31-1 bytes", SNAPPY, [&codecs::XERIAL[..], &[0x7f, 0xff, 0xff, 0xff]].concat(), bad),
        one("an lz4 block of 2^31-1 bytes", LZ4, codecs::lz4_block_lie(&plain, 0x7fff_ffff)?, bad),
        one("an lz4 block of 1 byte", LZ4, codecs::lz4_block_lie(&plain, 1)?, bad),
        one(
            "an lz4 block that is stored and larger than its frame allows",
            LZ4,
            codecs::lz4_block_lie(&plain, 0x80ff_ffff)?,
            bad,
        ),
        one("a zstd window of 2^31 bytes", ZSTD, codecs::zstd_window(), bad),
    ];
    for (name, codec) in &codecs::ALL[1..] {
        let good = compress(*codec, &plain)?;
        rows.push(one(&format!("{name} cut in half"), *codec, good[..good.len() / 2].to_vec(), bad));
        rows.push(one(&format!("{name} that is nothing"), *codec, Vec::new(), bad));
        rows.push(one(
            &format!("{name} that is text"),
            *codec,
            b"this is not compressed at all, not in the least".to_vec(),
            bad,
        ));
        let mut flipped = good.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x55;
        rows.push(one(
            &format!("{name} with a flipped byte"),
            *codec,
            flipped,
            &[0, CORRUPT, INVALID_RECORD, TOO_LARGE],
        ));
    }
    if !target.is_ours() {
        // Apache Kafka answers what its codecs throw with -1
        rows.iter_mut().for_each(|row| row.2 = &[-1, 0, CORRUPT, INVALID_RECORD, TOO_LARGE]);
    }
    let topic = target.topic.clone();
    check_rows(&mut target, &topic, rows)?;
    target.finish()
}
