//! Numbers drawn from a seed: the only randomness below `server` and `sim`.
//!
//! Invariant: the same seed gives the same numbers (SplitMix64).

use model::TopicId;
use model::ids::base64;

use crate::metadata::Incarnation;

#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `bound`, without it.
    ///
    /// # Panics
    /// When `bound` is zero.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "there is no number below zero");
        let bound = u64::try_from(bound).expect("usize has at most 64 bits");
        usize::try_from(self.next_u64() % bound).expect("it is below a usize")
    }

    /// 16 bytes laid out as a UUID of version 4. Its base64 never begins with '-', which tools would take for an option.
    pub fn uuid(&mut self) -> [u8; 16] {
        loop {
            let drawn = (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64());
            let mut bytes = drawn.to_be_bytes();
            bytes[6] = (bytes[6] & 0x0f) | 0x40;
            bytes[8] = (bytes[8] & 0x3f) | 0x80;
            if bytes[0] >> 2 != DASH {
                return bytes;
            }
        }
    }

    /// Never zero and never one of Kafka's reserved ids: the version's bits are set.
    pub fn topic_id(&mut self) -> TopicId {
        TopicId(self.uuid())
    }

    pub fn incarnation(&mut self) -> Incarnation {
        Incarnation(self.uuid())
    }

    /// 22 characters of URL-safe base64, as Kafka has it.
    pub fn cluster_id(&mut self) -> String {
        base64(&self.uuid())
    }
}

/// The value whose base64 digit is '-'.
const DASH: u8 = 62;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_ids_and_another_seed_others() {
        let draw = |seed| (Random::new(seed).topic_id(), Random::new(seed).cluster_id());
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn ids_have_the_layout_of_version_4_and_no_leading_dash() {
        let mut random = Random::new(3);
        for _ in 0..10_000 {
            let id = random.uuid();
            assert_eq!((id[6] >> 4, id[8] >> 6), (4, 2));
            assert!(!base64(&id).starts_with('-'));
        }
    }
}
