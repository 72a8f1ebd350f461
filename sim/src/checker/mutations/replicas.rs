//! What replicas hold at the end.

use super::*;

fn replica<'a>(history: &'a mut History, rng: &mut Rng) -> Option<&'a mut Vec<BatchDigest>> {
    let at = some(history, rng, |event| matches!(event, Event::Replica { batches, .. } if batches.len() > 2))?;
    match &mut history[at].1 {
        Event::Replica { batches, .. } => Some(batches),
        _ => None,
    }
}

#[test]
fn a_replica_with_other_bytes() {
    check("I12", |history, rng| {
        replica(history, rng)?[1].digest ^= 1;
        Some(())
    });
}

#[test]
fn a_replica_with_a_batch_twice() {
    check("I12", |history, rng| {
        let batches = replica(history, rng)?;
        batches.insert(1, batches[1]);
        Some(())
    });
}

fn compacted<'a>(history: &'a mut History, rng: &mut Rng) -> Option<&'a mut Vec<Keyed>> {
    let at = some(history, rng, |event| matches!(event, Event::Compacted { records, .. } if records.len() > 2))?;
    match &mut history[at].1 {
        Event::Compacted { records, .. } => Some(records),
        _ => None,
    }
}

#[test]
fn a_compacted_replica_without_the_newest_value_of_a_key() {
    check("I12", |history, rng| {
        let records = compacted(history, rng)?;
        let newest = records.iter().rposition(|record| !record.tombstone).filter(|at| {
            let key = records[*at].key;
            records[at + 1..].iter().all(|later| later.key != key)
        })?;
        records.remove(newest);
        Some(())
    });
}

#[test]
fn a_compacted_replica_with_another_record_at_an_offset() {
    check("I12", |history, rng| {
        let last = compacted(history, rng)?.last_mut()?;
        if last.tombstone {
            return None;
        }
        last.digest ^= 1;
        Some(())
    });
}

#[test]
fn a_compacted_replica_that_dropped_a_tombstone_before_the_value_below_it() {
    check("I12", |history, rng| {
        let records = compacted(history, rng)?;
        let newest = *records.iter().rfind(|record| !record.tombstone)?;
        let key = newest.key;
        if records.last()?.key == key {
            return None;
        }
        // The others have a tombstone behind it that this one has lost.
        let (offset, epoch) = (i64::MAX, i32::MAX);
        let tombstone = Keyed { offset, epoch, key, digest: 0, tombstone: true };
        let copies = all(history, |event| matches!(event, Event::Compacted { .. }));
        let lost = copies[rng.index(copies.len())];
        for at in copies.into_iter().filter(|at| *at != lost) {
            if let Event::Compacted { records, .. } = &mut history[at].1 {
                records.push(tombstone);
            }
        }
        let Event::Compacted { records, .. } = &history[lost].1 else { return None };
        records.iter().any(|record| record.key == key).then_some(())
    });
}

#[test]
fn a_replica_whose_epochs_go_back() {
    check("I12", |history, rng| {
        replica(history, rng)?[1].epoch = -1;
        Some(())
    });
}

#[test]
fn a_replica_that_lacks_a_batch() {
    check("I12", |history, rng| {
        replica(history, rng)?.remove(1);
        Some(())
    });
}

#[test]
fn a_replica_that_ends_early() {
    check("I12", |history, rng| {
        replica(history, rng)?.pop();
        Some(())
    });
}
