//! Zigzag varints, as protobuf and Kafka's records have them.
//!
//! Owns decoding from a slice. Encoding stands beside the batch builder in `model`.
//! Invariant: at most 10 bytes are read, and a number that does not fit is an error, not a wrapped one.

/// Takes a number of at most 64 bits off the front. `None` if it is cut or too long; `bytes` is then of no use.
#[inline(always)]
pub(super) fn take(bytes: &mut &[u8]) -> Option<i64> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        *bytes = rest;
        return Some(unzigzag(i64::from(*first)));
    }
    // Lengths from 64 bytes to 8 KiB: as usual as the short ones.
    let (second, rest) = rest.split_first()?;
    if *second < 0x80 {
        *bytes = rest;
        return Some(unzigzag(i64::from(*first & 0x7f) | i64::from(*second) << 7));
    }
    take_long(bytes)
}

#[inline(always)]
fn unzigzag(raw: i64) -> i64 {
    (raw >> 1) ^ -(raw & 1)
}

fn take_long(bytes: &mut &[u8]) -> Option<i64> {
    let mut raw = 0_u64;
    let mut shift = 0;
    let mut rest = *bytes;
    loop {
        let (byte, tail) = rest.split_first()?;
        rest = tail;
        let low = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && low > 1 {
            return None;
        }
        raw |= low << shift;
        if *byte < 0x80 {
            *bytes = rest;
            return Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::take;
    use model::batch::put_varlong;

    #[test]
    fn what_is_written_is_read() {
        let mut seed = 1_u64;
        let mut numbers = vec![0, 1, -1, 63, -64, 64, i64::from(i32::MAX), i64::from(i32::MIN), i64::MAX, i64::MIN];
        for shift in 0..2_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            numbers.push(seed.cast_signed() >> (shift % 64));
        }
        for number in numbers {
            let mut out = bytes::BytesMut::new();
            put_varlong(&mut out, number);
            out.extend_from_slice(b"z");
            let mut bytes = &out[..];
            assert_eq!(take(&mut bytes), Some(number));
            assert_eq!(bytes, b"z");
        }
    }

    #[test]
    fn cut_and_overlong_numbers_are_refused() {
        for bytes in [&[][..], &[0x80], &[0xff; 9], &[0x80; 10], &[0xff; 11]] {
            assert_eq!(take(&mut &bytes[..]), None, "{bytes:x?}");
        }
        let mut two_to_64 = [0xff; 10];
        two_to_64[9] = 0x02;
        assert_eq!(take(&mut &two_to_64[..]), None);
        two_to_64[9] = 0x01;
        assert_eq!(take(&mut &two_to_64[..]), Some(i64::MIN));
    }
}
