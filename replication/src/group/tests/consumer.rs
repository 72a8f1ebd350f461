//! Groups of the consumer protocol: members come, go, are silent, want other things, and get their partitions one after the other.

use super::bed::check;

#[test]
fn a_lone_member_gets_everything_at_once() {
    check(
        "
        > 0 - topic t 3
        > 0 a poll epoch:0 topics:t
        log a wants 't'
        log epoch 1
        log a target [t-0 t-1 t-2]
        log target 1
        log a is Stable 1 [t-0 t-1 t-2]
        a: beat 1 [t-0 t-1 t-2]
        > 500 a poll
        a: beat 1
        > 600 a show
        a: Stable 1/1 uniform: a@1 [t-0 t-1 t-2] of [t-0 t-1 t-2]
        > 700 - failover
        > 800 a poll
        a: beat 1
        > 900 a poll epoch:-1
        log a is gone
        log a target gone
        log a gone
        log epoch 2
        a: beat -1
        > 900 a list
        a: groups g/consumer/Empty/consumer
        > 900 a delete
        log target gone
        log epoch gone
        a: deleted
        ",
    );
}

#[test]
fn partitions_move_once_their_owner_has_given_them_up() {
    check(
        "
        > 0 - topic t 4
        > 0 a poll epoch:0 topics:t
        log a wants 't'
        log epoch 1
        log a target [t-0 t-1 t-2 t-3]
        log target 1
        log a is Stable 1 [t-0 t-1 t-2 t-3]
        a: beat 1 [t-0 t-1 t-2 t-3]
        > 100 b poll epoch:0 topics:t
        log b wants 't'
        log epoch 2
        log a target [t-0 t-1]
        log b target [t-2 t-3]
        log target 2
        log b is Unreleased 2 []
        b: beat 2 []
        > 200 b poll
        log b is Unreleased 2 []
        b: beat 2
        > 500 a poll
        log a is Unrevoked 1 [t-0 t-1] gives up [t-2 t-3]
        a: beat 1 [t-0 t-1]
        > 500 b poll
        b: beat 2
        > 510 a show
        a: Reconciling 2/2 uniform: a@1 [t-0 t-1] of [t-0 t-1], b@2 [] of [t-2 t-3]
        > 600 a poll owned:all
        log a is Stable 2 [t-0 t-1]
        a: beat 2
        > 700 b poll
        log b is Stable 2 [t-2 t-3]
        b: beat 2 [t-2 t-3]
        > 800 a show
        a: Stable 2/2 uniform: a@2 [t-0 t-1] of [t-0 t-1], b@2 [t-2 t-3] of [t-2 t-3]
        > 800 b poll epoch:-1
        log b is gone
        log b target gone
        log b gone
        log epoch 3
        b: beat -1
        > 900 a poll
        log a target [t-0 t-1 t-2 t-3]
        log target 3
        log a is Stable 3 [t-0 t-1 t-2 t-3]
        a: beat 3 [t-0 t-1 t-2 t-3]
        ",
    );
}

#[test]
fn who_does_not_give_up_in_time_is_out() {
    check(
        "
        > 0 - topic t 2
        > 0 a poll epoch:0 topics:t
        log a wants 't'
        log epoch 1
        log a target [t-0 t-1]
        log target 1
        log a is Stable 1 [t-0 t-1]
        a: beat 1 [t-0 t-1]
        > 100 b poll epoch:0 topics:t
        log b wants 't'
        log epoch 2
        log a target [t-0]
        log b target [t-1]
        log target 2
        log b is Unreleased 2 []
        b: beat 2 []
        > 200 a poll
        log a is Unrevoked 1 [t-0] gives up [t-1]
        a: beat 1 [t-0]
        > 10000 a poll
        a: beat 1
        > 20000 a poll
        a: beat 1
        > 29000 b poll
        log b is Unreleased 2 []
        b: beat 2
        > 31000 b poll
        at 30200
        log a is gone
        log a target gone
        log a gone
        log epoch 3
        log b target [t-0 t-1]
        log target 3
        log b is Stable 3 [t-0 t-1]
        b: beat 3 [t-0 t-1]
        > 31000 a poll
        a: error 25
        ",
    );
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    check(
        "
        > 0 - topic t 2
        > 0 a poll epoch:0 topics:t
        log a wants 't'
        log epoch 1
        log a target [t-0 t-1]
        log target 1
        log a is Stable 1 [t-0 t-1]
        a: beat 1 [t-0 t-1]
        > 100 b poll epoch:0 topics:t
        log b wants 't'
        log epoch 2
        log a target [t-0]
        log b target [t-1]
        log target 2
        log b is Unreleased 2 []
        b: beat 2 []
        > 200 a poll
        log a is Unrevoked 1 [t-0] gives up [t-1]
        a: beat 1 [t-0]
        > 300 a poll owned:all
        log a is Stable 2 [t-0]
        a: beat 2
        > 30000 b poll
        log b is Stable 2 [t-1]
        b: beat 2 [t-1]
        > 46000 b poll
        at 45300
        log a is gone
        log a target gone
        log a gone
        log epoch 3
        log b target [t-0 t-1]
        log target 3
        log b is Stable 3 [t-0 t-1]
        b: beat 3 [t-0 t-1]
        ",
    );
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again_with_the_epoch_before() {
    check(
        "
        > 0 - topic t 2
        > 0 a poll epoch:0 topics:t
        log a wants 't'
        log epoch 1
        log a target [t-0 t-1]
        log target 1
        log a is Stable 1 [t-0 t-1]
        a: beat 1 [t-0 t-1]
        > 100 b poll epoch:0 topics:t
        log b wants 't'
        log epoch 2
        log a target [t-0]
        log b target [t-1]
        log target 2
        log b is Unreleased 2 []
        b: beat 2 []
        > 200 a poll
        log a is Unrevoked 1 [t-0] gives up [t-1]
        a: beat 1 [t-0]
        > 300 a poll owned:all
        log a is Stable 2 [t-0]
        a: beat 2
        > 400 a poll epoch:1 owned:t-0
        a: beat 2
        > 500 a poll epoch:1 owned:t-0,t-1
        a: error 110
        > 500 a poll epoch:1
        a: error 110
        > 600 a poll epoch:7
        a: error 110
        > 700 a poll epoch:0 topics:t
        a: beat 2 [t-0]
        ",
    );
}

#[test]
fn a_static_member_comes_back_to_its_partitions() {
    check(
        "
        > 0 - topic t 2
        > 0 a poll epoch:0 topics:t static:one
        log a wants 't'
        log epoch 1
        log a target [t-0 t-1]
        log target 1
        log a is Stable 1 [t-0 t-1]
        a: beat 1 [t-0 t-1]
        > 100 b poll epoch:0 topics:t static:one
        b: error 111
        > 200 a poll epoch:-2 static:one
        log a is Stable -2 [t-0 t-1]
        a: beat -2
        > 300 b poll epoch:0 topics:t static:one
        log a is gone
        log a target gone
        log a gone
        log b wants 't'
        log b target [t-0 t-1]
        log b is Stable 0 [t-0 t-1]
        log b wants 't'
        log b is Stable 1 [t-0 t-1]
        b: beat 1 [t-0 t-1]
        > 400 a poll epoch:1 static:one
        a: error 82
        > 400 a poll epoch:1 static:two
        a: error 25
        > 500 b poll epoch:-1 static:one
        log b is gone
        log b target gone
        log b gone
        log epoch 2
        b: beat -1
        > 500 b list
        b: groups g/consumer/Empty/consumer
        ",
    );
}

#[test]
fn a_pattern_follows_the_topics() {
    check(
        "
        > 0 - topic ab 1
        > 0 a poll epoch:0 regex:a.*|x
        log a wants 'a.*|x'
        log 'a.*|x' is ab
        log epoch 1
        log a target [ab-0]
        log target 1
        log a is Stable 1 [ab-0]
        a: beat 1 [ab-0]
        > 1100 - topic b 1
        > 1100 a poll
        a: beat 1
        > 1200 - topic ax 2
        > 1300 a poll
        a: beat 1
        > 2100 a poll
        log 'a.*|x' is ab,ax
        log epoch 2
        log a target [ab-0 ax-0 ax-1]
        log target 2
        log a is Stable 2 [ab-0 ax-0 ax-1]
        a: beat 2 [ab-0 ax-0 ax-1]
        > 2400 a poll regex:b
        log a wants 'b'
        log 'a.*|x' is gone
        log 'b' is b
        log epoch 3
        log a target [b-0]
        log target 3
        log a is Unrevoked 2 [] gives up [ab-0 ax-0 ax-1]
        a: beat 2 []
        > 2500 a poll owned:all
        log a is Stable 3 [b-0]
        a: beat 3 [b-0]
        > 2600 a poll regex:(
        a: error 128
        > 2700 a poll regex:a)|(b
        a: error 128
        ",
    );
}

#[test]
fn more_partitions_are_found_by_the_next_heartbeat() {
    check(
        "
        > 0 - topic t 1
        > 0 a poll epoch:0 topics:t,later
        log a wants 'later,t'
        log epoch 1
        log a target [t-0]
        log target 1
        log a is Stable 1 [t-0]
        a: beat 1 [t-0]
        > 100 - topic t 2
        > 500 a poll
        log epoch 2
        log a target [t-0 t-1]
        log target 2
        log a is Stable 2 [t-0 t-1]
        a: beat 2 [t-0 t-1]
        > 600 - topic later 1
        > 1000 a poll
        log epoch 3
        log a target [later-0 t-0 t-1]
        log target 3
        log a is Stable 3 [later-0 t-0 t-1]
        a: beat 3 [later-0 t-0 t-1]
        ",
    );
}

#[test]
fn range_gives_the_same_ranges_of_each_topic() {
    check(
        "
        > 0 - topic t 3
        > 0 - topic u 3
        > 0 a poll epoch:0 topics:t,u assignor:range
        log a wants 't,u'
        log epoch 1
        log a target [t-0 t-1 t-2 u-0 u-1 u-2]
        log target 1
        log a is Stable 1 [t-0 t-1 t-2 u-0 u-1 u-2]
        a: beat 1 [t-0 t-1 t-2 u-0 u-1 u-2]
        > 0 b poll epoch:0 topics:t,u assignor:range
        log b wants 't,u'
        log epoch 2
        log a target [t-0 t-1 u-0 u-1]
        log b target [t-2 u-2]
        log target 2
        log b is Unreleased 2 []
        b: beat 2 []
        > 100 a poll
        log a is Unrevoked 1 [t-0 t-1 u-0 u-1] gives up [t-2 u-2]
        a: beat 1 [t-0 t-1 u-0 u-1]
        > 100 b show
        b: Reconciling 2/2 range: a@1 [t-0 t-1 u-0 u-1] of [t-0 t-1 u-0 u-1], b@2 [] of [t-2 u-2]
        > 100 c poll epoch:0 topics:t assignor:other
        c: error 112
        ",
    );
}

#[test]
fn members_with_other_subscriptions_share_as_evenly_as_they_can() {
    check(
        "
        > 0 - topic t 4
        > 0 - topic u 4
        > 0 a poll epoch:0 topics:t,u
        log a wants 't,u'
        log epoch 1
        log a target [t-0 t-1 t-2 t-3 u-0 u-1 u-2 u-3]
        log target 1
        log a is Stable 1 [t-0 t-1 t-2 t-3 u-0 u-1 u-2 u-3]
        a: beat 1 [t-0 t-1 t-2 t-3 u-0 u-1 u-2 u-3]
        > 0 b poll epoch:0 topics:u
        log b wants 'u'
        log epoch 2
        log a target [t-0 t-1 t-2 t-3]
        log b target [u-0 u-1 u-2 u-3]
        log target 2
        log b is Unreleased 2 []
        b: beat 2 []
        > 0 c poll epoch:0 topics:t
        log c wants 't'
        log epoch 3
        log a target [t-2 t-3 u-0]
        log b target [u-1 u-2 u-3]
        log c target [t-0 t-1]
        log target 3
        log c is Unreleased 3 []
        c: beat 3 []
        > 100 b show
        b: Reconciling 3/3 uniform: a@1 [t-0 t-1 t-2 t-3 u-0 u-1 u-2 u-3] of [t-2 t-3 u-0], b@2 [] of [u-1 u-2 u-3], c@3 [] of [t-0 t-1]
        ",
    );
}

#[test]
fn commits_and_reads_are_taken_from_the_present_epoch() {
    check(
        "
        > 0 - topic t 2
        > 0 - topic u 1
        > 0 a poll epoch:0 topics:t
        log a wants 't'
        log epoch 1
        log a target [t-0 t-1]
        log target 1
        log a is Stable 1 [t-0 t-1]
        a: beat 1 [t-0 t-1]
        > 0 a commit as:a t-0=5
        log t-0=5
        a: committed 0
        > 0 a commit as:a gen:2 t-0=6
        a: error 113
        > 0 a commit as:a version:8 t-0=6
        a: error 35
        > 0 a commit as:b gen:1 t-0=6
        a: error 25
        > 0 a commit as:nobody gen:-1 t-0=6
        a: error 25
        > 0 b poll epoch:0 topics:t
        log b wants 't'
        log epoch 2
        log a target [t-0]
        log b target [t-1]
        log target 2
        log b is Unreleased 2 []
        b: beat 2 []
        > 100 a poll
        log a is Unrevoked 1 [t-0] gives up [t-1]
        a: beat 1 [t-0]
        > 100 a poll owned:all
        log a is Stable 2 [t-0]
        a: beat 2
        > 100 a commit as:a gen:1 t-0=7
        log t-0=7
        a: committed 0
        > 100 a commit as:a gen:1 t-1=7
        a: error 113
        > 100 a forget t-0
        a: forgotten 86
        > 100 a forget u-0
        a: forgotten 0
        > 100 a describe
        a: error 69
        > 100 a delete
        a: error 68
        ",
    );
}

#[test]
fn nonsense_is_refused_before_anything_is_written() {
    check(
        "
        > 0 a poll epoch:5
        a: error 69
        > 0 a poll epoch:-1
        a: error 69
        > 0 a poll epoch:0
        a: error 42
        > 0 a poll epoch:-3
        a: error 42
        > 0 a poll epoch:-2
        a: error 42
        > 0 nameless poll epoch:0 topics:t
        nameless: error 24
        > 0 a list
        a: groups
        ",
    );
}
