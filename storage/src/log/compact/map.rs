//! The newest offset of each key in a part of a log.
//!
//! Owns the table. Does not own what is put in: `cleaning` reads the log.
//! Invariant: it takes no more memory than it was allowed, growing included; when it is full it says so, and what it holds is right.

use model::Offset;

use super::sip::{Secret, hash};

/// Bytes of one key, however long it is.
pub const SLOT_BYTES: usize = 24;
const SLOTS_MIN: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: (u64, u64),
    /// The offset and 1; 0: free.
    behind: u64,
}

const FREE: Slot = Slot { hash: (0, 0), behind: 0 };

#[derive(Debug)]
pub struct OffsetMap {
    secret: Secret,
    /// Their number is a power of two; at most three quarters are used.
    slots: Vec<Slot>,
    used: usize,
    slots_max: usize,
}

impl OffsetMap {
    /// `secret`: random.
    pub fn new(secret: Secret, bytes_max: usize) -> OffsetMap {
        // While it grows, the table of half the size is there too.
        let fit = (bytes_max / SLOT_BYTES * 2 / 3).max(SLOTS_MIN);
        let slots_max = if fit.is_power_of_two() { fit } else { fit.next_power_of_two() / 2 };
        OffsetMap { secret, slots: vec![FREE; SLOTS_MIN], used: 0, slots_max }
    }

    /// Notes a key. Offsets come in their order. False when there is no room for another key.
    #[must_use]
    pub fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = hash(self.secret, key);
        let behind = offset.get().cast_unsigned() + 1;
        let at = self.place(hash);
        if self.slots[at].behind == 0 {
            if (self.used + 1) * 4 > self.slots.len() * 3 {
                return self.grow() && self.put(key, offset);
            }
            self.used += 1;
        }
        self.slots[at] = Slot { hash, behind };
        true
    }

    /// The newest offset of a key. `None`: it was not put in.
    pub fn latest(&self, key: &[u8]) -> Option<Offset> {
        let behind = self.slots[self.place(hash(self.secret, key))].behind;
        let offset = i64::try_from(behind.checked_sub(1)?).ok()?;
        Offset::from_wire(offset)
    }

    /// The slot of this hash, or the free one where it belongs.
    fn place(&self, hash: (u64, u64)) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(hash.0 & 0xffff_ffff_ffff).unwrap_or(usize::MAX) & mask;
        while self.slots[at].behind != 0 && self.slots[at].hash != hash {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) -> bool {
        if self.slots.len() >= self.slots_max {
            return false;
        }
        let larger = vec![FREE; self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, larger) {
            if slot.behind != 0 {
                let at = self.place(slot.hash);
                self.slots[at] = slot;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offset_of_each_key_is_found_until_the_memory_is_used_up() {
        let bytes_max = 100_000;
        let mut map = OffsetMap::new((1, 2), bytes_max);
        let key = |number: u32| format!("key-{number}").into_bytes();
        let mut held = 0;
        while map.put(&key(held), Offset::new(i64::from(held))) {
            held += 1;
        }
        assert!(usize::try_from(held).unwrap() >= bytes_max / SLOT_BYTES / 4, "{held}");
        assert!(map.slots.len() * SLOT_BYTES * 3 / 2 <= bytes_max);
        // A key that is known needs no room.
        assert!(map.put(&key(3), Offset::new(1 << 40)));
        for number in 0..held {
            let newest = if number == 3 { 1 << 40 } else { i64::from(number) };
            assert_eq!(map.latest(&key(number)), Some(Offset::new(newest)), "{number}");
        }
        assert_eq!(map.latest(&key(held)), None);
        assert_eq!(map.used, usize::try_from(held).unwrap());
    }
}
