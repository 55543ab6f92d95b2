//! The difference between what is wanted and what is there, in the order in which it can be closed.

use crate::needs;
use crate::resource::{Desired, FieldChange, Key, KindName, Observed, Reading, ResourceId, Spec, Table};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What is done to one resource.
#[derive(Clone, Debug)]
pub enum Action {
    /// It is not there yet.
    Create {
        /// How it will be.
        to: Arc<dyn Spec>,
    },
    /// It is there, and differs.
    Update {
        /// How it was found.
        from: Arc<dyn Spec>,
        /// How it will be.
        to: Arc<dyn Spec>,
    },
    /// It is there, is netd's, and nothing asks for it.
    Delete {
        /// How it was found.
        from: Arc<dyn Spec>,
    },
}

impl Action {
    /// `create`, `update` or `delete`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Update { .. } => "update",
            Self::Delete { .. } => "delete",
        }
    }

    /// The differences, a line each.
    #[must_use]
    pub fn fields(&self) -> Vec<FieldChange> {
        match self {
            Self::Create { to } => to.parts(),
            Self::Update { from, to } => to.changes(from.as_ref()),
            Self::Delete { .. } => Vec::new(),
        }
    }

    /// The spec that a reader is shown: the new one, or the one that goes.
    #[must_use]
    pub fn spec(&self) -> &Arc<dyn Spec> {
        match self {
            Self::Create { to } | Self::Update { to, .. } => to,
            Self::Delete { from } => from,
        }
    }
}

/// One change of a plan.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is changed.
    pub id: ResourceId,
    /// How.
    pub action: Action,
}

/// A wanted key that something else holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// What is wanted.
    pub id: ResourceId,
    /// Who has it.
    pub holder: String,
}

/// Something wanted for which a thing is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// What is wanted.
    pub id: ResourceId,
    /// What it waits for.
    pub reason: String,
}

/// A kind of which nothing is planned, because it could not be read or its facts are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// The kind.
    pub kind: KindName,
    /// Why.
    pub reason: String,
}

/// Something that was decided before the changes, and that they follow from: who is given which address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// What was decided about; of no kind that changes are made for.
    pub id: ResourceId,
    /// How it was; `None` if it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How it will be; `None` if it goes away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// As a person reads it.
    pub text: String,
}

/// How many resources of a kind there are, and should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Wanted, those that wait included.
    pub desired: usize,
    /// Found and owned.
    pub observed: usize,
    /// Of those, how many the plan deletes.
    pub deletes: usize,
}

/// Names a plan by its content: the same steps have the same identifier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PlanId(String);

impl PlanId {
    /// The identifier as text: 16 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The smallest set of changes that makes the node what the file says, in the order to make them.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The changes. First everything that comes up, kind by kind in bring-up order; then what goes, backwards.
    pub steps: Vec<Step>,
    /// What the changes follow from, sorted.
    pub remarks: Vec<Remark>,
    /// Wanted keys that are held by others: never overwritten.
    pub conflicts: Vec<Conflict>,
    /// Wanted, and waiting.
    pub held: Vec<Held>,
    /// What has to be done before some of the steps: of each list one.
    pub needs: BTreeMap<ResourceId, Vec<Vec<ResourceId>>>,
    /// Kinds that are left out.
    pub unread: Vec<Unread>,
    /// Counts by kind, of the kinds that were read.
    pub totals: BTreeMap<KindName, Totals>,
}

impl Plan {
    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many resources are created, updated and deleted.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        self.steps.iter().fold((0, 0, 0), |(create, update, delete), step| match step.action {
            Action::Create { .. } => (create + 1, update, delete),
            Action::Update { .. } => (create, update + 1, delete),
            Action::Delete { .. } => (create, update, delete + 1),
        })
    }

    /// The identifier that an operator allows a dangerous plan by.
    #[must_use]
    pub fn id(&self) -> PlanId {
        let mut hash = Sha256::new();
        for step in &self.steps {
            hash.update(step.action.word());
            hash.update([0]);
            hash.update(step.id.kind);
            hash.update([0]);
            hash.update(step.id.key.as_str());
            hash.update([0]);
            match &step.action {
                Action::Create { to } | Action::Update { to, .. } => {
                    hash.update(to.identity());
                }
                Action::Delete { .. } => {}
            }
            hash.update([0]);
        }
        PlanId(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Plans the way from `observed` to `desired`.
///
/// `order` lists the kinds from the ground up. Bring-up walks it forwards, tear-down backwards, and nothing is torn
/// down before its replacement is up. A kind that was not read, or for which nothing desired can be told, is left
/// out: what is unknown is not empty.
#[must_use]
pub fn plan(order: &[KindName], desired: &Desired, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let mut deletes: Vec<Vec<Step>> = Vec::new();
    for &kind in order {
        let wanted = match desired.0.get(kind) {
            Some(Ok(wanted)) => wanted,
            Some(Err(reason)) => {
                plan.unread.push(Unread { kind, reason: reason.clone() });
                continue;
            }
            None => continue,
        };
        let found = match observed.0.get(kind) {
            Some(Reading::Known(found)) => found,
            Some(Reading::Unknown(reason)) => {
                plan.unread.push(Unread { kind, reason: reason.clone() });
                continue;
            }
            None => {
                plan.unread.push(Unread { kind, reason: "it was not read".into() });
                continue;
            }
        };
        for (key, reason) in &wanted.held {
            plan.held.push(Held { id: ResourceId { kind, key: key.clone() }, reason: reason.clone() });
        }
        let (up, conflicts) = coming_up(kind, &wanted.table, &found.owned, &found.foreign);
        let keep: BTreeSet<&Key> = wanted.table.keys().chain(wanted.held.keys()).collect();
        let down = going_down(kind, &keep, &found.owned);
        plan.totals
            .insert(kind, Totals { desired: keep.len(), observed: found.owned.len(), deletes: down.len() });
        needs::add(&mut plan, up, &wanted.needs, observed);
        plan.conflicts.extend(conflicts);
        deletes.push(down);
    }
    plan.steps.extend(deletes.into_iter().rev().flatten());
    plan
}

fn coming_up(
    kind: KindName,
    wanted: &Table,
    owned: &Table,
    foreign: &BTreeMap<Key, String>,
) -> (Vec<Step>, Vec<Conflict>) {
    let mut steps = Vec::new();
    let mut conflicts = Vec::new();
    for (key, to) in wanted {
        let id = || ResourceId { kind, key: key.clone() };
        match owned.get(key) {
            Some(from) if to.satisfied_by(from.as_ref()) => {}
            Some(from) => {
                let action = Action::Update { from: Arc::clone(from), to: Arc::clone(to) };
                steps.push(Step { id: id(), action });
            }
            None => match foreign.get(key) {
                Some(holder) => conflicts.push(Conflict { id: id(), holder: holder.clone() }),
                None => steps.push(Step { id: id(), action: Action::Create { to: Arc::clone(to) } }),
            },
        }
    }
    (steps, conflicts)
}

fn going_down(kind: KindName, keep: &BTreeSet<&Key>, owned: &Table) -> Vec<Step> {
    owned
        .iter()
        .filter(|(key, _)| !keep.contains(key))
        .map(|(key, from)| Step {
            id: ResourceId { kind, key: key.clone() },
            action: Action::Delete { from: Arc::clone(from) },
        })
        .collect()
}
