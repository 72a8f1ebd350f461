//! A stop, with requests that come at any moment of it: what was acknowledged is there at the next start.

mod world;

use std::time::Duration;

use node::requests::{Acks, Answer, NewTopic};
use world::{World, batch};

/// Carries out so many disk operations of a stop, then lets something come in, then all the rest.
fn stop_and(
    world: &mut World,
    steps: usize,
    meanwhile: impl FnOnce(&mut World) -> u64,
) -> (bool, Option<u64>, Option<Answer>) {
    let to = world.request();
    let stop = to.request;
    world.call(|node, now, fx| node.shutdown(now, to, fx));
    let carried_out = (0..steps).filter(|_| world.step()).count();
    let request = (carried_out == steps).then(|| meanwhile(world));
    world.pass(Duration::from_secs(8));
    let stopped = matches!(world.answers.remove(&stop), Some(Answer::ShutDown));
    let answer = request.and_then(|request| world.answers.remove(&request));
    (stopped, request, answer)
}

#[test]
fn a_topic_whose_creation_was_acknowledged_during_a_stop_is_there_at_the_next_start() {
    let name = || model::TopicName::new("late").expect("a name");
    let (mut acknowledged, mut steps) = (0, 0);
    loop {
        let dir = tempfile::tempdir().expect("a folder");
        let mut world = World::open(dir.path(), 1);
        world.create_topic("t", 2, &[]);
        let partition = world.partition("t", 0);
        world.produce(partition, Acks::All, batch(&["a"]));
        let (stopped, request, answer) = stop_and(&mut world, steps, |world| {
            let to = world.request();
            let request = to.request;
            world.call(|node, now, fx| node.create_topics(now, vec![NewTopic::with_defaults(name())], false, to, fx));
            request
        });
        assert!(stopped, "after {steps} operations");
        drop(world);
        let world = World::open(dir.path(), 2);
        assert_eq!(world.read_all(partition, 0), [(0, "a".to_owned())]);
        if let Some(Answer::TopicsCreated(created)) = answer
            && created[0].is_ok()
        {
            acknowledged += 1;
            assert!(world.node.image().topic(&name()).is_some(), "acknowledged after {steps} operations");
        }
        if request.is_none() {
            break;
        }
        steps += 1;
    }
    assert!(acknowledged > 0 && steps > 2, "{acknowledged} acknowledged, {steps} operations");
}

#[test]
fn producer_ids_that_were_given_out_during_a_stop_are_never_given_again() {
    for steps in 0..6 {
        let dir = tempfile::tempdir().expect("a folder");
        let mut world = World::open(dir.path(), 1);
        world.create_topic("t", 1, &[]);
        world.produce(world.partition("t", 0), Acks::All, batch(&["a"]));
        let ask = |world: &mut World| {
            let to = world.request();
            let request = to.request;
            world.call(|node, now, fx| node.init_producer_id(now, to, fx));
            request
        };
        let (stopped, _, answer) = stop_and(&mut world, steps, ask);
        assert!(stopped, "after {steps} operations");
        drop(world);
        let mut world = World::open(dir.path(), 2);
        let request = ask(&mut world);
        world.run();
        let next = world.answers.remove(&request);
        let id = |answer| match answer {
            Some(Answer::ProducerId(Ok(id))) => Some(id),
            _ => None,
        };
        let (before, next) = (id(answer), id(next));
        assert!(next.is_some());
        assert_ne!(before, next);
    }
}

#[test]
fn appends_to_a_relaxed_topic_that_were_acknowledged_before_a_stop_are_there() {
    for steps in 0..4 {
        let dir = tempfile::tempdir().expect("a folder");
        let mut world = World::open(dir.path(), 1);
        world.create_topic("t", 1, &[("flush.messages", "1000")]);
        let partition = world.partition("t", 0);
        let request = world.send(partition, Acks::All, batch(&["a"]));
        let (stopped, ..) = stop_and(&mut world, steps, |_| 0);
        assert!(stopped);
        assert!(world.answer(request).expect("answered").is_ok());
        drop(world);
        let world = World::open(dir.path(), 2);
        assert_eq!(world.read_all(partition, 0), [(0, "a".to_owned())]);
    }
}
