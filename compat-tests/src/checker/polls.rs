//! I6: what a consumer was given, call by call; and I1 for what it was given: that too must be there at the end.

use std::collections::BTreeMap;

use super::history::{History, Name, Value};
use super::{Invariant, Verdict};

pub(super) fn judge(history: &History, verdict: &mut Verdict) {
    let last: BTreeMap<Name, BTreeMap<i64, Value>> =
        history.finals.iter().map(|(key, rows)| (*key, rows.iter().copied().collect())).collect();
    let mut position: BTreeMap<(Name, Name), i64> = BTreeMap::new();
    for poll in &history.polls {
        if poll.rows.is_empty() {
            position.retain(|(process, _), _| *process != poll.process);
            continue;
        }
        verdict.polled += poll.rows.len() as u64;
        for (offset, value) in &poll.rows {
            if last.get(&poll.key).is_none_or(|rows| !rows.contains_key(offset)) {
                verdict.found(Invariant::Lost, || {
                    let (value, reader, key) =
                        (history.show(*value), history.text(poll.process), history.text(poll.key));
                    format!("{value} was read by {reader} in {key} at {offset}; at the end there is nothing")
                });
            }
            let Some(before) = position.insert((poll.process, poll.key), *offset) else { continue };
            let name = || format!("{} of {}", history.text(poll.process), history.text(poll.key));
            if *offset <= before {
                verdict.found(Invariant::Poll, || format!("{}: offset {offset} after {before}", name()));
                continue;
            }
            let skipped = last.get(&poll.key).and_then(|rows| rows.range(before + 1..*offset).next());
            if let Some((missed, value)) = skipped {
                let value = history.show(*value);
                verdict.found(Invariant::Poll, || {
                    format!("{}: from {before} to {offset}, without {value} at {missed}", name())
                });
            }
        }
    }
}
