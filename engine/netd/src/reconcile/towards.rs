//! The way towards a file: its services and egress policies get their addresses, the kinds say what they want, and the plan follows.

use super::decide::{InForce, Look};
use super::lowering::Planning;
use crate::allocation::{self, AddressReport, Allocation, Held};
use netd_core::{Brake, Desired, Plan};
use netd_schema::Config;
use std::borrow::Cow;
use std::sync::Arc;

/// A file with the addresses that its services get. Nothing of it changes from pass to pass.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// The file itself.
    pub(crate) config: Arc<Config>,
    /// The same, with the VIPs of all services in it.
    pub(crate) resolved: Arc<Config>,
    /// What services had before.
    held: Arc<Held>,
    allocation: Allocation,
    /// What the file alone would give.
    alone: Allocation,
}

impl Given {
    /// Gives the services of a file their addresses; `held` is what services have.
    pub(crate) fn of(config: &Arc<Config>, held: Arc<Held>) -> Self {
        let allocation = allocation::allocate(config, &held);
        let resolved = match allocation.resolve(config) {
            Cow::Borrowed(_) => Arc::clone(config),
            Cow::Owned(resolved) => Arc::new(resolved),
        };
        let alone = allocation::allocate(config, &Held::new());
        Self { config: Arc::clone(config), resolved, held, allocation, alone }
    }

    /// What the services with a pool get.
    pub(crate) fn addresses(&self) -> Held {
        self.allocation.held()
    }

    /// As a person reads it.
    pub(crate) fn report(&self, sha256: String) -> AddressReport {
        AddressReport::of(&self.config, sha256, &self.allocation, &self.alone)
    }
}

/// What is wanted for a file, and the way there.
pub(crate) fn plan_towards(planning: &mut Planning<'_>, given: &Given, look: &Look) -> (Desired, Plan) {
    let mut desired = planning.desired(&given.resolved, &look.facts);
    let mut plan = planning.plan(&desired, &look.observed);
    if allocation::uses_pools(&given.config) {
        let addresses = allocation::desired(&given.allocation, &given.alone);
        desired.0.insert(allocation::NAME, Ok(addresses.into()));
        allocation::remark(&given.allocation, &given.held, &given.config, &mut plan);
    }
    (desired, plan)
}

/// What the services have that a file's services may keep.
///
/// # Errors
///
/// Why that is not known: nothing can be given before it is.
pub(crate) fn held(config: &Config, in_force: Option<&InForce>, look: &Look) -> Result<Arc<Held>, String> {
    match (in_force, allocation::uses_pools(config)) {
        (_, false) => Ok(Arc::default()),
        (Some(now), true) => Ok(now.held()),
        (None, true) => match allocation::carried(&look.observed, config) {
            Ok(held) => Ok(Arc::new(held)),
            Err(why) => Err(format!("which addresses services have is not known: {why}")),
        },
    }
}

/// What clients would lose, so that somebody has to say that it is meant.
pub(crate) fn renumbers(plan: &Plan) -> Option<Brake> {
    let mut moves = plan.remarks.iter().filter(|remark| allocation::is_move(remark));
    let first = moves.next()?;
    Some(Brake::Renumber {
        first: first.id.key.to_string(),
        from: first.from.clone().unwrap_or_default(),
        to: first.to.clone(),
        more: moves.count(),
    })
}
