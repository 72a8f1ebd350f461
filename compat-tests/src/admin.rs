//! What tests ask a cluster about itself, and tell it to do, by raw requests: quicker than a tool, and nothing is retried unseen.
//!
//! Owns the requests Metadata 7, CreateTopics 2, ListOffsets 1, ElectLeaders 1, AlterPartitionReassignments 0, DescribeQuorum 0.
//! Does not own waiting: each call asks every address once at most. Invariant: a silent node costs `ANSWER_MAX`, not more.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::raw::{Client, Reader, Writer, key};

/// How long one node may take to answer; creating thousands of partitions takes longer than a look.
const ANSWER_MAX: Duration = Duration::from_secs(2);
const CHANGE_MAX: Duration = Duration::from_secs(120);

/// A partition as Metadata shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub index: i32,
    /// Kafka's error code; 5 is "no leader".
    pub error: i16,
    pub leader: Option<u32>,
    pub epoch: i32,
    pub replicas: Vec<u32>,
    pub isr: Vec<u32>,
}

/// The addresses of a cluster's nodes, asked in this order.
#[derive(Clone, Debug)]
pub struct Admin {
    addresses: BTreeMap<u32, String>,
}

impl Admin {
    /// Node ids with their `HOST:PORT`.
    pub fn new(addresses: BTreeMap<u32, String>) -> Admin {
        Admin { addresses }
    }

    fn ask(&self, api: i16, version: i16, body: &[u8], limit: Duration) -> Result<Vec<u8>> {
        let mut last = anyhow::anyhow!("there is no node to ask");
        for address in self.addresses.values() {
            match ask_one(address, api, version, body, limit) {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The nodes that this node knows to be alive.
    pub fn members_seen_by(&self, node: u32) -> Result<Vec<u32>> {
        let address = self.addresses.get(&node).with_context(|| format!("node {node} is not one of them"))?;
        let answer = ask_one(address, key::METADATA, 7, &Writer::new().i32(0).i8(0).done(), ANSWER_MAX)?;
        Ok(read_metadata(&answer)?.0.into_keys().collect())
    }

    /// The partitions of a topic, in order; an error when the topic is unknown.
    pub fn partitions(&self, topic: &str) -> Result<Vec<Partition>> {
        let body = Writer::new().i32(1).string(topic.as_bytes()).i8(0).done();
        let (_, mut topics) = read_metadata(&self.ask(key::METADATA, 7, &body, CHANGE_MAX)?)?;
        let (error, mut partitions) = topics.remove(topic).with_context(|| format!("no word of {topic}"))?;
        ensure!(error == 0, "{topic}: error {error}");
        partitions.sort_by_key(|partition| partition.index);
        Ok(partitions)
    }

    /// The leader of the metadata quorum.
    pub fn controller(&self) -> Result<u32> {
        let body =
            Writer::new().varint(2).compact(b"__cluster_metadata").varint(2).i32(0).varint(0).varint(0).varint(0);
        let answer = self.ask(key::DESCRIBE_QUORUM, 0, &body.done(), ANSWER_MAX)?;
        let mut reader = Reader(&answer);
        let error = reader.i16()?;
        ensure!(error == 0, "DescribeQuorum: error {error}");
        let (topics, _) = (reader.varint()?, reader.compact()?);
        let (partitions, _) = (reader.varint()?, reader.i32()?);
        ensure!(topics == 2 && partitions == 2, "DescribeQuorum is to answer for one partition");
        let error = reader.i16()?;
        let leader = reader.i32()?;
        ensure!(error == 0 && leader >= 0, "DescribeQuorum: error {error}, leader {leader}");
        Ok(u32::try_from(leader)?)
    }

    /// The high watermark as the leader tells it, by ListOffsets.
    pub fn latest(&self, topic: &str, partition: &Partition) -> Result<i64> {
        let leader = partition.leader.with_context(|| format!("{topic}-{} has no leader", partition.index))?;
        let address = self.addresses.get(&leader).with_context(|| format!("node {leader} is not one of them"))?;
        let body = Writer::new().i32(-1).i32(1).string(topic.as_bytes()).i32(1).i32(partition.index).i64(-1).done();
        let answer = ask_one(address, key::LIST_OFFSETS, 1, &body, ANSWER_MAX)?;
        let mut reader = Reader(&answer);
        let (_, _, _, _) = (reader.i32()?, reader.string()?, reader.i32()?, reader.i32()?);
        let error = reader.i16()?;
        ensure!(error == 0, "ListOffsets of {topic}-{}: error {error}", partition.index);
        reader.i64()?;
        reader.i64()
    }

    pub fn create_topic(&self, topic: &str, partitions: i32, factor: i16, settings: &[(&str, &str)]) -> Result<()> {
        let body = Writer::new().i32(1).string(topic.as_bytes()).i32(partitions).i16(factor).i32(0);
        let body = settings
            .iter()
            .fold(body.i32(i32::try_from(settings.len())?), |b, (k, v)| b.string(k.as_bytes()).string(v.as_bytes()));
        let answer = self.ask(key::CREATE_TOPICS, 2, &body.i32(60_000).i8(0).done(), CHANGE_MAX)?;
        let mut reader = Reader(&answer);
        let (_, _, _) = (reader.i32()?, reader.i32()?, reader.string()?);
        let error = reader.i16()?;
        ensure!(error == 0, "CreateTopics {topic}: error {error}, {}", String::from_utf8_lossy(reader.string()?));
        Ok(())
    }

    /// Asks for the first replica of each partition to lead it; whether it does by then is for the caller to see.
    pub fn elect_preferred(&self, topic: &str, partitions: &[i32]) -> Result<()> {
        let body = Writer::new().i8(0).i32(1).string(topic.as_bytes()).i32(i32::try_from(partitions.len())?);
        let body = partitions.iter().fold(body, |body, partition| body.i32(*partition)).i32(30_000).done();
        let answer = self.ask(key::ELECT_LEADERS, 1, &body, CHANGE_MAX)?;
        let mut reader = Reader(&answer);
        let (_, error) = (reader.i32()?, reader.i16()?);
        ensure!(error == 0, "ElectLeaders: error {error}");
        let results = reader.each(|topic| {
            topic.string()?;
            topic.each(|partition| {
                let (index, error) = (partition.i32()?, partition.i16()?);
                partition.string()?;
                Ok((index, error))
            })
        })?;
        for (index, error) in results.into_iter().flatten() {
            // 84: it leads already. 80: it is not in sync yet, although a node that was cut off until now still says so.
            ensure!(matches!(error, 0 | 80 | 84), "ElectLeaders {topic}-{index}: error {error}");
        }
        Ok(())
    }

    /// New replicas for partitions; `None` cancels a reassignment that is under way.
    pub fn reassign(&self, topic: &str, targets: &[(i32, Option<Vec<u32>>)]) -> Result<()> {
        let mut body = Writer::new().i32(60_000).varint(2).compact(topic.as_bytes()).varint(targets.len() as u64 + 1);
        for (index, replicas) in targets {
            body = body.i32(*index);
            body = match replicas {
                None => body.varint(0),
                Some(replicas) => replicas.iter().try_fold(body.varint(replicas.len() as u64 + 1), |body, id| {
                    Ok::<_, anyhow::Error>(body.i32(i32::try_from(*id)?))
                })?,
            };
            body = body.varint(0);
        }
        let answer = self.ask(key::ALTER_PARTITION_REASSIGNMENTS, 0, &body.varint(0).varint(0).done(), CHANGE_MAX)?;
        let mut reader = Reader(&answer);
        let (_, error, _) = (reader.i32()?, reader.i16()?, reader.compact()?);
        ensure!(error == 0, "AlterPartitionReassignments: error {error}");
        let results = reader.each_compact(|topic| {
            topic.compact()?;
            let partitions = topic.each_compact(|partition| {
                let (index, error, message) = (partition.i32()?, partition.i16()?, partition.compact()?.to_vec());
                partition.tags()?;
                Ok((index, error, message))
            })?;
            topic.tags()?;
            Ok(partitions)
        })?;
        for (index, error, message) in results.into_iter().flatten() {
            // 85: there was nothing to cancel, because it had already ended
            let expected = error == 0 || error == 85;
            ensure!(expected, "reassigning {topic}-{index}: error {error}, {}", String::from_utf8_lossy(&message));
        }
        Ok(())
    }
}

fn ask_one(address: &str, api: i16, version: i16, body: &[u8], limit: Duration) -> Result<Vec<u8>> {
    Client::connect_within(address, limit)?.ask(api, version, body).with_context(|| format!("asking {address}"))
}

type Metadata = (BTreeMap<u32, String>, BTreeMap<String, (i16, Vec<Partition>)>);

/// A Metadata answer of version 7: the live nodes and the topics.
fn read_metadata(answer: &[u8]) -> Result<Metadata> {
    let mut reader = Reader(answer);
    reader.i32()?;
    let nodes = reader.each(|node| {
        let (id, host, port) = (node.i32()?, text(node.string()?)?, node.i32()?);
        node.string()?;
        Ok((u32::try_from(id)?, format!("{host}:{port}")))
    })?;
    let (_, _) = (reader.string()?, reader.i32()?);
    let topics = reader.each(|topic| {
        let (error, name, _) = (topic.i16()?, text(topic.string()?)?, topic.i8()?);
        let partitions = topic.each(|partition| {
            let (error, index, leader, epoch) =
                (partition.i16()?, partition.i32()?, partition.i32()?, partition.i32()?);
            let mut ids = || partition.each(|id| Ok(u32::try_from(id.i32()?)?));
            let (replicas, isr, _) = (ids()?, ids()?, ids()?);
            Ok(Partition { index, error, leader: u32::try_from(leader).ok(), epoch, replicas, isr })
        })?;
        Ok((name, (error, partitions)))
    })?;
    if nodes.is_empty() {
        bail!("Metadata names no node");
    }
    Ok((nodes.into_iter().collect(), topics.into_iter().collect()))
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(String::from_utf8(bytes.to_vec())?)
}
