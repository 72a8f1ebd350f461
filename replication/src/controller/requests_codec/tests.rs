//! Every request and every answer, there and back; and what a broken peer may send.

use std::collections::{BTreeMap, BTreeSet};

use model::{LeaderEpoch, PartitionIndex, TopicId, TopicName, TopicPartition};

use super::*;
use crate::controller::requests::{
    ConfigAlteration, ConfigOperation, ConfigTarget, CreatedTopic, FeatureUpdate, HandOver, IsrChange, LevelChange,
    MorePartitions, NewTopic, Reassignment, TopicRef,
};
use crate::metadata::Duty;

fn name(raw: &str) -> TopicName {
    TopicName::new(raw).expect("a valid name")
}

fn named(topic: &str, partition: u32) -> NamedPartition {
    NamedPartition { topic: name(topic), partition: PartitionIndex::new(partition) }
}

fn place(partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex::new(partition) }
}

fn requests() -> Vec<ControllerRequest> {
    use ControllerRequest as R;
    let (node, incarnation) = (NodeId(3), Incarnation([9; 16]));
    let info = NodeInfo { incarnation, directory: [4; 16], rack: Some("r".into()), ..NodeInfo::default() };
    let set = |key: &str| ConfigOperation::Set { key: key.into(), value: "v".into() };
    let alteration = |target, operations, replace| ConfigAlteration { target, operations, replace };
    let topic = NewTopic {
        partitions: Some(3),
        replication_factor: Some(2),
        assignment: vec![vec![NodeId(1), NodeId(2)], vec![NodeId(2)]],
        config: BTreeMap::from([("retention.ms".into(), "1".into())]),
        ..NewTopic::with_defaults(name("a"))
    };
    let change = IsrChange {
        partition: place(2),
        leader_epoch: LeaderEpoch::new(4),
        partition_epoch: u32::MAX,
        isr: vec![(node, incarnation), (NodeId(0), Incarnation([1; 16]))],
    };
    let update = |change| FeatureUpdate { name: "f".into(), level: -1, change };
    let updates = [LevelChange::Upgrade, LevelChange::SafeDowngrade, LevelChange::UnsafeDowngrade].map(update);
    let reassignments = vec![
        Reassignment { partition: named("a", 0), replicas: Some(vec![NodeId(1), NodeId(-5)]) },
        Reassignment { partition: named("a", 1), replicas: Some(Vec::new()) },
        Reassignment { partition: named("a", 2), replicas: None },
    ];
    let resources = vec![
        alteration(ConfigTarget::Topic(name("a")), vec![set("x"), ConfigOperation::Delete { key: "y".into() }], true),
        alteration(ConfigTarget::EveryNode, Vec::new(), false),
        alteration(
            ConfigTarget::Node(node),
            vec![
                ConfigOperation::Append { key: "l".into(), value: "a,b".into() },
                ConfigOperation::Subtract { key: "m".into(), value: String::new() },
            ],
            false,
        ),
        alteration(ConfigTarget::Group("g\n".into()), Vec::new(), false),
        alteration(ConfigTarget::ClientMetrics("m".into()), vec![set("x")], false),
    ];
    let more = MorePartitions { topic: name("a"), total: 9, assignment: vec![vec![NodeId(1)]] };
    vec![
        R::Register { node, info, clean: true, lost: BTreeSet::from([place(3)]) },
        R::Unfence { node, incarnation },
        R::UnregisterNode { node },
        R::RemoveNode { node: NodeId(0) },
        R::AllocateProducerIds { node },
        R::CreateTopics { topics: vec![topic, NewTopic::with_defaults(name("b"))], validate_only: true },
        R::DeleteTopics { topics: vec![TopicRef::Name(name("a")), TopicRef::Id(TopicId([7; 16]))] },
        R::CreatePartitions { topics: vec![more], validate_only: false },
        R::AlterIsr { node, incarnation, changes: vec![change] },
        R::ElectLeaders { election: Election::Preferred, partitions: None },
        R::ElectLeaders { election: Election::Unclean, partitions: Some(vec![named("a", 1)]) },
        R::ElectLeaders { election: Election::Unclean, partitions: Some(Vec::new()) },
        R::Reassign { partitions: reassignments, allow_factor_change: true },
        R::AlterConfigs { resources, validate_only: true },
        R::UpdateFeatures { updates: updates.to_vec(), validate_only: false },
        R::AddVoter { node, directory: Some([4; 16]) },
        R::RemoveVoter { node, directory: None },
        R::SetDuty { node, duty: Duty::Leaving },
        R::SetDuty { node, duty: Duty::Full },
        R::HandOver { node, incarnation, what: HandOver::Stopping },
        R::HandOver { node, incarnation, what: HandOver::Partitions(vec![place(0), place(1)]) },
    ]
}

fn answers() -> Vec<Result<ControllerAnswer, Refusal>> {
    use ControllerAnswer as A;
    let refusal = || Refusal::new(ErrorCode::FencedLeaderEpoch, "why");
    let unknown = || Refusal::new(ErrorCode::UnknownServerError, "");
    let created = CreatedTopic { id: TopicId([7; 16]), partitions: 3, replication_factor: 2 };
    let deleted = (name("a"), TopicId([7; 16]));
    let elected = vec![(named("a", 0), Ok(())), (named("b", 1), Err(refusal()))];
    vec![
        Err(refusal()),
        Ok(A::Done),
        Ok(A::ProducerIds { first: 1000, count: 1000 }),
        Ok(A::TopicsCreated(vec![Ok(created), Err(unknown())])),
        Ok(A::TopicsDeleted(vec![Ok(deleted), Err(refusal())])),
        Ok(A::PartitionsCreated(vec![Ok(()), Err(refusal())])),
        Ok(A::IsrAltered(vec![Ok(0), Err(refusal()), Ok(u32::MAX)])),
        Ok(A::LeadersElected(elected)),
        Ok(A::Reassigned(Vec::new())),
        Ok(A::ConfigsAltered(vec![Err(refusal())])),
        Ok(A::FeaturesUpdated(vec![Ok(())])),
        Ok(A::HandedOver { left: 7 }),
    ]
}

#[test]
fn every_request_survives_the_way_to_the_controller() {
    for request in requests() {
        assert_eq!(ControllerRequest::decode(request.encode()), Ok(request));
    }
}

#[test]
fn every_answer_survives_the_way_back_with_its_index() {
    for (index, answer) in (u64::MAX - 100..).zip(answers()) {
        assert_eq!(decode_answer(encode_answer(&answer, index)), Ok((answer, index)));
    }
}

#[test]
fn what_is_cut_or_changed_on_the_way_is_never_a_panic() {
    let all = requests().into_iter().map(|request| request.encode());
    for bytes in all.chain(answers().iter().map(|answer| encode_answer(answer, 1))) {
        for at in 0..bytes.len() {
            let _cut = (ControllerRequest::decode(bytes.slice(..at)), decode_answer(bytes.slice(..at)));
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x55;
            let _changed = (ControllerRequest::decode(changed.clone().into()), decode_answer(changed.into()));
        }
    }
}

#[test]
fn a_kind_that_is_not_known_is_refused() {
    // Field 99 of length 0.
    let newer = Bytes::from_static(&[0x9a, 0x06, 0x00]);
    assert_eq!(ControllerRequest::decode(newer.clone()), Err(CodecError::UnknownKind));
    assert_eq!(decode_answer(newer), Err(CodecError::UnknownKind));
    // Field 2 of length 0, whose number is given up.
    let older = Bytes::from_static(&[0x12, 0x00]);
    assert_eq!(ControllerRequest::decode(older), Err(CodecError::UnknownKind));
    assert!(matches!(ControllerRequest::decode(Bytes::from_static(&[0xff])), Err(CodecError::Encoding(_))));
}

#[test]
fn values_out_of_range_are_refused_when_they_are_read() {
    use proto::controller_request::Kind;
    let check = |kind| ControllerRequest::decode(proto::ControllerRequest { kind: Some(kind) }.encode_to_vec().into());
    let path = proto::CreatePartitionsRequest {
        topics: vec![proto::MorePartitions { topic: "../x".into(), ..Default::default() }],
        validate_only: false,
    };
    assert!(matches!(check(Kind::CreatePartitions(path)), Err(CodecError::Value(FactError::TopicName { .. }))));
    let negative = proto::NodeRequest { node: -1, incarnation: Bytes::from_static(&[1; 16]) };
    assert!(matches!(check(Kind::Unfence(negative)), Err(CodecError::Value(FactError::Number { .. }))));
    let short = proto::NodeRequest { node: 1, incarnation: Bytes::from_static(b"short") };
    assert!(matches!(check(Kind::Unfence(short)), Err(CodecError::Value(FactError::Id { length: 5, .. }))));
    let code = proto::Problem { code: 9_999, message: String::new() };
    let answer = proto::ControllerAnswer { index: 1, kind: Some(proto::controller_answer::Kind::Refused(code)) };
    assert!(matches!(decode_answer(answer.encode_to_vec().into()), Err(CodecError::Number { value: 9_999, .. })));
}
