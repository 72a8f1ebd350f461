//! What else was promised: epochs, ends, groups, recovery, metadata, searches by time.

use super::*;

#[test]
fn an_epoch_that_two_processes_acknowledged_under() {
    check("I18", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::AckedUnder { .. }))?;
        let mut again = history[at].clone();
        let Event::AckedUnder { start, .. } = &mut again.1 else { return None };
        *start += 1;
        history.insert(at + 1, again);
        Some(())
    });
}

#[test]
fn ends_that_go_back_for_one_client() {
    check("I11", |history, rng| {
        let at =
            some(history, rng, |event| matches!(event, Event::Ends { high_watermark, .. } if *high_watermark > 0))?;
        let (told_at, mut again) = history[at].clone();
        let Event::Ends { invoked, high_watermark, .. } = &mut again else { return None };
        (*invoked, *high_watermark) = (told_at, *high_watermark - 1);
        history.insert(at + 1, (told_at, again));
        Some(())
    });
}

fn found_committed<'a>(history: &'a mut History, rng: &mut Rng, least: i64) -> Option<&'a mut Option<i64>> {
    let is = |event: &Event| matches!(event, Event::FoundCommitted { offset: Some(offset), .. } if *offset > least);
    let at = some(history, rng, is)?;
    match &mut history[at].1 {
        Event::FoundCommitted { offset, .. } => Some(offset),
        _ => None,
    }
}

#[test]
fn a_committed_offset_that_goes_back() {
    check("I13", |history, _| {
        let known: Vec<(Duration, i64)> = history
            .iter()
            .filter_map(|(at, event)| match event {
                Event::Committed { place: at_place, offset, .. } if *at_place == place(0) => Some((*at, *offset)),
                _ => None,
            })
            .collect();
        let (first, last) = (known.first()?, known.last()?);
        if first.1 == last.1 {
            return None;
        }
        let (at, event) = history.iter_mut().rev().find(
            |(_, event)| matches!(event, Event::FinalCommitted { place: at_place, .. } if *at_place == place(0)),
        )?;
        *event = Event::FoundCommitted { group: 0, place: place(0), invoked: *at, offset: Some(first.1) };
        Some(())
    });
}

#[test]
fn a_committed_offset_that_nobody_asked_for() {
    check("I13", |history, rng| {
        *found_committed(history, rng, 0)? = Some(1_000_000);
        Some(())
    });
}

#[test]
fn a_committed_offset_that_is_gone() {
    check("I13", |history, _| {
        history.iter().find(|(_, event)| matches!(event, Event::Committed { place: at, .. } if *at == place(0)))?;
        let (_, event) = history
            .iter_mut()
            .rev()
            .find(|(_, event)| matches!(event, Event::FinalCommitted { place: at, .. } if *at == place(0)))?;
        *event = Event::FinalCommitted { group: 0, place: place(0), offset: None };
        Some(())
    });
}

#[test]
fn a_partition_with_two_owners() {
    check("I13", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Assigned { .. }))?;
        let (time, Event::Assigned { group, generation, member, places }) = history[at].clone() else { return None };
        history.insert(at + 1, (time, Event::Assigned { group, generation, member: member + 1, places }));
        Some(())
    });
}

#[test]
fn a_partition_that_can_be_read_only_after_half_a_minute() {
    check("I17", |history, _| {
        let healed = history.iter().position(|(_, event)| matches!(event, Event::Healed))?;
        history[healed + 1..].iter_mut().for_each(|(at, _)| *at += Duration::from_secs(31));
        Some(())
    });
}

#[test]
fn an_epoch_with_two_leaders() {
    check("I18", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Led { .. }))?;
        let Event::Led { leader, .. } = &mut history[at].1 else { return None };
        *leader += 1;
        Some(())
    });
}

#[test]
fn a_topic_that_a_node_does_not_know() {
    check("I18", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Topics { .. }))?;
        let Event::Topics { topics, .. } = &mut history[at].1 else { return None };
        topics.clear();
        Some(())
    });
}

#[test]
fn a_deleted_topic_that_is_back() {
    check("I18", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Topics { .. }))?;
        let Event::Topics { topics, .. } = &mut history[at].1 else { return None };
        topics.push(TopicId([8; 16]));
        Some(())
    });
}

fn search(found: Option<(i64, i64)>, wanted_ms: i64, after: Duration) -> Event {
    let invoked = after + Duration::from_nanos(1);
    Event::FoundTime(FoundTime { place: place(0), invoked, epoch: i32::MAX, wanted_ms, found })
}

/// A record that was read and is not the first, with the place of that poll in the history.
fn read_record(history: &History) -> Option<(usize, Record)> {
    history.iter().enumerate().find_map(|(at, (_, event))| match event {
        Event::Read(read) if read.place == place(0) && read.epoch.is_some() && read.records.len() > 2 => {
            Some((at, read.records[1]))
        }
        _ => None,
    })
}

#[test]
fn a_search_by_time_that_misses_a_record() {
    check("I19", |history, _| {
        let (at, record) = read_record(history)?;
        let time = history[at].0;
        history.insert(at + 1, (time + Duration::from_nanos(2), search(None, record.timestamp_ms, time)));
        Some(())
    });
}

#[test]
fn a_search_by_time_that_finds_what_is_too_old() {
    check("I19", |history, _| {
        let (at, record) = read_record(history)?;
        let time = history[at].0;
        let found = Some((record.offset, record.timestamp_ms));
        let wanted = 1_000_000_000;
        history.insert(at + 1, (time + Duration::from_nanos(2), search(found, wanted, time)));
        Some(())
    });
}
