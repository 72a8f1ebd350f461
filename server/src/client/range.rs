//! The range assignor of the classic protocol, and the bytes that its members exchange.
//!
//! Owns the layout of subscriptions and assignments, and who gets what when this member leads the group. Does not own the protocol:
//! `member` does. Invariants: every partition of a subscribed topic goes to exactly one of the topic's members; members of other programs
//! read what is written here.
//!
//! ```text
//! subscription: version i16, topics [string], user data bytes        assignment: version i16, [topic string, [partition i32]], user data
//! ```

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Partitions by topic.
pub type Assigned = BTreeMap<String, Vec<i32>>;

/// The layouts of version 0, which every version begins with.
const VERSION: i16 = 0;

pub fn put_subscription(topics: &[String]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    out.put_i32(length(topics.len()));
    topics.iter().for_each(|topic| put_string(&mut out, topic));
    out.put_i32(-1);
    out.freeze()
}

/// The topics of a subscription. `None`: it is none.
pub fn take_subscription(mut bytes: Bytes) -> Option<Vec<String>> {
    bytes.try_get_i16().ok()?;
    let topics = bytes.try_get_i32().ok()?;
    (0..topics).map(|_| take_string(&mut bytes)).collect()
}

pub fn put_assignment(assigned: &Assigned) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    out.put_i32(length(assigned.len()));
    for (topic, partitions) in assigned {
        put_string(&mut out, topic);
        out.put_i32(length(partitions.len()));
        partitions.iter().for_each(|partition| out.put_i32(*partition));
    }
    out.put_i32(-1);
    out.freeze()
}

/// `None`: it is no assignment. No bytes at all are an empty one.
pub fn take_assignment(mut bytes: Bytes) -> Option<Assigned> {
    if bytes.is_empty() {
        return Some(Assigned::new());
    }
    bytes.try_get_i16().ok()?;
    let topics = bytes.try_get_i32().ok()?;
    let mut assigned = Assigned::new();
    for _ in 0..topics {
        let topic = take_string(&mut bytes)?;
        let partitions = bytes.try_get_i32().ok()?;
        let partitions = (0..partitions).map(|_| bytes.try_get_i32().ok()).collect::<Option<_>>()?;
        assigned.insert(topic, partitions);
    }
    Some(assigned)
}

/// Who gets what: of each topic, its members in the order of their names get runs of partitions that differ by one at most.
pub fn assign(
    members: &BTreeMap<String, Vec<String>>,
    partitions: &BTreeMap<String, Vec<i32>>,
) -> BTreeMap<String, Assigned> {
    let mut assigned: BTreeMap<String, Assigned> =
        members.keys().map(|member| (member.clone(), Assigned::new())).collect();
    for (topic, partitions) in partitions {
        let takers: Vec<&String> =
            members.iter().filter(|(_, topics)| topics.contains(topic)).map(|(member, _)| member).collect();
        let Some(least) = partitions.len().checked_div(takers.len()) else { continue };
        let more = partitions.len() % takers.len();
        let mut left = partitions.as_slice();
        for (at, member) in takers.into_iter().enumerate() {
            let (own, rest) = left.split_at(least + usize::from(at < more));
            left = rest;
            if let (Some(assigned), false) = (assigned.get_mut(member), own.is_empty()) {
                assigned.insert(topic.clone(), own.to_vec());
            }
        }
        assert!(left.is_empty(), "every partition of {topic} goes to somebody");
    }
    assigned
}

fn length(items: usize) -> i32 {
    i32::try_from(items).expect("topics and partitions of one member are fewer than 2^31")
}

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("a topic's name has 249 characters at most"));
    out.put_slice(text.as_bytes());
}

fn take_string(bytes: &mut Bytes) -> Option<String> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    (length <= bytes.len()).then(|| String::from_utf8(bytes.split_to(length).to_vec()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn runs_of_partitions_differ_by_one_and_topics_go_to_who_asked_for_them() {
        let members = [("a", names(&["t", "u"])), ("b", names(&["t"])), ("c", names(&["t"]))];
        let members = members.map(|(member, topics)| (member.to_owned(), topics)).into();
        let partitions = [("t".to_owned(), (0..7).collect()), ("u".to_owned(), vec![0])].into();
        let assigned = assign(&members, &partitions);
        let of = |member: &str, topic: &str| {
            assigned.get(member).and_then(|own| own.get(topic)).cloned().unwrap_or_default()
        };
        assert_eq!([of("a", "t"), of("b", "t"), of("c", "t")], [vec![0, 1, 2], vec![3, 4], vec![5, 6]]);
        assert_eq!([of("a", "u"), of("b", "u")], [vec![0], vec![]]);
    }

    #[test]
    fn more_members_than_partitions_leave_some_without() {
        let members = ["a", "b"].map(|member| (member.to_owned(), names(&["t"]))).into();
        let assigned = assign(&members, &[("t".to_owned(), vec![0])].into());
        assert_eq!(assigned.get("b"), Some(&Assigned::new()));
    }

    #[test]
    fn subscriptions_and_assignments_come_back_as_they_were() {
        let topics = names(&["t", "other"]);
        assert_eq!(take_subscription(put_subscription(&topics)), Some(topics));
        let assigned: Assigned = [("t".to_owned(), vec![1, 2]), ("u".to_owned(), vec![])].into();
        assert_eq!(take_assignment(put_assignment(&assigned)), Some(assigned.clone()));
        let whole = put_assignment(&assigned);
        for cut in 1..whole.len() - 4 {
            assert_eq!(take_assignment(whole.slice(..cut)), None, "{cut}");
        }
        assert_eq!(take_assignment(Bytes::new()), Some(Assigned::new()));
    }
}
