//! I11: the ends of a partition as clients were told them.
//!
//! Only what one client was told is compared: a leader that is cut off may tell another client of the past, as Kafka's may.

use std::collections::BTreeMap;

use super::history::{History, Marks, Name};
use super::{Invariant, Verdict};

pub(super) fn judge(history: &History, verdict: &mut Verdict) {
    let mut told: BTreeMap<(Name, Name), Vec<&Marks>> = BTreeMap::new();
    for marks in &history.marks {
        told.entry((marks.process, marks.key)).or_default().push(marks);
    }
    for ((process, key), mut marks) in told {
        let name = || format!("{} was told of {}", history.text(process), history.text(key));
        marks.sort_by_key(|marks| marks.begun);
        for pair in marks.windows(2) {
            let [earlier, later] = pair else { continue };
            if earlier.ended <= later.begun && (later.high < earlier.high || later.low < earlier.low) {
                verdict.found(Invariant::Ends, || {
                    format!("{}: {}..{}, then {}..{}", name(), earlier.low, earlier.high, later.low, later.high)
                });
            }
        }
        for marks in marks.iter().filter(|marks| marks.low > marks.high) {
            verdict.found(Invariant::Ends, || format!("{}: {}..{}", name(), marks.low, marks.high));
        }
    }
    for (key, high) in &history.ends {
        let beyond = history.sends.iter().filter(|send| send.key == *key).filter_map(|send| send.offset).max();
        if let Some(offset) = beyond.filter(|offset| offset >= high) {
            verdict.found(Invariant::Ends, || {
                format!("{} ends at {high}, and {offset} was acknowledged", history.text(*key))
            });
        }
    }
}
