//! Seeds that failed once, each for a reason of its own.

use sim::cluster::run::{Plan, run};

fn check(seed: u64, nodes: Option<usize>) {
    let outcome = run(Plan { seed, nodes, seconds: 60, disks_lie: false });
    assert_eq!(outcome.failure, None, "{outcome}");
}

#[test]
fn a_read_that_does_not_reach_all_small_segments_does_not_go_on_with_the_tail() {
    check(9, Some(1));
    check(10, Some(1));
}

#[test]
fn a_topic_deleted_during_a_checkpoint_is_not_looked_for_at_the_next_start() {
    check(2, Some(1));
}

#[test]
fn a_replica_that_goes_and_comes_back_is_not_harmed_by_the_writes_of_its_first_life() {
    check(61, None);
}

#[test]
fn a_large_append_beside_a_truncation_that_is_being_written_is_not_cut_off() {
    [101, 282, 546, 630, 680, 730, 770, 889, 971].into_iter().for_each(|seed| check(seed, None));
}

#[test]
fn a_large_append_that_found_the_disk_full_is_written_once_there_is_room() {
    check(247, None);
}

#[test]
fn a_node_that_stops_waits_for_its_disk_and_does_not_go_round_in_circles() {
    check(599, None);
}

#[test]
fn a_namesake_that_came_and_went_meanwhile_does_not_take_the_next_ones_files_along() {
    [434, 811].into_iter().for_each(|seed| check(seed, None));
}

#[test]
fn replicas_that_are_compacted_each_by_itself_are_compared_by_records() {
    [188, 230, 331, 705].into_iter().for_each(|seed| check(seed, None));
}

#[test]
fn what_hangs_in_a_slow_disk_comes_through_when_the_disk_is_fast_again() {
    check(357, None);
}

#[test]
fn a_topic_made_while_its_only_machine_gets_an_empty_disk_waits_for_the_operator() {
    check(707, None);
}

#[test]
fn a_voter_that_is_retired_leaves_the_voters_before_another_one_does() {
    check(904, None);
}

#[test]
fn news_of_another_partition_take_no_proposal_of_a_leader_back() {
    check(459, None);
}

#[test]
fn no_voter_forgets_while_a_topic_is_about_to_come() {
    check(129, None);
}

#[test]
fn who_was_away_while_the_controller_got_another_disk_follows_it_all_the_same() {
    check(675, None);
}

#[test]
fn who_held_all_is_not_forgotten_because_it_was_fenced_first() {
    check(359, None);
}

#[test]
fn a_link_to_a_process_that_ended_while_it_was_made_does_not_stand() {
    check(594, None);
}
