//! Behaviour of the codecs: round trips, and what a hostile client can send.

use super::*;
use flate2::write::GzEncoder;
use std::io::Write;

const COMPRESSED: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn limits(output_bytes_max: u64) -> DecompressLimits {
    DecompressLimits { output_bytes_max, ..DecompressLimits::DEFAULT }
}

/// Reproducible bytes: runs of a letter between runs of noise.
fn sample(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let run = usize::from(state.to_le_bytes()[6] % 60) + 1;
        if state & (1 << 40) == 0 {
            bytes.extend(std::iter::repeat_n(b'x', run));
        } else {
            bytes.extend_from_slice(&state.to_le_bytes());
        }
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn what_is_compressed_comes_back() {
    for codec in [Codec::None].into_iter().chain(COMPRESSED) {
        for (seed, length) in [0, 1, 2, 63, 64, 1_000, 32_768, 32_769, 65_536, 300_000].into_iter().enumerate() {
            let input = sample(u64::try_from(seed).expect("small"), length);
            let output = decompress(codec, &compress(codec, &input), DecompressLimits::DEFAULT);
            assert_eq!(output.as_ref(), Ok(&input), "{codec:?} of {length} bytes");
        }
    }
}

#[test]
fn output_stops_at_the_limit_and_not_before() {
    for codec in [Codec::None].into_iter().chain(COMPRESSED) {
        let compressed = compress(codec, &sample(7, 100_000));
        assert_eq!(decompress(codec, &compressed, limits(100_000)).map(|out| out.len()), Ok(100_000));
        let want = Err(CodecError::OutputTooLarge { codec, limit: 99_999 });
        assert_eq!(decompress(codec, &compressed, limits(99_999)), want);
    }
}

#[test]
fn a_bare_snappy_block_is_read_too() {
    let input = sample(3, 100_000);
    let bare = snap::raw::Encoder::new().compress_vec(&input).expect("in range");
    assert_eq!(decompress(Codec::Snappy, &bare, DecompressLimits::DEFAULT), Ok(input));
}

#[test]
fn joined_snappy_streams_are_read_as_one() {
    let (one, two) = (sample(1, 50_000), sample(2, 7));
    let joined = [compress(Codec::Snappy, &one), compress(Codec::Snappy, &two)].concat();
    assert_eq!(decompress(Codec::Snappy, &joined, DecompressLimits::DEFAULT), Ok([one, two].concat()));
}

#[test]
fn a_claimed_snappy_size_allocates_nothing() {
    // A varint of 2^32 - 1 bytes, then one literal byte.
    let bare = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, b'a'];
    let framed = [&compress(Codec::Snappy, b"")[..], &7_i32.to_be_bytes(), &bare].concat();
    for input in [&bare[..], &framed] {
        let error = decompress(Codec::Snappy, input, DecompressLimits::DEFAULT);
        assert_eq!(error, Err(CodecError::BlockTooLarge { codec: Codec::Snappy, claimed: 0xffff_ffff, limit: 154 }));
    }
}

#[test]
fn a_snappy_block_length_that_lies_is_refused() {
    let head = compress(Codec::Snappy, b"");
    for (length, want) in [
        (-1, CodecError::Corrupt { codec: Codec::Snappy }),
        (i32::MIN, CodecError::Corrupt { codec: Codec::Snappy }),
        (i32::MAX, CodecError::Truncated { codec: Codec::Snappy }),
        (4, CodecError::Truncated { codec: Codec::Snappy }),
    ] {
        let input = [&head[..], &length.to_be_bytes(), b"abc"].concat();
        assert_eq!(decompress(Codec::Snappy, &input, DecompressLimits::DEFAULT), Err(want));
    }
}

#[test]
fn lz4_blocks_larger_than_their_frame_allows_are_refused() {
    let mut frame = compress(Codec::Lz4, &sample(1, 1_000));
    // Magic 4, flags 1, block size 1, header checksum 1: then the size of the first block.
    for size in [0x7fff_ffff_u32, 0xffff_ffff, 65_537] {
        frame[7..11].copy_from_slice(&size.to_le_bytes());
        let error = decompress(Codec::Lz4, &frame, DecompressLimits::DEFAULT);
        assert_eq!(error, Err(CodecError::Corrupt { codec: Codec::Lz4 }));
    }
    let legacy = [0x02, 0x21, 0x4c, 0x18, 1, 0, 0, 0, 0];
    assert_eq!(
        decompress(Codec::Lz4, &legacy, DecompressLimits::DEFAULT),
        Err(CodecError::Corrupt { codec: Codec::Lz4 })
    );
}

#[test]
fn a_zstd_window_over_the_limit_is_refused() {
    // Magic, a frame header with a window descriptor of 2^31 bytes, one raw last block of one byte.
    let frame = |window_log: u8| [0x28, 0xb5, 0x2f, 0xfd, 0x00, (window_log - 10) << 3, 0x09, 0x00, 0x00, b'a'];
    assert_eq!(decompress(Codec::Zstd, &frame(27), DecompressLimits::DEFAULT), Ok(vec![b'a']));
    for window_log in [28, 31, 41] {
        let error = decompress(Codec::Zstd, &frame(window_log), DecompressLimits::DEFAULT);
        assert_eq!(error, Err(CodecError::Corrupt { codec: Codec::Zstd }), "2^{window_log}");
    }
}

#[test]
fn cut_and_garbled_input_is_an_error_or_fewer_bytes_but_no_panic() {
    let input = sample(9, 3_000);
    for codec in COMPRESSED {
        let compressed = compress(codec, &input);
        for cut in 0..compressed.len() {
            if let Ok(output) = decompress(codec, &compressed[..cut], DecompressLimits::DEFAULT) {
                assert!(input.starts_with(&output), "{codec:?} cut at {cut}");
            }
        }
        for other in COMPRESSED.into_iter().filter(|other| *other != codec) {
            assert!(decompress(other, &compressed, DecompressLimits::DEFAULT).is_err(), "{codec:?} read as {other:?}");
        }
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let zeros = vec![0; 1 << 20];
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 19).expect("level 19");
    for _ in 0..256 {
        gzip.write_all(&zeros).expect("memory");
        zstd.write_all(&zeros).expect("memory");
    }
    for (codec, bomb) in [(Codec::Gzip, gzip.finish().expect("memory")), (Codec::Zstd, zstd.finish().expect("memory"))]
    {
        assert!(bomb.len() < 300_000);
        let mut decoder = Decoder::new(codec, &bomb, limits(64 << 20)).expect("begins well");
        let mut chunk = vec![0; 64 * 1024];
        let error = loop {
            match decoder.read(&mut chunk) {
                Ok(count) => assert!(count > 0, "the end came before the limit"),
                Err(error) => break error,
            }
        };
        assert_eq!(error, CodecError::OutputTooLarge { codec, limit: 64 << 20 });
    }
}
