//! Tells drift from work: a change is drift when the same was wanted before, and stood.

use super::status::{Standing, is_desired};
use crate::clock;
use crate::report::Drift;
use netd_core::{Action, Desired, KindName, Phase, Plan, ResourceId, Step};
use std::collections::BTreeSet;

/// So many drifted resources are named; the rest is counted.
const NAMED_MAX: usize = 10;

/// What the last pass wanted, and how it stood.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) desired: Desired,
    pub(crate) standing: Standing,
    /// Kinds whose deletes were held back: those are nobody else's doing.
    pub(crate) withheld: BTreeSet<KindName>,
}

impl Settled {
    /// Counts and logs what of `plan` undoes somebody else's change.
    pub(crate) fn note_drift(&self, plan: &Plan, drift: &mut Drift) {
        let found: Vec<&ResourceId> =
            plan.steps.iter().filter(|step| self.is_drift(step)).map(|step| &step.id).collect();
        if found.is_empty() {
            return;
        }
        drift.resources = drift.resources.saturating_add(found.len() as u64);
        drift.last_unix_ms = Some(clock::unix_ms());
        drift.last = found.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        tracing::warn!(resources = found.len(), first = ?drift.last, "changed behind netd's back");
    }

    /// What somebody else changed, made, removed, or took and gave back.
    pub(crate) fn flipped<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = &'a ResourceId> {
        let was_taken = |id: &ResourceId| {
            self.standing.not_ready.get(id).is_some_and(|status| status.phase == Phase::Conflict)
        };
        let is_flip =
            move |step: &&Step| self.is_drift(step) || (was_taken(&step.id) && self.is_as_before(step));
        plan.steps.iter().filter(is_flip).map(|step| &step.id)
    }

    fn is_drift(&self, step: &Step) -> bool {
        !self.standing.not_ready.contains_key(&step.id) && self.is_as_before(step)
    }

    /// Whether the same was wanted before.
    fn is_as_before(&self, step: &Step) -> bool {
        let id = &step.id;
        let is_known =
            matches!(self.desired.0.get(id.kind), Some(Ok(_))) && !self.standing.unread.contains_key(id.kind);
        if !is_known {
            return false;
        }
        match &step.action {
            Action::Delete { .. } => !is_desired(&self.desired, id) && !self.withheld.contains(id.kind),
            Action::Create { to } if to.goes_by_itself() => false,
            Action::Create { to } | Action::Update { to, .. } => {
                let Some(Ok(wanted)) = self.desired.0.get(id.kind) else { return false };
                wanted.table.get(&id.key).is_some_and(|before| to.satisfied_by(before.as_ref()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::address::{self, AddressSpec, Lease, Told};
    use netd_core::{DesiredKind, Key};
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;
    use std::time::Duration;

    /// Whether that a wanted address is missing is somebody's doing.
    fn is_a_flip(lease: Option<Duration>) -> bool {
        let address = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
        let (device, surplus) = ("eth0".to_owned(), Vec::new());
        let (lease, told, is_duplicate) = (Lease(lease), Told(false), false);
        let spec = AddressSpec { address, device, ifindex: 2, surplus, lease, is_duplicate, told };
        let id = ResourceId { kind: address::NAME, key: Key::new("192.0.2.1") };
        let mut wanted = DesiredKind::default();
        wanted.table.insert(id.key.clone(), Arc::new(spec.clone()));
        let desired = Desired([(address::NAME, Ok(Arc::new(wanted)))].into());
        let settled = Settled { desired, ..Settled::default() };
        let step = Step { id, action: Action::Create { to: Arc::new(spec) } };
        settled.flipped(&Plan { steps: vec![step], ..Plan::default() }).count() == 1
    }

    #[test]
    fn an_address_whose_lease_may_have_ended_is_not_fought_over() {
        assert!(is_a_flip(None));
        assert!(!is_a_flip(Some(Duration::from_secs(2))));
    }
}
