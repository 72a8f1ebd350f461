//! What a group refuses, and with which code.

use super::bed::{check, check_with};
use crate::group::{GroupConfig, GroupError};

#[test]
fn an_unknown_group_is_refused_in_the_words_of_kafka() {
    let refused = GroupError::GroupIdNotFound { group: model::GroupId::new("nobody") };
    assert_eq!(refused.to_string(), "Group nobody not found.");
}

#[test]
fn a_join_outside_of_the_bounds_is_refused() {
    check(
        "
        > 0 a join session:5999
        a: error 26
        > 0 a join session:1800001
        a: error 26
        > 0 nameless join
        nameless: error 24
        > 0 a join as:a-unknown
        a: error 25
        > 0 a join protocols:
        a: error 23
        > 0 a join type:
        a: error 23
        > 0 a list
        a: groups
    ",
    );
}

#[test]
fn a_member_whose_protocols_do_not_fit_is_refused() {
    check(
        "
        > 0 a join old
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        > 100 b join old type:connect
        b: error 23
        > 100 b join old protocols:sticky
        b: error 23
        > 100 b join old protocols:sticky,range
    ",
    );
}

#[test]
fn a_full_group_refuses_more_members_but_not_its_own() {
    let config = GroupConfig { members_max: 2, ..GroupConfig::default() };
    check_with(
        config,
        "
        > 0 a join old
        > 0 b join old
        > 0 c join old
        c: error 81
        > 200 a sync a1=0 b1=1
        at 200
        a: joined 1 as a1, range, leader a1 [a1 b1]
        b: joined 1 as b1, range, leader a1 []
        log generation 1 [a1=0 b1=1]
        a: synced '0'
        > 300 c join old
        c: error 81
        > 300 a join
        > 300 b join
        a: joined 2 as a1, range, leader a1 [a1 b1]
        b: joined 2 as b1, range, leader a1 []
    ",
    );
}

#[test]
fn members_that_hold_too_many_bytes_are_refused() {
    let config = GroupConfig { group_bytes_max: 570, ..GroupConfig::default() };
    check_with(
        config,
        "
        > 0 a join old
        > 0 b join old topics:0123456789012345678901234567890123456789
        b: error 81
        > 0 c join old
    ",
    );
}

#[test]
fn an_assignment_that_no_record_can_hold_is_refused_and_the_group_starts_anew() {
    let config = GroupConfig { record_bytes_max: 500, ..GroupConfig::default() };
    let long = "x".repeat(500);
    check_with(
        config,
        &format!(
            "
        > 0 a join old
        > 0 b join old
        > 200 b sync
        at 200
        a: joined 1 as a1, range, leader a1 [a1 b1]
        b: joined 1 as b1, range, leader a1 []
        > 200 a sync a1={long}
        a: error 81
        b: error 81
        > 200 a beat
        a: error 27
    "
        ),
    );
}

#[test]
fn heartbeats_and_syncs_are_checked_for_member_and_generation() {
    check(
        "
        > 0 a beat as:x
        a: error 25
        > 0 a sync as:x
        a: error 25
        > 0 a join old
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        > 100 a sync gen:0
        a: error 22
        > 100 a sync type:connect
        a: error 23
        > 100 a sync protocol:sticky
        a: error 23
        > 100 a sync as:x
        a: error 25
        > 100 a sync a1=0
        log generation 1 [a1=0]
        a: synced '0'
        > 100 a beat gen:2
        a: error 22
        > 100 a beat as:x
        a: error 25
        > 100 a beat as:nobody
        a: error 25
        > 100 a beat static:s
        a: error 25
        > 100 a leave x
        a: left 25
        > 100 a sync protocol:range type:consumer
        a: synced '0'
    ",
    );
}

#[test]
fn too_many_groups_are_refused() {
    let config = GroupConfig { groups_max: 0, ..GroupConfig::default() };
    check_with(
        config,
        "
        > 0 a join
        a: error 44
        > 0 a commit gen:-1 t-0=1
        a: error 44
    ",
    );
}

#[test]
fn a_shard_that_is_full_still_takes_what_adds_nothing() {
    let config = GroupConfig { shard_bytes_max: 1000, ..GroupConfig::default() };
    check_with(
        config,
        "
        > 0 a join old
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        > 100 a sync a1=0
        log generation 1 [a1=0]
        a: synced '0'
        > 100 a commit t-0=1
        log t-0=1
        a: committed 0
        > 100 a commit t-1=1 t-2=1 t-3=1
        a: error 44
        > 100 b join old topics:0123456789012345678901234567890123456789012345678901234567890123456789
        > 100 c join old topics:0123456789012345678901234567890123456789012345678901234567890123456789
        c: error 44
        > 100 a commit t-0=2
        log t-0=2
        a: committed 0
        > 100 a beat
        a: error 27
        > 100 a leave a1
        b: joined 2 as b1, range, leader b1 [b1]
        a: left 0
    ",
    );
}
