//! SipHash-2-4 with 128 bits, of the keys of records.
//!
//! Owns the function. Two keys that collide would cost the value of one, so the hash has 128 bits, and its secret is another in each run:
//! nobody who writes to a topic can choose keys that collide.

pub(super) type Secret = (u64, u64);

struct State {
    v: [u64; 4],
}

impl State {
    fn rounds(&mut self, count: u32) {
        let [mut a, mut b, mut c, mut d] = self.v;
        for _ in 0..count {
            a = a.wrapping_add(b);
            b = b.rotate_left(13) ^ a;
            a = a.rotate_left(32);
            c = c.wrapping_add(d);
            d = d.rotate_left(16) ^ c;
            a = a.wrapping_add(d);
            d = d.rotate_left(21) ^ a;
            c = c.wrapping_add(b);
            b = b.rotate_left(17) ^ c;
            c = c.rotate_left(32);
        }
        self.v = [a, b, c, d];
    }

    fn take(&mut self, word: u64) {
        self.v[3] ^= word;
        self.rounds(2);
        self.v[0] ^= word;
    }

    fn mixed(&self) -> u64 {
        let [a, b, c, d] = self.v;
        a ^ b ^ c ^ d
    }
}

pub(super) fn hash((k0, k1): Secret, bytes: &[u8]) -> (u64, u64) {
    let v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut state = State { v };
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| state.take(u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // Only the lowest byte of the length counts.
    last[7] = bytes.len().to_le_bytes()[0];
    state.take(u64::from_le_bytes(last));
    state.v[2] ^= 0xee;
    state.rounds(4);
    let low = state.mixed();
    state.v[1] ^= 0xdd;
    state.rounds(4);
    (low, state.mixed())
}

#[cfg(test)]
mod tests {
    use super::hash;

    #[test]
    fn the_published_vectors_come_out() {
        let secret = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let bytes = |(low, high): (u64, u64)| [low.to_le_bytes(), high.to_le_bytes()].concat();
        let empty = [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93];
        let one = [0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45];
        assert_eq!(bytes(hash(secret, &[])), empty);
        assert_eq!(bytes(hash(secret, &[0])), one);
    }
}
