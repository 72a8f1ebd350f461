//! An idempotent producer: numbers its batches per partition, keeps several in flight, sends again what was not answered.
//!
//! A leader that knows nothing of a producer takes any batch as its first (KIP-360); had an earlier one been lost on its way, it would be
//! refused for ever. So, as real clients: a batch that is sent again waits until every earlier one of its partition was acknowledged,
//! the ones that were never sent wait behind it (Java), and nothing goes to a new leader before the old one has answered or its
//! connection is over (librdkafka).
//! Invariants: a batch is sent only when every earlier one of its partition is in flight or answered; between the first that is not
//! answered and the last there are at most five, as real clients have it: a broker remembers no more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::batch::{Batch, BatchBuilder};
use model::{ProducerEpoch, ProducerId, TopicPartition};
use node::requests::{Answer, AppendError};

use super::{Agent, Catalog, Client};
use crate::checker::{Event, ProducerIdentity, Sent, Value};
use crate::cluster::ask::{Ask, Told};
use crate::cluster::net::HostIndex;
use crate::cluster::queue::{At, MILLISECOND};
use crate::cluster::world::World;

const IN_FLIGHT_MAX: usize = 5;
/// Between a failure and the next attempt, as `retry.backoff.ms`.
const BACKOFF: At = 100 * MILLISECOND;
const WAKE_MS: u64 = 95;

struct Pending {
    sent: Sent,
    batch: Bytes,
    /// Under way, and to whom.
    request: Option<(u64, HostIndex)>,
    acked: bool,
    /// It was sent before.
    again: bool,
}

impl Pending {
    fn waits(&self) -> bool {
        self.request.is_none() && !self.acked
    }
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<Pending>,
    sequence: i32,
    not_before: At,
}

pub struct Producer {
    agent: Agent,
    identity: Option<ProducerIdentity>,
    identity_request: Option<u64>,
    queues: BTreeMap<TopicPartition, Queue>,
    requests: BTreeMap<u64, TopicPartition>,
    /// A batch under an older epoch, as from a process that was thought dead.
    zombie: Option<(u64, Sent)>,
}

impl Producer {
    pub fn new(agent: Agent) -> Producer {
        Producer {
            agent,
            identity: None,
            identity_request: None,
            queues: BTreeMap::new(),
            requests: BTreeMap::new(),
            zombie: None,
        }
    }

    fn make_batch(&mut self, world: &mut World, catalog: &mut Catalog, place: TopicPartition) {
        let Some(identity) = self.identity else { return };
        let queue = self.queues.entry(place).or_default();
        if queue.pending.len() >= IN_FLIGHT_MAX {
            return;
        }
        let count = 1 + self.agent.rng.below(3);
        let sequence = queue.sequence;
        queue.sequence += i32::try_from(count).expect("a few");
        let (sent, batch) = self.build(world, catalog, place, identity, (sequence, count));
        world.note(&Event::Send(sent.clone()));
        let pending = Pending { sent, batch, request: None, acked: false, again: false };
        self.queues.entry(place).or_default().pending.push_back(pending);
    }

    fn build(
        &mut self,
        world: &World,
        catalog: &mut Catalog,
        place: TopicPartition,
        identity: ProducerIdentity,
        (sequence, count): (i32, u64),
    ) -> (Sent, Bytes) {
        let wall_ms = world.true_wall_ms();
        let mut builder = BatchBuilder::new().producer(identity.id, identity.epoch, sequence);
        let values: Vec<Value> = (0..count).map(|_| catalog.next_value()).collect();
        for value in &values {
            // Now and then large, so that segments roll and a group of the journal goes direct.
            let size = if self.agent.rng.chance(1, 2_000) { 280_000 } else { 8 + self.agent.rng.below(300) };
            let mut body = vec![0x5A; usize::try_from(size).expect("small")];
            body[..8].copy_from_slice(&value.to_be_bytes());
            // Clients' clocks differ.
            let timestamp = wall_ms - i64::try_from(self.agent.rng.below(2_000)).expect("small");
            builder = builder.record(timestamp, None, Some(&body), &[]);
        }
        let client = u32::try_from(self.agent.index).expect("few clients");
        let sent = Sent { client, identity, place, values: Arc::from(values) };
        (sent, builder.finish().bytes().clone())
    }

    fn send(&mut self, world: &mut World, place: TopicPartition) {
        let at = world.at;
        let waits = |queue: &Queue| queue.not_before <= at && queue.pending.iter().any(Pending::waits);
        if !self.queues.get(&place).is_some_and(waits) {
            return;
        }
        let Some((host, _)) = self.agent.leader(place) else { return };
        let Some(queue) = self.queues.get_mut(&place) else { return };
        if queue.pending.iter().any(|pending| pending.request.is_some_and(|(_, to)| to != host)) {
            return;
        }
        // The front is the first that is not acknowledged.
        for (ahead, pending) in queue.pending.iter_mut().enumerate().filter(|(_, pending)| pending.waits()) {
            if pending.again && ahead > 0 {
                break;
            }
            pending.again = true;
            let ask = produce(place, &pending.batch);
            let number = self.agent.ask(world, host, ask);
            pending.request = Some((number, host));
            self.requests.insert(number, place);
        }
    }

    fn on_produced(&mut self, world: &mut World, catalog: &mut Catalog, number: u64, told: Told) {
        let Some(place) = self.requests.remove(&number) else { return };
        let Some(queue) = self.queues.get_mut(&place) else { return };
        let of_request = |pending: &&mut Pending| pending.request.is_some_and(|(asked, _)| asked == number);
        let Some(pending) = queue.pending.iter_mut().find(of_request) else { return };
        pending.request = None;
        let result = match told {
            Told::Answer(Answer::Produced(mut produced)) => produced.parts.pop(),
            _ => None,
        };
        match &result {
            Some(Ok(appended)) => {
                pending.acked = true;
                catalog.acked += 1;
                tracing::trace!(ms = world.at / MILLISECOND, %place, base = %appended.base_offset, "a batch is acknowledged");
                world.note(&Event::Acked { sent: pending.sent.clone(), base: appended.base_offset.get() });
            }
            // It was appended before, and where is not known any more: as good as an acknowledgement without an offset.
            Some(Err(AppendError::Duplicate { .. })) => pending.acked = true,
            Some(Err(AppendError::StaleEpoch { current, got, .. })) if current <= got => {
                world.fail(format!("{place}: epoch {got} was called stale by {current}"));
            }
            Some(Err(_)) | None => {
                tracing::debug!(%place, refused = ?result, "a batch is sent again");
                queue.not_before = world.at + BACKOFF;
                self.agent.is_stale();
            }
        }
        while queue.pending.front().is_some_and(|first| first.acked) {
            queue.pending.pop_front();
        }
    }

    /// Goes on under a newer epoch, as clients do after an error that cannot be mended.
    fn change_epoch(&mut self) {
        let all_answered = self.queues.values().all(|queue| queue.pending.is_empty()) && self.zombie.is_none();
        if let Some(identity) = self.identity.as_mut().filter(|_| all_answered) {
            identity.epoch += 1;
            self.queues.values_mut().for_each(|queue| queue.sequence = 0);
        }
    }

    /// The older epoch speaks up again where the newer one was acknowledged.
    fn send_zombie(&mut self, world: &mut World, catalog: &mut Catalog) {
        let Some(mut identity) = self.identity.filter(|identity| identity.epoch > 0) else { return };
        identity.epoch -= 1;
        let acked = |queue: &Queue| queue.sequence > 0 && queue.pending.is_empty();
        let places = self.queues.iter().filter(|(_, queue)| acked(queue)).map(|(place, _)| *place);
        let places: Vec<TopicPartition> = places.filter(|place| !catalog.is_leaving(place.topic)).collect();
        if places.is_empty() || catalog.closing || self.zombie.is_some() {
            return;
        }
        let place = places[self.agent.rng.index(places.len())];
        let Some((host, _)) = self.agent.leader(place) else { return };
        let (mut sent, batch) = self.build(world, catalog, place, identity, (0, 1));
        sent.client += 1_000;
        world.note(&Event::Send(sent.clone()));
        let number = self.agent.ask(world, host, produce(place, &batch));
        self.zombie = Some((number, sent));
    }

    fn on_zombie(&mut self, world: &mut World, number: u64, told: &Told) -> bool {
        if self.zombie.as_ref().is_none_or(|(asked, _)| *asked != number) {
            return false;
        }
        let Some((_, sent)) = self.zombie.take() else { return false };
        if let Told::Answer(Answer::Produced(produced)) = told
            && let Some(Ok(appended)) = produced.parts.first()
        {
            world.note(&Event::Acked { sent, base: appended.base_offset.get() });
        }
        true
    }
}

fn produce(partition: TopicPartition, batch: &Bytes) -> Ask {
    let batch = Batch::check(batch.clone()).expect("we built it");
    Ask::Produce { partition, batch, timeout: Duration::from_millis(1_500) }
}

impl Client for Producer {
    fn wake(&mut self, world: &mut World, catalog: &mut Catalog) {
        self.queues.retain(|place, _| !catalog.is_leaving(place.topic));
        self.agent.refresh(world);
        if self.identity.is_none() && self.identity_request.is_none() {
            self.identity_request = Some(self.agent.ask_anyone(world, Ask::ProducerId));
        }
        let places = catalog.places(false);
        if !places.is_empty() && !catalog.closing {
            let place = places[self.agent.rng.index(places.len())];
            self.make_batch(world, catalog, place);
        }
        match self.agent.rng.below(100) {
            0 => self.change_epoch(),
            1 => self.send_zombie(world, catalog),
            _ => {}
        }
        let places: Vec<TopicPartition> = self.queues.keys().copied().collect();
        places.into_iter().for_each(|place| self.send(world, place));
        self.agent.sleep(world, WAKE_MS);
    }

    fn told(&mut self, world: &mut World, catalog: &mut Catalog, number: u64, told: Told) {
        if self.agent.refreshed(number, &told) || self.on_zombie(world, number, &told) {
            return;
        }
        if self.identity_request == Some(number) {
            self.identity_request = None;
            if let Told::Answer(Answer::ProducerId(Ok((ProducerId(id), ProducerEpoch(epoch))))) = told {
                self.identity = Some(ProducerIdentity { id, epoch });
            }
            return;
        }
        self.on_produced(world, catalog, number, told);
    }

    fn is_idle(&self) -> bool {
        self.queues.values().all(|queue| queue.pending.is_empty()) && self.zombie.is_none()
    }
}
