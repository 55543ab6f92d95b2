//! How many flows of a frontend an update sends to other backends, for people who look at a plan.

use super::maglev::{self, Request};
use super::spec::ServiceSpec;
use netd_core::FieldChange;
use std::collections::HashMap;
use std::net::SocketAddr;

/// What changes in the ring; `None` if it stays, or if there is none to compare with.
pub(super) fn change(wanted: &ServiceSpec, found: &ServiceSpec) -> Option<FieldChange> {
    let known: HashMap<SocketAddr, _> =
        found.backends.iter().map(|backend| (backend.socket(), backend)).collect();
    // A way that is not known now stays the one that was, unless that leads astray.
    let has_path = |position: usize| {
        let Some(backend) = wanted.backends.get(position) else { return false };
        let was = known.get(&backend.socket());
        backend.path.is_some() || was.is_some_and(|was| was.path.is_some() && !was.is_astray())
    };
    let had_path = |position: usize| found.backends.get(position).is_some_and(|was| was.path.is_some());
    let (after, before) = (wanted.request(has_path), found.request(had_path));
    let is_none = before.1.members.is_empty() || after.1.members.is_empty();
    if is_none || !found.intact || (before.1 == after.1 && wanted.hash_seed == found.hash_seed) {
        return None;
    }
    let mut numbers = HashMap::new();
    let ring_before = numbered(found, &before.0, &before.1, &mut numbers)?;
    let ring_after = numbered(wanted, &after.0, &after.1, &mut numbers)?;
    // A frontend's flows are hashed by the same seed as the names.
    let (share, unit) = match wanted.hash_seed == found.hash_seed && ring_before.len() == ring_after.len() {
        true => (maglev::moved(&ring_before, &ring_after), format!("{} slots", ring_after.len())),
        false => (maglev::scattered(&ring_before, &ring_after), "flows".to_owned()),
    };
    let count = after.1.members.len();
    let backends = if count == 1 { "backend" } else { "backends" };
    let text = format!("{count} {backends}, {} of {unit} move", maglev::percent(share));
    Some(FieldChange::changed("maglev", before.1.members.len(), text))
}

/// The table with the same number for the same backend; `None` for more backends than there are numbers.
fn numbered(
    spec: &ServiceSpec,
    positions: &[usize],
    request: &Request,
    numbers: &mut HashMap<SocketAddr, u16>,
) -> Option<Vec<u16>> {
    let of_member: Option<Vec<u16>> = positions
        .iter()
        .map(|&position| {
            let next = u16::try_from(numbers.len()).ok()?;
            Some(*numbers.entry(spec.backends.get(position)?.socket()).or_insert(next))
        })
        .collect();
    let of_member = of_member?;
    let table = maglev::table(&request.members, request.slots, request.seed);
    table.into_iter().map(|member| of_member.get(usize::from(member)).copied()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::facts::Mac;
    use crate::kinds::service::{BackendPath, BackendSpec};
    use netd_schema::{BackendState, HashSeed, Protocol};
    use std::sync::Arc;

    /// A service of these backends, all with a way.
    pub(in super::super) fn service(hosts: impl IntoIterator<Item = u8>) -> ServiceSpec {
        let path = BackendPath {
            device: "eth0".into(),
            ifindex: 3,
            mtu: 1500,
            destination_mac: Mac([2, 0, 0, 0, 1, 1]),
            source_mac: Mac([2, 0, 0, 0, 0, 1]),
            source: "10.0.0.11".parse().unwrap(),
            source_bits: 0,
        };
        let path = Some(Arc::new(path));
        let backend = |host: u8| BackendSpec {
            address: [10, 0, 0, host].into(),
            port: 80,
            weight: 100,
            state: BackendState::Active,
            path: path.clone(),
        };
        ServiceSpec {
            service: "web".into(),
            vip: "192.0.2.10".parse().unwrap(),
            port: 80,
            protocol: Protocol::Tcp,
            table_size: 16381,
            hash_seed: HashSeed::default(),
            policy: Arc::default(),
            backends: hosts.into_iter().map(backend).collect(),
            intact: true,
        }
    }

    fn text(wanted: &ServiceSpec, found: &ServiceSpec) -> String {
        let change = change(wanted, found).unwrap();
        format!("{} {} → {}", change.field, change.from.unwrap(), change.to.unwrap())
    }

    #[test]
    fn one_more_backend_takes_its_share_and_little_else_moves() {
        assert_eq!(
            text(&service(1..=4), &service(1..=3)),
            "maglev 3 → 4 backends, 25.2 % of 16381 slots move"
        );
    }

    #[test]
    fn a_backend_that_drains_moves_its_share() {
        let mut wanted = service(1..=2);
        wanted.backends[0].state = BackendState::Terminating;
        assert_eq!(text(&wanted, &service(1..=2)), "maglev 2 → 1 backend, 50.0 % of 16381 slots move");
    }

    #[test]
    fn another_size_or_seed_moves_flows_by_chance() {
        let larger = ServiceSpec { table_size: 32749, ..service(1..=2) };
        assert_eq!(text(&larger, &service(1..=2)), "maglev 2 → 2 backends, 50.0 % of flows move");
        let seeded = ServiceSpec { hash_seed: HashSeed([7; 12]), ..service(1..=4) };
        assert_eq!(text(&seeded, &service(1..=4)), "maglev 4 → 4 backends, 75.0 % of flows move");
    }

    #[test]
    fn a_ring_that_stays_is_not_mentioned() {
        let mut elsewhere = service(1..=2);
        elsewhere.service = "other".into();
        elsewhere.backends[0].path = None;
        assert_eq!(change(&elsewhere, &service(1..=2)), None);
    }

    #[test]
    fn a_ring_that_is_damaged_or_empty_is_not_compared() {
        let damaged = ServiceSpec { intact: false, ..service(1..=2) };
        assert_eq!(change(&service(1..=3), &damaged), None);
        assert_eq!(change(&service(1..=3), &service([])), None);
    }
}
