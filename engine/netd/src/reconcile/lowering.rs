//! What is wanted for a file on a node, and the way there; what cannot differ from the last time is not found anew.

use super::look::panic_text;
use crate::facts::Facts;
use crate::target::{Before, KindEntry};
use netd_core::{Compared, Desired, DesiredKind, KindName, Observed, Plan};
use netd_schema::Config;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The kinds, and what was wanted of them.
pub(crate) struct Planning<'a> {
    pub(crate) kinds: &'a [KindEntry],
    pub(crate) memory: &'a mut Memory,
}

/// What was wanted last, and what came of comparing it with what was found. Without it everything is found anew, with the
/// same result.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    lowered: Vec<Lowered>,
    compared: Compared,
}

/// A file that waits to be allowed is looked at beside the one in force.
const LOWERED_MAX: usize = 2;

#[derive(Debug)]
struct Lowered {
    config: Arc<Config>,
    facts: Arc<Facts>,
    desired: Desired,
}

impl Planning<'_> {
    /// What the file and the facts ask for, of every kind.
    pub(crate) fn desired(&mut self, config: &Arc<Config>, facts: &Arc<Facts>) -> Desired {
        let facts = named(config, facts);
        let known = self.memory.lowered.iter().position(|known| Arc::ptr_eq(&known.config, config));
        let before = known.or(self.memory.lowered.len().checked_sub(1));
        let before = before.and_then(|at| self.memory.lowered.get(at));
        let of = |kind: &KindEntry| (kind.name, lower(kind, config, &facts, before));
        let desired = Desired(self.kinds.iter().map(of).collect());
        if let Some(at) = known.or((self.memory.lowered.len() >= LOWERED_MAX).then_some(0)) {
            self.memory.lowered.remove(at);
        }
        let config = Arc::clone(config);
        self.memory.lowered.push(Lowered { config, facts, desired: desired.clone() });
        desired
    }

    /// The way from what was found to what is wanted.
    pub(crate) fn plan(&mut self, desired: &Desired, observed: &Observed) -> Plan {
        self.memory.compared.plan(&order(self.kinds), desired, observed)
    }
}

/// The kinds from the ground up.
pub(crate) fn order(kinds: &[KindEntry]) -> Vec<KindName> {
    kinds.iter().map(|kind| kind.name).collect()
}

fn lower(
    kind: &KindEntry,
    config: &Arc<Config>,
    facts: &Arc<Facts>,
    before: Option<&Lowered>,
) -> Result<Arc<DesiredKind>, String> {
    let found = || match before.and_then(|before| again(kind, config, facts, before)) {
        Some(desired) => Ok(desired),
        None => (kind.desired)(config, facts).map(Arc::new),
    };
    catch_unwind(AssertUnwindSafe(found))
        .unwrap_or_else(|panic| Err(format!("deciding what is wanted panicked: {}", panic_text(&*panic))))
}

/// What follows from what was wanted before.
fn again(
    kind: &KindEntry,
    config: &Arc<Config>,
    facts: &Arc<Facts>,
    before: &Lowered,
) -> Option<Arc<DesiredKind>> {
    let desired = before.desired.0.get(kind.name)?.as_ref().ok()?;
    if Arc::ptr_eq(&before.config, config) && before.facts == *facts && desired.turns_in.is_none() {
        return Some(Arc::clone(desired));
    }
    let before = Before { config: &before.config, facts: &before.facts, desired };
    kind.again.and_then(|again| again(config, facts, &before))
}

/// A host may be called by its full name while the file lists the first label of it.
fn named(config: &Config, facts: &Arc<Facts>) -> Arc<Facts> {
    let short = facts.node.split_once('.').map(|(short, _)| short);
    match short.filter(|short| config.node(&facts.node).is_none() && config.node(short).is_some()) {
        Some(short) => Arc::new(Facts { node: short.to_owned(), ..Facts::clone(facts) }),
        None => Arc::clone(facts),
    }
}
