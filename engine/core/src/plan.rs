//! The difference between what is wanted and what is there, in the order in which it can be closed.

use crate::needs;
use crate::resource::{
    Desired, DesiredKind, FieldChange, Key, KindName, Observation, Observed, Reading, ResourceId, Spec,
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
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
    Compared::default().plan(order, desired, observed)
}

/// What came of comparing a kind's tables, kept for the next plan: the same two tables are not compared again.
#[derive(Debug, Default)]
pub struct Compared(BTreeMap<KindName, Comparison>);

#[derive(Clone, Debug)]
struct Comparison {
    wanted: Arc<DesiredKind>,
    found: Arc<Observation>,
    up: Vec<Step>,
    conflicts: Vec<Conflict>,
    down: Vec<Step>,
}

impl Compared {
    /// As [`plan`], with the same result.
    #[must_use]
    pub fn plan(&mut self, order: &[KindName], desired: &Desired, observed: &Observed) -> Plan {
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
            let Comparison { up, conflicts, down, .. } = self.comparison(kind, wanted, found);
            let held = wanted.held.keys().filter(|key| !wanted.table.contains_key(*key)).count();
            let desired = wanted.table.len() + held;
            plan.totals.insert(kind, Totals { desired, observed: found.owned.len(), deletes: down.len() });
            needs::add(&mut plan, up, &wanted.needs, observed);
            plan.conflicts.extend(conflicts);
            deletes.push(down);
        }
        plan.steps.extend(deletes.into_iter().rev().flatten());
        plan
    }

    fn comparison(
        &mut self,
        kind: KindName,
        wanted: &Arc<DesiredKind>,
        found: &Arc<Observation>,
    ) -> Comparison {
        let is_same =
            |known: &&Comparison| Arc::ptr_eq(&known.wanted, wanted) && Arc::ptr_eq(&known.found, found);
        if let Some(known) = self.0.get(kind).filter(is_same) {
            return known.clone();
        }
        let comparison = compare(kind, wanted, found);
        self.0.insert(kind, comparison.clone());
        comparison
    }
}

/// Walks both tables, which are in the order of their keys, side by side.
fn compare(kind: KindName, wanted: &Arc<DesiredKind>, found: &Arc<Observation>) -> Comparison {
    let (mut up, mut down, mut conflicts) = (Vec::new(), Vec::new(), Vec::new());
    let id = |key: &Key| ResourceId { kind, key: key.clone() };
    let mut owned = found.owned.iter().peekable();
    let mut goes = |key: &Key, from: &Arc<dyn Spec>| {
        let stays = wanted.stays.is_some() || wanted.held.contains_key(key) || wanted.kept.contains(key);
        if !stays {
            down.push(Step { id: id(key), action: Action::Delete { from: Arc::clone(from) } });
        }
    };
    for (key, to) in &wanted.table {
        while let Some((before, from)) = owned.next_if(|(before, _)| *before < key) {
            goes(before, from);
        }
        match owned.next_if(|(same, _)| *same == key) {
            Some((_, from)) if to.satisfied_by(from.as_ref()) => {}
            Some((_, from)) => {
                let action = Action::Update { from: Arc::clone(from), to: Arc::clone(to) };
                up.push(Step { id: id(key), action });
            }
            None => match found.foreign.get(key) {
                Some(holder) => conflicts.push(Conflict { id: id(key), holder: holder.clone() }),
                None => up.push(Step { id: id(key), action: Action::Create { to: Arc::clone(to) } }),
            },
        }
    }
    for (key, from) in owned {
        goes(key, from);
    }
    Comparison { wanted: Arc::clone(wanted), found: Arc::clone(found), up, conflicts, down }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::table;
    use std::fmt::Write as _;

    const KIND: KindName = "thing";

    fn world(wanted: DesiredKind, owned: &[(&str, &'static str)]) -> (Desired, Observed) {
        let found = Observation { owned: table(owned), ..Observation::default() };
        (Desired([(KIND, Ok(wanted.into()))].into()), Observed([(KIND, Reading::Known(found.into()))].into()))
    }

    fn shown(plan: &Plan) -> String {
        let mut text = String::new();
        for step in &plan.steps {
            let _ = write!(text, "{} {}; ", step.action.word(), step.id.key);
        }
        text
    }

    #[test]
    fn what_is_neither_asked_for_nor_to_go_stays() {
        let kept = [Key::new("b")].into();
        let (desired, observed) =
            world(DesiredKind { kept, ..DesiredKind::default() }, &[("a", "red"), ("b", "red")]);
        let plan = plan(&[KIND], &desired, &observed);
        assert_eq!(shown(&plan), "delete a; ");
        assert_eq!(plan.totals.get(KIND), Some(&Totals { desired: 0, observed: 2, deletes: 1 }));
    }

    #[test]
    fn of_a_kind_that_stays_nothing_goes() {
        let stays = Some("it is in use".into());
        let wanted = DesiredKind { table: table(&[("b", "red")]), stays, ..DesiredKind::default() };
        let (desired, observed) = world(wanted, &[("a", "red"), ("b", "blue")]);
        assert_eq!(shown(&plan(&[KIND], &desired, &observed)), "update b; ");
    }

    #[test]
    fn tables_are_compared_key_by_key() {
        let wanted = DesiredKind {
            table: table(&[("b", "red"), ("c", "red"), ("e", "red"), ("g", "red")]),
            held: [(Key::new("d"), "no device".into())].into(),
            ..DesiredKind::default()
        };
        let owned = [("a", "red"), ("b", "red"), ("c", "blue"), ("d", "red"), ("f", "red")];
        let (desired, observed) = world(wanted, &owned);
        let plan = plan(&[KIND], &desired, &observed);
        assert_eq!(shown(&plan), "update c; create e; create g; delete a; delete f; ");
        assert_eq!(plan.totals.get(KIND), Some(&Totals { desired: 5, observed: 5, deletes: 2 }));
    }

    #[test]
    fn the_same_tables_give_the_same_plan_and_others_another() {
        let mut compared = Compared::default();
        let wanted = || DesiredKind { table: table(&[("a", "red")]), ..DesiredKind::default() };
        let (desired, observed) = world(wanted(), &[("a", "blue")]);
        for _ in 0..2 {
            assert_eq!(shown(&compared.plan(&[KIND], &desired, &observed)), "update a; ");
        }
        let (_, observed) = world(wanted(), &[("a", "red")]);
        assert!(compared.plan(&[KIND], &desired, &observed).is_empty());
        let (desired, _) = world(DesiredKind::default(), &[]);
        assert_eq!(shown(&compared.plan(&[KIND], &desired, &observed)), "delete a; ");
    }
}
