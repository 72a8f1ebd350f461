//! What clients were told of records: acknowledged, read, in order, below the watermark.

use super::*;

#[test]
fn an_acknowledged_tail_that_is_gone() {
    check("I1", |history, rng| {
        let acked = some(history, rng, |event| matches!(event, Event::Acked { .. }))?;
        let Event::Acked { sent, base } = history[acked].1.clone() else { return None };
        let at = all(history, |event| matches!(event, Event::Final { place, .. } if *place == sent.place)).pop()?;
        let Event::Final { records, high_watermark, .. } = &mut history[at].1 else { return None };
        records.retain(|record| record.offset < base);
        *high_watermark = base;
        Some(())
    });
}

#[test]
fn records_that_only_a_reader_saw_and_that_are_gone() {
    check("I1", |history, rng| {
        let read = read_of(history, rng, 1)?.clone();
        history.retain(|(_, event)| !matches!(event, Event::Acked { .. }));
        let at = all(history, |event| matches!(event, Event::Final { place, .. } if *place == read.place)).pop()?;
        let Event::Final { records, high_watermark, .. } = &mut history[at].1 else { return None };
        records.truncate(usize::try_from(read.from).ok()?);
        *high_watermark = read.from;
        Some(())
    });
}

#[test]
fn a_partition_that_is_not_there_at_the_end() {
    check("I1", |history, rng| {
        let acked = some(history, rng, |event| matches!(event, Event::Acked { .. }))?;
        let Event::Acked { sent, .. } = history[acked].1.clone() else { return None };
        history.retain(|(_, event)| !matches!(event, Event::Final { place, .. } if *place == sent.place));
        Some(())
    });
}

#[test]
fn retention_that_takes_what_is_young() {
    check("I1", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Final { records, .. } if records.len() > 20))?;
        let Event::Final { records, log_start, .. } = &mut history[at].1 else { return None };
        *log_start = 15;
        records.retain(|record| record.offset >= 15);
        Some(())
    });
}

#[test]
fn another_value_at_the_same_offset() {
    check("I2", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Read(read) if read.records.len() > 1))?;
        let (time, Event::Read(read)) = history[at].clone() else { return None };
        let mut again = Read { epoch: None, ..read };
        again.records[0].value = again.records[1].value;
        history.insert(at + 1, (time, Event::Read(again)));
        Some(())
    });
}

#[test]
fn an_answer_with_a_wrong_offset() {
    check("I2", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Acked { .. }))?;
        let Event::Acked { base, .. } = &mut history[at].1 else { return None };
        *base += 1;
        Some(())
    });
}

#[test]
fn a_record_that_is_there_twice() {
    check("I3", |history, rng| {
        let (records, high_watermark) = final_of(history, rng, 2)?;
        let again = Record { offset: *high_watermark, ..records[0] };
        records.push(again);
        *high_watermark += 1;
        Some(())
    });
}

#[test]
fn a_record_in_another_partition() {
    check("I3", |history, rng| {
        let values: Vec<Value> = history.iter().flat_map(|(_, event)| told(event)).map(|(_, value)| value).collect();
        let at = some(history, rng, |event| matches!(event, Event::Final { .. }))?;
        let Event::Final { records, high_watermark, .. } = &mut history[at].1 else { return None };
        let value = values.into_iter().find(|value| records.iter().all(|record| record.value != *value))?;
        records.push(Record { offset: *high_watermark, value, timestamp_ms: 0 });
        *high_watermark += 1;
        Some(())
    });
}

#[test]
fn a_record_that_nobody_sent() {
    check("I3", |history, rng| {
        let (records, high_watermark) = final_of(history, rng, 0)?;
        records.push(Record { offset: *high_watermark, value: u64::MAX, timestamp_ms: 0 });
        *high_watermark += 1;
        Some(())
    });
}

#[test]
fn two_records_of_one_producer_that_changed_places() {
    check("I4", |history, rng| {
        let clients = sent_by(history);
        let (records, _) = final_of(history, rng, 5)?;
        let pair = records.windows(2).find(|pair| clients.get(&pair[0].value) == clients.get(&pair[1].value))?;
        let (one, other) = (pair[0].value, pair[1].value);
        swap(history, one, other);
        Some(())
    });
}

#[test]
fn a_record_that_stands_before_one_acknowledged_before_it_was_sent() {
    check("I5", |history, _| {
        // It is sent later than it was: behind the acknowledgement of a record that stands behind it.
        let mut acked = history.iter().enumerate().filter_map(|(at, (_, event))| match event {
            Event::Acked { sent, base } => Some((at, sent.clone(), *base)),
            _ => None,
        });
        let (later, of_later, base) = acked.find(|(_, _, base)| *base > 3)?;
        let seen_before =
            |value: Value| history[..later].iter().any(|(_, event)| told(event).iter().any(|(_, told)| *told == value));
        let early = history[..later].iter().position(|(_, event)| match event {
            Event::Send(sent) => sent.place == of_later.place && !seen_before(sent.values[0]),
            _ => false,
        })?;
        let Event::Send(sent) = history[early].1.clone() else { return None };
        let stands = history.iter().flat_map(|(_, event)| told(event)).find(|(_, value)| *value == sent.values[0])?;
        if stands.0 >= base {
            return None;
        }
        let (at, event) = (history[later].0, history.remove(early).1);
        history.insert(later, (at, event));
        Some(())
    });
}

#[test]
fn a_poll_with_a_gap() {
    check("I6", |history, rng| {
        read_of(history, rng, 3)?.records.remove(1);
        Some(())
    });
}

#[test]
fn a_poll_that_begins_too_late() {
    check("I6", |history, rng| {
        read_of(history, rng, 2)?.records.remove(0);
        Some(())
    });
}

#[test]
fn a_record_above_the_high_watermark() {
    check("I6", |history, rng| {
        let read = read_of(history, rng, 2)?;
        read.high_watermark = read.records.last()?.offset;
        Some(())
    });
}

#[test]
fn a_record_of_a_producer_that_was_fenced() {
    check("I10", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Acked { sent, .. } if sent.identity.epoch > 0))?;
        let (time, Event::Acked { sent, .. }) = history[at].clone() else { return None };
        let mut zombie = Sent { client: 99, values: [u64::MAX - 1].into(), ..sent };
        zombie.identity.epoch -= 1;
        let end = history.iter().position(|(_, event)| matches!(event, Event::Healed))?;
        history.insert(at + 1, (time, Event::Send(zombie.clone())));
        let high = history.iter().rev().find_map(|(_, event)| match event {
            Event::Final { place, high_watermark, .. } if *place == zombie.place => Some(*high_watermark),
            _ => None,
        })?;
        history.insert(end + 1, (history[end].0, Event::Acked { sent: zombie, base: high }));
        Some(())
    });
}

#[test]
fn a_high_watermark_that_goes_back() {
    check("I11", |history, rng| {
        let at = some(
            history,
            rng,
            |event| matches!(event, Event::Read(read) if read.epoch.is_some() && read.high_watermark > 2),
        )?;
        let (time, Event::Read(read)) = history[at].clone() else { return None };
        let later = time + Duration::from_nanos(3);
        let high_watermark = read.high_watermark - 1;
        let invoked = time + Duration::from_nanos(1);
        let back = Read { invoked, high_watermark, records: Vec::new(), ..read };
        history.insert(at + 1, (later, Event::Read(back)));
        Some(())
    });
}

#[test]
fn an_offset_that_was_read_and_is_called_out_of_range() {
    check("I11", |history, rng| {
        let at = some(
            history,
            rng,
            |event| matches!(event, Event::Read(read) if read.epoch.is_some() && read.high_watermark > 2),
        )?;
        let (time, Event::Read(read)) = history[at].clone() else { return None };
        let (invoked, epoch) = (time + Duration::from_nanos(1), read.epoch?);
        let refused = Event::OutOfRange { place: read.place, invoked, epoch, from: read.high_watermark };
        history.insert(at + 1, (time + Duration::from_nanos(3), refused));
        Some(())
    });
}

#[test]
fn a_log_start_that_goes_back() {
    check("I11", |history, rng| {
        let at =
            some(history, rng, |event| matches!(event, Event::Read(read) if read.epoch.is_some() && read.from > 0))?;
        let Event::Read(read) = &mut history[at].1 else { return None };
        read.log_start = read.from;
        let place = read.place;
        let more = history[at + 1..]
            .iter()
            .any(|(_, event)| matches!(event, Event::Read(read) if read.place == place && read.epoch.is_some()));
        more.then_some(())
    });
}

#[test]
fn a_log_that_starts_above_its_high_watermark() {
    check("I11", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Read(read) if read.records.is_empty()))?;
        let Event::Read(read) = &mut history[at].1 else { return None };
        read.log_start = read.high_watermark + 1;
        Some(())
    });
}
