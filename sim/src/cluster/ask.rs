//! What clients ask and are told: decoded requests, as behind the wire.

use std::sync::Arc;
use std::time::Duration;

use model::batch::Batch;
use model::{GroupId, LeaderEpoch, NodeId, Now, TopicPartition};
use node::Node;
use node::effects::{Effects, ReplyTo};
use node::requests::{
    Acks, Answer, FetchLimits, FetchPart, FetchedPart, FoundOffset, ListError, NewTopic, Position, Produce,
    ProducePart, TopicRef,
};
use replication::controller::requests::ControllerRequest;
use replication::group::GroupRequest;
use replication::metadata::Image;
use storage::disk::ReadMode;

/// A request on its way to a node.
#[derive(Debug)]
pub enum Ask {
    Image,
    Produce { partition: TopicPartition, batch: Batch, timeout: Duration },
    Fetch(FetchPart),
    FindTime { partition: TopicPartition, epoch: Option<LeaderEpoch>, time_ms: i64 },
    ProducerId,
    CreateTopic(NewTopic),
    DeleteTopic(TopicRef),
    Coordinator(GroupId),
    Group(GroupId, GroupRequest),
    Controller(ControllerRequest),
}

/// What comes back.
#[derive(Debug)]
pub enum Told {
    Image(Arc<Image>),
    Fetched(Box<FetchedPart>),
    FoundTime(Result<FoundOffset, ListError>),
    Coordinator(Option<NodeId>),
    Answer(Answer),
    /// The connection ended, or no answer came in time: it may have been done or not.
    Lost,
}

/// How long the controller may take.
const CONTROLLER_PATIENCE: Duration = Duration::from_secs(5);

impl Ask {
    /// Puts it to the node. `Some`: the answer; `None`: it comes through `reply`.
    pub(super) fn put_to(self, node: &Node, now: Now, reply: ReplyTo, fx: &mut Effects) -> Option<Told> {
        match self {
            Ask::Image => return Some(Told::Image(node.image())),
            Ask::Produce { partition, batch, timeout } => {
                let parts = vec![ProducePart { partition, batch }];
                node.produce(now, Produce { acks: Acks::All, timeout, parts, reply }, fx);
            }
            Ask::Fetch(part) => {
                let limits = FetchLimits {
                    bytes_max: u64::from(part.bytes_max),
                    committed_only: false,
                    at_follower: part.current_epoch.is_none(),
                };
                let read = node.fetch(&[part], limits, ReadMode::Blocking);
                return read.parts.into_iter().next().map(|part| Told::Fetched(Box::new(part)));
            }
            Ask::FindTime { partition, epoch, time_ms } => {
                let found = node.list_offset(partition, epoch, Position::AtTime(time_ms), ReadMode::Blocking);
                return Some(Told::FoundTime(found));
            }
            Ask::ProducerId => node.init_producer_id(now, reply, fx),
            Ask::CreateTopic(topic) => node.create_topics(now, vec![topic], false, reply, fx),
            Ask::DeleteTopic(topic) => node.delete_topics(now, vec![topic], reply, fx),
            Ask::Coordinator(group) => return Some(Told::Coordinator(node.group_coordinator(now, &group, fx))),
            Ask::Group(group, request) => node.group(now, group, request, reply, fx),
            Ask::Controller(request) => node.ask_controller(now, request, CONTROLLER_PATIENCE, reply, fx),
        }
        None
    }
}
