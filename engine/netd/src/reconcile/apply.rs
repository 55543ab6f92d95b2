//! Makes the changes of a plan, a group of one kind at a time, and collects what came of each.

use super::look::guarded;
use crate::facts::Facts;
use crate::target::KindEntry;
use netd_core::{Action, KindName, Outcome, Plan, ResourceId, Step};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What came of each step that was looked at.
pub(crate) type Outcomes = BTreeMap<ResourceId, Outcome>;

/// How far an apply has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The kind at hand.
    pub kind: KindName,
    /// Steps behind.
    pub done: usize,
    /// Steps altogether.
    pub total: usize,
}

/// At most so many steps go to a target at once: enough to batch, few enough to show progress and to stop between.
const GROUP_STEPS_MAX: usize = 4096;

/// A group takes milliseconds to seconds; a target that needs longer than this hangs.
const GROUP_MAX: Duration = Duration::from_secs(60);

/// How a plan is applied.
pub(crate) struct Manner<'a> {
    /// Set, it ends between two groups: every prefix of a plan is safe.
    pub(crate) stop: &'a AtomicBool,
    /// Told of each group.
    pub(crate) progress: &'a (dyn Fn(Progress) + Send + Sync),
    /// What is to be done too, and is not this time.
    pub(crate) waiting: &'a [Step],
}

/// Applies the plan in its order.
pub(crate) async fn apply(
    kinds: &mut [KindEntry],
    plan: &Plan,
    facts: &Facts,
    Manner { stop, progress, waiting }: Manner<'_>,
) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let coming = waiting.iter().filter(|step| !matches!(step.action, Action::Delete { .. }));
    let place_of =
        |step: &Step| kinds.iter().position(|kind| kind.name == step.id.kind && kind.carries_traffic);
    let mut hurt = coming.filter_map(place_of).max();
    for group in plan.steps.chunk_by(together).flat_map(|run| run.chunks(GROUP_STEPS_MAX)) {
        let Some(first) = group.first() else { continue };
        progress(Progress { kind: first.id.kind, done: outcomes.len(), total: plan.steps.len() });
        if stop.load(Ordering::Relaxed) {
            skip(&mut outcomes, group, "netd is stopping");
            continue;
        }
        let Some(place) = kinds.iter().position(|kind| kind.name == first.id.kind) else {
            skip(&mut outcomes, group, "nothing knows this kind");
            continue;
        };
        let is_delete = matches!(first.action, Action::Delete { .. });
        // What a failed change stands on must not go before the change is made: it may be what is still in use. Neither
        // must what the change was to take the place of.
        let exchanges = kinds.get(place).is_some_and(|kind| kind.target.exchanges());
        let bears = |above: &usize| *above > place || (exchanges && *above == place);
        if is_delete && let Some(above) = hurt.filter(bears) {
            let above = kinds.get(above).map_or("another kind", |kind| kind.name);
            skip(&mut outcomes, group, &format!("it stays until every {above} is up"));
            continue;
        }
        let Some(kind) = kinds.get_mut(place) else { continue };
        let group = standing(plan, group, &mut outcomes);
        let done = apply_group(kind, &group, facts).await;
        if !is_delete
            && kind.carries_traffic
            && done.iter().any(|outcome| matches!(outcome, Outcome::Failed(_) | Outcome::Skipped(_)))
        {
            hurt = hurt.max(Some(place));
        }
        outcomes.extend(group.iter().map(|step| step.id.clone()).zip(done));
    }
    outcomes
}

/// The steps of a group that stand on what is there; the others are skipped.
fn standing<'g>(plan: &Plan, group: &'g [Step], outcomes: &mut Outcomes) -> Cow<'g, [Step]> {
    let missing = |step: &Step| {
        let is_done = |id: &ResourceId| outcomes.get(id) == Some(&Outcome::Applied);
        let open = plan.needs.get(&step.id)?.iter().find(|any| !any.iter().any(is_done))?;
        open.first().cloned()
    };
    let missing: Vec<Option<ResourceId>> = group.iter().map(missing).collect();
    if missing.iter().all(Option::is_none) {
        return Cow::Borrowed(group);
    }
    let mut standing = Vec::new();
    for (step, missing) in group.iter().zip(missing) {
        match missing {
            Some(id) => {
                outcomes.insert(step.id.clone(), Outcome::Skipped(format!("it waits for {id}")));
            }
            None => standing.push(step.clone()),
        }
    }
    Cow::Owned(standing)
}

/// Deletes are a run of their own: they are judged by another rule.
fn together(a: &Step, b: &Step) -> bool {
    let is_delete = |step: &Step| matches!(step.action, Action::Delete { .. });
    a.id.kind == b.id.kind && is_delete(a) == is_delete(b)
}

async fn apply_group(kind: &mut KindEntry, group: &[Step], facts: &Facts) -> Vec<Outcome> {
    match guarded("changing it", GROUP_MAX, kind.target.apply(group, facts)).await {
        Ok(mut outcomes) => {
            // One outcome for each step is the target's promise; what it does not answer for is not done.
            outcomes.resize(group.len(), Outcome::Failed("the target did not say what came of it".into()));
            outcomes
        }
        Err(why) => vec![Outcome::Failed(why); group.len()],
    }
}

fn skip(outcomes: &mut Outcomes, group: &[Step], why: &str) {
    outcomes.extend(group.iter().map(|step| (step.id.clone(), Outcome::Skipped(why.to_owned()))));
}
