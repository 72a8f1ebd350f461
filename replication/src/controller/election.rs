//! Elections by command: the preferred leader, or an unclean one. And the balance of leaders, which is the same without a command.
//!
//! Owns what Kafka's ElectLeaders answers. An unclean election is only ever made here, by command; it is a fact of its own
//! (`UncleanLeaderElected`) and a warning in the log.

use std::sync::Arc;

use model::{ErrorCode, Now, PartitionIndex, TopicPartition};

use super::change::{Draft, Mode, View, changed};
use super::requests::{Election, NamedPartition, Refusal};
use crate::metadata::{Fact, Image, PartitionInfo, Topic, UncleanElection};

/// The facts, one group for each topic, and what each partition is answered.
#[derive(Debug)]
pub struct Elected {
    pub facts: Vec<Vec<Fact>>,
    pub answers: Vec<(NamedPartition, Result<(), Refusal>)>,
}

/// `partitions: None`: all, and those that need no election are not answered.
pub fn elect(image: &Image, election: Election, partitions: Option<&[NamedPartition]>, now: Now) -> Elected {
    let mut elected = Elected { facts: Vec::new(), answers: Vec::new() };
    match partitions {
        Some(partitions) => {
            for (at, named) in partitions.iter().enumerate() {
                let result = match partitions.iter().take(at).any(|earlier| earlier == named) {
                    true => Err(Refusal::new(ErrorCode::InvalidRequest, "the partition is named twice")),
                    false => find(image, named)
                        .and_then(|(topic, before)| elect_one(image, election, topic, named.partition, before, now)),
                };
                let answer = result.map(|facts| elected.facts.push(facts));
                elected.answers.push((named.clone(), answer));
            }
        }
        None => image.topics().for_each(|topic| elect_all_of(image, election, topic, now, &mut elected)),
    }
    elected
}

fn elect_all_of(image: &Image, election: Election, topic: &Topic, now: Now, elected: &mut Elected) {
    let mut group = Vec::new();
    for (partition, before) in topic.partitions() {
        let named = || NamedPartition { topic: topic.name.clone(), partition };
        match elect_one(image, election, topic, partition, before, now) {
            Ok(facts) => {
                group.extend(facts);
                elected.answers.push((named(), Ok(())));
            }
            Err(refusal) if refusal.code == ErrorCode::ElectionNotNeeded => {}
            Err(refusal) => elected.answers.push((named(), Err(refusal))),
        }
    }
    elected.facts.push(group);
}

fn find<'a>(image: &'a Image, named: &NamedPartition) -> Result<(&'a Arc<Topic>, &'a Arc<PartitionInfo>), Refusal> {
    let NamedPartition { topic, partition } = named;
    let unknown = |message: String| Refusal::new(ErrorCode::UnknownTopicOrPartition, message);
    let topic = image.topic(topic).ok_or_else(|| unknown(format!("No such topic as {topic}")))?;
    let info = topic.partition(*partition);
    Ok((topic, info.ok_or_else(|| unknown(format!("No such partition as {}-{partition}", topic.name)))?))
}

fn elect_one(
    image: &Image,
    election: Election,
    topic: &Topic,
    partition: PartitionIndex,
    before: &PartitionInfo,
    now: Now,
) -> Result<Vec<Fact>, Refusal> {
    let refuse = |code, why: &str| Err(Refusal::new(code, format!("{}-{partition}: {why}", topic.name)));
    let (mode, needless) = match election {
        Election::Preferred => (Mode::Preferred, before.leader.is_some() && before.leader == before.preferred_leader()),
        Election::Unclean => (Mode::Unclean, before.leader.is_some()),
    };
    if needless {
        return refuse(ErrorCode::ElectionNotNeeded, "Leader election not needed for topic partition.");
    }
    let after = Draft::new(View::of(image), topic, before).mode(mode).finish();
    match (election, after) {
        (Election::Preferred, Some(state)) if state.leader == before.preferred_leader() => {
            Ok(vec![changed(topic.id, partition, state)])
        }
        (Election::Preferred, _) => {
            refuse(ErrorCode::PreferredLeaderNotAvailable, "The preferred leader was not available")
        }
        (Election::Unclean, Some(state)) => {
            let place = TopicPartition { topic: topic.id, partition };
            let mut facts = audit(image, place, before, &state, now);
            facts.push(changed(topic.id, partition, state));
            Ok(facts)
        }
        (Election::Unclean, None) => refuse(ErrorCode::EligibleLeadersNotAvailable, "no replica lives that could lead"),
    }
}

/// One that was in the ELR, or went on as a relaxed topic's last leader, lost nothing that was promised.
fn audit(
    image: &Image,
    partition: TopicPartition,
    before: &PartitionInfo,
    state: &PartitionInfo,
    now: Now,
) -> Vec<Fact> {
    let Some(leader) = state.leader else { return Vec::new() };
    if before.isr.contains(&leader) || before.elr.contains(&leader) {
        return Vec::new();
    }
    tracing::warn!(
        %partition, node = %leader, epoch = %state.leader_epoch, isr = ?before.isr, elr = ?before.elr,
        "unclean election by command: acknowledged records may be lost"
    );
    let election = UncleanElection { partition, leader, leader_epoch: state.leader_epoch, at_ms: now.wall_ms };
    // A cluster that has not finalised level 2 has the line in the log alone.
    if image.level() >= 2 { vec![Fact::UncleanLeaderElected { election }] } else { Vec::new() }
}

/// Gives leaderships back to the preferred replicas, at most `max` at a time. Nothing while all is as it should be.
pub fn balance_leaders(image: &Image, max: usize) -> Vec<Vec<Fact>> {
    let view = View::of(image);
    let misplaced = |topic: &Topic, before: &PartitionInfo| {
        let preferred = before.preferred_leader()?;
        let wanted = before.leader.is_some() && before.leader != Some(preferred) && before.isr.contains(&preferred);
        if !wanted || !view.may_lead(preferred) || before.removing.contains(&preferred) {
            return None;
        }
        Draft::new(view, topic, before).mode(Mode::Preferred).finish()
    };
    let all =
        image.topics().flat_map(|topic| topic.partitions().map(move |(partition, info)| (topic, partition, info)));
    let change = |(topic, partition, before): (&Arc<Topic>, PartitionIndex, &Arc<PartitionInfo>)| {
        misplaced(topic, before).map(|state| vec![changed(topic.id, partition, state)])
    };
    all.filter_map(change).take(max).collect()
}
