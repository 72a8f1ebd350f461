//! Of three voters one lags, one dies, and one comes back at once with an empty disk: is the word of a voter that forgot believed?
//!
//! Owns the choice of the three, the order of what happens to them, and the atlas for it: the one that lags has, in sync, all that the third
//! held, no topic is about to come or to move, and nothing else goes wrong meanwhile. Does not own what goes wrong besides (`faults`).
//! Invariant: of the three two keep their disks, and had them all along, so all that was committed is still there once both are up.

use model::NodeId;

use super::copies;
use super::host::Ending;
use super::net::{HostIndex, host_of};
use super::queue::{At, MILLISECOND, SECOND};
use super::world::World;
use crate::disk::Survival;
use crate::rng::Rng;

/// Between two attempts.
const PAUSE: At = SECOND;
/// How long one lags: shorter than it takes until anybody calls it dead, or drops it from what is in sync.
const LAGS_MIN: At = 100 * MILLISECOND;
const LAGS_MAX: At = 900 * MILLISECOND;

#[derive(Clone, Copy, Debug)]
struct Trio {
    /// It hears nothing for a while, so the others go on without it.
    lagging: HostIndex,
    /// It dies then, and is back later.
    dying: HostIndex,
    /// Its disk goes then. It is back at once, when only the one that lags is there.
    forgetting: HostIndex,
}

/// Forgetful voters, in the seeds that have them.
pub(super) struct Voters {
    rng: Rng,
    trio: Option<Trio>,
}

impl Voters {
    pub(super) fn new(rng: Rng) -> Voters {
        Voters { rng, trio: None }
    }

    /// One lags: nothing else may happen until the others' part is over.
    pub(super) fn is_busy(&self) -> bool {
        self.trio.is_some()
    }

    /// The next step. `quiet`: nothing else is wrong. Whether a voter forgot, and how long until the next step.
    pub(super) fn go_on(&mut self, world: &mut World, quiet: bool) -> (bool, At) {
        if let Some(trio) = self.trio.take() {
            world.heal_network();
            let struck = trio.may_go_on(world);
            if struck {
                self.strike(world, trio);
            }
            return (struck, PAUSE);
        }
        self.trio = quiet.then(|| self.draw(world)).flatten();
        let Some(trio) = self.trio else { return (false, PAUSE) };
        for other in 0..world.hosts.len() {
            world.block(trio.lagging, other);
            world.block(other, trio.lagging);
        }
        (false, LAGS_MIN + self.rng.below(LAGS_MAX - LAGS_MIN))
    }

    /// `None`: not now.
    fn draw(&mut self, world: &World) -> Option<Trio> {
        let image = world.newest_image()?;
        let mut voters: Vec<NodeId> = image.voters().to_vec();
        // A voter that forgot is none, until it has left and come back.
        if voters.iter().any(|voter| image.is_replaced_member(*voter)) {
            return None;
        }
        for at in (1..voters.len()).rev() {
            voters.swap(at, self.rng.index(at + 1));
        }
        let [lagging, dying, forgetting] = <[NodeId; 3]>::try_from(voters).ok()?.map(host_of);
        let may_lose = copies::may_lose(world, forgetting) && copies::may_lose_beside(world, forgetting, lagging);
        may_lose.then_some(Trio { lagging, dying, forgetting })
    }

    fn strike(&mut self, world: &mut World, trio: Trio) {
        let ending = if self.rng.chance(1, 2) { Ending::Killed } else { Ending::PowerCut(Survival::Nothing) };
        world.crash(trio.dying, ending);
        world.crash(trio.forgetting, Ending::Killed);
        world.wipe(trio.forgetting);
        let (soon, later) = (self.rng.below(60 * MILLISECOND), SECOND + self.rng.below(5 * SECOND));
        world.restart_after(trio.forgetting, soon);
        world.restart_after(trio.dying, later);
    }
}

impl Trio {
    /// What stood a moment ago may have changed while one lagged.
    fn may_go_on(self, world: &World) -> bool {
        let all = [self.lagging, self.dying, self.forgetting];
        !world.commanded
            && all.into_iter().all(|host| world.hosts[host].answers())
            && copies::may_lose_beside(world, self.forgetting, self.lagging)
    }
}
