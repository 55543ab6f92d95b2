//! How large the maps have to be.

use super::rings::NARROW_POSITIONS;
use super::spec::ServiceSpec;
use netd_bpf::{Capacity, Maps, abi};
use netd_core::{Action, Step};
use std::collections::BTreeSet;

/// Maps that are not there.
pub const NOTHING: Capacity = Capacity {
    frontends_v4: 0,
    frontends_v6: 0,
    ring_lines: 0,
    backend_lines: 0,
    counters: 0,
    services: 0,
    flows: 0,
    fragments: 0,
    sources: 0,
    pools: 0,
};

/// No map is made smaller: together they take some 25 MiB, most of it for the records of flows.
const SMALLEST: Capacity = Capacity {
    frontends_v4: 1024,
    frontends_v6: 1024,
    ring_lines: 16 * 1024,
    backend_lines: 4096,
    counters: 4096,
    services: 1024,
    // Only flows in slots that changed have records, so this need not be as many as there are flows.
    flows: 128 * 1024,
    // A first fragment's ports are remembered until the others have come.
    fragments: 8192,
    // Prefixes take room only when they are there.
    sources: 64 * 1024,
    pools: 1024,
};

/// The smallest maps.
#[must_use]
pub fn smallest() -> Capacity {
    SMALLEST
}

/// The spec that a step brings, if it brings one.
#[must_use]
pub fn coming(step: &Step) -> Option<&ServiceSpec> {
    match &step.action {
        Action::Create { to } | Action::Update { to, .. } => to.as_any().downcast_ref(),
        Action::Delete { .. } => None,
    }
}

/// What the steps write beside what is there, at most.
pub fn needed<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Capacity {
    let mut need = NOTHING;
    let mut services = BTreeSet::new();
    for step in steps {
        let Some(spec) = coming(step) else { continue };
        if services.insert(spec.service.as_str()) {
            let sources = spec.policy.sources(0).len();
            need.sources = need.sources.saturating_add(u32::try_from(sources).unwrap_or(u32::MAX));
        }
        let backends = u32::try_from(spec.backends.len()).unwrap_or(u32::MAX);
        let ring = abi::ring_lines(spec.table_size, backends > u32::from(NARROW_POSITIONS));
        let (is_new, rings) = match &step.action {
            Action::Update { from, .. } => match from.as_any().downcast_ref::<ServiceSpec>() {
                Some(from) if spec.has_ring_of(from) => (0, 0),
                // The ring, and the one that it is compared with.
                _ => (0, 2),
            },
            Action::Create { .. } => (1, 1),
            Action::Delete { .. } => (0, 0),
        };
        let frontends = if spec.vip.is_ipv4() { &mut need.frontends_v4 } else { &mut need.frontends_v6 };
        *frontends += is_new;
        need.ring_lines = need.ring_lines.saturating_add(rings * ring);
        need.backend_lines = need.backend_lines.saturating_add(backends);
        need.counters = need.counters.saturating_add(backends);
        need.services += is_new;
    }
    need
}

/// Larger maps, if these have no room for so many VIPs or pools more.
pub fn with_room_for(maps: &dyn Maps, more: usize) -> netd_bpf::Result<Option<Capacity>> {
    let capacity = maps.capacity();
    let more = u32::try_from(more).unwrap_or(u32::MAX);
    let entries = maps.frontends()?;
    let of =
        |is_ipv4: bool| entries.iter().filter(|(key, _)| key.address.is_ipv4() == is_ipv4).count() as u32;
    let used = Capacity {
        frontends_v4: of(true),
        frontends_v6: of(false),
        pools: maps.pools()?.len() as u32,
        services: super::Names::of(maps)?.taken(capacity.services),
        ..NOTHING
    };
    let fits = |used: u32, capacity: u32| used.saturating_add(more) <= capacity;
    let has_room = fits(used.frontends_v4, capacity.frontends_v4)
        && fits(used.frontends_v6, capacity.frontends_v6)
        && fits(used.pools, capacity.pools)
        && fits(used.services, capacity.services);
    let need = Capacity { frontends_v4: more, frontends_v6: more, pools: more, services: more, ..NOTHING };
    Ok((!has_room).then(|| larger(&capacity, &sized(&used, &need))))
}

/// Twice the room of what there is and what comes, so that growing is rare.
#[must_use]
pub fn sized(used: &Capacity, need: &Capacity) -> Capacity {
    let room = |used: u32, need: u32, least: u32| used.saturating_add(need).saturating_mul(2).max(least);
    Capacity {
        frontends_v4: room(used.frontends_v4, need.frontends_v4, SMALLEST.frontends_v4),
        frontends_v6: room(used.frontends_v6, need.frontends_v6, SMALLEST.frontends_v6),
        ring_lines: room(used.ring_lines, need.ring_lines, SMALLEST.ring_lines),
        backend_lines: room(used.backend_lines, need.backend_lines, SMALLEST.backend_lines),
        counters: room(used.counters, need.counters, SMALLEST.counters),
        services: room(used.services, need.services, SMALLEST.services),
        flows: used.flows.max(SMALLEST.flows),
        fragments: used.fragments.max(SMALLEST.fragments),
        sources: room(used.sources, need.sources, SMALLEST.sources),
        pools: room(used.pools, need.pools, SMALLEST.pools),
    }
}

/// Of each the larger: services and counters keep their numbers when the maps grow, however few are in use.
#[must_use]
pub fn larger(one: &Capacity, other: &Capacity) -> Capacity {
    Capacity {
        frontends_v4: one.frontends_v4.max(other.frontends_v4),
        frontends_v6: one.frontends_v6.max(other.frontends_v6),
        ring_lines: one.ring_lines.max(other.ring_lines),
        backend_lines: one.backend_lines.max(other.backend_lines),
        counters: one.counters.max(other.counters),
        services: one.services.max(other.services),
        flows: one.flows.max(other.flows),
        fragments: one.fragments.max(other.fragments),
        sources: one.sources.max(other.sources),
        pools: one.pools.max(other.pools),
    }
}
