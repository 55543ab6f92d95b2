//! Whether a VIP is to be announced from this node: by the file, by the ways to the backends, and by their health.

use crate::facts::{Facts, PathError, PathResolver};
use crate::health::check::is_asked;
use crate::health::verdict::{BackendId, Group};
use netd_schema::{Backend, Bgp, Node, Service, TrafficPolicy};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// How a prefix stands. The best of several is the greatest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It is not to be announced.
    Down,
    /// It stays as it is for a while, and is withdrawn then.
    Fading(Duration),
    /// It stays as it is until something is known: what.
    Waits(String),
    /// It is to be announced.
    Up,
}

/// The standing of every VIP.
pub(super) struct Standings {
    pub(super) of: BTreeMap<IpAddr, Standing>,
    /// That the verdicts do not count, if so.
    pub(super) note: Option<String>,
}

/// What is found out of a VIP before all are looked at.
enum Found {
    Standing(Standing),
    /// No backend is healthy, and for how long.
    Dark(Duration),
}

/// What a VIP is judged by.
pub(super) struct Judge<'c> {
    facts: &'c Facts,
    node: Option<&'c Node>,
    resolver: PathResolver<'c>,
}

impl<'c> Judge<'c> {
    pub(super) fn new(facts: &'c Facts, node: Option<&'c Node>) -> Self {
        Self { facts, node, resolver: PathResolver::new(facts) }
    }

    /// How the VIPs stand, each with its services. The floor is a share of all that could be announced: if the verdicts
    /// would leave fewer, they are not believed.
    pub(super) fn standings(&self, vips: &BTreeMap<IpAddr, Vec<&Service>>, bgp: &Bgp) -> Standings {
        let found: BTreeMap<IpAddr, Found> =
            vips.iter().map(|(&vip, services)| (vip, self.look(vip, services))).collect();
        let possible = found.values().filter(|one| !matches!(one, Found::Standing(Standing::Down))).count();
        let dark = found.values().filter(|one| matches!(one, Found::Dark(_))).count();
        let left = possible - dark;
        let is_believed = dark == 0 || left * 100 >= usize::from(bgp.floor) * possible;
        let settled = |found| match found {
            Found::Standing(standing) => standing,
            Found::Dark(_) if !is_believed => Standing::Up,
            Found::Dark(lasted) => match bgp.hold_down.checked_sub(lasted) {
                Some(rest) if !rest.is_zero() => Standing::Fading(rest),
                Some(_) | None => Standing::Down,
            },
        };
        let note = (!is_believed).then(|| {
            format!(
                "{left} of {possible} VIPs have a healthy backend, less than the floor of {} %: all stay announced",
                bgp.floor
            )
        });
        Standings { of: found.into_iter().map(|(vip, found)| (vip, settled(found))).collect(), note }
    }

    /// The best of what its services say.
    fn look(&self, vip: IpAddr, services: &[&Service]) -> Found {
        let mut best = Found::Standing(Standing::Down);
        for service in services {
            best = better(best, self.look_at(vip, service));
        }
        best
    }

    fn look_at(&self, vip: IpAddr, service: &Service) -> Found {
        let down = || Found::Standing(Standing::Down);
        let is_meant = |backend: &&Backend| {
            is_asked(backend)
                && (service.traffic_policy == TrafficPolicy::Cluster || self.is_local(backend.address))
        };
        let meant = service.backends_of(vip).filter(is_meant);
        let reached: Vec<&Backend> = meant.filter(|backend| self.is_in_reach(backend.address)).collect();
        if reached.is_empty() {
            return down();
        }
        let Some(unhealthy) = self.unhealthy(vip, service) else {
            return Found::Standing(Standing::Waits("its backends have not been checked yet".into()));
        };
        let healthy: Vec<&Backend> = reached
            .iter()
            .copied()
            .filter(|backend| !unhealthy.contains_key(&BackendId::of(backend)))
            .collect();
        if healthy.is_empty() {
            let lasted = reached.iter().filter_map(|backend| unhealthy.get(&BackendId::of(backend)).copied());
            return Found::Dark(lasted.min().unwrap_or_default());
        }
        if healthy.iter().any(|backend| self.is_resolved(backend.address)) {
            return Found::Standing(Standing::Up);
        }
        Found::Standing(Standing::Waits("the way to its backends is not resolved yet".into()))
    }

    /// The unhealthy backends of a VIP, and for how long each is; `None` as long as that is not known.
    fn unhealthy(&self, vip: IpAddr, service: &Service) -> Option<BTreeMap<BackendId, Duration>> {
        if service.health_check.is_none() {
            return Some(BTreeMap::new());
        }
        let verdicts = &self.facts.health;
        let group = Group { service: service.name.clone(), vip };
        let known = verdicts.unhealthy.get(&group).filter(|_| !verdicts.unjudged.contains(&group))?;
        let lasting = verdicts.unhealthy_for.get(&group);
        let lasts = |id: &BackendId| lasting.and_then(|of| of.get(id)).copied().unwrap_or_default();
        Some(known.keys().map(|id| (*id, lasts(id))).collect())
    }

    /// Whether this node itself has the backend.
    fn is_local(&self, backend: IpAddr) -> bool {
        let is_listed = |node: &Node| {
            node.addresses.contains(&backend)
                || node
                    .pod_cidrs
                    .iter()
                    .any(|cidr| cidr.is_ipv4() == backend.is_ipv4() && cidr.contains(backend))
        };
        self.node.is_some_and(is_listed) || self.facts.is_own_address(backend)
    }

    fn is_in_reach(&self, backend: IpAddr) -> bool {
        matches!(self.resolver.hop(backend), Ok(_) | Err(PathError::Local(_)))
    }

    fn is_resolved(&self, backend: IpAddr) -> bool {
        matches!(self.resolver.resolve(backend), Ok(_) | Err(PathError::Local(_)))
    }
}

fn better(one: Found, other: Found) -> Found {
    match (one, other) {
        (Found::Standing(one), Found::Standing(other)) => Found::Standing(one.max(other)),
        (Found::Dark(one), Found::Dark(other)) => Found::Dark(one.min(other)),
        (Found::Standing(Standing::Down), dark @ Found::Dark(_))
        | (dark @ Found::Dark(_), Found::Standing(Standing::Down)) => dark,
        (known @ Found::Standing(_), Found::Dark(_)) | (Found::Dark(_), known @ Found::Standing(_)) => known,
    }
}
