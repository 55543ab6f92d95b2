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

impl Memory {
    /// Keeps nothing of files but this one, which may be large.
    pub(crate) fn keep_only(&mut self, config: &Arc<Config>) {
        self.lowered.retain(|known| Arc::ptr_eq(&known.config, config));
    }
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
    // A mistake in the short way is not one of the kind: the long way is the one that counts.
    let short = || before.and_then(|before| again(kind, config, facts, before));
    if let Ok(Some(desired)) = unless_it_panics(kind, short) {
        return Ok(desired);
    }
    unless_it_panics(kind, || (kind.desired)(config, facts).map(Arc::new)).unwrap_or_else(Err)
}

/// What `decide` finds, or what its panic said.
fn unless_it_panics<T>(kind: &KindEntry, decide: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decide)).map_err(|panic| {
        let text = panic_text(&*panic);
        tracing::error!(kind = kind.name, panic = %text, "deciding what is wanted panicked");
        format!("deciding what is wanted panicked: {text}")
    })
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

/// With the node's name as the file has it.
pub(super) fn named(config: &Config, facts: &Arc<Facts>) -> Arc<Facts> {
    match config.node_of_host(&facts.node).filter(|node| node.name != facts.node) {
        Some(node) => Arc::new(Facts { node: node.name.clone(), ..Facts::clone(facts) }),
        None => Arc::clone(facts),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::fake::FakeTarget;
    use netd_core::Key;

    fn desired(config: &Config, _: &Facts) -> Result<DesiredKind, String> {
        let keys = config.services.iter().map(|service| Key::new(&service.name)).collect();
        Ok(DesiredKind { kept: keys, ..DesiredKind::default() })
    }

    fn kind(again: crate::target::Again) -> KindEntry {
        KindEntry {
            name: "thing",
            guarded: false,
            carries_traffic: false,
            desired,
            again: Some(again),
            target: Box::<FakeTarget>::default(),
        }
    }

    fn of_a_service(name: &str) -> Arc<Config> {
        let service = netd_schema::Service { name: name.into(), ..netd_schema::Service::default() };
        Arc::new(Config { services: vec![service], ..Config::default() })
    }

    #[test]
    fn p16_a_panic_on_the_short_way_is_none_on_the_long_one() {
        let (kinds, mut memory) = ([kind(|_, _, _| panic!("a bug"))], Memory::default());
        let facts = Arc::new(Facts::default());
        for name in ["a", "b"] {
            let mut planning = Planning { kinds: &kinds, memory: &mut memory };
            let desired = planning.desired(&of_a_service(name), &facts);
            assert!(desired.0["thing"].as_ref().unwrap().kept.contains(name));
        }
    }

    #[test]
    fn what_is_not_in_force_any_more_is_not_remembered() {
        let (kinds, mut memory) = ([kind(|_, _, _| None)], Memory::default());
        let (old, new) = (of_a_service("a"), of_a_service("b"));
        for config in [&old, &new] {
            Planning { kinds: &kinds, memory: &mut memory }.desired(config, &Arc::default());
        }
        assert_eq!(Arc::strong_count(&old), 2);
        memory.keep_only(&new);
        assert_eq!((Arc::strong_count(&old), Arc::strong_count(&new)), (1, 2));
    }
}
