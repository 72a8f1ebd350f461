//! One request in, facts and an answer out: where each kind of decision begins.
//!
//! Owns which decision answers which request. Pure: an image, the time for the audit, randomness from the seed.
//! Invariant: the facts of a decision apply to the image that it was taken on, group by group.

use model::{ErrorCode, Now};

use super::random::Random;
use super::requests::{ControllerAnswer, ControllerRequest, Refusal};
use super::{configs, election, features, isr, nodes, orders, partitions, reassign, topics, voters};
use crate::metadata::{Fact, Image};

/// What follows from a request.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    /// Each group is one entry of the log or shares one; it is never split. Empty: nothing changes.
    pub groups: Vec<Vec<Fact>>,
    /// True once the facts are committed.
    pub answer: ControllerAnswer,
}

impl Decision {
    pub(super) fn new(groups: Vec<Vec<Fact>>, answer: ControllerAnswer) -> Decision {
        let groups = groups.into_iter().filter(|group| !group.is_empty()).collect();
        Decision { groups, answer }
    }
}

/// Looks, decides, changes nothing.
///
/// # Errors
/// When the whole request is refused. Refusals of parts are in the answer.
pub fn decide(image: &Image, random: &mut Random, now: Now, request: &ControllerRequest) -> Result<Decision, Refusal> {
    use ControllerAnswer as Answer;
    use ControllerRequest as Request;
    if !image.is_founded() {
        return Err(Refusal::new(ErrorCode::NotController, "the cluster is not founded yet"));
    }
    let done = |groups| Decision::new(groups, Answer::Done);
    let topics_of = |keep: bool, facts| if keep { facts } else { Vec::new() };
    Ok(match request {
        Request::Register { node, info, clean, lost } => {
            done(nodes::register_checked(image, *node, info, *clean, lost)?)
        }
        Request::Unfence { node, incarnation } => done(nodes::unfence(image, *node, *incarnation)?),
        Request::UnregisterNode { node } => done(orders::unregister(image, *node)?),
        Request::RemoveNode { node } => done(orders::remove(image, *node)?),
        Request::AllocateProducerIds { node } => {
            let (fact, first) = nodes::allocate_producer_ids(image, *node);
            let count = u32::try_from(nodes::PRODUCER_ID_BLOCK).expect("a block is small");
            Decision::new(vec![vec![fact]], Answer::ProducerIds { first, count })
        }
        Request::CreateTopics { topics, validate_only } => {
            topics::check_size(image, topics)?;
            let decided = topics::create(image, topics, random);
            Decision::new(topics_of(!validate_only, decided.facts), Answer::TopicsCreated(decided.answers))
        }
        Request::DeleteTopics { topics } => {
            let decided = topics::delete(image, topics);
            Decision::new(decided.facts, Answer::TopicsDeleted(decided.answers))
        }
        Request::CreatePartitions { topics, validate_only } => {
            partitions::check_size(image, topics)?;
            let decided = partitions::create(image, topics, random);
            Decision::new(topics_of(!validate_only, decided.facts), Answer::PartitionsCreated(decided.answers))
        }
        Request::AlterIsr { node, incarnation, changes } => {
            let decided = isr::alter(image, *node, *incarnation, changes)?;
            Decision::new(decided.facts, Answer::IsrAltered(decided.answers))
        }
        Request::ElectLeaders { election, partitions } => {
            let decided = election::elect(image, *election, partitions.as_deref(), now);
            Decision::new(decided.facts, Answer::LeadersElected(decided.answers))
        }
        Request::Reassign { partitions, allow_factor_change } => {
            let decided = reassign::reassign(image, partitions, *allow_factor_change);
            Decision::new(decided.facts, Answer::Reassigned(decided.answers))
        }
        Request::AlterConfigs { resources, validate_only } => {
            let decided = configs::alter(image, resources);
            Decision::new(topics_of(!validate_only, decided.facts), Answer::ConfigsAltered(decided.answers))
        }
        Request::UpdateFeatures { updates, validate_only } => {
            let decided = features::update(image, updates);
            Decision::new(topics_of(!validate_only, decided.facts), Answer::FeaturesUpdated(decided.answers))
        }
        Request::AddVoter { node, directory } => done(voters::add(image, *node, *directory)?),
        Request::RemoveVoter { node, directory } => done(voters::remove(image, *node, *directory)?),
        Request::SetDuty { node, duty } => done(orders::set_duty(image, *node, *duty)?),
        Request::HandOver { node, incarnation, what } => {
            let (groups, left) = orders::hand_over(image, *node, *incarnation, what)?;
            Decision::new(groups, Answer::HandedOver { left })
        }
        Request::DescribeQuorum => {
            let message = "the metadata group is no part of the image that is decided on";
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
    })
}
