//! What goes wrong, when, and for how long.
//!
//! Owns the choice of faults: each seed draws which kinds it uses, how often and for how long, and the fault atlas, which keeps a recovery
//! possible: a disk is emptied, or lies, only while every partition on it has all its replicas, and there is always another (`copies`); one
//! disk lies at a time, and until it is replaced nothing else goes wrong but its own machine's end.
//! Does not own how a fault works (`world`, `links`, `host`, `lying`), but for the damage to indexes.
//! Invariant: each fault has a cure, and `heal` is the cure of all.

use std::collections::BTreeMap;

use super::copies;
use super::host::Ending;
use super::kinds::{KINDS, Kind};
use super::lying;
use super::net::{HostIndex, Weather};
use super::queue::{At, MILLISECOND, SECOND};
use super::voters::Voters;
use super::world::World;
use crate::disk::Survival;
use crate::rng::Rng;

/// How slow a disk is that hangs, and how long all may hang before the power goes: not so long that anybody gives a leader up.
const HANGING_PERCENT: u64 = 100_000;
const HANGS_MAX: At = 1_200 * MILLISECOND;

/// The number of the event that brings the next fault; others are cures.
const NEXT: u64 = 0;
/// And of the one that brings the next step of `voters`.
const VOTERS: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
enum Cure {
    Start(HostIndex),
    /// The power goes, and is back after so long.
    PowerCut(HostIndex, At),
    /// The power of all goes.
    Blackout,
    Resume(HostIndex),
    Network,
    /// The other half of a flap: the split again, so many times.
    FlapAgain(u32, u64),
    /// Sockets give up on blocked ways.
    SocketsGiveUp,
    Clock(HostIndex),
    Room(HostIndex),
    Speed(HostIndex),
    Syncs(HostIndex),
    Weather,
    /// The next disk that lies.
    Lie,
    /// The disk that lies is replaced by an empty one, as soon as all that it holds is elsewhere.
    Disk,
}

pub struct Faults {
    rng: Rng,
    /// For what was added later, so that the seeds without it stay what they were.
    beside: Rng,
    kinds: Vec<Kind>,
    gap: At,
    lasts: At,
    cures: BTreeMap<u64, Cure>,
    next_cure: u64,
    pub struck: BTreeMap<Kind, u64>,
    over: bool,
    disks_lie: bool,
    /// Whose disk lies.
    liar: Option<HostIndex>,
    /// In some seeds voters forget.
    voters: Option<Voters>,
}

impl Faults {
    /// Draws what this seed's faults are.
    pub fn draw(mut rng: Rng, disks_lie: bool) -> Faults {
        let beside = Rng::new(!rng.clone().next_u64());
        let share = 1 + rng.below(4);
        let mut kinds: Vec<Kind> = KINDS.into_iter().filter(|_| rng.chance(share, 5)).collect();
        if kinds.is_empty() {
            kinds.push(KINDS[rng.index(KINDS.len())]);
        }
        Faults {
            kinds,
            gap: (2 + rng.below(8)) * SECOND,
            lasts: [500, 2_000, 6_000][rng.index(3)] * MILLISECOND,
            cures: BTreeMap::new(),
            next_cure: NEXT + 1,
            struck: BTreeMap::new(),
            over: false,
            disks_lie,
            liar: None,
            voters: None,
            beside,
            rng,
        }
    }

    /// From now on voters forget now and then, beside all else.
    pub fn let_voters_forget(&mut self, world: &mut World, rng: Rng) {
        self.voters = Some(Voters::new(rng));
        self.voters_go_on(world);
    }

    pub fn count(&self) -> u64 {
        self.struck.values().sum()
    }

    pub fn schedule(&mut self, world: &mut World) {
        let after = self.gap / 2 + self.rng.below(self.gap);
        world.fault_after(after, NEXT);
        if std::mem::take(&mut self.disks_lie) {
            self.cure_after(world, after / 2, Cure::Lie);
        }
    }

    fn voters_go_on(&mut self, world: &mut World) {
        let quiet = self.cures.is_empty() && self.liar.is_none();
        let Some(voters) = &mut self.voters else { return };
        let (struck, pause) = voters.go_on(world, quiet);
        if struck {
            *self.struck.entry(Kind::ForgetfulVoter).or_default() += 1;
        }
        world.fault_after(pause, VOTERS);
    }

    fn cure_after(&mut self, world: &mut World, after: At, cure: Cure) {
        let number = self.next_cure;
        self.next_cure += 1;
        self.cures.insert(number, cure);
        world.fault_after(after, number);
    }

    /// A fault or a cure is due.
    pub fn happen(&mut self, world: &mut World, number: u64) {
        if self.over {
            return;
        }
        if number == VOTERS {
            return self.voters_go_on(world);
        }
        if number != NEXT {
            if let Some(cure) = self.cures.remove(&number) {
                self.cure(world, cure);
            }
            return;
        }
        let kind = self.kinds[self.rng.index(self.kinds.len())];
        if self.strike(world, kind) {
            world.hash.add(kind as u64 + 1);
            *self.struck.entry(kind).or_default() += 1;
        }
        self.schedule(world);
    }

    fn duration(&mut self) -> At {
        100 * MILLISECOND + self.rng.below(2 * self.lasts)
    }

    /// Whether it could be done.
    fn strike(&mut self, world: &mut World, kind: Kind) -> bool {
        let drawn = self.rng.index(world.hosts.len());
        let host = self.liar.unwrap_or(drawn);
        let ends_one = matches!(kind, Kind::Kill | Kind::PowerCut | Kind::Stop | Kind::Pause);
        let forgetting = self.voters.as_ref().is_some_and(Voters::is_busy);
        if forgetting || (self.liar.is_some() && !ends_one) {
            return false;
        }
        match kind {
            Kind::Kill | Kind::PowerCut | Kind::Stop | Kind::Wipe | Kind::DamagedIndex | Kind::Blackout => {
                self.end_processes(world, kind, host)
            }
            Kind::Split | Kind::OneWay | Kind::Partial | Kind::Flap | Kind::SlowWay | Kind::CutLinks => {
                world.hosts.len() > 1 && self.disturb_network(world, kind, host)
            }
            Kind::Pause => {
                let answers = world.hosts[host].answers();
                world.pause(host);
                let lasts = self.duration();
                self.cure_after(world, lasts, Cure::Resume(host));
                answers
            }
            Kind::CutOffClients => {
                world.cut_off_from_clients(host);
                let lasts = self.duration();
                self.cure_after(world, lasts, Cure::Network);
                true
            }
            Kind::LossyRaft => {
                world.set_weather(Weather {
                    raft_lost: 50,
                    raft_twice: 50,
                    jitter: 20 * MILLISECOND,
                    ..Weather::default()
                });
                let lasts = self.duration();
                self.cure_after(world, lasts, Cure::Weather);
                true
            }
            Kind::JumpClock | Kind::DriftClock => self.disturb_clock(world, kind, host),
            Kind::LostTail => {
                if !world.hosts[host].is_up() {
                    return false;
                }
                world.hosts[host].disk_percent = HANGING_PERCENT;
                let (lasts, off) = (self.rng.below(800) * MILLISECOND, (5 + self.rng.below(400)) * MILLISECOND);
                self.cure_after(world, lasts, Cure::PowerCut(host, off));
                true
            }
            Kind::FullDisk | Kind::SlowDisk | Kind::FailingSyncs => self.disturb_disk(world, kind, host),
            Kind::LyingDisk => self.lie(world, host),
            Kind::ForgetfulVoter => unreachable!("`voters` has a schedule of its own"),
        }
    }

    fn survival(&mut self) -> Survival {
        [Survival::Nothing, Survival::Everything, Survival::Drawn, Survival::Drawn][self.rng.index(4)]
    }

    fn end_processes(&mut self, world: &mut World, kind: Kind, host: HostIndex) -> bool {
        if !world.hosts[host].is_up() {
            return false;
        }
        let lasts = self.duration();
        match kind {
            Kind::Kill => world.crash(host, Ending::Killed),
            Kind::PowerCut => {
                let survival = self.survival();
                world.crash(host, Ending::PowerCut(survival));
            }
            Kind::Stop => world.stop(host),
            Kind::Wipe => {
                if world.voters_by_hand || !copies::may_lose(world, host) {
                    return false;
                }
                // Half of them are back, as somebody else under the same id, before anybody misses them.
                let soon = self.rng.chance(1, 2);
                world.crash(host, Ending::Killed);
                world.wipe(host);
                let lasts = if soon { self.rng.below(60 * MILLISECOND) } else { lasts };
                self.cure_after(world, lasts, Cure::Start(host));
                return true;
            }
            Kind::DamagedIndex => {
                world.crash(host, Ending::Killed);
                damage_caches(world, host, &mut self.rng);
            }
            _ => {
                self.black_out(world);
                return true;
            }
        }
        self.cure_after(world, lasts, Cure::Start(host));
        true
    }

    fn black_out(&mut self, world: &mut World) {
        if self.beside.chance(1, 2) {
            world.hosts.iter_mut().for_each(|host| host.disk_percent = HANGING_PERCENT);
            let lasts = self.beside.below(HANGS_MAX);
            return self.cure_after(world, lasts, Cure::Blackout);
        }
        for host in 0..world.hosts.len() {
            let survival = self.survival();
            world.crash(host, Ending::PowerCut(survival));
            let lasts = self.duration();
            self.cure_after(world, lasts, Cure::Start(host));
        }
    }

    fn disturb_network(&mut self, world: &mut World, kind: Kind, host: HostIndex) -> bool {
        let count = world.hosts.len();
        let other = (host + 1 + self.rng.index(count - 1)) % count;
        match kind {
            Kind::CutLinks => {
                world.cut_links(host, other);
                return true;
            }
            Kind::SlowWay => world.slow_down(host, other, (1 + self.rng.below(200)) * MILLISECOND),
            Kind::Partial => {
                world.block(host, other);
                world.block(other, host);
            }
            Kind::OneWay => {
                let hears = self.rng.chance(1, 2);
                for other in 0..count {
                    if hears { world.block(host, other) } else { world.block(other, host) }
                }
            }
            _ => {
                let sides = self.rng.next_u64();
                split(world, sides);
                if kind == Kind::Flap {
                    let times = 2 + u32::try_from(self.rng.below(6)).expect("small");
                    let lasts = (100 + self.rng.below(1_500)) * MILLISECOND;
                    self.cure_after(world, lasts, Cure::FlapAgain(times, sides));
                    return true;
                }
                match self.rng.below(4) {
                    0 => {
                        let far = (0..count).filter(|host| side_of(sides, *host));
                        far.for_each(|host| world.cut_off_from_clients(host));
                    }
                    // Each side has clients of its own.
                    1 | 2 => world.part_clients(sides, self.rng.next_u64()),
                    _ => {}
                }
            }
        }
        let lasts = self.duration();
        if self.rng.chance(1, 2) {
            self.cure_after(world, self.lasts / 2, Cure::SocketsGiveUp);
        }
        self.cure_after(world, lasts, Cure::Network);
        true
    }

    /// Only when nothing else goes wrong.
    fn lie(&mut self, world: &mut World, host: HostIndex) -> bool {
        let quiet = self.cures.is_empty() && self.liar.is_none() && copies::may_lose(world, host);
        if !quiet || !lying::damage_segment(&world.hosts[host].disk, &mut self.rng) {
            return false;
        }
        self.liar = Some(host);
        // It may refuse to start on what it finds.
        world.hosts[host].excused = true;
        let lasts = 4 * self.duration();
        self.cure_after(world, lasts, Cure::Disk);
        true
    }

    /// Replaces the disk that lies, if that can be done by now. Whether none is left.
    pub fn replace_liar(&mut self, world: &mut World) -> bool {
        let Some(host) = self.liar.filter(|host| copies::may_replace(world, *host)) else {
            return self.liar.is_none();
        };
        self.liar = None;
        world.crash(host, Ending::Killed);
        world.wipe(host);
        world.hosts[host].excused = false;
        world.restart_after(host, 10 * MILLISECOND);
        true
    }

    fn disturb_clock(&mut self, world: &mut World, kind: Kind, host: HostIndex) -> bool {
        let at = world.at;
        if kind == Kind::JumpClock {
            let day = 86_400_000;
            let by = [day, -day, 30 * day, -3_600_000, 500, -500][self.rng.index(6)];
            world.hosts[host].clock.jump_wall(by);
        } else {
            let rate = [500, 900, 1_100, 1_500][self.rng.index(4)];
            world.hosts[host].clock.set_rate(at, rate);
            world.clock_changed(host);
        }
        let lasts = self.duration();
        self.cure_after(world, lasts, Cure::Clock(host));
        true
    }

    fn disturb_disk(&mut self, world: &mut World, kind: Kind, host: HostIndex) -> bool {
        let lasts = self.duration();
        let cure = match kind {
            Kind::FullDisk => {
                let used = world.hosts[host].disk.used_bytes();
                world.hosts[host].disk.set_capacity(Some(used + self.rng.below(1 << 20)));
                Cure::Room(host)
            }
            Kind::SlowDisk => {
                world.hosts[host].disk_percent = [1_000, 10_000, 100_000][self.rng.index(3)];
                Cure::Speed(host)
            }
            _ => {
                if !world.hosts[host].is_up() {
                    return false;
                }
                world.hosts[host].excused = true;
                world.hosts[host].disk.set_failing_syncs(true);
                Cure::Syncs(host)
            }
        };
        self.cure_after(world, lasts, cure);
        true
    }

    fn cure(&mut self, world: &mut World, cure: Cure) {
        match cure {
            Cure::Start(host) => world.start_or_restart(host),
            Cure::PowerCut(host, off) => {
                world.hosts[host].disk_percent = 100;
                if world.hosts[host].is_up() {
                    world.crash(host, Ending::PowerCut(Survival::Nothing));
                    self.cure_after(world, off, Cure::Start(host));
                }
            }
            Cure::Blackout => {
                for host in 0..world.hosts.len() {
                    world.hosts[host].disk_percent = 100;
                    world.crash(host, Ending::PowerCut(Survival::Nothing));
                    let lasts = self.duration();
                    self.cure_after(world, lasts, Cure::Start(host));
                }
            }
            Cure::Resume(host) => world.resume(host),
            Cure::Network => world.heal_network(),
            Cure::FlapAgain(times, sides) => {
                if times % 2 == 0 {
                    world.heal_network()
                } else {
                    split(world, sides)
                }
                let next = if times > 0 { Cure::FlapAgain(times - 1, sides) } else { Cure::Network };
                let lasts = (100 + self.rng.below(1_500)) * MILLISECOND;
                self.cure_after(world, lasts, next);
            }
            Cure::SocketsGiveUp => world.cut_blocked_links(),
            Cure::Clock(host) => {
                let at = world.at;
                world.hosts[host].clock.mend(at);
                world.clock_changed(host);
            }
            Cure::Room(host) => world.hosts[host].disk.set_capacity(None),
            Cure::Speed(host) => world.speed_up_disk(host),
            Cure::Syncs(host) => world.replace_failing_disk(host),
            Cure::Weather => world.set_weather(Weather::default()),
            Cure::Lie => {
                let struck = self.strike(world, Kind::LyingDisk);
                *self.struck.entry(Kind::LyingDisk).or_default() += u64::from(struck);
                self.cure_after(world, if struck { 2 * self.gap } else { SECOND / 2 }, Cure::Lie);
            }
            Cure::Disk => {
                if !self.replace_liar(world) {
                    self.cure_after(world, SECOND / 2, Cure::Disk);
                }
            }
        }
    }

    /// All faults are over, and no new one comes.
    pub fn heal(&mut self, world: &mut World) {
        self.over = true;
        world.set_weather(Weather::default());
        world.heal_network();
        let at = world.at;
        for host in 0..world.hosts.len() {
            world.resume(host);
            world.hosts[host].clock.mend(at);
            world.clock_changed(host);
            world.hosts[host].disk.set_capacity(None);
            world.speed_up_disk(host);
            if world.hosts[host].excused && self.liar != Some(host) {
                world.replace_failing_disk(host);
            }
            world.start_or_restart(host);
        }
    }
}

fn side_of(sides: u64, host: HostIndex) -> bool {
    sides >> host & 1 == 1
}

fn split(world: &mut World, sides: u64) {
    let count = world.hosts.len();
    for one in 0..count {
        for other in (0..count).filter(|other| side_of(sides, one) != side_of(sides, *other)) {
            world.block(one, other);
        }
    }
}

/// Flips a bit in some of the files that can be made again from others.
fn damage_caches(world: &mut World, host: HostIndex, rng: &mut Rng) {
    let disk = &world.hosts[host].disk;
    for (path, length) in disk.files() {
        let is_cache = path.extension().is_some_and(|extension| extension == "index" || extension == "timeindex");
        if is_cache && length > 0 && rng.chance(1, 2) {
            disk.flip_bit(&path, rng.below(length));
        }
    }
}
