//! Committed offsets: who may commit, what is read back, what expires.

use super::bed::{check, check_with};
use crate::group::GroupConfig;

#[test]
fn a_simple_consumer_commits_and_reads_back() {
    check(
        "
        > 0 s commit gen:-1 t-0=5 t-1=6 u-0=7
        log t-0=5
        log t-1=6
        log u-0=7
        s: committed 0 0 0
        > 0 s commit gen:-1 t-0=9
        log t-0=9
        s: committed 0
        > 0 s fetch t-0 t-1 t-2 v-0
        s: offsets t-0=9 t-1=6 t-2=-1 v-0=-1
        > 0 s fetch
        s: offsets t-0=9 t-1=6 u-0=7
        > 0 s describe
        s: Empty '' '' []
        > 0 s list
        s: groups g//Empty/classic
        > 0 nameless commit gen:-1 t-0=1
        log t-0=1
        nameless: committed 0
        > 0 nameless fetch
        nameless: offsets t-0=1
    ",
    );
}

#[test]
fn a_group_that_is_not_known_has_no_offsets() {
    check(
        "
        > 0 s fetch t-0
        s: offsets t-0=-1
        > 0 s fetch
        s: offsets
        > 0 s describe
        s: error 69
        > 0 s commit gen:0 t-0=1
        s: error 69
    ",
    );
}

#[test]
fn members_commit_in_their_generation_only() {
    check(
        "
        > 0 a join old
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        > 100 a commit t-0=1
        a: error 27
        > 100 a sync a1=0
        log generation 1 [a1=0]
        a: synced '0'
        > 100 a commit t-0=2
        log t-0=2
        a: committed 0
        > 100 a commit gen:7 t-0=3
        a: error 22
        > 100 a commit as:x t-0=3
        a: error 25
        > 100 s commit gen:-1 t-0=3
        s: error 25
        > 200 b join old
        > 200 a commit t-0=4
        log t-0=4
        a: committed 0
        > 200 a fetch t-0
        a: offsets t-0=4
    ",
    );
}

#[test]
fn offsets_beyond_the_limits_are_refused_one_by_one() {
    let config = GroupConfig { group_offsets_max: 2, ..GroupConfig::default() };
    check_with(
        config,
        "
        > 0 s commit gen:-1 t-0=5/4096 t-1=5/4097 t-2=5 t-3=5
        log t-0=5
        log t-2=5
        s: committed 0 12 0 44
        > 0 s commit gen:-1 t-0=6 t-2=6
        log t-0=6
        log t-2=6
        s: committed 0 0
        > 0 s fetch
        s: offsets t-0=6 t-2=6
    ",
    );
}

#[test]
fn a_refused_commit_does_not_make_a_group() {
    check(
        "
        > 0 s commit gen:-1 t-0=5/4097
        s: committed 12
        > 0 s list
        s: groups
    ",
    );
}

#[test]
fn offsets_of_a_simple_consumer_expire_by_their_own_age() {
    check(
        "
        > 0 s commit gen:-1 t-0=5
        log t-0=5
        s: committed 0
        > 300000000 s commit gen:-1 t-1=6
        log t-1=6
        s: committed 0
        > 604200000 s fetch
        s: offsets t-0=5 t-1=6
        > 605400000 s fetch
        at 604800000
        log t-0 gone
        s: offsets t-1=6
        > 999999999 s list
        at 904800000
        log t-1 gone
        s: groups
    ",
    );
}

#[test]
fn a_commit_may_name_its_own_retention() {
    check(
        "
        > 0 s commit gen:-1 keep:1000 t-0=5
        log t-0=5
        s: committed 0
        > 0 s commit gen:-1 t-1=5
        log t-1=5
        s: committed 0
        > 600000 s fetch
        at 600000
        log t-0 gone
        s: offsets t-1=5
    ",
    );
}

#[test]
fn offsets_of_a_group_expire_by_the_time_it_became_empty() {
    check(
        "
        > 0 a join old session:1800000
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        > 100 a sync a1=0
        log generation 1 [a1=0]
        a: synced '0'
        > 100 a commit t-0=5 u-0=6
        log t-0=5
        log u-0=6
        a: committed 0 0
        > 1700000 a leave a1
        log generation 2 []
        a: left 0
        > 604800000 s fetch
        s: offsets t-0=5 u-0=6
        > 607200000 s list
        at 606600000
        log t-0 gone
        log u-0 gone
        log group gone
        s: groups
    ",
    );
}

#[test]
fn a_stable_group_keeps_what_it_subscribes_to_and_lets_go_of_the_rest() {
    let config = GroupConfig { offsets_retention_ms: 3000, ..GroupConfig::default() };
    check_with(
        config,
        "
        > 0 a join old session:1800000 topics:t
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        > 100 a sync a1=0
        log generation 1 [a1=0]
        a: synced '0'
        > 100 a commit t-0=5 u-0=6
        log t-0=5
        log u-0=6
        a: committed 0 0
        > 600001 a fetch
        at 600000
        log u-0 gone
        a: offsets t-0=5
    ",
    );
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    check(
        "
        > 0 s commit gen:-1 t-0=5 t-1=5 u-0=6
        log t-0=5
        log t-1=5
        log u-0=6
        s: committed 0 0 0
        > 0 - delete t v
        log t-0 gone
        log t-1 gone
        > 0 s fetch
        s: offsets u-0=6
        > 0 - delete u
        log u-0 gone
        > 0 s list
        s: groups
    ",
    );
}

#[test]
fn a_new_coordinator_finds_the_offsets() {
    check(
        "
        > 0 s commit gen:-1 t-0=5
        log t-0=5
        s: committed 0
        > 0 - failover
        > 0 s fetch t-0
        s: offsets t-0=5
    ",
    );
}

#[test]
fn groups_are_listed_by_state_and_type() {
    check(
        "
        > 0 s commit gen:-1 t-0=5
        log t-0=5
        s: committed 0
        > 0 s list states:empty
        s: groups g//Empty/classic
        > 0 s list states:Stable
        s: groups
        > 0 s list types:Classic
        s: groups g//Empty/classic
        > 0 s list types:consumer
        s: groups
    ",
    );
}

#[test]
fn a_group_is_deleted_with_its_offsets_while_nobody_is_in_it() {
    check(
        "
        > 0 s delete
        s: error 69
        > 0 s commit gen:-1 t-0=5 u-0=7
        log t-0=5
        log u-0=7
        s: committed 0 0
        > 0 a join old
        > 100 s delete
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        s: error 68
        > 100 a sync a1=0
        log generation 1 [a1=0]
        a: synced '0'
        > 100 a leave a1
        log generation 2 []
        a: left 0
        > 100 s delete
        log t-0 gone
        log u-0 gone
        log group gone
        s: deleted
        > 100 s fetch t-0
        s: offsets t-0=-1
        > 100 s delete
        s: error 69
    ",
    );
}

#[test]
fn offsets_of_topics_that_nobody_reads_are_deleted() {
    check(
        "
        > 0 s forget t-0
        s: error 69
        > 0 s commit gen:-1 t-0=5 u-0=7
        log t-0=5
        log u-0=7
        s: committed 0 0
        > 0 a join old topics:t
        > 100 s forget t-0
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        s: forgotten 86
        > 100 a sync a1=0
        log generation 1 [a1=0]
        a: synced '0'
        > 100 s forget t-0 u-0 v-0
        log u-0 gone
        s: forgotten 86 0 0
        > 100 s fetch
        s: offsets t-0=5
    ",
    );
}
