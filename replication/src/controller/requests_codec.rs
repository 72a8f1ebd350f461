//! Requests to the controller and its answers as bytes between nodes.
//!
//! Owns the translation to and from `proto/controller.proto`, kind by kind; what the kinds are made of is in `parts`. Does not own the
//! frames that carry them (`node::peer`).
//! Invariants: what is written reads back equal; what comes from a peer is checked like any bytes from a socket (names, ids of 16
//! bytes, numbers in range), and a kind that this version does not know is an error, not a guess.

mod parts;

use bytes::Bytes;
use model::{ErrorCode, NodeId};
use prost::Message;

use super::quorum;
use super::requests::{ControllerAnswer, ControllerRequest, Election, NamedPartition, Refusal};
use crate::metadata::record::{
    FactError, duty_from_proto, duty_to_proto, id_bytes, id16, incarnation, node_from_proto, node_id, node_to_proto,
    proto, topic_id,
};
use crate::metadata::{Incarnation, NodeInfo};
use parts::*;

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

#[cfg(test)]
mod tests;
