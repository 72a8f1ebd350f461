//! Requests of clients on their way to a host, and the answers on their way back.
//!
//! Owns what becomes of a request when its connection, its host or its client's patience ends. Does not own connections.
//! Invariant: each request ends once for its client: with an answer, or with `Told::Lost`, which says nothing about whether it was done.

use model::TopicPartition;
use node::effects::ReplyTo;
use node::requests::Answer;

use super::ask::{Ask, Told};
use super::connections::Session;
use super::net::{HostIndex, node_id};
use super::queue::{At, MILLISECOND};
use super::world::{Asked, ClientIndex, Happening, SHUT_DOWN, World};
use crate::checker::Event;

impl World {
    /// Hands a request over. Its end is told under the number given.
    pub fn ask(&mut self, client: ClientIndex, host: HostIndex, ask: Ask, patience: At) -> u64 {
        self.next_number += 1;
        let number = self.next_number;
        let start = self.hosts[host].start;
        let (session, stands) = self.connections.use_one(client, host, start);
        let place = if let Ask::Produce { partition, .. } = &ask { Some(*partition) } else { None };
        self.schedule(patience, Happening::Patience { number });
        let arrives = self.arrival((client, host), session);
        let ask = arrives.map(|at| {
            self.queue.push(at, Happening::Request { number });
            ask
        });
        self.asked.insert(number, Asked { client, host, session, start, place, ask });
        if !stands {
            self.refuse(client, host, session);
        }
        number
    }

    fn arrival(&mut self, between: (ClientIndex, HostIndex), session: Session) -> Option<At> {
        let takes = 100_000 + self.net_rng.below(400_000);
        self.connections.carry(between, session, self.at, takes)
    }

    /// Where a request that has not arrived yet goes to.
    pub(super) fn bound_for(&self, number: u64) -> Option<HostIndex> {
        let waited_for = self.asked.get(&number).map(|asked| asked.host);
        waited_for.or_else(|| self.orphans.get(&number).map(|(host, ..)| *host))
    }

    /// Its client waits for it no longer; the host may see it all the same.
    pub(super) fn close(&mut self, number: u64) -> Option<ClientIndex> {
        let asked = self.asked.remove(&number)?;
        if let Some(ask) = asked.ask {
            self.orphans.insert(number, (asked.host, asked.start, ask));
        }
        Some(asked.client)
    }

    /// A client that waited too long, or hears that it waits for nothing, ends the connection, and with it all that waits on it.
    pub(super) fn hang_up(&mut self, number: u64) {
        let Some(Asked { client, host, session, .. }) = self.asked.get(&number) else { return };
        let (client, host, session) = (*client, *host, *session);
        for other in self.waiting_on(client, host, session) {
            self.schedule(0, Happening::Answer { number: other, told: Told::Lost });
        }
        self.connections.end(client, host, session);
    }

    fn waiting_on(&self, client: ClientIndex, host: HostIndex, session: Session) -> Vec<u64> {
        let on = |asked: &Asked| asked.client == client && asked.host == host && asked.session == session;
        self.asked.iter().filter(|(_, asked)| on(asked)).map(|(number, _)| *number).collect()
    }

    /// Nobody listens there, or another process than the one that was connected to: nothing of this connection arrives.
    fn refuse(&mut self, client: ClientIndex, host: HostIndex, session: Session) {
        for number in self.waiting_on(client, host, session) {
            self.asked.get_mut(&number).expect("it was found there").ask = None;
            self.schedule(MILLISECOND, Happening::Answer { number, told: Told::Lost });
        }
        self.connections.sever(client, host, session);
    }

    /// A process ended. Its machine says so, unless it went as well.
    pub(super) fn connections_of_the_dead(&mut self, host: HostIndex, machine_lives: bool) {
        let mut gone: Vec<(ClientIndex, Session)> =
            self.asked.values().filter(|asked| asked.host == host).map(|asked| (asked.client, asked.session)).collect();
        gone.dedup();
        for (client, session) in gone.into_iter().filter(|_| machine_lives) {
            self.refuse(client, host, session);
        }
    }

    pub(super) fn request(&mut self, number: u64) {
        let reply = ReplyTo { sink: self.inbox.clone(), request: number };
        if let Some((host, start, ask)) = self.orphans.remove(&number) {
            if self.hosts[host].is_up() && self.hosts[host].start == start {
                self.hash.add(number);
                self.with_node(host, |node, now, fx| ask.put_to(node, now, reply, fx));
            }
            return;
        }
        let Some(asked) = self.asked.get_mut(&number) else { return };
        let (client, host, session) = (asked.client, asked.host, asked.session);
        if asked.ask.is_none() {
            return;
        }
        if !self.hosts[host].is_up() || self.hosts[host].start != asked.start {
            return self.refuse(client, host, session);
        }
        let Some(ask) = asked.ask.take() else { return };
        self.hash.add(number);
        if let Some(told) = self.with_node(host, |node, now, fx| ask.put_to(node, now, reply, fx)).flatten() {
            self.answer(host, number, told);
        }
    }

    fn answer(&mut self, host: HostIndex, number: u64, told: Told) {
        let Some(asked) = self.asked.get(&number) else { return };
        let (client, session, place) = (asked.client, asked.session, asked.place);
        if let Some(place) = place.filter(|_| acknowledges(&told)) {
            self.note_leader(host, place);
        }
        if let Some(at) = self.arrival((client, host), session) {
            self.queue.push(at, Happening::Answer { number, told });
        }
    }

    /// A process acknowledged: under which epoch?
    fn note_leader(&mut self, host: HostIndex, place: TopicPartition) {
        let Some(node) = &self.hosts[host].node else { return };
        let Some(epoch) = node.partition_status(place).map(|status| status.epoch) else { return };
        // Where it was deposed in the same moment, the epoch is not the one that it acknowledged under.
        let image = node.image();
        let still =
            image.partition(place).is_some_and(|info| info.leader == Some(node_id(host)) && info.leader_epoch == epoch);
        if still {
            let start = self.hosts[host].start;
            self.note(&Event::AckedUnder { place, epoch: epoch.get(), node: node_id(host).0, start });
        }
    }

    pub(super) fn deliver_answers(&mut self, host: HostIndex) {
        loop {
            let next = self.inbox.answers.lock().expect("one thread uses it").pop_front();
            let Some((number, answer)) = next else { return };
            if number & SHUT_DOWN == 0 {
                self.hash.add(number);
                self.answer(host, number, Told::Answer(answer));
            } else {
                self.schedule(0, Happening::Stopped { host, start: self.hosts[host].start });
            }
        }
    }
}

fn acknowledges(told: &Told) -> bool {
    matches!(told, Told::Answer(Answer::Produced(produced)) if produced.parts.iter().any(Result::is_ok))
}
