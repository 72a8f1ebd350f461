//! Rebalances of dynamic members.

use super::bed::check;

#[test]
fn a_lone_member_is_told_its_id_joins_syncs_and_heartbeats() {
    check(
        "
        > 0 a join
        a: error 79 a1
        > 0 a join
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        > 100 a sync a1=x
        log generation 1 [a1=x]
        a: synced 'x'
        > 200 a beat
        a: beat
        > 300 a describe
        a: Stable 'consumer' 'range' [a1='x']
    ",
    );
}

#[test]
fn an_old_client_joins_at_once_without_being_told_its_id() {
    check(
        "
        > 0 a join old
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
    ",
    );
}

#[test]
fn three_members_come_one_after_the_other_and_leave_again() {
    check(
        "
        > 0 a join old
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        > 100 a sync a1=012
        log generation 1 [a1=012]
        a: synced '012'
        > 1000 b join old
        > 1500 a beat
        a: error 27
        > 1600 a join
        a: joined 2 as a1, range, leader a1 [a1 b1]
        b: joined 2 as b1, range, leader a1 []
        > 1600 a sync a1=0 b1=12
        log generation 2 [a1=0 b1=12]
        a: synced '0'
        > 1700 b sync
        b: synced '12'
        > 2000 c join old
        > 2100 b join
        > 2200 a join
        a: joined 3 as a1, range, leader a1 [a1 b1 c1]
        b: joined 3 as b1, range, leader a1 []
        c: joined 3 as c1, range, leader a1 []
        > 2300 c sync
        > 2300 b sync
        > 2400 a sync a1=0 b1=1 c1=2
        log generation 3 [a1=0 b1=1 c1=2]
        a: synced '0'
        b: synced '1'
        c: synced '2'
        > 3000 b leave b1
        b: left 0
        > 3100 c beat
        c: error 27
        > 3200 c join
        > 3300 a join
        a: joined 4 as a1, range, leader a1 [a1 c1]
        c: joined 4 as c1, range, leader a1 []
        > 3400 a sync a1=0 c1=12
        log generation 4 [a1=0 c1=12]
        a: synced '0'
        > 3400 c sync
        c: synced '12'
        > 4000 a leave a1 c1
        log generation 5 []
        a: left 0 0
        > 4100 a describe
        a: Empty 'consumer' '' []
    ",
    );
}

#[test]
fn the_first_generation_waits_longer_while_members_come_but_not_forever() {
    check(
        "
        > 0 a join old rebalance:250
        > 50 b join old rebalance:250
        > 150 c join old rebalance:250
        > 210 d join old rebalance:250
        > 400 -
        at 250
        a: joined 1 as a1, range, leader a1 [a1 b1 c1 d1]
        b: joined 1 as b1, range, leader a1 []
        c: joined 1 as c1, range, leader a1 []
        d: joined 1 as d1, range, leader a1 []
    ",
    );
}

#[test]
fn a_silent_member_is_given_up_after_its_session_and_the_others_rebalance() {
    check(
        "
        > 0 a join old session:6000
        > 0 b join old session:20000
        > 200 a sync a1=0 b1=1
        at 200
        a: joined 1 as a1, range, leader a1 [a1 b1]
        b: joined 1 as b1, range, leader a1 []
        log generation 1 [a1=0 b1=1]
        a: synced '0'
        > 200 b sync
        b: synced '1'
        > 5000 b beat
        b: beat
        > 6500 b beat
        b: error 27
        > 6600 b join session:20000
        b: joined 2 as b1, range, leader b1 [b1]
        > 6600 b sync b1=01
        log generation 2 [b1=01]
        b: synced '01'
    ",
    );
}

#[test]
fn a_commit_is_a_sign_of_life() {
    check(
        "
        > 0 a join old session:6000
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        > 100 a sync a1=0
        log generation 1 [a1=0]
        a: synced '0'
        > 5000 a commit t-0=7
        log t-0=7
        a: committed 0
        > 10000 a beat
        a: beat
        > 16100 -
        at 16000
        log generation 2 []
    ",
    );
}

#[test]
fn a_member_that_does_not_rejoin_in_time_is_left_out() {
    check(
        "
        > 0 a join old session:60000 rebalance:2000
        > 0 b join old session:60000 rebalance:2000
        > 200 a sync a1=0 b1=1
        at 200
        a: joined 1 as a1, range, leader a1 [a1 b1]
        b: joined 1 as b1, range, leader a1 []
        log generation 1 [a1=0 b1=1]
        a: synced '0'
        > 200 b sync
        b: synced '1'
        > 1000 b leave b2
        b: left 25
        > 1000 c join old session:60000 rebalance:2000
        > 1100 b join session:60000 rebalance:2000
        > 3100 -
        at 3000
        b: joined 2 as b1, range, leader b1 [b1 c1]
        c: joined 2 as c1, range, leader b1 []
        > 3200 a beat
        a: error 25
    ",
    );
}

#[test]
fn a_member_that_owes_its_sync_is_given_up() {
    check(
        "
        > 0 a join old session:60000 rebalance:2000
        > 0 b join old session:60000 rebalance:2000
        > 200 a sync a1=0 b1=1
        at 200
        a: joined 1 as a1, range, leader a1 [a1 b1]
        b: joined 1 as b1, range, leader a1 []
        log generation 1 [a1=0 b1=1]
        a: synced '0'
        > 2300 a beat
        a: error 27
    ",
    );
}

#[test]
fn a_leader_that_never_assigns_is_replaced() {
    check(
        "
        > 0 a join old session:60000 rebalance:2000
        > 0 b join old session:60000 rebalance:2000
        > 200 b sync
        at 200
        a: joined 1 as a1, range, leader a1 [a1 b1]
        b: joined 1 as b1, range, leader a1 []
        > 2300 b join session:60000 rebalance:2000
        at 2200
        b: error 27
        b: joined 2 as b1, range, leader b1 [b1]
    ",
    );
}

#[test]
fn a_parked_join_that_is_sent_again_answers_the_first() {
    check(
        "
        > 0 a join
        a: error 79 a1
        > 0 a join
        > 10 a join
        a: error 27
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
    ",
    );
}

#[test]
fn a_pending_member_holds_up_the_rebalance_until_its_session_ends() {
    check(
        "
        > 0 a join old
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        > 100 a sync a1=0
        log generation 1 [a1=0]
        a: synced '0'
        > 200 p join session:6000
        p: error 79 p1
        > 300 a join
        > 6300 -
        at 6200
        a: joined 2 as a1, range, leader a1 [a1]
    ",
    );
}

#[test]
fn a_pending_member_that_leaves_disturbs_nobody() {
    check(
        "
        > 0 a join old
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        > 100 a sync a1=0
        log generation 1 [a1=0]
        a: synced '0'
        > 200 p join
        p: error 79 p1
        > 300 a leave p1
        a: left 0
        > 300 a beat
        a: beat
    ",
    );
}

#[test]
fn a_group_of_which_only_a_pending_member_was_known_leaves_no_trace() {
    check(
        "
        > 0 a join session:6000
        a: error 79 a1
        > 10 a list
        a: groups g//Empty/classic
        > 6001 a list
        a: groups
    ",
    );
}

#[test]
fn a_follower_that_joins_again_unchanged_is_told_the_generation_and_a_leader_starts_a_rebalance() {
    check(
        "
        > 0 a join old
        > 0 b join old
        > 200 a sync a1=0 b1=1
        at 200
        a: joined 1 as a1, range, leader a1 [a1 b1]
        b: joined 1 as b1, range, leader a1 []
        log generation 1 [a1=0 b1=1]
        a: synced '0'
        > 200 b sync
        b: synced '1'
        > 300 b join
        b: joined 1 as b1, range, leader a1 []
        > 400 b sync
        b: synced '1'
        > 500 a join
        > 500 b beat
        b: error 27
        > 600 b join
        a: joined 2 as a1, range, leader a1 [a1 b1]
        b: joined 2 as b1, range, leader a1 []
    ",
    );
}

#[test]
fn a_changed_subscription_starts_a_rebalance_also_while_syncs_are_awaited() {
    check(
        "
        > 0 a join old
        > 0 b join old
        > 200 b sync
        at 200
        a: joined 1 as a1, range, leader a1 [a1 b1]
        b: joined 1 as b1, range, leader a1 []
        > 300 a join topics:t,u
        b: error 27
        > 300 b beat
        b: error 27
        > 400 b join topics:t,u
        a: joined 2 as a1, range, leader a1 [a1 b1]
        b: joined 2 as b1, range, leader a1 []
    ",
    );
}

#[test]
fn the_protocol_with_the_most_votes_is_chosen_among_those_that_all_offer() {
    check(
        "
        > 0 a join old protocols:range,sticky
        > 0 b join old protocols:sticky,range
        > 0 c join old protocols:cooperative,sticky,range
        > 300 -
        at 200
        a: joined 1 as a1, sticky, leader a1 [a1 b1 c1]
        b: joined 1 as b1, sticky, leader a1 []
        c: joined 1 as c1, sticky, leader a1 []
    ",
    );
}

#[test]
fn a_new_coordinator_keeps_the_members_and_refuses_what_waited_at_the_old_one() {
    check(
        "
        > 0 a join old
        > 0 b join old
        > 200 a sync a1=0 b1=1
        at 200
        a: joined 1 as a1, range, leader a1 [a1 b1]
        b: joined 1 as b1, range, leader a1 []
        log generation 1 [a1=0 b1=1]
        a: synced '0'
        > 300 c join
        c: error 79 c1
        > 300 c join
        > 400 - failover
        c: error 16
        > 500 a beat
        a: beat
        > 500 b sync
        b: synced '1'
        > 500 c join
        c: error 25
        > 600 a describe
        a: Stable 'consumer' 'range' [a1='0' b1='1']
        > 10401 -
    ",
    );
}

#[test]
fn a_new_coordinator_does_not_know_a_generation_that_was_never_assigned() {
    check(
        "
        > 0 a join old
        > 100 -
        at 100
        a: joined 1 as a1, range, leader a1 [a1]
        > 100 - failover
        > 100 a sync a1=0
        a: error 25
        > 100 a join
        a: error 25
        > 100 a join as:nobody
        a: error 79 a2
    ",
    );
}
