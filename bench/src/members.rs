//! Members of a group of the consumer protocol (KIP-848), without a consumer around them: thousands fit in one thread.
//!
//! Owns the heartbeats (ConsumerGroupHeartbeat v1) and the reconciliation: what is taken away is given up at once, and said at once,
//! as consumers do that have nothing in hand. Invariant: a member beats when the server's interval has passed, or when it has news.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use compat_tests::raw::{Client, Reader, Writer, key};

/// A topic id and a partition.
type Place = ([u8; 16], i32);

/// Kafka's codes for a coordinator that is loading, not there, or elsewhere.
const NOT_READY: [i16; 3] = [14, 15, 16];
/// The first group makes the coordinators' topic.
const COORDINATOR_MAX: Duration = Duration::from_secs(60);

pub struct Member {
    client: Client,
    group: String,
    id: String,
    topic: String,
    epoch: i32,
    owned: BTreeSet<Place>,
    has_news: bool,
    due: Instant,
}

/// A nullable string that is null, and a nullable array that is.
const NULL: u64 = 0;

impl Member {
    /// Connects and joins; `id` is the member's own name.
    pub fn join(address: SocketAddr, group: &str, id: u128, topic: &str) -> Result<Member> {
        let mut member = Member {
            client: Client::connect(&address.to_string())?,
            group: group.to_owned(),
            // Kafka asks for a UUID as its own clients write it: 22 characters
            id: format!("{id:022}"),
            topic: topic.to_owned(),
            epoch: 0,
            owned: BTreeSet::new(),
            has_news: true,
            due: Instant::now(),
        };
        member.find_coordinator()?;
        Ok(member)
    }

    /// Asks until the group has a coordinator, and beats there for the first time.
    fn find_coordinator(&mut self) -> Result<()> {
        let (find, until) = (Writer::new().string(self.group.as_bytes()).done(), Instant::now() + COORDINATOR_MAX);
        loop {
            let found = self.client.ask(key::FIND_COORDINATOR, 0, &find)?;
            let code = Reader(&found).i16()?;
            let code = if code == 0 { self.try_beat()? } else { code };
            if code == 0 {
                return Ok(());
            }
            ensure!(NOT_READY.contains(&code), "group {} has no coordinator: error {code}", self.group);
            ensure!(Instant::now() < until, "group {} has no coordinator in {COORDINATOR_MAX:?}", self.group);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn owned(&self) -> usize {
        self.owned.len()
    }

    /// When it will beat next.
    pub fn due(&self) -> Instant {
        if self.has_news { Instant::now() } else { self.due }
    }

    /// Beats, if that is due.
    pub fn turn(&mut self) -> Result<bool> {
        let is_due = self.due() <= Instant::now();
        if is_due {
            self.beat()?;
        }
        Ok(is_due)
    }

    fn beat(&mut self) -> Result<()> {
        let code = self.try_beat()?;
        ensure!(code == 0, "heartbeat of {} in {}: error {code}", self.id, self.group);
        Ok(())
    }

    /// Beats; the error that it was answered with.
    fn try_beat(&mut self) -> Result<i16> {
        let body = self.body();
        let answer = self.client.ask(key::CONSUMER_GROUP_HEARTBEAT, 1, &body)?;
        let mut reader = Reader(&answer);
        reader.i32()?; // throttle
        let code = reader.i16()?;
        if code != 0 {
            return Ok(code);
        }
        reader.compact()?; // message
        reader.compact()?; // member id
        self.epoch = reader.i32()?;
        let interval = Duration::from_millis(u64::try_from(reader.i32()?)?);
        self.due = Instant::now() + interval;
        self.has_news = false;
        if reader.i8()? >= 0 {
            let assigned: BTreeSet<Place> = places(&mut reader)?.into_iter().flatten().collect();
            // The server waits to hear what was given up.
            self.has_news = assigned != self.owned;
            self.owned = assigned;
        }
        Ok(code)
    }

    fn body(&self) -> Vec<u8> {
        let joins = self.epoch == 0;
        let body = Writer::new().compact(self.group.as_bytes()).compact(self.id.as_bytes()).i32(self.epoch);
        let body = body.varint(NULL).varint(NULL).i32(if joins { 300_000 } else { -1 });
        let body = if joins { body.varint(2).compact(self.topic.as_bytes()) } else { body.varint(NULL) };
        let body = body.varint(NULL).varint(NULL);
        let body = match joins || self.has_news {
            true => self.reported(body),
            false => body.varint(NULL),
        };
        body.varint(0).done()
    }

    fn reported(&self, body: Writer) -> Writer {
        let Some((topic, _)) = self.owned.first() else { return body.varint(1) };
        let body = body.varint(2).raw(topic).varint(self.owned.len() as u64 + 1);
        self.owned.iter().fold(body, |body, (_, partition)| body.i32(*partition)).varint(0)
    }
}

fn places(reader: &mut Reader<'_>) -> Result<Vec<Vec<Place>>> {
    reader.each_compact(|topic| {
        let id: [u8; 16] = topic.raw(16)?.try_into()?;
        let partitions = topic.each_compact(|partition| Ok((id, partition.i32()?)))?;
        topic.tags()?;
        Ok(partitions)
    })
}
