//! Groups that change their protocol while their members go on, and members of both protocols in one group.

use super::bed::check;

#[test]
fn a_classic_group_goes_on_in_the_consumer_protocol_and_back() {
    check(
        "
        > 0 - topic t 4
        > 0 c join old
        > 100 -
        at 100
        c: joined 1 as c1, range, leader c1 [c1]
        > 100 c sync c1=#t:0,1,2,3
        log generation 1 [c1=t-0 t-1 t-2 t-3]
        c: synced 't-0 t-1 t-2 t-3'
        > 200 n poll epoch:0 topics:t
        log group gone
        log c1 wants 't' classic
        log epoch 1
        log c1 target [t-0 t-1 t-2 t-3]
        log target 1
        log c1 is Stable 1 [t-0 t-1 t-2 t-3]
        log n wants 't'
        log epoch 2
        log c1 target [t-0 t-1]
        log n target [t-2 t-3]
        log target 2
        log n is Unreleased 2 []
        n: beat 2 []
        > 300 c beat
        c: error 27
        > 300 c list
        c: groups g/consumer/Reconciling/consumer
        > 300 c join
        log c1 is Stable 2 [t-0 t-1]
        c: joined 2 as c1, range, leader  []
        > 300 c sync
        c: synced 't-0 t-1'
        > 400 c beat
        c: beat
        > 500 n poll
        log n is Stable 2 [t-2 t-3]
        n: beat 2 [t-2 t-3]
        > 600 c beat
        c: beat
        > 700 n show
        n: Stable 2/2 uniform: c1@2 [t-0 t-1] of [t-0 t-1], n@2 [t-2 t-3] of [t-2 t-3]
        > 800 n poll epoch:-1
        log n is gone
        log n target gone
        log n gone
        log epoch 3
        log c1 is gone
        log c1 target gone
        log c1 gone
        log target gone
        log epoch gone
        log generation 3 [c1=t-0 t-1]
        n: beat -1
        > 900 c join
        c: joined 4 as c1, range, leader c1 [c1]
        > 900 c sync c1=#t:0,1,2,3
        log generation 4 [c1=t-0 t-1 t-2 t-3]
        c: synced 't-0 t-1 t-2 t-3'
        > 900 c list
        c: groups g/consumer/Stable/classic
        ",
    );
}

#[test]
fn a_classic_member_comes_to_a_consumer_group_and_leaves() {
    check(
        "
        > 0 - topic t 2
        > 0 n poll epoch:0 topics:t
        log n wants 't'
        log epoch 1
        log n target [t-0 t-1]
        log target 1
        log n is Stable 1 [t-0 t-1]
        n: beat 1 [t-0 t-1]
        > 100 c join
        c: error 79 c1
        > 200 c join
        log c1 wants 't' classic
        log epoch 2
        log c1 target [t-1]
        log n target [t-0]
        log target 2
        log c1 is Unreleased 2 []
        c: joined 2 as c1, range, leader  []
        > 200 c sync
        c: synced ''
        > 300 n poll
        log n is Unrevoked 1 [t-0] gives up [t-1]
        n: beat 1 [t-0]
        > 300 n poll owned:all
        log n is Stable 2 [t-0]
        n: beat 2
        > 400 c beat
        c: error 27
        > 400 c join
        log c1 is Stable 2 [t-1]
        c: joined 2 as c1, range, leader  []
        > 400 c sync
        c: synced 't-1'
        > 500 c leave c1
        log c1 is gone
        log c1 target gone
        log c1 gone
        log epoch 3
        c: left 0
        > 600 n poll
        log n target [t-0 t-1]
        log target 3
        log n is Stable 3 [t-0 t-1]
        n: beat 3 [t-0 t-1]
        ",
    );
}

#[test]
fn a_classic_member_that_does_not_join_again_is_out() {
    check(
        "
        > 0 - topic t 2
        > 0 n poll epoch:0 topics:t
        log n wants 't'
        log epoch 1
        log n target [t-0 t-1]
        log target 1
        log n is Stable 1 [t-0 t-1]
        n: beat 1 [t-0 t-1]
        > 100 c join old session:30000 rebalance:10000
        log c1 wants 't' classic
        log epoch 2
        log c1 target [t-1]
        log n target [t-0]
        log target 2
        log c1 is Unreleased 2 []
        c: joined 2 as c1, range, leader  []
        > 200 c sync
        c: synced ''
        > 300 m poll epoch:0 topics:t
        log m wants 't'
        log epoch 3
        log m target []
        log target 3
        log m is Stable 3 []
        m: beat 3 []
        > 400 c beat
        c: error 27
        > 9000 c beat
        c: error 27
        > 12000 n poll
        at 10400
        log c1 is gone
        log c1 target gone
        log c1 gone
        log epoch 4
        log m target [t-1]
        log target 4
        log n is Unrevoked 1 [t-0] gives up [t-1]
        n: beat 1 [t-0]
        ",
    );
}

#[test]
fn an_empty_group_takes_whichever_protocol_comes() {
    check(
        "
        > 0 - topic t 1
        > 0 n poll epoch:0 topics:t
        log n wants 't'
        log epoch 1
        log n target [t-0]
        log target 1
        log n is Stable 1 [t-0]
        n: beat 1 [t-0]
        > 0 n commit as:n t-0=3
        log t-0=3
        n: committed 0
        > 100 n poll epoch:-1
        log n is gone
        log n target gone
        log n gone
        log epoch 2
        n: beat -1
        > 100 c join old
        log target gone
        log epoch gone
        > 300 c leave c1
        at 200
        c: joined 1 as c1, range, leader c1 [c1]
        log generation 2 []
        c: left 0
        > 400 n poll epoch:0 topics:t
        log group gone
        log n wants 't'
        log epoch 1
        log n target [t-0]
        log target 1
        log n is Stable 1 [t-0]
        n: beat 1 [t-0]
        > 400 n fetch t-0
        n: offsets t-0=3
        ",
    );
}
