//! The way towards a file: its services get their addresses, the kinds say what they want, and the plan follows.

use super::decide::{InForce, Look, order};
use super::look;
use crate::allocation::{self, Allocation, Held};
use crate::target::KindEntry;
use netd_core::{Brake, Desired, Plan};
use netd_schema::Config;
use std::borrow::Cow;
use std::sync::Arc;

/// What leads to a file.
#[derive(Debug, Default)]
pub(crate) struct Towards {
    /// The file with the VIPs of all services in it.
    pub(crate) config: Arc<Config>,
    /// What its services with a pool are given.
    pub(crate) addresses: Held,
    /// What is wanted.
    pub(crate) desired: Desired,
    /// The way there.
    pub(crate) plan: Plan,
}

/// The plan towards a configuration, from a node whose services have these addresses.
pub(crate) fn plan_towards(kinds: &[KindEntry], config: &Arc<Config>, held: &Held, look: &Look) -> Towards {
    let allocation = allocation::allocate(config, held);
    let resolved = match allocation.resolve(config) {
        Cow::Borrowed(_) => Arc::clone(config),
        Cow::Owned(resolved) => Arc::new(resolved),
    };
    let mut desired = look::desired(kinds, &resolved, &look.facts);
    let mut plan = netd_core::plan(&order(kinds), &desired, &look.observed);
    if allocation::uses_pools(config) {
        let alone = allocation::allocate(config, &Held::new());
        desired.0.insert(allocation::NAME, Ok(allocation::desired(&allocation, &alone)));
        allocation::remark(&allocation, held, config, &mut plan);
    }
    Towards { config: resolved, addresses: allocation.held(), desired, plan }
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
        (None, true) => match allocation::carried(&look.observed) {
            Ok(held) => Ok(Arc::new(held)),
            Err(why) => Err(format!("which addresses services have is not known: {why}")),
        },
    }
}

/// What is given, and what the file alone would give.
pub(crate) fn allocations(config: &Config, held: &Held) -> (Allocation, Allocation) {
    (allocation::allocate(config, held), allocation::allocate(config, &Held::new()))
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
