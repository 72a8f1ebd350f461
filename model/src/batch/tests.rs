//! Behaviour of the batch types.

use super::*;

/// One record `key` → `value` with a header, at 1_700_000_000_000 ms: the sample of the format that we ever stored.
const SAMPLE_V2: &str = "0000000000000000000000500000ffffffff";

fn three() -> BatchBuilder {
    BatchBuilder::new()
        .record(1_000, Some(b"a"), Some(b"one"), &[])
        .record(3_000, None, Some(b"two"), &[(b"h", None), (b"h", Some(b"x"))])
        .record(2_000, Some(b"c"), None, &[])
}

fn spoiled(change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let builder = three();
    let records = builder.records().to_vec();
    builder.encode(Codec::None, &records, change)
}

fn check_refused(change: impl FnOnce(&mut BatchHeader), want: BatchError) {
    assert_eq!(Batch::check(spoiled(change)), Err(want));
}

#[test]
fn crc32c_is_castagnoli() {
    // The check value of CRC-32C in every catalogue; CRC-32 (zlib) would give 0xcbf43926.
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
