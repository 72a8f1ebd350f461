//! When a voter stands for election before Raft's own timeout: the leader was seen dying, or there is none and a majority is here.
//!
//! Owns the moment and the stagger. Does not own who is dead (`liveness`) nor elections (`replication::controller`). Pure.
//! Invariants: voters do not stand at the same moment: each waits `STAGGER` for every live voter with a lower id; while an election
//! goes on (the term has just changed), nobody begins another.

use std::time::Duration;

use model::NodeId;

/// How far apart two voters stand for election. No multiple of the 50 ms after which a refused connect is tried again (`liveness`): one
/// voter may see the death one try later than the other, and both would stand at the same moment and split the votes.
pub(super) const STAGGER: Duration = Duration::from_millis(80);
/// An election needs a round trip and a write to a disk: so long it is left alone.
const ELECTION: Duration = Duration::from_millis(150);

/// What a node sees of the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct View<'a> {
    pub(super) me: NodeId,
    /// Ascending.
    pub(super) voters: &'a [NodeId],
    pub(super) term: u64,
    pub(super) leader: Option<NodeId>,
    /// The leader's present start was seen dying.
    pub(super) leader_dead: bool,
    /// Voters that can be reached, this one included.
    pub(super) reachable: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Campaign {
    /// The others are asked first whether they would vote: a living leader is not disturbed.
    Asking,
    /// At once, also against the lease of a leader that the others have not seen dying yet.
    Forced,
}

#[derive(Debug, Default)]
pub(super) struct Elections {
    /// Who leads nothing any more, in which term: what is waited out now.
    waiting: Option<Waiting>,
    last_term: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    term: u64,
    leader: Option<NodeId>,
    stand_at: Duration,
    /// How often it stood.
    stood: u32,
}

impl Elections {
    /// To be called after everything that may have changed the view, and when `due` has come.
    pub(super) fn look(&mut self, now: Duration, view: &View<'_>) -> Option<Campaign> {
        let term_before = self.last_term.replace(view.term);
        if !may_stand(view) {
            self.waiting = None;
            return None;
        }
        let same = |waiting: &Waiting| waiting.term == view.term && waiting.leader == view.leader;
        let waiting = match self.waiting.filter(same) {
            Some(waiting) => waiting,
            None => {
                let under_way = view.leader.is_none() && term_before.is_some_and(|before| before != view.term);
                let first = if under_way { ELECTION } else { Duration::ZERO };
                Waiting { term: view.term, leader: view.leader, stand_at: now + first + STAGGER * rank(view), stood: 0 }
            }
        };
        self.waiting = Some(waiting);
        if now < waiting.stand_at {
            return None;
        }
        let again = now + ELECTION + STAGGER * rank(view);
        self.waiting = Some(Waiting { stand_at: again, stood: waiting.stood.saturating_add(1), ..waiting });
        Some(if view.leader.is_some() { Campaign::Forced } else { Campaign::Asking })
    }

    /// It has just stood, and had not before in this term.
    pub(super) fn is_first(&self) -> bool {
        self.waiting.is_some_and(|waiting| waiting.stood == 1)
    }

    /// When to look again at the latest.
    pub(super) fn due(&self) -> Option<Duration> {
        self.waiting.map(|waiting| waiting.stand_at)
    }
}

fn may_stand(view: &View<'_>) -> bool {
    let others = view.voters.len() > 1 && view.voters.contains(&view.me);
    let headless = view.leader.is_none() || (view.leader_dead && view.leader != Some(view.me));
    others && headless && view.reachable > view.voters.len() / 2
}

fn rank(view: &View<'_>) -> u32 {
    let before = view.voters.iter().filter(|voter| **voter < view.me && Some(**voter) != view.leader).count();
    u32::try_from(before).expect("a handful of voters")
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOTERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn view(me: i32, leader: Option<i32>) -> View<'static> {
        let leader_dead = leader.is_some();
        View { me: NodeId(me), voters: &VOTERS, term: 7, leader: leader.map(NodeId), leader_dead, reachable: 2 }
    }

    /// The first moment, in steps of 10 ms, at which it stands.
    fn stands(elections: &mut Elections, view: &View<'_>, from: u64) -> Option<(u64, Campaign)> {
        (from..from + 1_000).step_by(10).find_map(|at| elections.look(ms(at), view).map(|how| (at, how)))
    }

    #[test]
    fn the_lowest_voter_stands_at_once_against_a_dead_leader_and_the_next_80_ms_later() {
        for (me, leader, at) in [(2, 1, 0), (3, 1, 80), (1, 2, 0), (3, 2, 80), (1, 3, 0), (2, 3, 80)] {
            let stood = stands(&mut Elections::default(), &view(me, Some(leader)), 0);
            assert_eq!(stood, Some((at, Campaign::Forced)), "{me} against {leader}");
        }
    }

    /// As if the first one's second try to connect came one interval later than the other's.
    #[test]
    fn voters_that_see_a_death_one_or_two_tries_apart_do_not_stand_together() {
        for tries in 1..=2 {
            let seen_at = |rank: u32, late: u32| ms(50) * late + STAGGER * rank;
            let (first, second) = (seen_at(0, tries), seen_at(1, 0));
            assert!(first.abs_diff(second) >= ms(15), "{first:?} and {second:?}");
        }
    }

    #[test]
    fn after_a_start_without_a_leader_they_ask_one_after_the_other() {
        for (me, at) in [(1, 0), (2, 80), (3, 160)] {
            assert_eq!(stands(&mut Elections::default(), &view(me, None), 0), Some((at, Campaign::Asking)));
        }
    }

    #[test]
    fn a_living_leader_is_left_alone() {
        let living = View { leader_dead: false, ..view(1, Some(2)) };
        assert_eq!(stands(&mut Elections::default(), &living, 0), None);
    }

    #[test]
    fn nobody_stands_without_a_majority_nor_who_does_not_vote_nor_a_sole_voter() {
        let alone = View { reachable: 1, ..view(1, None) };
        let learner = view(9, None);
        let sole = View { voters: &VOTERS[..1], reachable: 1, ..view(1, None) };
        for view in [alone, learner, sole] {
            assert_eq!(stands(&mut Elections::default(), &view, 0), None);
        }
    }

    #[test]
    fn an_election_that_has_just_begun_is_left_to_end() {
        let mut elections = Elections::default();
        assert_eq!(elections.look(ms(0), &View { leader_dead: false, ..view(1, Some(2)) }), None);
        let elected = View { term: 8, ..view(1, None) };
        assert_eq!(stands(&mut elections, &elected, 10), Some((160, Campaign::Asking)));
    }

    #[test]
    fn one_that_was_not_elected_stands_again() {
        let mut elections = Elections::default();
        assert_eq!(stands(&mut elections, &view(2, Some(1)), 0), Some((0, Campaign::Forced)));
        let (again, how) = stands(&mut elections, &view(2, Some(1)), 10).expect("it stands again");
        assert_eq!((again, how), (150, Campaign::Forced));
    }

    #[test]
    fn a_new_leader_ends_it() {
        let mut elections = Elections::default();
        assert_eq!(elections.look(ms(0), &view(3, Some(1))), None);
        assert!(elections.due().is_some());
        let led = View { term: 8, leader_dead: false, ..view(3, Some(2)) };
        assert_eq!((elections.look(ms(10), &led), elections.due()), (None, None));
    }
}
