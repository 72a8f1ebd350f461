//! After the heal: is the cluster whole, and what does it hold?
//!
//! Owns what "whole" means and the last reading of everything. Does not own judgement: the checker is told.

use std::sync::Arc;

use model::TopicPartition;
use node::requests::Answer;
use replication::group::{FetchOffsets, GroupAnswer, GroupError, GroupRequest};
use replication::metadata::{Image, PartitionInfo};

use super::ask::{Ask, Told};
use super::clients::member::{GROUP, by_name, found_offsets, group};
use super::net::{HostIndex, host_of};
use super::observe::{batches_of, digests_of, keyed_of, records_of};
use super::queue::{MILLISECOND, SECOND};
use super::run::Run;
use crate::checker::Event;

/// Attempts to find the group's coordinator.
const ATTEMPTS: usize = 100;

#[derive(Clone, Copy)]
struct Kind {
    internal: bool,
    compacted: bool,
}

impl Run {
    /// Every partition has a leader and all its replicas, all of them with the same log; all nodes know the same.
    pub(super) fn is_whole(&self) -> Result<(), String> {
        for host in self.world.hosts.iter().filter(|host| host.is_member()) {
            if !host.answers() || !host.ready {
                return Err(format!("node {} is not ready", host.index + 1));
            }
        }
        let image = self.world.newest_image().ok_or("no node has metadata")?;
        for topic in image.topics() {
            for (partition, info) in topic.partitions() {
                let place = TopicPartition { topic: topic.id, partition };
                self.is_partition_whole(place, info).map_err(|what| format!("{}-{partition}: {what}", topic.name))?;
            }
        }
        for host in &self.world.hosts {
            let Some(node) = &host.node else { continue };
            if !same_topics(&node.image(), &image) {
                return Err(format!("node {} does not know what others know", host.index + 1));
            }
        }
        Ok(())
    }

    fn is_partition_whole(&self, place: TopicPartition, info: &PartitionInfo) -> Result<(), String> {
        let leader = info.leader.ok_or_else(|| format!("it has no leader: {info:?}"))?;
        if info.isr.len() != info.replicas.len() || !info.adding.is_empty() || !info.removing.is_empty() {
            return Err(format!("in sync are {:?} of {:?}", info.isr, info.replicas));
        }
        let status =
            |host: HostIndex| self.world.hosts[host].node.as_ref().and_then(|node| node.partition_status(place));
        let of_leader = status(host_of(leader)).ok_or("its leader does not have it")?;
        for replica in &info.replicas {
            let here = status(host_of(*replica)).ok_or_else(|| format!("node {replica} does not have it"))?;
            let behind = here.high_watermark != of_leader.log_end || here.log_end != of_leader.log_end;
            if behind || !here.online {
                return Err(format!("node {replica} has {here:?}, its leader {leader} has {of_leader:?}"));
            }
        }
        Ok(())
    }

    /// Tells the checker all that is there.
    pub(super) fn account(&mut self) {
        let Some(image) = self.world.newest_image() else { return };
        for host in 0..self.world.hosts.len() {
            let Some(image) = self.world.hosts[host].node.as_ref().map(node::Node::image) else { continue };
            let topics = image.topics().map(|topic| topic.id).collect();
            self.world.note(&Event::Topics { node: i32::try_from(host + 1).expect("few nodes"), topics });
        }
        for topic in image.topics() {
            // Its records have no value of a client; that it is equal on all nodes is checked all the same.
            let kind =
                Kind { internal: topic.name.as_str().starts_with("__"), compacted: topic.config.cleanup.compact };
            for (partition, info) in topic.partitions() {
                let place = TopicPartition { topic: topic.id, partition };
                if let Err(what) = self.account_for(place, info, kind) {
                    return self.world.fail(format!("I17 recovery: {}-{partition}: {what}", topic.name));
                }
            }
        }
        self.account_for_group(&image);
        if self.world.failure.is_none() {
            self.world.finish_history();
        }
    }

    fn account_for(&mut self, place: TopicPartition, info: &PartitionInfo, kind: Kind) -> Result<(), String> {
        for replica in &info.replicas {
            let node = self.world.hosts[host_of(*replica)].node.as_ref().ok_or("a replica is down")?;
            let held = batches_of(node, place).map_err(|what| format!("node {replica}: {what}"))?;
            let (batches, log_start, high_watermark) = held;
            if info.leader == Some(*replica) && !kind.internal {
                let records = records_of(&batches, log_start)?;
                self.world.note(&Event::Final { place, log_start, high_watermark, records });
            }
            let (node, start) = (replica.0, log_start);
            let event = if kind.compacted {
                Event::Compacted { node, place, start, records: keyed_of(&batches)? }
            } else {
                Event::Replica { node, place, start, batches: digests_of(&batches) }
            };
            self.world.note(&event);
        }
        Ok(())
    }

    fn ask_and_wait(&mut self, host: HostIndex, ask: Ask) -> Option<Told> {
        let number = self.world.ask(self.auditor, host, ask, 2 * SECOND);
        let until = self.world.at + 3 * SECOND;
        while let Some(outside) = self.world.advance(until) {
            self.hand_on(outside);
            if self.heard.as_ref().is_some_and(|(heard, _)| *heard == number) {
                return self.heard.take().map(|(_, told)| told);
            }
        }
        None
    }

    fn account_for_group(&mut self, image: &Arc<Image>) {
        let places = self.catalog.places(true);
        let Some(topics) = by_name(image, &places).filter(|topics| !topics.is_empty()) else { return };
        for _ in 0..ATTEMPTS {
            let Some(asked) = self.world.hosts.iter().find(|host| host.is_member()).map(|host| host.index) else {
                return;
            };
            let Some(Told::Coordinator(Some(node))) = self.ask_and_wait(asked, Ask::Coordinator(group())) else {
                self.rest();
                continue;
            };
            let fetch =
                FetchOffsets { member_id: None, member_epoch: -1, topics: Some(topics.clone()), require_stable: true };
            let told = self.ask_and_wait(host_of(node), Ask::Group(group(), GroupRequest::FetchOffsets(fetch)));
            match told {
                Some(Told::Answer(Answer::Group(GroupAnswer::FetchOffsets(Ok(found))))) => {
                    for (place, offset) in found_offsets(image, &found) {
                        self.world.note(&Event::FinalCommitted { group: GROUP, place, offset });
                    }
                    return;
                }
                Some(Told::Answer(Answer::Group(GroupAnswer::FetchOffsets(Err(
                    GroupError::Loading | GroupError::NotCoordinator,
                )))))
                | Some(Told::Lost)
                | None => self.rest(),
                Some(other) => {
                    return self.world.fail(format!("I13 groups: committed offsets were answered with {other:?}"));
                }
            }
        }
        self.world.fail("I13 groups: no coordinator told what was committed");
    }

    fn rest(&mut self) {
        let until = self.world.at + 50 * MILLISECOND;
        while let Some(outside) = self.world.advance(until) {
            self.hand_on(outside);
        }
    }
}

fn same_topics(one: &Image, other: &Image) -> bool {
    one.topic_count() == other.topic_count() && one.topics().zip(other.topics()).all(|(one, other)| one == other)
}
