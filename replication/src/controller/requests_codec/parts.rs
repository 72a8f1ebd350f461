//! What requests and answers are made of, to and from `proto/controller.proto`: topics, partitions, settings, features, hand-overs.
//!
//! Owns one pair of functions for each shape. Does not own which kind of request has which of them (`requests_codec`).

use model::{NodeId, TopicId, TopicName, TopicPartition};

use super::{CodecError, all};
use crate::controller::requests::{
    ConfigAlteration, ConfigOperation, ConfigTarget, ControllerRequest, CreatedTopic, FeatureUpdate, HandOver,
    IsrChange, LevelChange, MorePartitions, NamedPartition, NewTopic, Reassignment, TopicRef,
};
use crate::metadata::Incarnation;
use crate::metadata::record::{
    FactError, id_bytes, incarnation, leader_epoch, node_id, node_numbers, partition_index, proto, topic_id,
};

pub(super) fn read_name(raw: &str) -> Result<TopicName, CodecError> {
    let name = TopicName::new(raw);
    Ok(name.map_err(|source| FactError::TopicName { name: raw.to_owned(), source })?)
}

pub(super) fn replicas(nodes: &[NodeId]) -> proto::Replicas {
    proto::Replicas { nodes: node_numbers(nodes) }
}

/// As a client named them: a number that no node can have is refused by the decision, like any unknown node.
pub(super) fn read_replicas(of: proto::Replicas) -> Result<Vec<NodeId>, CodecError> {
    all(of.nodes, |node| Ok(NodeId(node)))
}

pub(super) fn new_topic(topic: &NewTopic) -> proto::NewTopic {
    let setting = |(key, value): (&String, &String)| proto::Setting { key: key.clone(), value: value.clone() };
    proto::NewTopic {
        name: topic.name.as_str().to_owned(),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor.map(u32::from),
        assignment: topic.assignment.iter().map(|nodes| replicas(nodes)).collect(),
        config: topic.config.iter().map(setting).collect(),
    }
}

pub(super) fn read_factor(raw: u32) -> Result<u16, CodecError> {
    u16::try_from(raw).map_err(|_| CodecError::Number { field: "a replication factor", value: i64::from(raw) })
}

pub(super) fn read_new_topic(of: proto::NewTopic) -> Result<NewTopic, CodecError> {
    Ok(NewTopic {
        name: read_name(&of.name)?,
        partitions: of.partitions,
        replication_factor: of.replication_factor.map(read_factor).transpose()?,
        assignment: all(of.assignment, read_replicas)?,
        config: of.config.into_iter().map(|setting| (setting.key, setting.value)).collect(),
    })
}

pub(super) fn topic_ref(topic: &TopicRef) -> proto::TopicRef {
    use proto::topic_ref::Kind;
    let kind = match topic {
        TopicRef::Name(name) => Kind::Name(name.as_str().to_owned()),
        TopicRef::Id(id) => Kind::Id(id_bytes(&id.0)),
    };
    proto::TopicRef { kind: Some(kind) }
}

pub(super) fn read_topic_ref(of: proto::TopicRef) -> Result<TopicRef, CodecError> {
    use proto::topic_ref::Kind;
    Ok(match of.kind.ok_or(CodecError::UnknownKind)? {
        Kind::Name(name) => TopicRef::Name(read_name(&name)?),
        Kind::Id(id) => TopicRef::Id(topic_id(&id)?),
    })
}

pub(super) fn more_partitions(of: &MorePartitions) -> proto::MorePartitions {
    proto::MorePartitions {
        topic: of.topic.as_str().to_owned(),
        total: of.total,
        assignment: of.assignment.iter().map(|nodes| replicas(nodes)).collect(),
    }
}

pub(super) fn read_more_partitions(of: proto::MorePartitions) -> Result<MorePartitions, CodecError> {
    let assignment = all(of.assignment, read_replicas)?;
    Ok(MorePartitions { topic: read_name(&of.topic)?, total: of.total, assignment })
}

pub(super) fn isr_change(of: &IsrChange) -> proto::IsrChange {
    let member = |(node, incarnation): &(NodeId, Incarnation)| proto::IsrMember {
        node: node.0,
        incarnation: id_bytes(&incarnation.0),
    };
    proto::IsrChange {
        topic_id: id_bytes(&of.partition.topic.0),
        partition: of.partition.partition.get(),
        leader_epoch: of.leader_epoch.get(),
        partition_epoch: of.partition_epoch,
        isr: of.isr.iter().map(member).collect(),
    }
}

pub(super) fn read_isr_change(of: proto::IsrChange) -> Result<IsrChange, CodecError> {
    let member = |of: proto::IsrMember| Ok((node_id(of.node)?, incarnation(&of.incarnation)?));
    Ok(IsrChange {
        partition: TopicPartition { topic: topic_id(&of.topic_id)?, partition: partition_index(of.partition)? },
        leader_epoch: leader_epoch(of.leader_epoch)?,
        partition_epoch: of.partition_epoch,
        isr: all(of.isr, member)?,
    })
}

pub(super) fn named(of: &NamedPartition) -> proto::NamedPartition {
    proto::NamedPartition { topic: of.topic.as_str().to_owned(), partition: of.partition.get() }
}

pub(super) fn read_named(of: proto::NamedPartition) -> Result<NamedPartition, CodecError> {
    Ok(NamedPartition { topic: read_name(&of.topic)?, partition: partition_index(of.partition)? })
}

pub(super) fn reassignment(of: &Reassignment) -> proto::Reassignment {
    proto::Reassignment { partition: Some(named(&of.partition)), replicas: of.replicas.as_deref().map(replicas) }
}

pub(super) fn read_reassignment(of: proto::Reassignment) -> Result<Reassignment, CodecError> {
    let partition = read_named(of.partition.ok_or(CodecError::Missing("partition"))?)?;
    Ok(Reassignment { partition, replicas: of.replicas.map(read_replicas).transpose()? })
}

pub(super) fn alteration(of: &ConfigAlteration) -> proto::ConfigAlteration {
    use proto::config_alteration::Target;
    use proto::config_operation::How;
    let target = match &of.target {
        ConfigTarget::Topic(name) => Target::Topic(name.as_str().to_owned()),
        ConfigTarget::EveryNode => Target::EveryNode(true),
        ConfigTarget::Node(node) => Target::Node(node.0),
        ConfigTarget::Group(group) => Target::Group(group.clone()),
        ConfigTarget::ClientMetrics(name) => Target::ClientMetrics(name.clone()),
    };
    let operation = |operation: &ConfigOperation| {
        let (key, how, value) = match operation {
            ConfigOperation::Set { key, value } => (key, How::Set, value.as_str()),
            ConfigOperation::Delete { key } => (key, How::Delete, ""),
            ConfigOperation::Append { key, value } => (key, How::Append, value.as_str()),
            ConfigOperation::Subtract { key, value } => (key, How::Subtract, value.as_str()),
        };
        proto::ConfigOperation { key: key.clone(), how: how.into(), value: value.to_owned() }
    };
    proto::ConfigAlteration {
        operations: of.operations.iter().map(operation).collect(),
        replace: of.replace,
        target: Some(target),
    }
}

pub(super) fn read_alteration(of: proto::ConfigAlteration) -> Result<ConfigAlteration, CodecError> {
    use proto::config_alteration::Target;
    use proto::config_operation::How;
    let target = match of.target.ok_or(CodecError::UnknownKind)? {
        Target::Topic(name) => ConfigTarget::Topic(read_name(&name)?),
        Target::EveryNode(_) => ConfigTarget::EveryNode,
        Target::Node(node) => ConfigTarget::Node(node_id(node)?),
        Target::Group(group) => ConfigTarget::Group(group),
        Target::ClientMetrics(name) => ConfigTarget::ClientMetrics(name),
    };
    let operation = |of: proto::ConfigOperation| {
        let (how, key, value) = (of.how(), of.key, of.value);
        Ok(match how {
            How::Set => ConfigOperation::Set { key, value },
            How::Delete => ConfigOperation::Delete { key },
            How::Append => ConfigOperation::Append { key, value },
            How::Subtract => ConfigOperation::Subtract { key, value },
            How::Unspecified => return Err(CodecError::UnknownKind),
        })
    };
    Ok(ConfigAlteration { target, operations: all(of.operations, operation)?, replace: of.replace })
}

pub(super) fn feature_update(of: &FeatureUpdate) -> proto::FeatureUpdate {
    use proto::feature_update::How;
    let how = match of.change {
        LevelChange::Upgrade => How::Upgrade,
        LevelChange::SafeDowngrade => How::SafeDowngrade,
        LevelChange::UnsafeDowngrade => How::UnsafeDowngrade,
    };
    proto::FeatureUpdate { name: of.name.clone(), level: i32::from(of.level), how: how.into() }
}

pub(super) fn read_feature_update(of: proto::FeatureUpdate) -> Result<FeatureUpdate, CodecError> {
    use proto::feature_update::How;
    let change = match of.how() {
        How::Upgrade => LevelChange::Upgrade,
        How::SafeDowngrade => LevelChange::SafeDowngrade,
        How::UnsafeDowngrade => LevelChange::UnsafeDowngrade,
        How::Unspecified => return Err(CodecError::UnknownKind),
    };
    let level = i16::try_from(of.level);
    let level = level.map_err(|_| CodecError::Number { field: "a feature level", value: i64::from(of.level) })?;
    Ok(FeatureUpdate { name: of.name, level, change })
}

pub(super) fn hand_over(node: NodeId, incarnation: Incarnation, what: &HandOver) -> proto::HandOverRequest {
    let partitions = match what {
        HandOver::Stopping => &[][..],
        HandOver::Partitions(partitions) => partitions.as_slice(),
    };
    proto::HandOverRequest {
        node: node.0,
        incarnation: id_bytes(&incarnation.0),
        stopping: *what == HandOver::Stopping,
        partitions: partitions.iter().map(partition_id).collect(),
    }
}

pub(super) fn partition_id(of: &TopicPartition) -> proto::PartitionId {
    proto::PartitionId { topic_id: id_bytes(&of.topic.0), partition: of.partition.get() }
}

pub(super) fn read_partition_id(of: proto::PartitionId) -> Result<TopicPartition, CodecError> {
    Ok(TopicPartition { topic: topic_id(&of.topic_id)?, partition: partition_index(of.partition)? })
}

pub(super) fn read_hand_over(of: proto::HandOverRequest) -> Result<ControllerRequest, CodecError> {
    let partitions = all(of.partitions, read_partition_id)?;
    let what = if of.stopping { HandOver::Stopping } else { HandOver::Partitions(partitions) };
    Ok(ControllerRequest::HandOver { node: node_id(of.node)?, incarnation: incarnation(&of.incarnation)?, what })
}

pub(super) fn created(topic: &CreatedTopic) -> proto::CreatedTopic {
    proto::CreatedTopic {
        id: id_bytes(&topic.id.0),
        name: String::new(),
        partitions: topic.partitions,
        replication_factor: u32::from(topic.replication_factor),
    }
}

pub(super) fn read_created(of: proto::CreatedTopic) -> Result<CreatedTopic, CodecError> {
    let id: TopicId = topic_id(&of.id)?;
    Ok(CreatedTopic { id, partitions: of.partitions, replication_factor: read_factor(of.replication_factor)? })
}
