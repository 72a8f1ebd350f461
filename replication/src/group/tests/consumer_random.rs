//! Random groups of the consumer protocol: no partition is in two hands, a shard that has only read the log is in the same
//! replicated state, and members that do as they are told end with all partitions.

use std::collections::{BTreeMap, BTreeSet};

use super::bed::Bed;
use super::random::Dice;
use crate::group::GroupConfig;

const CLIENTS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What one client does with what it is told: it holds what is new at once, and lets go what it lost when it says so.
#[derive(Clone, Default)]
struct Hands {
    joined: bool,
    told: BTreeSet<String>,
    held: BTreeSet<String>,
}

#[derive(Default)]
struct Clients(BTreeMap<String, Hands>);

impl Clients {
    fn listen(&mut self, said: &[String]) {
        for line in said {
            if let Some(id) = line.strip_prefix("log ").and_then(|line| line.strip_suffix(" gone")) {
                // Its session is over: what it still holds is its own fault.
                self.0.remove(id);
            }
            let Some((client, answer)) = line.split_once(": ") else { continue };
            if !CLIENTS.contains(&client) {
                continue;
            }
            if let Some(beat) = answer.strip_prefix("beat ") {
                let Some((_, list)) = beat.split_once('[') else { continue };
                let hands = self.0.entry(client.to_owned()).or_default();
                hands.joined = true;
                hands.told = list.trim_end_matches(']').split_whitespace().map(str::to_owned).collect();
                hands.held.extend(hands.told.clone());
            } else if answer.starts_with("error") {
                self.0.remove(client);
            }
        }
    }

    fn check(&self, told: &[String]) {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for (client, hands) in &self.0 {
            for place in &hands.held {
                if let Some(other) = owners.insert(place, client) {
                    panic!("{place} is in the hands of {other} and {client}\n{}", told.join("\n"));
                }
            }
        }
    }
}

fn command(dice: &mut Dice, clients: &mut Clients, at: u64) -> String {
    let client = dice.pick(&CLIENTS);
    let hands = clients.0.get(client).cloned().unwrap_or_default();
    let topics = dice.pick(&["topics:t", "topics:t", "topics:t,u", "topics:u", "regex:[tu]"]);
    match dice.roll(20) {
        0 => format!("{at} - failover"),
        1 => format!("{at} - topic {} {}", dice.pick(&["t", "u"]), 5 + dice.roll(3)),
        2 if hands.joined => format!("{at} {client} poll epoch:-1"),
        3 if hands.joined => format!("{at} {client} poll epoch:0 {topics}"),
        4 if hands.joined => format!("{at} {client} poll {topics}"),
        5 => format!("{at} {client} commit as:{client} t-0=1"),
        _ if !hands.joined => format!("{at} {client} poll epoch:0 {topics}"),
        6..9 => format!("{at} {client} poll"),
        _ => {
            let told = hands.told;
            clients.0.entry(client.to_owned()).and_modify(|hands| hands.held = told);
            format!("{at} {client} poll owned:all")
        }
    }
}

#[test]
fn random_consumer_groups_never_give_a_partition_to_two_members() {
    let mut moved = 0;
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut bed = Bed::new(GroupConfig::default(), seed);
        let mut clients = Clients::default();
        let mut told = Vec::new();
        let mut at = 0;
        let mut say = |bed: &mut Bed, clients: &mut Clients, command: String| {
            told.push(command.clone());
            let said = bed.run(&command);
            // Who begins anew holds nothing.
            if let Some((client, _)) = command.split_once(" poll epoch:").filter(|(_, rest)| !rest.starts_with('-')) {
                clients.0.remove(client.rsplit(' ').next().unwrap_or_default());
            }
            clients.listen(&said);
            told.extend(said.clone());
            clients.check(&told);
            bed.check_replica();
            said.iter().filter(|line| line.contains("gives up")).count()
        };
        say(&mut bed, &mut clients, format!("{at} - topic t 5"));
        for _ in 0..200 {
            at += [0, 10, 100, 500, 500, 3000][usize::try_from(dice.roll(6)).expect("small")];
            if dice.roll(100) == 0 {
                at += 44_000;
            }
            let command = command(&mut dice, &mut clients, at);
            moved += say(&mut bed, &mut clients, command);
        }
        // By then every pattern is looked at again.
        at += 2_000;
        for (round, client) in (0..8).flat_map(|round| CLIENTS.map(|client| (round, client))) {
            at += 10;
            let joined = clients.0.get(client).is_some_and(|hands| hands.joined);
            clients.0.entry(client.to_owned()).and_modify(|hands| hands.held = hands.told.clone());
            let how = if round == 0 || !joined { "epoch:0 topics:t" } else { "owned:all" };
            say(&mut bed, &mut clients, format!("{at} {client} poll {how}"));
        }
        let held: usize =
            clients.0.values().map(|hands| hands.held.iter().filter(|at| at.starts_with("t-")).count()).sum();
        assert_eq!(held, bed.partition_count("t"), "seed {seed}");
        bed.run(&format!("{} -", at + 3_600_000));
        assert!(bed.waiting.is_empty(), "seed {seed}");
    }
    // Else nothing was taken from anybody.
    assert!(moved > 2000, "only {moved} moves");
}
