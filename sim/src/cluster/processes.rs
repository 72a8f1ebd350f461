//! Processes and machines: begun, ended, paused, wiped, taken away.
//!
//! Owns what the world does to one host. Does not own when (`faults`, `clients::operator`) nor what a crash leaves (`host`).
//! Invariant: a process begins only on a machine of the cluster on which none runs.

use std::sync::Arc;

use node::Node;
use node::effects::{Effects, ReplyTo};
use replication::metadata::record::LEVEL;
use storage::disk::Disk;

use super::host::{Ending, Membership};
use super::net::{HostIndex, Weather};
use super::queue::{At, MILLISECOND, SECOND};
use super::world::{Happening, SHUT_DOWN, World};

impl World {
    /// Begins a process on what the disk holds.
    pub(super) fn start(&mut self, host: HostIndex) {
        if self.hosts[host].is_up() || !self.hosts[host].is_member() {
            return;
        }
        self.counts.starts += 1;
        if self.upgrading && self.rng.chance(1, 2) {
            self.hosts[host].level_max = LEVEL;
        }
        self.hosts[host].powered = true;
        // A machine sets its clock before it starts a process: what a process finds at its start it has to believe.
        let at = self.at;
        self.hosts[host].clock.mend(at);
        let config = self.hosts[host].config(self.sizes, self.founders);
        let disk: Arc<dyn Disk> = self.hosts[host].disk.clone();
        let (seed, now) = (self.rng.next_u64(), self.now_of(host));
        let mut fx = Effects::new();
        match Node::open(config, disk, seed, now, &mut fx) {
            Ok(node) => {
                self.hosts[host].node = Some(node);
                self.hash.add(seed);
                self.carry_out(host, fx);
                self.tick_by(host, now.mono);
            }
            // A first start needs room for a journal; later ones need none.
            Err(_) if self.hosts[host].excused || self.hosts[host].is_fresh() => self.restart_after(host, SECOND),
            Err(error) => self.fail(format!("node {} cannot start: {error}", host + 1)),
        }
    }

    /// The process ends, in whatever it does.
    pub fn crash(&mut self, host: HostIndex, ending: Ending) {
        tracing::info!(ms = self.at / MILLISECOND, node = host + 1, ?ending, "the process ends");
        if !self.hosts[host].is_up() {
            return;
        }
        self.hash.add(host as u64 ^ 0xDEAD);
        let at = self.at;
        self.hosts[host].end(at, ending);
        self.links_of_the_dead(host, ending);
        self.connections_of_the_dead(host, ending == Ending::Killed);
    }

    pub fn restart_after(&mut self, host: HostIndex, after: At) {
        self.schedule(after, Happening::Start { host });
    }

    pub fn pause(&mut self, host: HostIndex) {
        self.hosts[host].paused = self.hosts[host].is_up();
    }

    pub fn resume(&mut self, host: HostIndex) {
        if std::mem::take(&mut self.hosts[host].paused) {
            for what in std::mem::take(&mut self.hosts[host].deferred) {
                self.schedule(0, what);
            }
        }
    }

    pub fn start_or_restart(&mut self, host: HostIndex) {
        if !self.hosts[host].is_up() && self.hosts[host].is_member() {
            self.restart_after(host, 0);
        }
    }

    /// The disk works again; the process that it failed goes, as an operator would have it.
    pub fn replace_failing_disk(&mut self, host: HostIndex) {
        self.hosts[host].disk.set_failing_syncs(false);
        self.crash(host, Ending::Killed);
        self.hosts[host].excused = false;
        self.restart_after(host, 10 * MILLISECOND);
    }

    /// The machine gets an empty disk.
    pub fn wipe(&mut self, host: HostIndex) {
        tracing::info!(ms = self.at / MILLISECOND, node = host + 1, "the disk is empty");
        self.hosts[host].wipe();
    }

    /// A machine with an empty disk comes to the cluster.
    pub fn join(&mut self, host: HostIndex) {
        self.hosts[host].membership = Membership::Member;
        self.restart_after(host, 0);
    }

    /// Kills it where it does not stop by itself.
    pub fn end_process(&mut self, host: HostIndex) {
        self.crash(host, Ending::Killed);
    }

    /// Of the cluster no more; what it had is gone.
    pub fn retire(&mut self, host: HostIndex) {
        self.crash(host, Ending::Killed);
        self.hosts[host].membership = Membership::Spare;
        self.wipe(host);
    }

    pub fn set_weather(&mut self, weather: Weather) {
        self.net.weather = weather;
    }

    /// Its timers are due at other times now.
    pub fn clock_changed(&mut self, host: HostIndex) {
        let target = &mut self.hosts[host];
        if target.is_up() {
            target.next_tick = self.at;
            let start = target.start;
            self.queue.push(self.at, Happening::Tick { host, start });
        }
    }

    /// Begins an orderly stop.
    pub fn stop(&mut self, host: HostIndex) {
        let reply = ReplyTo { sink: self.inbox.clone(), request: SHUT_DOWN | host as u64 };
        self.with_node(host, |node, now, fx| node.shutdown(now, reply, fx));
    }

    /// The node gave up, as it must when its journal's disk fails.
    pub(super) fn on_fatal(&mut self, host: HostIndex, reason: &str) {
        self.counts.fatal += 1;
        tracing::debug!(host, reason, "a node gave up");
        if !self.hosts[host].excused {
            return self.fail(format!("node {} gave up: {reason}", host + 1));
        }
        self.crash(host, Ending::Killed);
        self.restart_after(host, SECOND);
    }
}
