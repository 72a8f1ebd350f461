//! Fetch sessions (KIP-227): what a consumer fetches is remembered, so that a fetch names changes only, and a partition
//! where nothing happens costs nothing.
//!
//! Owns the sessions, their bound and their epochs. Does not own reading: `fetch` does.
//! Invariants: a session is used by one fetch at a time; its epoch moves with each; while a fetch has the session, a
//! second one gets INVALID_FETCH_SESSION_EPOCH. A fetch that is dropped half-way takes its session along.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{ErrorCode, Offset, TopicId, TopicPartition};
use node::Node;
use node::partition::waiters::Watcher;

use crate::clock;

/// A session that was not used for so long makes room for another.
const IDLE: Duration = Duration::from_secs(120);
/// Partitions over all sessions; what opens a session is within the bound of a request.
const PARTITIONS_MAX: usize = 1_000_000;
const FIRST_EPOCH: i32 = 1;

/// A topic as the session's requests name it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TopicKey {
    Name(Arc<str>),
    Id(TopicId),
}

/// One partition of a session.
#[derive(Clone, Debug)]
pub struct Slot {
    pub topic: TopicKey,
    pub partition: i32,
    pub from: i64,
    pub bytes_max: i32,
    pub current_epoch: i32,
    pub last_fetched_epoch: i32,
    /// What the client was told last; `None`: nothing yet, or an error.
    pub told: Option<Told>,
    watched: Option<TopicPartition>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    pub high_watermark: Option<Offset>,
    pub last_stable: Option<Offset>,
    pub log_start: Option<Offset>,
}

impl Slot {
    pub fn new(topic: TopicKey, partition: i32) -> Slot {
        Slot {
            topic,
            partition,
            from: 0,
            bytes_max: 0,
            current_epoch: -1,
            last_fetched_epoch: -1,
            told: None,
            watched: None,
        }
    }
}

/// The partitions of one fetch or session, and which of them may have news.
pub struct Session {
    node: Arc<Node>,
    pub watcher: Arc<Watcher>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_key: BTreeMap<(TopicKey, i32), u32>,
    /// Slots to look at; the others have not moved since they were looked at.
    dirty: BTreeSet<u32>,
    /// Slots that no watcher tells about: they are always looked at.
    unwatched: BTreeSet<u32>,
    /// Where the next look begins, so that one busy partition does not starve those behind it.
    cursor: u32,
}

impl Session {
    pub fn new(node: Arc<Node>) -> Session {
        Session {
            node,
            watcher: Watcher::new(),
            slots: Vec::new(),
            free: Vec::new(),
            by_key: BTreeMap::new(),
            dirty: BTreeSet::new(),
            unwatched: BTreeSet::new(),
            cursor: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// How many of these partitions of one topic the session has not.
    pub fn lacks(&self, topic: &TopicKey, partitions: impl Iterator<Item = i32>) -> usize {
        partitions.filter(|partition| !self.by_key.contains_key(&(topic.clone(), *partition))).count()
    }

    pub fn slot(&self, at: u32) -> Option<&Slot> {
        self.slots.get(usize::try_from(at).ok()?)?.as_ref()
    }

    pub fn slot_mut(&mut self, at: u32) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(at).ok()?)?.as_mut()
    }

    /// Adds a partition, or changes what is fetched of it.
    pub fn put(&mut self, slot: Slot) {
        let key = (slot.topic.clone(), slot.partition);
        if let Some(at) = self.by_key.get(&key).copied() {
            let have = self.slot_mut(at).expect("by_key names slots that are there");
            let (told, watched) = (have.told, have.watched);
            *have = Slot { told, watched, ..slot };
            self.dirty.insert(at);
            return;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1)
                .expect("sessions have at most a million partitions, and a request fewer")
        });
        let place = self.slots.get_mut(usize::try_from(at).unwrap_or(usize::MAX)).expect("a slot that was just made");
        *place = Some(slot);
        self.by_key.insert(key, at);
        self.dirty.insert(at);
        self.unwatched.insert(at);
    }

    pub fn remove(&mut self, topic: &TopicKey, partition: i32) {
        let Some(at) = self.by_key.remove(&(topic.clone(), partition)) else { return };
        self.unwatch(at);
        if let Some(place) = self.slots.get_mut(usize::try_from(at).unwrap_or(usize::MAX)) {
            *place = None;
        }
        self.dirty.remove(&at);
        self.unwatched.remove(&at);
        self.free.push(at);
    }

    /// Slots that may have news, from the cursor on and around.
    pub fn to_look_at(&mut self) -> Vec<u32> {
        let mut moved = Vec::new();
        self.watcher.take_ready(&mut moved);
        moved.retain(|at| self.slot(*at).is_some());
        self.dirty.extend(moved);
        self.dirty.extend(&self.unwatched);
        self.dirty.range(self.cursor..).chain(self.dirty.range(..self.cursor)).copied().collect()
    }

    /// This slot has nothing new until it moves.
    pub fn settle(&mut self, at: u32) {
        self.dirty.remove(&at);
    }

    /// The next look begins behind this slot.
    pub fn begin_after(&mut self, at: u32) {
        self.cursor = at + 1;
    }

    /// Registers a slot for moves of its partition. It must be looked at again afterwards.
    pub fn watch(&mut self, at: u32, partition: TopicPartition) {
        let Some(slot) = self.slot(at) else { return };
        if slot.watched == Some(partition) {
            return;
        }
        self.unwatch(at);
        if self.node.watch(&self.watcher, partition, at) {
            self.unwatched.remove(&at);
            if let Some(slot) = self.slot_mut(at) {
                slot.watched = Some(partition);
            }
        } else {
            self.unwatched.insert(at);
        }
    }

    pub fn is_watched(&self, at: u32) -> bool {
        self.slot(at).is_some_and(|slot| slot.watched.is_some())
    }

    fn unwatch(&mut self, at: u32) {
        if let Some(partition) = self.slot_mut(at).and_then(|slot| slot.watched.take()) {
            self.node.unwatch(&self.watcher, partition, at);
            self.unwatched.insert(at);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let watched = self.slots.iter().zip(0u32..).filter_map(|(slot, at)| Some((slot.as_ref()?.watched?, at)));
        for (partition, at) in watched {
            self.node.unwatch(&self.watcher, partition, at);
        }
    }
}

/// What a fetch's session id and epoch ask for.
pub enum Begun {
    /// No session: all partitions are named and all are answered.
    Full(Session),
    /// A session that begins with this fetch.
    New(Lease),
    /// A session that goes on: changes are named and news answered.
    Resumed(Lease),
}

/// A session in the hands of one fetch.
pub struct Lease {
    sessions: Arc<Shared>,
    pub id: i32,
    pub session: Option<Box<Session>>,
}

impl Lease {
    /// Whether the session may grow by so many partitions.
    pub fn has_room(&self, more: usize) -> bool {
        if more == 0 {
            return true;
        }
        let have = self.session.as_ref().map_or(0, |session| session.len());
        let state = self.sessions.lock();
        let others = state.kept.iter().filter(|(id, _)| **id != self.id).map(|(_, kept)| kept.partitions);
        have + more + others.sum::<usize>() <= PARTITIONS_MAX
    }

    /// Keeps the session for the next fetch.
    pub fn keep(mut self) {
        let session = self.session.take();
        let mut state = self.sessions.lock();
        if let Some(kept) = state.kept.get_mut(&self.id) {
            kept.partitions = session.as_ref().map_or(0, |session| session.len());
            kept.session = session;
            kept.used = clock::mono();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.session.is_some() {
            self.sessions.lock().kept.remove(&self.id);
        }
    }
}

#[derive(Default)]
struct Shared(Mutex<State>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State {
    kept: BTreeMap<i32, Kept>,
    last_id: i32,
}

struct Kept {
    /// The epoch that the next fetch must have.
    epoch: i32,
    by_id: bool,
    used: Duration,
    partitions: usize,
    /// `None` while a fetch has it.
    session: Option<Box<Session>>,
}

/// All sessions of this node.
#[derive(Clone)]
pub struct FetchSessions {
    shared: Arc<Shared>,
    sessions_max: usize,
}

impl FetchSessions {
    pub fn new(sessions_max: usize) -> FetchSessions {
        FetchSessions { shared: Arc::default(), sessions_max }
    }

    pub fn limit(&self) -> usize {
        self.sessions_max
    }

    pub fn count(&self) -> usize {
        self.shared.lock().kept.len()
    }

    /// What the session id and epoch of a fetch mean. `by_id`: whether its version names topics by id.
    pub fn begin(&self, node: &Arc<Node>, id: i32, epoch: i32, by_id: bool) -> Result<Begun, ErrorCode> {
        let closing = if id != 0 && epoch <= 0 { self.shared.lock().kept.remove(&id) } else { None };
        // Outside of the lock: it unregisters every partition.
        drop(closing);
        match epoch {
            0 => Ok(match self.open(node, by_id) {
                Some(lease) => Begun::New(lease),
                None => Begun::Full(Session::new(node.clone())),
            }),
            ..0 => Ok(Begun::Full(Session::new(node.clone()))),
            1.. => self.resume(id, epoch, by_id).map(Begun::Resumed),
        }
    }

    fn open(&self, node: &Arc<Node>, by_id: bool) -> Option<Lease> {
        let now = clock::mono();
        let mut evicted = None;
        let id = {
            let mut state = self.shared.lock();
            let partitions: usize = state.kept.values().map(|kept| kept.partitions).sum();
            if state.kept.len() >= self.sessions_max || partitions >= PARTITIONS_MAX {
                let idle = state.kept.iter().filter(|(_, kept)| kept.session.is_some() && kept.used + IDLE <= now);
                let oldest = idle.min_by_key(|(_, kept)| kept.used).map(|(id, _)| *id)?;
                evicted = state.kept.remove(&oldest);
            }
            let mut id = state.last_id;
            loop {
                id = id.checked_add(1).unwrap_or(1);
                if !state.kept.contains_key(&id) {
                    break;
                }
            }
            state.last_id = id;
            state.kept.insert(id, Kept { epoch: FIRST_EPOCH, by_id, used: now, partitions: 0, session: None });
            id
        };
        drop(evicted);
        let session = Some(Box::new(Session::new(node.clone())));
        Some(Lease { sessions: self.shared.clone(), id, session })
    }

    fn resume(&self, id: i32, epoch: i32, by_id: bool) -> Result<Lease, ErrorCode> {
        let mut state = self.shared.lock();
        let kept = state.kept.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if kept.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if kept.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let session = kept.session.take().ok_or(ErrorCode::InvalidFetchSessionEpoch)?;
        kept.epoch = epoch.checked_add(1).unwrap_or(FIRST_EPOCH);
        Ok(Lease { sessions: self.shared.clone(), id, session: Some(session) })
    }
}
