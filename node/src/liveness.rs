//! Who lives, as this node sees it: from links that close, connects that are refused, and silence.
//!
//! Owns the rules by which a process start (an incarnation) is taken for dead, and the ban of the quick rule where it was wrong. Does not
//! own what follows from a death: the active controller fences, voters elect. Pure: events and the time go in.
//! Invariants: a verdict is about one incarnation, never about a node's number; whoever is heard lives; silence counts only while this
//! process itself was looking.

use std::collections::BTreeMap;
use std::time::Duration;

use model::NodeId;
use replication::metadata::Incarnation;

/// A process that is gone refuses connects at once. Two of them so far apart (retries come 50 ms apart, timers are not exact) are no
/// process that closes one listener to open the next.
pub(crate) const REFUSED_SPAN: Duration = Duration::from_millis(45);
/// Firewalls refuse for living processes. Where one did, the quick rule is off for so long.
pub(crate) const SHORTCUT_BAN: Duration = Duration::from_secs(600);
/// Nothing at all was heard for so long: dead.
pub(crate) const SILENCE_MAX: Duration = Duration::from_millis(1_500);
/// Who has had nothing to say for so long says that it lives.
pub(crate) const ALIVE_INTERVAL: Duration = Duration::from_millis(300);
/// A gap between two looks that is longer than this was a stall of our own: what was not heard in it proves nothing.
const STALL: Duration = Duration::from_millis(500);

const _: () = {
    // Several heartbeats may be lost before silence is death, and a stall must not look like one.
    assert!(SILENCE_MAX.as_millis() >= 4 * ALIVE_INTERVAL.as_millis());
    assert!(STALL.as_millis() < SILENCE_MAX.as_millis());
};

/// Something that was seen of another node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sign {
    /// A link to it or from it was opened, or a frame came: this start of it lives.
    Heard(Incarnation),
    /// A link that stood was closed.
    Closed,
    /// A connect was refused.
    Refused,
    /// A connect failed in another way: it says nothing about the process.
    Unreachable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    Refused,
    Silence,
}

#[derive(Clone, Debug, Default)]
struct Peer {
    /// The start that the image names, and since when its silence counts.
    named: Option<(Incarnation, Duration)>,
    /// The start that was heard last, and when.
    heard: Option<(Incarnation, Duration)>,
    /// A link to or from it was closed, and nothing was heard since.
    closed: bool,
    first_refused: Option<Duration>,
    dead: Option<(Incarnation, Rule)>,
    shortcut_off_until: Duration,
}

#[derive(Debug)]
pub(crate) struct Liveness {
    peers: BTreeMap<NodeId, Peer>,
    looked_at: Duration,
}

impl Liveness {
    pub(crate) fn new(now: Duration) -> Liveness {
        Liveness { peers: BTreeMap::new(), looked_at: now }
    }

    /// The nodes whose silence counts, with the start that the image names. Of others it is only known when they were heard.
    pub(crate) fn watch(&mut self, now: Duration, nodes: impl IntoIterator<Item = (NodeId, Incarnation)>) {
        let nodes: BTreeMap<NodeId, Incarnation> = nodes.into_iter().collect();
        for (node, peer) in &mut self.peers {
            peer.named = peer.named.filter(|_| nodes.contains_key(node));
        }
        self.peers.retain(|_, peer| peer.named.is_some() || peer.heard.is_some());
        for (node, incarnation) in nodes {
            let peer = self.peers.entry(node).or_default();
            if peer.named.is_none_or(|(named, _)| named != incarnation) {
                peer.named = Some((incarnation, now));
            }
        }
    }

    /// Who was not seen dying has the whole time again: a new controller begins like that, since others' sessions are not known to it.
    /// But not the controller before it, whose silence is why there is a new one.
    pub(crate) fn begin_afresh(&mut self, now: Duration, but: Option<NodeId>) {
        for (_, peer) in self.peers.iter_mut().filter(|(node, _)| Some(**node) != but) {
            if let Some((_, since)) = &mut peer.named {
                *since = now.max(*since);
            }
        }
    }

    pub(crate) fn sign(&mut self, now: Duration, node: NodeId, sign: Sign) {
        match sign {
            Sign::Heard(incarnation) => self.peers.entry(node).or_default().heard(now, incarnation),
            Sign::Closed => self.with(node, |peer| peer.closed = true),
            Sign::Refused => self.with(node, |peer| peer.refused(now)),
            Sign::Unreachable => self.with(node, |peer| peer.first_refused = None),
        }
    }

    fn with(&mut self, node: NodeId, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peers.get_mut(&node) {
            change(peer);
        }
    }

    /// To be called at least every 100 ms while anybody is watched.
    pub(crate) fn look(&mut self, now: Duration) {
        let gap = now.saturating_sub(self.looked_at);
        self.looked_at = self.looked_at.max(now);
        for peer in self.peers.values_mut() {
            if gap > STALL {
                peer.forgive(gap, now);
            }
            if let Some((named, last)) = peer.named_heard_at()
                && now.saturating_sub(last) >= SILENCE_MAX
                && !peer.is_dead(named)
            {
                peer.dead = Some((named, Rule::Silence));
            }
        }
    }

    /// Whether this start of the node is taken for dead.
    pub(crate) fn is_dead(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.is_dead(incarnation))
    }

    /// Whether this very start was heard within the time in which silence is not yet death.
    pub(crate) fn is_alive(&self, now: Duration, node: NodeId, incarnation: Incarnation) -> bool {
        self.peers.get(&node).is_some_and(|peer| {
            let recent = |at: Duration| now.saturating_sub(at) < SILENCE_MAX;
            let heard = peer.heard.is_some_and(|(heard, at)| heard == incarnation && recent(at));
            heard && !peer.closed && !peer.is_dead(incarnation)
        })
    }

    /// When anything was heard of the node last.
    pub(crate) fn heard_at(&self, node: NodeId) -> Option<Duration> {
        Some(self.peers.get(&node)?.heard?.1)
    }

    /// The start of the node that was heard last.
    pub(crate) fn heard(&self, node: NodeId) -> Option<Incarnation> {
        Some(self.peers.get(&node)?.heard?.0)
    }
}

impl Peer {
    fn is_dead(&self, incarnation: Incarnation) -> bool {
        self.dead.is_some_and(|(dead, _)| dead == incarnation)
    }

    /// The start that the image names, and when it was heard last, or might have been.
    fn named_heard_at(&self) -> Option<(Incarnation, Duration)> {
        let (named, since) = self.named?;
        let heard = self.heard.filter(|(heard, _)| *heard == named).map_or(since, |(_, at)| at.max(since));
        Some((named, heard))
    }

    fn heard(&mut self, now: Duration, incarnation: Incarnation) {
        if self.dead == Some((incarnation, Rule::Refused)) {
            self.shortcut_off_until = now.saturating_add(SHORTCUT_BAN);
        }
        // Of an earlier start it stays true.
        self.dead = self.dead.filter(|(dead, _)| *dead != incarnation);
        self.heard = Some((incarnation, now));
        self.closed = false;
        self.first_refused = None;
    }

    fn refused(&mut self, now: Duration) {
        let first = *self.first_refused.get_or_insert(now);
        let twice = now.saturating_sub(first) >= REFUSED_SPAN;
        let Some((heard, _)) = self.heard else { return };
        if self.closed && twice && !self.is_dead(heard) && now >= self.shortcut_off_until {
            self.dead = Some((heard, Rule::Refused));
        }
    }

    /// This process was not looking for so long.
    fn forgive(&mut self, gap: Duration, now: Duration) {
        if let Some((_, since)) = &mut self.named {
            *since = since.saturating_add(gap).min(now);
        }
        if let Some((_, at)) = &mut self.heard {
            *at = at.saturating_add(gap).min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);
    const FIRST: Incarnation = Incarnation([1; 16]);
    const SECOND: Incarnation = Incarnation([2; 16]);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// `12 closed` and the like, in order. Looks every 50 ms between them; at the end, too.
    fn seen(script: &str) -> Liveness {
        let mut liveness = Liveness::new(ms(0));
        liveness.watch(ms(0), [(NODE, FIRST)]);
        let mut looked = 0;
        for line in script.split(", ") {
            let (at, what) = line.split_once(' ').expect("a time and a sign");
            let at: u64 = at.parse().expect("milliseconds");
            while looked + 50 <= at && what != "stalled" {
                looked += 50;
                liveness.look(ms(looked));
            }
            let sign = match what {
                "first" => Sign::Heard(FIRST),
                "second" => Sign::Heard(SECOND),
                "closed" => Sign::Closed,
                "refused" => Sign::Refused,
                "unreachable" => Sign::Unreachable,
                "stalled" | "look" => {
                    looked = at;
                    liveness.look(ms(at));
                    continue;
                }
                other => panic!("no sign is called '{other}'"),
            };
            liveness.sign(ms(at), NODE, sign);
        }
        liveness
    }

    fn check(script: &str, dead: bool) {
        assert_eq!(seen(script).is_dead(NODE, FIRST), dead, "{script}");
    }

    #[test]
    fn a_closed_link_and_two_refusals_50_ms_apart_are_death() {
        check("0 first, 10 closed, 11 refused, 61 refused", true);
    }

    #[test]
    fn one_refusal_or_two_at_once_are_not() {
        check("0 first, 10 closed, 11 refused", false);
        check("0 first, 10 closed, 11 refused, 12 refused", false);
    }

    #[test]
    fn refusals_count_only_after_a_link_has_stood() {
        check("0 refused, 50 refused, 100 refused", false);
    }

    #[test]
    fn a_connect_that_fails_in_another_way_begins_the_count_anew() {
        check("0 first, 10 closed, 11 refused, 40 unreachable, 61 refused", false);
        check("0 first, 10 closed, 11 refused, 40 unreachable, 61 refused, 111 refused", true);
    }

    #[test]
    fn whoever_is_heard_between_two_refusals_lives() {
        check("0 first, 10 closed, 11 refused, 30 first, 61 refused", false);
    }

    #[test]
    fn where_it_was_wrong_the_quick_rule_is_off_for_ten_minutes() {
        let wrong = "0 first, 10 closed, 11 refused, 61 refused, 100 first";
        check(wrong, false);
        check(&format!("{wrong}, 200 closed, 201 refused, 300 refused"), false);
        let mut liveness = seen(wrong);
        let later = ms(100) + SHORTCUT_BAN;
        liveness.sign(later, NODE, Sign::Heard(FIRST));
        for after in [1, 2, 52] {
            liveness.sign(later + ms(after), NODE, if after == 1 { Sign::Closed } else { Sign::Refused });
        }
        assert!(liveness.is_dead(NODE, FIRST));
    }

    #[test]
    fn a_new_start_is_no_proof_that_the_quick_rule_was_wrong() {
        let restarted = "0 first, 10 closed, 11 refused, 61 refused, 100 second";
        let liveness = seen(restarted);
        assert!(liveness.is_alive(ms(100), NODE, SECOND) && !liveness.is_dead(NODE, SECOND));
        let again = seen(&format!("{restarted}, 200 closed, 201 refused, 251 refused"));
        assert!(again.is_dead(NODE, SECOND));
    }

    #[test]
    fn silence_of_a_second_and_a_half_is_death_and_one_word_ends_it() {
        check("0 first, 1450 look", false);
        check("0 first, 1500 look", true);
        check("0 first, 1500 look, 1510 first", false);
    }

    #[test]
    fn who_came_back_from_silence_may_be_found_dead_by_refusals() {
        check("0 first, 1500 look, 1510 first, 1520 closed, 1521 refused, 1571 refused", true);
    }

    #[test]
    fn a_node_that_was_never_heard_is_silent_from_when_it_is_watched() {
        check("1450 look", false);
        check("1500 look", true);
    }

    #[test]
    fn what_was_not_heard_while_this_process_stood_still_proves_nothing() {
        check("0 first, 1000 first, 9000 stalled", false);
        check("0 first, 1000 first, 9000 stalled, 9500 look", false);
        check("0 first, 1000 first, 9000 stalled, 10600 look", true);
    }

    #[test]
    fn a_new_controller_gives_everybody_the_whole_time_but_those_it_saw_dying() {
        let mut liveness = seen("0 first, 1400 look");
        liveness.begin_afresh(ms(1_400), None);
        liveness.look(ms(1_600));
        assert!(!liveness.is_dead(NODE, FIRST));
        let mut led = seen("0 first, 1400 look");
        led.begin_afresh(ms(1_400), Some(NODE));
        led.look(ms(1_500));
        assert!(led.is_dead(NODE, FIRST));
        let mut dead = seen("0 first, 10 closed, 11 refused, 61 refused");
        dead.begin_afresh(ms(70), None);
        assert!(dead.is_dead(NODE, FIRST));
    }

    #[test]
    fn a_verdict_is_about_one_start() {
        let liveness = seen("0 first, 10 closed, 11 refused, 61 refused");
        assert!(!liveness.is_dead(NODE, SECOND) && !liveness.is_alive(ms(61), NODE, SECOND));
    }

    #[test]
    fn the_start_that_the_image_names_is_silent_although_another_one_speaks() {
        check("0 first, 10 second, 1400 second, 1450 look", false);
        check("0 first, 10 second, 1500 second, 1550 look", true);
    }

    #[test]
    fn a_start_that_registered_through_others_has_its_own_time() {
        let mut liveness = seen("0 first, 10 closed, 11 refused, 61 refused");
        liveness.watch(ms(100), [(NODE, SECOND)]);
        for at in (150..1_600).step_by(50) {
            liveness.look(ms(at));
        }
        assert!(!liveness.is_dead(NODE, SECOND));
        liveness.look(ms(1_600));
        assert!(liveness.is_dead(NODE, SECOND));
    }

    #[test]
    fn the_silence_of_who_is_no_node_is_no_death() {
        let mut liveness = seen("0 first");
        liveness.watch(ms(10), []);
        liveness.look(ms(400));
        for at in (450..3_000).step_by(50) {
            liveness.look(ms(at));
        }
        assert_eq!((liveness.is_dead(NODE, FIRST), liveness.heard(NODE)), (false, Some(FIRST)));
    }
}
