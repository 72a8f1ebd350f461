//! ConsumerGroupDescribe (API key 69), versions 0..=1 (KIP-848).
//!
//! Owns the shapes; `replication::group` decides. A group of another protocol is not found here. Versions: 1 tells which
//! protocol each member speaks (KIP-1099).

use std::ops::RangeInclusive;

use model::{PartitionIndex, TopicId};
use replication::group::{DescribedConsumer, DescribedConsumerGroup, GroupAnswer, GroupRequest, Partitions};
use replication::metadata::Image;

use super::context::{Api, Reply, RequestContext};
use super::describe_groups::GROUP_OPERATIONS;
use super::once::once;
use super::topics::{message, text, uuid_of};
use crate::wire::messages::consumer_group_describe_response::{Assignment, DescribedGroup, Member, TopicPartitions};
use crate::wire::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

pub struct ConsumerGroupDescribe;

/// Kafka's numbers for what a member speaks.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

impl Api for ConsumerGroupDescribe {
    type Request = ConsumerGroupDescribeRequest;
    const NAME: &'static str = "ConsumerGroupDescribe";
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        ctx: RequestContext,
        request: ConsumerGroupDescribeRequest,
    ) -> Reply<ConsumerGroupDescribeResponse> {
        let mut groups = Vec::new();
        for group in once(&request.group_ids, |group| group.as_str()) {
            let answer = ctx.group(group.as_str(), GroupRequest::DescribeConsumer).await;
            let GroupAnswer::DescribeConsumer(described) = answer else {
                unreachable!("a describe was answered with {answer:?}");
            };
            let mut shown = match described {
                Ok(described) => show(ctx.version, &ctx.broker.image(), described),
                Err(error) => DescribedGroup::default()
                    .with_error_code(error.code().to_wire())
                    .with_error_message(message(&error)),
            };
            shown.group_id = group.clone();
            if request.include_authorized_operations && shown.error_code == 0 {
                shown.authorized_operations = GROUP_OPERATIONS;
            }
            groups.push(shown);
        }
        ConsumerGroupDescribeResponse::default().with_groups(groups).into()
    }
}

fn show(version: i16, image: &Image, described: DescribedConsumerGroup) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_state(text(described.state))
        .with_group_epoch(described.epoch)
        .with_assignment_epoch(described.assignment_epoch)
        .with_assignor_name(text(described.assignor))
        .with_members(described.members.into_iter().map(|member| show_member(version, image, member)).collect())
}

fn show_member(version: i16, image: &Image, member: DescribedConsumer) -> Member {
    let info = member.info;
    let mut shown = Member::default()
        .with_member_id(text(member.member_id.as_str()))
        .with_instance_id(info.instance_id.as_ref().map(|id| text(id.as_str())))
        .with_rack_id(info.rack.as_deref().map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(&info.client_id))
        .with_client_host(text(&info.client_host))
        .with_subscribed_topic_names(info.topics.iter().map(|topic| text(topic).into()).collect())
        .with_subscribed_topic_regex(info.pattern.as_deref().map(text))
        .with_assignment(assignment(image, &member.assignment))
        .with_target_assignment(assignment(image, &member.target));
    if version >= 1 {
        shown.member_type = if info.classic.is_some() { CLASSIC } else { CONSUMER };
    }
    shown
}

/// Topics that are gone have no name to show.
fn assignment(image: &Image, partitions: &Partitions) -> Assignment {
    let topic = |(topic, indices): (&TopicId, &std::collections::BTreeSet<PartitionIndex>)| {
        let name = &image.topic_by_id(*topic)?.name;
        Some(
            TopicPartitions::default()
                .with_topic_id(uuid_of(*topic))
                .with_topic_name(text(name.as_str()).into())
                .with_partitions(indices.iter().map(|index| index.to_wire()).collect()),
        )
    };
    Assignment::default().with_topic_partitions(partitions.iter().filter_map(topic).collect())
}
