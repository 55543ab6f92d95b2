//! How each resource stands after a pass: what is wanted, what is left of the plan, what came of the steps.

use super::apply::Outcomes;
use crate::report::{KindReport, LISTED_MAX, ResourceNote, ResourceReport, Word};
use netd_core::{Desired, KindName, Observed, Outcome, Phase, Plan, Reading, ResourceId, Status};
use std::collections::BTreeMap;

/// How the resources stand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Those that are not ready.
    pub(crate) not_ready: BTreeMap<ResourceId, Status>,
    /// Kinds of which nothing is known, and why.
    pub(crate) unread: BTreeMap<KindName, String>,
}

impl Standing {
    /// How everything stands when `left` is what a plan still finds to do.
    pub(crate) fn of(left: &Plan, outcomes: &Outcomes) -> Self {
        let mut not_ready = BTreeMap::new();
        for held in &left.held {
            not_ready.insert(held.id.clone(), Status::new(Phase::Pending, held.reason.clone()));
        }
        for conflict in &left.conflicts {
            let message = format!("held by {}", conflict.holder);
            not_ready.insert(conflict.id.clone(), Status::new(Phase::Conflict, message));
        }
        for step in &left.steps {
            let verb = step.action.word();
            let status = match outcomes.get(&step.id) {
                Some(Outcome::Failed(why)) => Status::new(Phase::Failed, format!("{verb}: {why}")),
                Some(Outcome::Skipped(why)) => Status::new(Phase::Pending, format!("{verb}: {why}")),
                Some(Outcome::Conflict(why)) => Status::new(Phase::Conflict, why.clone()),
                Some(Outcome::Applied) => {
                    Status::new(Phase::Failed, format!("{verb}: it was done, and is not there"))
                }
                None => Status::new(Phase::Pending, format!("{verb}: not done yet")),
            };
            not_ready.insert(step.id.clone(), status);
        }
        let unread = left.unread.iter().map(|unread| (unread.kind, unread.reason.clone())).collect();
        Self { not_ready, unread }
    }

    /// Whether looking again makes sense: something is held by somebody or could not be read.
    pub(crate) fn needs_look(&self, left: &Plan) -> bool {
        !left.conflicts.is_empty() || !self.unread.is_empty()
    }

    /// The resources in one word.
    pub(crate) fn word(&self) -> Word {
        let has = |phases: &[Phase]| self.not_ready.values().any(|status| phases.contains(&status.phase));
        if !self.unread.is_empty() || has(&[Phase::Failed, Phase::Conflict]) {
            Word::Degraded
        } else if has(&[Phase::Pending]) {
            Word::Pending
        } else {
            Word::Ok
        }
    }

    /// Counts by kind.
    pub(crate) fn kinds(&self, order: &[KindName], desired: &Desired) -> BTreeMap<String, KindReport> {
        let mut kinds: BTreeMap<&str, KindReport> = BTreeMap::new();
        for &kind in order {
            let report = kinds.entry(kind).or_default();
            report.unread = self.unread.get(kind).cloned();
        }
        // What is only decided has no place in the order.
        for (&kind, wanted) in &desired.0 {
            let Ok(wanted) = wanted else { continue };
            kinds.entry(kind).or_default().desired = wanted.table.len() + wanted.held.len();
        }
        for (id, status) in &self.not_ready {
            let report = kinds.entry(id.kind).or_default();
            match status.phase {
                Phase::Ready => {}
                Phase::Pending => report.pending += 1,
                Phase::Failed => report.failed += 1,
                Phase::Conflict => report.conflict += 1,
            }
        }
        for (kind, report) in &mut kinds {
            let wanted_and_not_ready =
                self.not_ready.keys().filter(|id| id.kind == *kind && is_desired(desired, id)).count();
            if report.unread.is_none() {
                report.ready = report.desired.saturating_sub(wanted_and_not_ready);
            }
        }
        kinds.into_iter().map(|(kind, report)| (kind.to_owned(), report)).collect()
    }

    /// The list of those that are not ready.
    pub(crate) fn listed(&self) -> Vec<ResourceReport> {
        let entry = |(id, status): (&ResourceId, &Status)| ResourceReport {
            kind: id.kind.to_owned(),
            key: id.key.to_string(),
            phase: status.phase,
            message: status.message.clone(),
        };
        self.not_ready.iter().take(LISTED_MAX).map(entry).collect()
    }
}

/// Whether the file asks for this resource.
pub(crate) fn is_desired(desired: &Desired, id: &ResourceId) -> bool {
    let Some(Ok(wanted)) = desired.0.get(id.kind) else { return false };
    wanted.table.contains_key(&id.key) || wanted.held.contains_key(&id.key)
}

/// Every wanted resource with its phase: the long list.
pub(crate) fn all(desired: &Desired, standing: &Standing) -> Vec<ResourceReport> {
    let mut list = Vec::new();
    for (&kind, wanted) in &desired.0 {
        let Ok(wanted) = wanted else { continue };
        if standing.unread.contains_key(kind) {
            continue;
        }
        for key in wanted.table.keys() {
            let id = ResourceId { kind, key: key.clone() };
            if !standing.not_ready.contains_key(&id) {
                let (key, message) = (key.to_string(), String::new());
                list.push(ResourceReport { kind: kind.to_owned(), key, phase: Phase::Ready, message });
            }
        }
    }
    list.extend(standing.listed());
    list.sort_by(|a, b| (&a.kind, &a.key).cmp(&(&b.kind, &b.key)));
    list
}

/// What an operator should know about resources, wanted or found.
pub(crate) fn notes(desired: &Desired, observed: &Observed) -> Vec<ResourceNote> {
    let mut notes = Vec::new();
    for (kind, wanted) in &desired.0 {
        let Ok(wanted) = wanted else { continue };
        notes.extend(wanted.notes.iter().map(|(key, note)| (*kind, key, note, wanted.coming.contains(key))));
        if let Some(Reading::Known(found)) = observed.0.get(kind) {
            notes.extend(found.notes.iter().map(|(key, note)| (*kind, key, note, false)));
        }
    }
    notes.sort();
    notes.dedup();
    let entry = |(kind, key, note, incomplete): (KindName, &netd_core::Key, &String, bool)| ResourceNote {
        kind: kind.to_owned(),
        key: key.to_string(),
        note: note.clone(),
        incomplete,
    };
    notes.into_iter().take(LISTED_MAX).map(entry).collect()
}
