//! ConsumerGroupDescribe: the group as the tools show it.

use super::super::config::GroupConfig;
use super::state::{Consumer, plain};
use super::types::{DescribedConsumer, DescribedConsumerGroup};

impl Consumer {
    pub(in super::super) fn describe(&self, config: &GroupConfig) -> DescribedConsumerGroup {
        let members = self.members.iter().map(|(id, member)| DescribedConsumer {
            member_id: id.clone(),
            info: member.info.clone(),
            epoch: member.current.epoch,
            assignment: plain(&member.current.assigned),
            target: self.targets.get(id).cloned().unwrap_or_default(),
        });
        DescribedConsumerGroup {
            state: self.state(),
            epoch: self.epoch.epoch,
            assignment_epoch: self.target_epoch.epoch,
            assignor: self.assignor(config).name(),
            members: members.collect(),
        }
    }
}
