//! An idempotent producer: numbers its batches per partition, keeps several in flight, sends again what was not answered.
//!
//! Invariant: a batch is sent only when every earlier one of its partition is in flight or answered, as real clients do.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use model::batch::{Batch, BatchBuilder, Codec};
use model::{ProducerEpoch, ProducerId};
use node::requests::{Acks, Answer, Produce, ProducePart};
use storage::codec::compress;

use super::reader::partition_of;
use super::{COMPACTED, is_tombstone, key_of};
use crate::one_node::history::{Event, History, Place, Value};
use crate::one_node::world::World;
use crate::rng::Rng;

const IN_FLIGHT_MAX: usize = 4;
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

struct Pending {
    values: Vec<Value>,
    batch: Bytes,
    request: Option<u64>,
}

pub struct Producer {
    number: usize,
    identity: Option<(ProducerId, ProducerEpoch)>,
    identity_request: Option<u64>,
    sequences: BTreeMap<Place, i32>,
    pending: BTreeMap<Place, VecDeque<Pending>>,
    rng: Rng,
}

impl Producer {
    pub fn new(number: usize, rng: Rng) -> Producer {
        Producer {
            number,
            identity: None,
            identity_request: None,
            sequences: BTreeMap::new(),
            pending: BTreeMap::new(),
            rng,
        }
    }

    /// The node is gone: nothing that is in flight will be answered.
    pub fn on_crash(&mut self) {
        self.identity_request = None;
        self.pending.values_mut().flatten().for_each(|pending| pending.request = None);
    }

    pub fn act(&mut self, world: &mut World, places: &[Place], next_value: &mut Value, history: &mut History) {
        if self.identity.is_none() {
            if self.identity_request.is_none() {
                self.identity_request = Some(world.ask(|node, now, reply, fx| node.init_producer_id(now, reply, fx)));
            }
            return;
        }
        if places.is_empty() {
            return;
        }
        let place = places[self.rng.index(places.len())];
        if self.pending.entry(place).or_default().len() < IN_FLIGHT_MAX {
            self.make_batch(place, world, next_value, history);
        }
        self.send_next(place, world);
    }

    fn make_batch(&mut self, place: Place, world: &World, next_value: &mut Value, history: &mut History) {
        let Some((id, epoch)) = self.identity else { return };
        let sequence = self.sequences.entry(place).or_default();
        let mut builder = BatchBuilder::new().producer(id.0, epoch.0, *sequence);
        let count = 1 + self.rng.below(4);
        let mut values = Vec::new();
        for _ in 0..count {
            // Now and then so large that it goes to its segment directly.
            let size = if self.rng.chance(1, 150) { 200_000 } else { self.rng.below(1500) };
            let mut body = next_value.to_be_bytes().to_vec();
            body.extend(self.rng.bytes(usize::try_from(size).expect("small")));
            let number = next_value.to_be_bytes();
            builder = if place.0 == COMPACTED {
                let value = (!is_tombstone(*next_value)).then_some(&body[..]);
                let key = key_of(*next_value).to_be_bytes();
                builder.record(world.now.wall_ms, Some(&key), value, &[(b"number", Some(&number))])
            } else {
                builder.record(world.now.wall_ms, None, Some(&body), &[])
            };
            values.push(*next_value);
            history.push(world.disk.mutations(), Event::Sent { place, producer: self.number, value: *next_value });
            *next_value += 1;
        }
        *sequence += i32::try_from(count).expect("small");
        let codec = if place.0 == COMPACTED { CODECS[self.rng.index(CODECS.len())] } else { Codec::None };
        let packed = compress(codec, builder.records());
        let batch = builder.finish_with(codec, &packed).bytes().clone();
        self.pending.entry(place).or_default().push_back(Pending { values, batch, request: None });
    }

    fn send_next(&mut self, place: Place, world: &mut World) {
        let Some(partition) = partition_of(&world.node, place) else { return };
        let Some(waiting) = self.pending.entry(place).or_default().iter_mut().find(|pending| pending.request.is_none())
        else {
            return;
        };
        let batch = Batch::check(waiting.batch.clone()).expect("we built it");
        let parts = vec![ProducePart { partition, batch }];
        let timeout = Duration::from_secs(30);
        waiting.request = Some(
            world.ask(|node, now, reply, fx| node.produce(now, Produce { acks: Acks::All, timeout, parts, reply }, fx)),
        );
    }

    /// True when the answer was this producer's.
    pub fn take(&mut self, request: u64, answer: &Answer, mutations: u64, history: &mut History) -> bool {
        if self.identity_request == Some(request) {
            self.identity_request = None;
            if let Answer::ProducerId(Ok(identity)) = answer {
                self.identity = Some(*identity);
            }
            return true;
        }
        let Some((place, queue)) =
            self.pending.iter_mut().find(|(_, queue)| queue.iter().any(|p| p.request == Some(request)))
        else {
            return false;
        };
        let at = queue.iter().position(|pending| pending.request == Some(request)).expect("found above");
        let Answer::Produced(produced) = answer else { panic!("a produce was answered with {answer:?}") };
        match &produced.parts[0] {
            Ok(appended) => {
                let done = queue.remove(at).expect("found above");
                for (position, value) in done.values.iter().enumerate() {
                    let offset = appended.base_offset.get() + position as i64;
                    history.push(mutations, Event::Acked { place: *place, offset, value: *value });
                }
            }
            // Not there yet, or an earlier one was refused: it goes again, behind the earlier ones.
            Err(_) => queue[at].request = None,
        }
        true
    }

    pub fn is_idle(&self) -> bool {
        self.pending.values().all(VecDeque::is_empty)
    }

    /// Sends what is left, without making more.
    pub fn drain(&mut self, world: &mut World) {
        let places: Vec<Place> = self.pending.keys().copied().collect();
        places.into_iter().for_each(|place| self.send_next(place, world));
    }
}
