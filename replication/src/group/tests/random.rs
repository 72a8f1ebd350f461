//! Random groups: whatever is asked in whatever order, each request is answered once, the invariants hold, and a
//! shard that has only read the log is in the same replicated state.

use super::bed::Bed;
use crate::group::GroupConfig;

/// A linear congruential generator: the seed is the test.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    pub(super) fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.roll(of.len() as u64)).expect("small")]
    }
}

/// A client asks for one thing at a time, as real ones do; who waits only waits.
fn command(dice: &mut Dice, at: u64) -> String {
    let client = dice.pick(&["a", "b", "c", "d", "e"]);
    // `d` and `e` are static, and each has a double that takes its place at times.
    let (client, instance) = match client {
        "d" => (dice.pick(&["d", "d", "dd"]), "static:sd"),
        "e" => (dice.pick(&["e", "e", "ee"]), "static:se"),
        _ => (client, ""),
    };
    let ids = ["a1", "a2", "b1", "b2", "c1", "c2", "sd1", "sd2", "se1", "se3", "x"];
    match dice.roll(16) {
        0..4 => {
            let session = dice.pick(&["session:6000", "session:9000", "session:20000", "session:1"]);
            let rebalance = dice.pick(&["rebalance:0", "rebalance:2000", "rebalance:30000"]);
            let protocols =
                dice.pick(&["protocols:range", "protocols:range,sticky", "protocols:sticky,range", "topics:t,u"]);
            let flag = dice.pick(&["", "", "old", "noskip", "as:nobody"]);
            format!("{at} {client} join {instance} {session} {rebalance} {protocols} {flag}")
        }
        4..8 => format!("{at} {client} sync {instance} {}=0 {}=1", dice.pick(&ids), dice.pick(&ids)),
        8..11 => format!("{at} {client} beat {instance}"),
        11 => format!("{at} {client} leave {} {}", dice.pick(&ids), dice.pick(&["x", "static:sd", "static:se"])),
        12 | 13 => format!("{at} {client} commit {instance} t-{}={}", dice.roll(3), dice.roll(1000)),
        14 => format!("{at} s commit gen:-1 t-{}={}", dice.roll(3), dice.roll(1000)),
        _ => format!("{at} - {}", dice.pick(&["failover", "delete t", ""])),
    }
}

/// All members come, and whoever leads assigns.
fn good_round(at: &mut u64) -> Vec<String> {
    let join = |client| format!("{at} {client} join session:9000");
    let mut round: Vec<String> = ["a", "b", "c", "a", "b", "c"].into_iter().map(join).collect();
    *at += 3100;
    let sync = |client| format!("{at} {client} sync a1=0 a2=1 b1=2");
    round.extend(["c", "b", "a"].into_iter().map(sync));
    round
}

#[test]
fn random_groups_keep_their_invariants_and_equal_their_replay() {
    let mut stable = 0;
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let delay = std::time::Duration::from_millis([0, 100, 3000][usize::try_from(seed % 3).expect("small")]);
        let config = GroupConfig {
            initial_rebalance_delay: delay,
            members_max: 4,
            offsets_retention_ms: 700_000,
            ..GroupConfig::default()
        };
        let mut bed = Bed::new(config, seed);
        let mut at = 0;
        let mut told = Vec::new();
        for _ in 0..300 {
            at += [0, 10, 100, 500, 500, 3000][usize::try_from(dice.roll(6)).expect("small")];
            if dice.roll(100) == 0 {
                at += 800_000;
            }
            let commands = if dice.roll(10) == 0 { good_round(&mut at) } else { vec![command(&mut dice, at)] };
            for command in commands {
                told.push(command.clone());
                let said = bed.run(&command);
                stable += said.iter().filter(|line| line.starts_with("log generation") && line.contains('=')).count();
                told.extend(said);
                bed.check_replica();
            }
        }
        // In the end all sessions and gatherings run out: nobody is left waiting, and nothing is left to do but to look
        // for old offsets.
        bed.run(&format!("{} -", at + 3_600_000));
        assert!(bed.waiting.is_empty(), "seed {seed}: {:?} wait\n{}", bed.waiting, told.join("\n"));
        assert_eq!(bed.shard.group_count(), 0, "seed {seed}");
    }
    // Else the commands say nothing about groups that work.
    assert!(stable > 2000, "only {stable} assignments");
}
