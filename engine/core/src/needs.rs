//! Which new resources have to wait for others, because they would stand on nothing.

use crate::plan::{Action, Held, Plan, Step};
use crate::resource::{Key, Need, Observed, Reading, ResourceId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Adds what comes up of a kind to the plan. What stands on something that is neither there nor comes up before it is
/// held; what stands on something that comes up is made only after that was.
pub(crate) fn add(plan: &mut Plan, up: Vec<Step>, needs: &BTreeMap<Key, Arc<[Need]>>, observed: &Observed) {
    if needs.is_empty() {
        plan.steps.extend(up);
        return;
    }
    let ground = Ground { observed, coming: coming(plan) };
    for step in up {
        let is_new = matches!(step.action, Action::Create { .. });
        let stands_on = needs.get(&step.id.key).filter(|_| is_new);
        match stands_on.map_or(Ok(Vec::new()), |stands_on| ground.bears(stands_on)) {
            Err(reason) => plan.held.push(Held { id: step.id, reason }),
            Ok(open) => {
                if !open.is_empty() {
                    plan.needs.insert(step.id.clone(), open);
                }
                plan.steps.push(step);
            }
        }
    }
}

/// What is there, and what comes up before.
struct Ground<'a> {
    observed: &'a Observed,
    coming: BTreeSet<ResourceId>,
}

fn coming(plan: &Plan) -> BTreeSet<ResourceId> {
    let is_new = |step: &&Step| matches!(step.action, Action::Create { .. });
    plan.steps.iter().filter(is_new).map(|step| step.id.clone()).collect()
}

impl Ground<'_> {
    /// What of the needs is still to be made; `Err` says what is missing.
    fn bears(&self, needs: &[Need]) -> Result<Vec<Vec<ResourceId>>, String> {
        let mut open = Vec::new();
        for need in needs {
            match need {
                Need::One(id) if self.has(id) => {}
                Need::One(id) if self.coming.contains(id) => open.push(vec![id.clone()]),
                Need::One(id) => return Err(format!("it waits for {id}")),
                Need::AnyOf(kind) if self.has_any(kind) => {}
                Need::AnyOf(kind) => {
                    let any: Vec<ResourceId> =
                        self.coming.iter().filter(|id| id.kind == *kind).cloned().collect();
                    if any.is_empty() {
                        return Err(format!("it waits for any {kind}"));
                    }
                    open.push(any);
                }
            }
        }
        Ok(open)
    }

    fn has(&self, id: &ResourceId) -> bool {
        matches!(self.observed.0.get(id.kind), Some(Reading::Known(found)) if found.owned.contains_key(&id.key))
    }

    fn has_any(&self, kind: &str) -> bool {
        matches!(self.observed.0.get(kind), Some(Reading::Known(found)) if !found.owned.is_empty())
    }
}
