//! Writes of one log that are under way while it is cut, or while another of its writes begins.

use model::Offset;

use super::harness::*;
use crate::disk::Step;

const LARGE: usize = 300_000;

fn bases(node: &mut Node) -> Vec<i64> {
    node.log(1).evict_tail(0);
    node.read_all(1).iter().map(|batch| batch.base_offset().get()).collect()
}

fn pushes(node: &mut Node, count: usize, bytes: usize) {
    for _ in 0..count {
        node.push(1, bytes);
    }
}

fn cut(node: &mut Node, to: i64) {
    let point = node.log(1).cut_point(Offset::new(to)).unwrap();
    let point = point.unwrap_or_else(|plan| plan.run(&*node.disk).unwrap());
    let entry = node.log(1).truncate_to(point);
    node.put(entry);
    node.commit();
}

#[test]
fn a_large_append_is_not_cut_off_by_a_truncation_that_is_on_its_way_to_the_file() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &small_segments(10_000_000));
    pushes(&mut node, 6, 100);
    node.commit();
    node.flush();
    cut(&mut node, 3);
    node.push(1, 100);
    node.commit();
    let cutting = node.log(1).next_write(1_000_000).unwrap();
    node.push(1, LARGE);
    node.commit();
    let result = node.run(&cutting.steps());
    node.log(1).write_done(&result);
    node.flush();
    assert_eq!(bases(&mut node), [0, 1, 2, 3, 4]);
}

#[test]
fn a_segment_that_comes_again_under_its_name_makes_its_file_anew() {
    for large in [false, true] {
        let (_dir, root) = temp();
        let mut node = open(&root);
        node.create(1, &small_segments(1_000));
        let bytes = if large { LARGE } else { 400 };
        pushes(&mut node, 2, 400);
        node.commit();
        node.flush();
        node.push(1, bytes);
        let operation = node.log(1).last_operation();
        if large {
            let direct = node.log(1).direct(&[operation]).unwrap();
            cut(&mut node, 1);
            pushes(&mut node, 3, 400);
            let result = node.run(&direct.steps());
            node.log(1).direct_done(&direct, &result);
        } else {
            node.commit();
            let write = node.log(1).next_write(1_000_000).unwrap();
            cut(&mut node, 1);
            pushes(&mut node, 3, 400);
            let result = node.run(&write.steps());
            node.log(1).write_done(&result);
        }
        node.commit();
        node.flush();
        assert!(!node.dead, "large: {large}");
        assert_eq!(bases(&mut node), [0, 1, 2, 3], "large: {large}");
        node.stop();
        let mut node = open(&root);
        assert_eq!(node.damaged, [].into(), "large: {large}");
        assert_eq!(bases(&mut node), [0, 1, 2, 3], "large: {large}, opened again");
    }
}

#[test]
fn a_large_append_that_found_no_room_is_written_again_from_its_first_step() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &small_segments(10_000_000));
    node.commit();
    node.push(1, LARGE);
    let operation = node.log(1).last_operation();
    let direct = node.log(1).direct(&[operation]).unwrap();
    let steps = direct.steps();
    let data = steps.iter().rposition(|step| matches!(step, Step::Write { .. })).unwrap();
    node.run(&steps[..data]).unwrap();
    let again = node.run(&direct.steps());
    node.log(1).direct_done(&direct, &again);
    assert_eq!(again, Ok(()));
    node.commit();
    node.flush();
    assert_eq!(bases(&mut node), [0]);
}
