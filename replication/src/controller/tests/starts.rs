//! What the start and the death of a node do to the partitions that it leads.

use super::*;

/// Registers node 1 again, after `change` on what it registered before; gives the only partition.
fn after_restart(
    state: PartitionInfo,
    clean: bool,
    config: &[(&str, &str)],
    change: impl Fn(&mut NodeInfo),
) -> PartitionInfo {
    let id = model::TopicId([1; 16]);
    let configs = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let facts = [
        Fact::TopicCreated { id, name: name("t"), configs, default_replication: false },
        Fact::PartitionChanged { topic: id, partition: model::PartitionIndex::new(0), state },
    ];
    let image = three_live_nodes().with(&facts).expect("the facts apply");
    let mut info = image.node(NodeId(1)).expect("it is registered").clone();
    info.incarnation = Incarnation([99; 16]);
    change(&mut info);
    let groups = nodes::register(&image, NodeId(1), info, clean, &BTreeSet::new());
    let image = image.with(&groups.concat()).expect("the facts apply");
    assert_eq!(image.node(NodeId(1)).map(|info| info.incarnation), Some(Incarnation([99; 16])));
    PartitionInfo::clone(&image.topic(&name("t")).expect("it was created").partitions[0])
}

fn led_by_one(isr: &[i32]) -> PartitionInfo {
    PartitionInfo {
        leader: Some(NodeId(1)),
        leader_epoch: LeaderEpoch::new(4),
        replicas: nodes_of(&[1, 2]),
        isr: nodes_of(isr),
        ..PartitionInfo::default()
    }
}

#[test]
fn a_start_takes_no_leadership_over_from_the_last_one() {
    let reboot: fn(&mut NodeInfo) = |info| info.boot = "later".into();
    let replaced: fn(&mut NodeInfo) = |info| info.directory = [5; 16];
    let same: fn(&mut NodeInfo) = |_| ();
    let relaxed = [("flush.messages", "100")];
    let journalled: [(&str, &str); 0] = [];
    // Starts cleanly?, topic's flushing, what changed, ISR before; leader and ISR after. The epoch is always a new one.
    type Row<'a> = (bool, &'a [(&'a str, &'a str)], fn(&mut NodeInfo), &'a [i32], i32, &'a [i32]);
    let table: [Row<'_>; 7] = [
        (true, &journalled, same, &[1], 1, &[1]),
        (false, &journalled, same, &[1, 2], 1, &[1, 2]),
        (false, &journalled, reboot, &[1, 2], 1, &[1, 2]),
        (false, &relaxed, reboot, &[1, 2], 2, &[2]),
        (true, &relaxed, reboot, &[1, 2], 1, &[1, 2]),
        (true, &journalled, replaced, &[1, 2], 2, &[2]),
        (false, &relaxed, reboot, &[1], 1, &[1]),
    ];
    for (clean, config, change, isr, leader, isr_after) in table {
        let after = after_restart(led_by_one(isr), clean, config, change);
        assert_eq!(after.leader_epoch, LeaderEpoch::new(5));
        assert_eq!((after.leader, after.isr, after.partition_epoch), (Some(NodeId(leader)), nodes_of(isr_after), 1));
    }
}

#[test]
fn a_start_leaves_partitions_alone_that_others_lead_and_takes_up_those_without_a_leader() {
    let elsewhere = PartitionInfo { leader: Some(NodeId(2)), ..led_by_one(&[1, 2]) };
    assert_eq!(after_restart(elsewhere.clone(), true, &[], |_| ()), elsewhere);
    let orphan = PartitionInfo { leader: None, ..led_by_one(&[1]) };
    let after = after_restart(orphan, true, &[], |_| ());
    assert_eq!((after.leader, after.leader_epoch), (Some(NodeId(1)), LeaderEpoch::new(5)));
}

#[test]
fn a_dead_node_hands_its_leaderships_to_the_isr_and_is_remembered_below_the_minimum() {
    let id = model::TopicId([1; 16]);
    let three = PartitionInfo { replicas: nodes_of(&[1, 2, 3]), ..led_by_one(&[1, 2, 3]) };
    let facts = [
        Fact::TopicCreated { id, name: name("t"), configs: Vec::new(), default_replication: false },
        Fact::PartitionChanged { topic: id, partition: model::PartitionIndex::new(0), state: three },
    ];
    let mut image = three_live_nodes().with(&facts).expect("the facts apply");
    let mut seen = Vec::new();
    for node in [1, 2, 3] {
        let incarnation = Incarnation([u8::try_from(node).expect("small"); 16]);
        assert!(nodes::fence(&image, &[(NodeId(node), Incarnation::default())]).is_empty(), "another incarnation");
        image = image.with(&nodes::fence(&image, &[(NodeId(node), incarnation)]).concat()).expect("the facts apply");
        let partition = &image.topic(&name("t")).expect("it was created").partitions[0];
        seen.push((partition.leader.map(|node| node.0), partition.isr.clone(), partition.elr.clone()));
    }
    let expected = [
        (Some(2), nodes_of(&[2, 3]), nodes_of(&[])),
        (Some(3), nodes_of(&[3]), nodes_of(&[2])),
        (None, nodes_of(&[]), nodes_of(&[2, 3])),
    ];
    assert_eq!(seen, expected);
}
