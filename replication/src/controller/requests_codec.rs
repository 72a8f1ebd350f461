//! Requests to the controller and its answers as bytes between nodes.
//!
//! Owns the translation to and from `proto/controller.proto`. Does not own the frames that carry them (`node::peer`).
//! Invariants: what is written reads back equal; what comes from a peer is checked like any bytes from a socket (names, ids of 16
//! bytes, numbers in range), and a kind that this version does not know is an error, not a guess.

use bytes::Bytes;
use model::{ErrorCode, TopicId, TopicName, TopicPartition};
use prost::Message;

use super::quorum;
use super::requests::{
    ConfigAlteration, ConfigOperation, ConfigTarget, ControllerAnswer, ControllerRequest, CreatedTopic, Election,
    FeatureUpdate, HandOver, IsrChange, LevelChange, MorePartitions, NamedPartition, NewTopic, Reassignment, Refusal,
    TopicRef,
};
use crate::metadata::record::{
    FactError, duty_from_proto, duty_to_proto, id_bytes, id16, incarnation, leader_epoch, node_from_proto, node_id,
    node_numbers, node_to_proto, partition_index, proto, topic_id,
};
use crate::metadata::{Incarnation, NodeInfo};
use model::NodeId;

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CodecError {
    #[error("not a message of the controller: {0}")]
    Encoding(String),
    #[error("a message of the controller of a kind that this version does not know")]
    UnknownKind,
    #[error("a message of the controller holds a bad value: {0}")]
    Value(#[from] FactError),
    #[error("a message of the controller has no {0}")]
    Missing(&'static str),
    #[error("a message of the controller has {field} {value}, which is none")]
    Number { field: &'static str, value: i64 },
}

impl ControllerRequest {
    pub fn encode(&self) -> Bytes {
        proto::ControllerRequest { kind: Some(request_to_proto(self)) }.encode_to_vec().into()
    }

    /// # Errors
    /// When the bytes are not a request that this version knows.
    pub fn decode(bytes: Bytes) -> Result<ControllerRequest, CodecError> {
        let request = proto::ControllerRequest::decode(bytes);
        let request = request.map_err(|error| CodecError::Encoding(error.to_string()))?;
        request_from_proto(request.kind.ok_or(CodecError::UnknownKind)?)
    }
}

/// `index`: the place in the log that the asker's image must have reached before the answer is true for it.
pub fn encode_answer(answer: &Result<ControllerAnswer, Refusal>, index: u64) -> Bytes {
    let kind = match answer {
        Ok(answer) => answer_to_proto(answer),
        Err(refusal) => proto::controller_answer::Kind::Refused(problem(refusal)),
    };
    proto::ControllerAnswer { index, kind: Some(kind) }.encode_to_vec().into()
}

/// The answer and the index that came with it.
///
/// # Errors
/// When the bytes are not an answer that this version knows.
pub fn decode_answer(bytes: Bytes) -> Result<(Result<ControllerAnswer, Refusal>, u64), CodecError> {
    let answer = proto::ControllerAnswer::decode(bytes);
    let answer = answer.map_err(|error| CodecError::Encoding(error.to_string()))?;
    let decoded = match answer.kind.ok_or(CodecError::UnknownKind)? {
        proto::controller_answer::Kind::Refused(refused) => Err(refusal(refused)?),
        kind => Ok(answer_from_proto(kind)?),
    };
    Ok((decoded, answer.index))
}

fn request_to_proto(request: &ControllerRequest) -> proto::controller_request::Kind {
    use ControllerRequest as R;
    use proto::controller_request::Kind;
    match request {
        R::Register { node, info, clean, lost } => Kind::Register(proto::RegisterRequest {
            registration: Some(node_to_proto(*node, info)),
            clean: *clean,
            lost: lost.iter().map(partition_id).collect(),
        }),
        R::Fence { node, incarnation } => Kind::Fence(of_node(*node, Some(*incarnation))),
        R::Unfence { node, incarnation } => Kind::Unfence(of_node(*node, Some(*incarnation))),
        R::UnregisterNode { node } => Kind::UnregisterNode(of_node(*node, None)),
        R::RemoveNode { node } => Kind::RemoveNode(of_node(*node, None)),
        R::AllocateProducerIds { node } => Kind::AllocateProducerIds(of_node(*node, None)),
        R::CreateTopics { topics, validate_only } => Kind::CreateTopics(proto::CreateTopicsRequest {
            topics: topics.iter().map(new_topic).collect(),
            validate_only: *validate_only,
        }),
        R::DeleteTopics { topics } => {
            Kind::DeleteTopics(proto::DeleteTopicsRequest { topics: topics.iter().map(topic_ref).collect() })
        }
        R::CreatePartitions { topics, validate_only } => Kind::CreatePartitions(proto::CreatePartitionsRequest {
            topics: topics.iter().map(more_partitions).collect(),
            validate_only: *validate_only,
        }),
        R::AlterIsr { node, incarnation, changes } => Kind::AlterIsr(proto::AlterIsrRequest {
            node: node.0,
            incarnation: id_bytes(&incarnation.0),
            changes: changes.iter().map(isr_change).collect(),
        }),
        R::ElectLeaders { election, partitions } => Kind::ElectLeaders(proto::ElectLeadersRequest {
            unclean: *election == Election::Unclean,
            all: partitions.is_none(),
            partitions: partitions.iter().flatten().map(named).collect(),
        }),
        R::Reassign { partitions, allow_factor_change } => Kind::Reassign(proto::ReassignRequest {
            partitions: partitions.iter().map(reassignment).collect(),
            allow_factor_change: *allow_factor_change,
        }),
        R::AlterConfigs { resources, validate_only } => Kind::AlterConfigs(proto::AlterConfigsRequest {
            resources: resources.iter().map(alteration).collect(),
            validate_only: *validate_only,
        }),
        R::UpdateFeatures { updates, validate_only } => Kind::UpdateFeatures(proto::UpdateFeaturesRequest {
            updates: updates.iter().map(feature_update).collect(),
            validate_only: *validate_only,
        }),
        R::AddVoter { node, directory } => Kind::AddVoter(voter(*node, *directory)),
        R::RemoveVoter { node, directory } => Kind::RemoveVoter(voter(*node, *directory)),
        R::SetDuty { node, duty } => {
            Kind::SetDuty(proto::SetDutyRequest { node: node.0, duty: duty_to_proto(*duty).into() })
        }
        R::HandOver { node, incarnation, what } => Kind::HandOver(hand_over(*node, *incarnation, what)),
        R::DescribeQuorum => Kind::DescribeQuorum(proto::DescribeQuorumRequest {}),
    }
}

fn request_from_proto(kind: proto::controller_request::Kind) -> Result<ControllerRequest, CodecError> {
    use ControllerRequest as R;
    use proto::controller_request::Kind;
    Ok(match kind {
        Kind::Register(of) => {
            let (node, info): (NodeId, NodeInfo) =
                node_from_proto(of.registration.ok_or(CodecError::Missing("registration"))?)?;
            let lost = all(of.lost, read_partition_id)?.into_iter().collect();
            R::Register { node, info, clean: of.clean, lost }
        }
        Kind::Fence(of) => R::Fence { node: node_id(of.node)?, incarnation: incarnation(&of.incarnation)? },
        Kind::Unfence(of) => R::Unfence { node: node_id(of.node)?, incarnation: incarnation(&of.incarnation)? },
        Kind::UnregisterNode(of) => R::UnregisterNode { node: node_id(of.node)? },
        Kind::RemoveNode(of) => R::RemoveNode { node: node_id(of.node)? },
        Kind::AllocateProducerIds(of) => R::AllocateProducerIds { node: node_id(of.node)? },
        Kind::CreateTopics(of) => {
            R::CreateTopics { topics: all(of.topics, read_new_topic)?, validate_only: of.validate_only }
        }
        Kind::DeleteTopics(of) => R::DeleteTopics { topics: all(of.topics, read_topic_ref)? },
        Kind::CreatePartitions(of) => {
            R::CreatePartitions { topics: all(of.topics, read_more_partitions)?, validate_only: of.validate_only }
        }
        Kind::AlterIsr(of) => R::AlterIsr {
            node: node_id(of.node)?,
            incarnation: incarnation(&of.incarnation)?,
            changes: all(of.changes, read_isr_change)?,
        },
        Kind::ElectLeaders(of) => {
            let election = if of.unclean { Election::Unclean } else { Election::Preferred };
            let named = all(of.partitions, read_named)?;
            R::ElectLeaders { election, partitions: (!of.all).then_some(named) }
        }
        Kind::Reassign(of) => R::Reassign {
            partitions: all(of.partitions, read_reassignment)?,
            allow_factor_change: of.allow_factor_change,
        },
        Kind::AlterConfigs(of) => {
            R::AlterConfigs { resources: all(of.resources, read_alteration)?, validate_only: of.validate_only }
        }
        Kind::UpdateFeatures(of) => {
            R::UpdateFeatures { updates: all(of.updates, read_feature_update)?, validate_only: of.validate_only }
        }
        Kind::AddVoter(of) => R::AddVoter { node: node_id(of.node)?, directory: read_directory(&of.directory)? },
        Kind::RemoveVoter(of) => R::RemoveVoter { node: node_id(of.node)?, directory: read_directory(&of.directory)? },
        Kind::SetDuty(of) => R::SetDuty { node: node_id(of.node)?, duty: duty_from_proto(of.duty)? },
        Kind::HandOver(of) => read_hand_over(of)?,
        Kind::DescribeQuorum(_) => R::DescribeQuorum,
    })
}

fn answer_to_proto(answer: &ControllerAnswer) -> proto::controller_answer::Kind {
    use ControllerAnswer as A;
    use proto::controller_answer::Kind;
    use proto::one_answer::Kind as One;
    let done = |(): &()| One::Done(proto::Done {});
    match answer {
        A::Done => Kind::Done(proto::Done {}),
        A::ProducerIds { first, count } => Kind::ProducerIds(proto::ProducerIdBlock { first: *first, count: *count }),
        A::TopicsCreated(answers) => Kind::TopicsCreated(list(answers, |topic| One::Topic(created(topic)))),
        A::TopicsDeleted(answers) => Kind::TopicsDeleted(list(answers, |(name, id)| {
            One::Topic(proto::CreatedTopic {
                id: id_bytes(&id.0),
                name: name.as_str().to_owned(),
                ..proto::CreatedTopic::default()
            })
        })),
        A::PartitionsCreated(answers) => Kind::PartitionsCreated(list(answers, done)),
        A::IsrAltered(answers) => Kind::IsrAltered(list(answers, |epoch| One::PartitionEpoch(*epoch))),
        A::LeadersElected(elections) => {
            let one = |(partition, result): &(NamedPartition, Result<(), Refusal>)| proto::Election {
                partition: Some(named(partition)),
                refused: result.as_ref().err().map(problem),
            };
            Kind::LeadersElected(proto::Elections { elections: elections.iter().map(one).collect() })
        }
        A::Reassigned(answers) => Kind::Reassigned(list(answers, done)),
        A::ConfigsAltered(answers) => Kind::ConfigsAltered(list(answers, done)),
        A::FeaturesUpdated(answers) => Kind::FeaturesUpdated(list(answers, done)),
        A::HandedOver { left } => Kind::HandedOver(proto::HandedOver { left: *left }),
        A::Quorum(quorum) => Kind::Quorum(quorum::to_proto(quorum)),
    }
}

fn answer_from_proto(kind: proto::controller_answer::Kind) -> Result<ControllerAnswer, CodecError> {
    use ControllerAnswer as A;
    use proto::controller_answer::Kind;
    use proto::one_answer::Kind as One;
    let done = |one| match one {
        One::Done(_) => Ok(()),
        _ => Err(CodecError::UnknownKind),
    };
    Ok(match kind {
        Kind::Refused(_) => return Err(CodecError::UnknownKind),
        Kind::Done(_) => A::Done,
        Kind::ProducerIds(block) if block.first >= 0 => A::ProducerIds { first: block.first, count: block.count },
        Kind::ProducerIds(block) => {
            return Err(CodecError::Number { field: "a first producer id", value: block.first });
        }
        Kind::TopicsCreated(answers) => A::TopicsCreated(read_list(answers, |one| match one {
            One::Topic(topic) => read_created(topic),
            _ => Err(CodecError::UnknownKind),
        })?),
        Kind::TopicsDeleted(answers) => A::TopicsDeleted(read_list(answers, |one| match one {
            One::Topic(topic) => Ok((read_name(&topic.name)?, topic_id(&topic.id)?)),
            _ => Err(CodecError::UnknownKind),
        })?),
        Kind::PartitionsCreated(answers) => A::PartitionsCreated(read_list(answers, done)?),
        Kind::IsrAltered(answers) => A::IsrAltered(read_list(answers, |one| match one {
            One::PartitionEpoch(epoch) => Ok(epoch),
            _ => Err(CodecError::UnknownKind),
        })?),
        Kind::LeadersElected(of) => A::LeadersElected(all(of.elections, |one| {
            let partition = read_named(one.partition.ok_or(CodecError::Missing("partition"))?)?;
            Ok((partition, one.refused.map(refusal).transpose()?.map_or(Ok(()), Err)))
        })?),
        Kind::Reassigned(answers) => A::Reassigned(read_list(answers, done)?),
        Kind::ConfigsAltered(answers) => A::ConfigsAltered(read_list(answers, done)?),
        Kind::FeaturesUpdated(answers) => A::FeaturesUpdated(read_list(answers, done)?),
        Kind::HandedOver(of) => A::HandedOver { left: of.left },
        Kind::Quorum(of) => A::Quorum(quorum::from_proto(of)?),
    })
}

fn all<P, T>(of: Vec<P>, read: impl FnMut(P) -> Result<T, CodecError>) -> Result<Vec<T>, CodecError> {
    of.into_iter().map(read).collect()
}

fn list<T>(answers: &[Result<T, Refusal>], write: impl Fn(&T) -> proto::one_answer::Kind) -> proto::Answers {
    let one = |answer: &Result<T, Refusal>| {
        let kind = match answer {
            Ok(answer) => write(answer),
            Err(refusal) => proto::one_answer::Kind::Refused(problem(refusal)),
        };
        proto::OneAnswer { kind: Some(kind) }
    };
    proto::Answers { answers: answers.iter().map(one).collect() }
}

fn read_list<T>(
    answers: proto::Answers,
    read: impl Fn(proto::one_answer::Kind) -> Result<T, CodecError>,
) -> Result<Vec<Result<T, Refusal>>, CodecError> {
    all(answers.answers, |one| match one.kind.ok_or(CodecError::UnknownKind)? {
        proto::one_answer::Kind::Refused(refused) => Ok(Err(refusal(refused)?)),
        kind => Ok(Ok(read(kind)?)),
    })
}

fn problem(refusal: &Refusal) -> proto::Problem {
    proto::Problem { code: i32::from(refusal.code.to_wire()), message: refusal.message.clone() }
}

fn refusal(problem: proto::Problem) -> Result<Refusal, CodecError> {
    let code = i16::try_from(problem.code).ok().and_then(ErrorCode::from_wire);
    let code = code.ok_or(CodecError::Number { field: "an error code", value: i64::from(problem.code) })?;
    Ok(Refusal { code, message: problem.message })
}

fn of_node(node: NodeId, incarnation: Option<Incarnation>) -> proto::NodeRequest {
    proto::NodeRequest { node: node.0, incarnation: incarnation.map(|id| id_bytes(&id.0)).unwrap_or_default() }
}

fn voter(node: NodeId, directory: Option<[u8; 16]>) -> proto::VoterRequest {
    proto::VoterRequest { node: node.0, directory: directory.map(|id| id_bytes(&id)).unwrap_or_default() }
}

fn read_directory(raw: &Bytes) -> Result<Option<[u8; 16]>, CodecError> {
    Ok((!raw.is_empty()).then(|| id16("directory", raw)).transpose()?)
}

fn read_name(raw: &str) -> Result<TopicName, CodecError> {
    let name = TopicName::new(raw);
    Ok(name.map_err(|source| FactError::TopicName { name: raw.to_owned(), source })?)
}

fn replicas(nodes: &[NodeId]) -> proto::Replicas {
    proto::Replicas { nodes: node_numbers(nodes) }
}

/// As a client named them: a number that no node can have is refused by the decision, like any unknown node.
fn read_replicas(of: proto::Replicas) -> Result<Vec<NodeId>, CodecError> {
    all(of.nodes, |node| Ok(NodeId(node)))
}

fn new_topic(topic: &NewTopic) -> proto::NewTopic {
    let setting = |(key, value): (&String, &String)| proto::Setting { key: key.clone(), value: value.clone() };
    proto::NewTopic {
        name: topic.name.as_str().to_owned(),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor.map(u32::from),
        assignment: topic.assignment.iter().map(|nodes| replicas(nodes)).collect(),
        config: topic.config.iter().map(setting).collect(),
    }
}

fn read_factor(raw: u32) -> Result<u16, CodecError> {
    u16::try_from(raw).map_err(|_| CodecError::Number { field: "a replication factor", value: i64::from(raw) })
}

fn read_new_topic(of: proto::NewTopic) -> Result<NewTopic, CodecError> {
    Ok(NewTopic {
        name: read_name(&of.name)?,
        partitions: of.partitions,
        replication_factor: of.replication_factor.map(read_factor).transpose()?,
        assignment: all(of.assignment, read_replicas)?,
        config: of.config.into_iter().map(|setting| (setting.key, setting.value)).collect(),
    })
}

fn topic_ref(topic: &TopicRef) -> proto::TopicRef {
    use proto::topic_ref::Kind;
    let kind = match topic {
        TopicRef::Name(name) => Kind::Name(name.as_str().to_owned()),
        TopicRef::Id(id) => Kind::Id(id_bytes(&id.0)),
    };
    proto::TopicRef { kind: Some(kind) }
}

fn read_topic_ref(of: proto::TopicRef) -> Result<TopicRef, CodecError> {
    use proto::topic_ref::Kind;
    Ok(match of.kind.ok_or(CodecError::UnknownKind)? {
        Kind::Name(name) => TopicRef::Name(read_name(&name)?),
        Kind::Id(id) => TopicRef::Id(topic_id(&id)?),
    })
}

fn more_partitions(of: &MorePartitions) -> proto::MorePartitions {
    proto::MorePartitions {
        topic: of.topic.as_str().to_owned(),
        total: of.total,
        assignment: of.assignment.iter().map(|nodes| replicas(nodes)).collect(),
    }
}

fn read_more_partitions(of: proto::MorePartitions) -> Result<MorePartitions, CodecError> {
    let assignment = all(of.assignment, read_replicas)?;
    Ok(MorePartitions { topic: read_name(&of.topic)?, total: of.total, assignment })
}

fn isr_change(of: &IsrChange) -> proto::IsrChange {
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

fn read_isr_change(of: proto::IsrChange) -> Result<IsrChange, CodecError> {
    let member = |of: proto::IsrMember| Ok((node_id(of.node)?, incarnation(&of.incarnation)?));
    Ok(IsrChange {
        partition: TopicPartition { topic: topic_id(&of.topic_id)?, partition: partition_index(of.partition)? },
        leader_epoch: leader_epoch(of.leader_epoch)?,
        partition_epoch: of.partition_epoch,
        isr: all(of.isr, member)?,
    })
}

fn named(of: &NamedPartition) -> proto::NamedPartition {
    proto::NamedPartition { topic: of.topic.as_str().to_owned(), partition: of.partition.get() }
}

fn read_named(of: proto::NamedPartition) -> Result<NamedPartition, CodecError> {
    Ok(NamedPartition { topic: read_name(&of.topic)?, partition: partition_index(of.partition)? })
}

fn reassignment(of: &Reassignment) -> proto::Reassignment {
    proto::Reassignment { partition: Some(named(&of.partition)), replicas: of.replicas.as_deref().map(replicas) }
}

fn read_reassignment(of: proto::Reassignment) -> Result<Reassignment, CodecError> {
    let partition = read_named(of.partition.ok_or(CodecError::Missing("partition"))?)?;
    Ok(Reassignment { partition, replicas: of.replicas.map(read_replicas).transpose()? })
}

fn alteration(of: &ConfigAlteration) -> proto::ConfigAlteration {
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

fn read_alteration(of: proto::ConfigAlteration) -> Result<ConfigAlteration, CodecError> {
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

fn feature_update(of: &FeatureUpdate) -> proto::FeatureUpdate {
    use proto::feature_update::How;
    let how = match of.change {
        LevelChange::Upgrade => How::Upgrade,
        LevelChange::SafeDowngrade => How::SafeDowngrade,
        LevelChange::UnsafeDowngrade => How::UnsafeDowngrade,
    };
    proto::FeatureUpdate { name: of.name.clone(), level: i32::from(of.level), how: how.into() }
}

fn read_feature_update(of: proto::FeatureUpdate) -> Result<FeatureUpdate, CodecError> {
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

fn hand_over(node: NodeId, incarnation: Incarnation, what: &HandOver) -> proto::HandOverRequest {
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

fn partition_id(of: &TopicPartition) -> proto::PartitionId {
    proto::PartitionId { topic_id: id_bytes(&of.topic.0), partition: of.partition.get() }
}

fn read_partition_id(of: proto::PartitionId) -> Result<TopicPartition, CodecError> {
    Ok(TopicPartition { topic: topic_id(&of.topic_id)?, partition: partition_index(of.partition)? })
}

fn read_hand_over(of: proto::HandOverRequest) -> Result<ControllerRequest, CodecError> {
    let partitions = all(of.partitions, read_partition_id)?;
    let what = if of.stopping { HandOver::Stopping } else { HandOver::Partitions(partitions) };
    Ok(ControllerRequest::HandOver { node: node_id(of.node)?, incarnation: incarnation(&of.incarnation)?, what })
}

fn created(topic: &CreatedTopic) -> proto::CreatedTopic {
    proto::CreatedTopic {
        id: id_bytes(&topic.id.0),
        name: String::new(),
        partitions: topic.partitions,
        replication_factor: u32::from(topic.replication_factor),
    }
}

fn read_created(of: proto::CreatedTopic) -> Result<CreatedTopic, CodecError> {
    let id: TopicId = topic_id(&of.id)?;
    Ok(CreatedTopic { id, partitions: of.partitions, replication_factor: read_factor(of.replication_factor)? })
}

#[cfg(test)]
mod tests;
