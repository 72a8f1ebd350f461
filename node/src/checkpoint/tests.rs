//! Checkpoints beside topics that are deleted and made again under the same name.

use std::time::Duration;

use model::{Now, TopicId};
use storage::disk::Step;

use crate::commit::tests::Bench;
use crate::core::Inward;
use crate::effects::Effects;

fn begin(bench: &mut Bench) {
    let mut fx = Effects::new();
    bench.node.core.inward(Inward::CheckpointWanted);
    bench.node.settle(Now::default(), &mut fx);
    bench.take(fx);
}

/// The topic that there is by now.
fn topic(bench: &Bench) -> Option<TopicId> {
    bench.node.image().topics().next().map(|topic| topic.id)
}

/// Ticks and carries out what they ask of the disk, until `done` or for ten seconds.
fn run_until(bench: &mut Bench, done: impl Fn(&Bench) -> bool) {
    for tick in 1..=100 {
        bench.run();
        if done(bench) {
            return;
        }
        let mut fx = Effects::new();
        bench.node.tick(Now { mono: Duration::from_millis(tick * 100), wall_ms: 0 }, &mut fx);
        bench.take(fx);
    }
    assert!(done(bench), "not within ten seconds");
}

#[test]
fn a_checkpoint_does_not_wait_for_a_log_whose_folder_waits_for_the_checkpoint() {
    let mut bench = Bench::new(&[]);
    bench.produce(1);
    run_until(&mut bench, |bench| bench.operations.is_empty());
    begin(&mut bench);
    run_until(&mut bench, |bench| bench.node.checkpointer.done() > 0);
    let (first, done) = (topic(&bench), bench.node.checkpointer.done());
    // In one entry of the metadata: the new topic is there before the journal knows that the old one goes.
    bench.delete();
    bench.create(&[]);
    while topic(&bench).is_none_or(|id| Some(id) == first) {
        assert!(bench.step());
    }
    bench.produce(2);
    begin(&mut bench);
    run_until(&mut bench, |bench| bench.node.checkpointer.done() > done);
    assert_eq!(bench.fatal, [""; 0]);
}

#[test]
fn a_deleted_namesake_without_files_takes_nobody_elses() {
    let mut bench = Bench::new(&[]);
    bench.produce(1);
    begin(&mut bench);
    // The first topic's files are about to be synced.
    let syncs = |step: &Step| matches!(step, Step::Sync { .. });
    let held = loop {
        let at = bench.operations.iter().position(|op| op.steps.iter().any(syncs));
        match at.and_then(|at| bench.operations.remove(at)) {
            Some(held) => break held,
            None => assert!(bench.step(), "no checkpoint syncs anything"),
        }
    };
    for _ in 0..2 {
        bench.delete();
        bench.run();
        bench.create(&[]);
        bench.run();
    }
    bench.finish(held);
    bench.produce(2);
    let done = bench.node.checkpointer.done();
    bench.run();
    begin(&mut bench);
    run_until(&mut bench, |bench| bench.node.checkpointer.done() > done);
    begin(&mut bench);
    run_until(&mut bench, |bench| bench.node.checkpointer.done() > done + 1);
    assert_eq!(bench.fatal, [""; 0]);
}
