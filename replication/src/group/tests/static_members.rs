//! Static members (KIP-345).

use super::bed::check;

#[test]
fn a_static_member_that_restarts_keeps_its_share_without_a_rebalance() {
    check(
        "
        > 0 a join static:sa
        > 0 b join static:sb
        > 200 a sync static:sa sa1=0 sb1=1
        at 200
        a: joined 1 as sa1, range, leader sa1 [sa1 sb1]
        b: joined 1 as sb1, range, leader sa1 []
        log generation 1 [sa1=0 sb1=1]
        a: synced '0'
        > 200 b sync static:sb
        b: synced '1'
        > 300 b2 join static:sb
        log generation 1 [sa1=0 sb2=1]
        b2: joined 1 as sb2, range, leader sa1 []
        > 310 b2 sync static:sb
        b2: synced '1'
        > 320 b beat static:sb
        b: error 82
        > 330 b sync static:sb
        b: error 82
        > 340 a beat static:sa
        a: beat
    ",
    );
}

#[test]
fn a_static_leader_that_restarts_is_told_to_skip_the_assignment() {
    check(
        "
        > 0 a join static:sa
        > 100 -
        at 100
        a: joined 1 as sa1, range, leader sa1 [sa1]
        > 100 a sync static:sa sa1=0
        log generation 1 [sa1=0]
        a: synced '0'
        > 200 a2 join static:sa
        log generation 1 [sa2=0]
        a2: joined 1 as sa2, range, leader sa2 [sa2] skip
        > 210 a2 sync static:sa
        a2: synced '0'
    ",
    );
}

#[test]
fn an_old_static_leader_that_restarts_is_shown_its_former_id_as_leader() {
    check(
        "
        > 0 a join static:sa
        > 100 -
        at 100
        a: joined 1 as sa1, range, leader sa1 [sa1]
        > 100 a sync static:sa sa1=0
        log generation 1 [sa1=0]
        a: synced '0'
        > 200 a2 join static:sa noskip
        log generation 1 [sa2=0]
        a2: joined 1 as sa2, range, leader sa1 []
    ",
    );
}

#[test]
fn a_static_member_that_restarts_with_another_protocol_starts_a_rebalance() {
    check(
        "
        > 0 a join static:sa protocols:range,sticky
        > 0 b join static:sb protocols:range,sticky
        > 200 a sync static:sa sa1=0 sb1=1
        at 200
        a: joined 1 as sa1, range, leader sa1 [sa1 sb1]
        b: joined 1 as sb1, range, leader sa1 []
        log generation 1 [sa1=0 sb1=1]
        a: synced '0'
        > 200 b sync static:sb
        b: synced '1'
        > 300 b2 join static:sb protocols:sticky
        > 310 a beat static:sa
        a: error 27
        > 320 a join static:sa protocols:range,sticky
        a: joined 2 as sa1, sticky, leader sa1 [sa1 sb2]
        b2: joined 2 as sb2, sticky, leader sa1 []
    ",
    );
}

#[test]
fn a_static_member_that_restarts_while_syncs_are_awaited_starts_a_rebalance() {
    check(
        "
        > 0 a join static:sa
        > 0 b join static:sb
        > 200 b sync static:sb
        at 200
        a: joined 1 as sa1, range, leader sa1 [sa1 sb1]
        b: joined 1 as sb1, range, leader sa1 []
        > 300 b2 join static:sb
        b: error 82
        > 300 a join static:sa
        a: joined 2 as sa1, range, leader sa1 [sa1 sb2]
        b2: joined 2 as sb2, range, leader sa1 []
    ",
    );
}

#[test]
fn a_waiting_join_of_a_static_member_is_fenced_by_its_successor() {
    check(
        "
        > 0 a join static:sa
        > 10 a2 join static:sa
        a: error 82
        > 200 -
        at 100
        a2: joined 1 as sa1, range, leader sa1 [sa1]
        > 200 a2 sync static:sa sa1=0
        log generation 1 [sa1=0]
        a2: synced '0'
    ",
    );
}

#[test]
fn a_static_member_that_is_away_keeps_its_place_until_its_session_ends() {
    check(
        "
        > 0 a join static:sa session:60000 rebalance:2000
        > 0 b join static:sb session:8000 rebalance:2000
        > 200 a sync static:sa sa1=0 sb1=1
        at 200
        a: joined 1 as sa1, range, leader sa1 [sa1 sb1]
        b: joined 1 as sb1, range, leader sa1 []
        log generation 1 [sa1=0 sb1=1]
        a: synced '0'
        > 200 b sync static:sb
        b: synced '1'
        > 1000 c join static:sc session:60000 rebalance:2000
        > 1000 a join static:sa session:60000 rebalance:2000
        > 3100 -
        at 3000
        a: joined 2 as sa1, range, leader sa1 [sa1 sb1 sc1]
        c: joined 2 as sc1, range, leader sa1 []
        > 3100 a sync static:sa sa1=0 sb1=1 sc1=2
        log generation 2 [sa1=0 sb1=1 sc1=2]
        a: synced '0'
        > 3100 c sync static:sc
        c: synced '2'
        > 5100 -
    ",
    );
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance_id() {
    check(
        "
        > 0 a join static:sa
        > 0 b join static:sb
        > 200 a sync static:sa sa1=0 sb1=1
        at 200
        a: joined 1 as sa1, range, leader sa1 [sa1 sb1]
        b: joined 1 as sb1, range, leader sa1 []
        log generation 1 [sa1=0 sb1=1]
        a: synced '0'
        > 300 admin leave static:sb static:sx
        admin: left 0 25
        > 300 b beat static:sb
        b: error 25
        > 300 a beat static:sa
        a: error 27
    ",
    );
}

#[test]
fn a_rebalance_to_which_only_absent_static_members_belong_waits_for_them() {
    check(
        "
        > 0 a join static:sa session:20000 rebalance:1000
        > 0 b join old session:20000 rebalance:1000
        > 200 a sync static:sa sa1=0 b1=1
        at 200
        b: joined 1 as b1, range, leader sa1 []
        a: joined 1 as sa1, range, leader sa1 [b1 sa1]
        log generation 1 [b1=1 sa1=0]
        a: synced '0'
        > 200 b sync
        b: synced '1'
        > 300 b leave b1
        b: left 0
        > 5000 a describe
        a: PreparingRebalance 'consumer' '' [sa1='']
        > 5000 a join static:sa session:20000 rebalance:1000
        a: joined 2 as sa1, range, leader sa1 [sa1]
    ",
    );
}
