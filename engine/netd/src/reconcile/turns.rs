//! Whose turn it is: keeps steps out of a pass whose resource has to wait, and learns from what came of the others.

use super::apply::Outcomes;
use super::drift::Settled;
use super::status::Standing;
use crate::facts::{Address, Facts, Link};
use netd_core::{Outcome, Pacing, Plan, ResourceId, Status, Step};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

/// Knows when each resource is tried again.
#[derive(Debug, Default)]
pub(super) struct Turns {
    pacing: Pacing,
    /// What of the node is in the way of changes, or out of it, as it was last.
    ground: (BTreeMap<u32, Link>, Vec<Address>),
    pub(super) seed: u64,
    /// When this pass asked whose turn it is, if it did.
    asked: Option<Duration>,
}

/// What of a plan is not done in this pass.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    stands: BTreeMap<ResourceId, Status>,
    pub(super) steps: Vec<Step>,
}

impl Turns {
    /// Those of this node and instance: nodes differ, so that they do not try in step.
    pub(super) fn of(node: &str, instance: &str) -> Self {
        let mut seed = DefaultHasher::new();
        (node, instance).hash(&mut seed);
        Self { seed: seed.finish(), ..Self::default() }
    }

    /// Everything is tried at once.
    pub(super) fn forget(&mut self) {
        self.pacing.forget();
    }

    /// Takes the steps out of the plan whose time has not come.
    pub(super) fn hold(
        &mut self,
        plan: &mut Plan,
        settled: &Settled,
        facts: &Facts,
        now: Duration,
    ) -> Waiting {
        if self.ground.0 != facts.links || self.ground.1 != facts.addresses {
            self.ground = (facts.links.clone(), facts.addresses.clone());
            self.pacing.hurry();
        }
        self.asked = Some(now);
        for id in settled.flipped(plan) {
            self.pacing.flipped(id, now, self.spread(id, now));
        }
        let mut waiting = Waiting::default();
        for Step { id, .. } in &plan.steps {
            if let Some(status) = self.pacing.waits(id, now) {
                waiting.stands.insert(id.clone(), status);
            }
        }
        waiting.take_from(plan);
        waiting
    }

    /// Learns from what is left of the plan after a pass; whether something is left that no time is set for.
    pub(super) fn learn(
        &mut self,
        left: &Plan,
        standing: &Standing,
        outcomes: &Outcomes,
        waiting: &Waiting,
        now: Duration,
    ) -> bool {
        let mut failing: BTreeSet<&ResourceId> = waiting.stands.keys().collect();
        let mut is_open = false;
        for step in left.steps.iter().filter(|step| !waiting.stands.contains_key(&step.id)) {
            match (outcomes.get(&step.id), standing.not_ready.get(&step.id)) {
                (Some(Outcome::Applied | Outcome::Failed(_) | Outcome::Conflict(_)), Some(status)) => {
                    self.pacing.failed(&step.id, status.clone(), now, self.spread(&step.id, now));
                    failing.insert(&step.id);
                }
                // It waits for what failed.
                (Some(Outcome::Skipped(_)), _) => {}
                (None, _) | (Some(_), None) => is_open = true,
            }
        }
        self.pacing.fail_still(&failing);
        is_open
    }

    /// In how long the next turn comes, at the end of a pass.
    pub(super) fn next(&mut self, now: Duration) -> Option<Duration> {
        self.pacing.next(self.asked.take().unwrap_or(now), now)
    }

    fn spread(&self, id: &ResourceId, now: Duration) -> u64 {
        let mut spread = DefaultHasher::new();
        (self.seed, id.kind, id.key.as_str(), now).hash(&mut spread);
        spread.finish()
    }
}

impl Waiting {
    /// Takes what waits out of a plan.
    pub(super) fn take_from(&mut self, plan: &mut Plan) {
        if !self.stands.is_empty() {
            let steps = std::mem::take(&mut plan.steps);
            (self.steps, plan.steps) = steps.into_iter().partition(|step| self.stands.contains_key(&step.id));
        }
    }

    /// Puts what was taken out last back: it is still to be done.
    pub(super) fn put_back(&mut self, plan: &mut Plan) {
        plan.steps.append(&mut self.steps);
    }

    /// Says how what waits stands, as far as it does.
    pub(super) fn stand(&self, standing: &mut Standing) {
        for (id, status) in &self.stands {
            if let Some(stands) = standing.not_ready.get_mut(id) {
                stands.clone_from(status);
            }
        }
    }
}
