//! Frontends in the maps: reads them whole, writes new blocks beside the old ones and turns the entries over.

use super::layout::{self, Held};
use super::room;
use super::round::{Stop, apply};
use super::sight::Sight;
use crate::balancer::Balancer;
use crate::clock;
use crate::facts::Facts;
use crate::target::Target;
use async_trait::async_trait;
use netd_bpf::Maps;
use netd_bpf::abi::{self, Frontend, FrontendKey, KEEP_FLOWS, LINE_BYTES, WIDE_PREVIOUS, WIDE_SLOTS};
use netd_core::{Observation, Outcome, Step};
use std::sync::Arc;
use std::thread::JoinHandle;

/// The maps are made anew, larger, at most this often for one round of changes: each time at least doubles them.
const GROWTHS_MAX: usize = 3;

/// A round writes new blocks beside the old ones; bounding it bounds the room that is needed twice.
const STEPS_PER_ROUND: usize = 4096;

/// The target of services: the maps of the load balancer.
pub struct ServiceTarget {
    balancer: Arc<Balancer>,
    grace: Grace,
    sight: Sight,
}

/// Waits, beside other work, until no packet is under way through what a round let go of. It takes some 10 ms.
#[derive(Default)]
struct Grace {
    waiting: Option<JoinHandle<netd_bpf::Result<()>>>,
}

impl Grace {
    fn begin(&mut self) {
        self.waiting = Some(std::thread::spawn(netd_bpf::grace));
    }

    /// Returns when what was let go of may be used again. An earlier process may have let go of something, too.
    fn end(&mut self) -> Result<(), String> {
        let waited = match self.waiting.take() {
            Some(waiting) => waiting.join().unwrap_or_else(|_| netd_bpf::grace()),
            None => netd_bpf::grace(),
        };
        waited.map_err(|error| sentence(&error))
    }
}

impl ServiceTarget {
    /// The target that writes to this load balancer's maps.
    #[must_use]
    pub fn new(balancer: Arc<Balancer>) -> Self {
        Self { balancer, grace: Grace::default(), sight: Sight::default() }
    }
}

#[async_trait]
impl Target for ServiceTarget {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        self.observe_again(facts).await.map(Arc::unwrap_or_clone)
    }

    async fn observe_again(&mut self, facts: &Facts) -> Result<Arc<Observation>, String> {
        let sight = &mut self.sight;
        self.balancer.with_maps(|maps| match maps {
            Some(maps) => sight.look(maps, facts).map_err(|error| sentence(&error)),
            None => Ok(Arc::default()),
        })?
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        self.balancer.set_filled(false);
        if let Err(why) = self.balancer.sweep() {
            return all_failed(steps, &why);
        }
        let outcomes: Vec<_> = steps.chunks(STEPS_PER_ROUND).flat_map(|steps| self.round(steps)).collect();
        self.balancer.set_filled(!outcomes.iter().any(|outcome| matches!(outcome, Outcome::Failed(_))));
        outcomes
    }

    async fn tend(&mut self) -> Result<(), String> {
        let tended = self.balancer.with_maps(|maps| match maps {
            Some(maps) => super::tend::tend(maps, clock::since_boot(), clock::awake()),
            None => Ok(()),
        })?;
        self.balancer.sweep()?;
        // Rings may have been let go of: the next round waits for a grace period of its own.
        self.grace = Grace::default();
        tended.map_err(|error| sentence(&error))
    }

    async fn dismantle(&mut self) -> Result<(), String> {
        self.balancer.remove()
    }
}

impl ServiceTarget {
    fn round(&mut self, steps: &[Step]) -> Vec<Outcome> {
        if let Err(why) = self.grace.end() {
            return all_failed(steps, &why);
        }
        let outcomes = self.try_round(steps);
        self.grace.begin();
        outcomes
    }

    fn try_round(&self, steps: &[Step]) -> Vec<Outcome> {
        for _ in 0..GROWTHS_MAX {
            let attempt = self.balancer.change_maps(|maps| match maps {
                Some(maps) => apply(maps, steps),
                None => Err(Stop::Room(room::sized(&room::NOTHING, &room::needed(steps)))),
            });
            match attempt.unwrap_or_else(|why| Err(Stop::Broken(why))) {
                Ok(outcomes) => return outcomes,
                Err(Stop::Room(capacity)) => {
                    if let Err(why) = self.balancer.grow(&capacity) {
                        return all_failed(steps, &why);
                    }
                }
                Err(Stop::Broken(why)) => return all_failed(steps, &why),
            }
        }
        all_failed(steps, "the maps have no room, however large they are made")
    }
}

fn all_failed(steps: &[Step], why: &str) -> Vec<Outcome> {
    steps.iter().map(|_| Outcome::Failed(why.to_owned())).collect()
}

/// The error and its causes.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

/// Reads a frontend with all that it names; `None` when it names what is not there.
pub(super) fn held(maps: &dyn Maps, key: &FrontendKey, frontend: &Frontend) -> Option<Held> {
    if !maps.capacity().holds(frontend) {
        return None;
    }
    let lines = maps.backend_lines(frontend.backends, frontend.backend_count).ok()?;
    let read = |at: u32, slots: u32, wide: bool| -> Option<(Vec<u16>, u64)> {
        let bytes = maps.ring(at, abi::ring_lines(slots, wide) as usize * LINE_BYTES).ok()?;
        Some((abi::ring_slots(&bytes, slots, wide), abi::ring_digest(&bytes)))
    };
    let (ring, digest) = read(frontend.ring, frontend.slots, frontend.flags & WIDE_SLOTS != 0)?;
    let keeps_flows = frontend.flags & KEEP_FLOWS != 0 && frontend.previous_slots > 0;
    let previous = match keeps_flows {
        true => {
            let wide = frontend.flags & WIDE_PREVIOUS != 0;
            let (slots, _) = read(frontend.previous_ring, frontend.previous_slots, wide)?;
            Some(if wide { slots } else { slots.into_iter().map(widened).collect() })
        }
        false => None,
    };
    let is_ipv4 = key.address.is_ipv4();
    let intact = (frontend.slots == 0 || digest == frontend.ring_digest)
        && frontend.slots_magic == abi::magic(frontend.slots)
        && (!keeps_flows || frontend.previous_magic == abi::magic(frontend.previous_slots))
        && lines.iter().all(|line| layout::is_whole(line, is_ipv4));
    Some(Held { frontend: *frontend, lines, ring, previous, intact })
}

/// The largest byte of a narrow previous ring is no position.
fn widened(slot: u16) -> u16 {
    if slot >= super::rings::NARROW_POSITIONS { super::rings::NO_GUESS } else { slot }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
