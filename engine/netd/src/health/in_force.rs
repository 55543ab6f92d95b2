//! Decides which backends of a VIP are given traffic, by the file, the verdicts and the floor.

use super::check::is_asked;
use super::verdict::{BackendId, Group, Unhealthy, Verdicts};
use crate::clock;
use netd_schema::{Backend, BackendState, Service};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What the verdicts make of the backends of a VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    quarantined: Vec<BackendId>,
    /// What an operator should know: who is unhealthy and why, and that the floor was reached.
    pub notes: Vec<String>,
}

impl InForce {
    /// The state of a backend that the datapath is given: the file's, but for one that is active and unhealthy.
    #[must_use]
    pub fn state_of(&self, backend: &Backend) -> BackendState {
        match self.quarantined.binary_search(&BackendId::of(backend)) {
            Ok(_) if backend.state == BackendState::Active => BackendState::Quarantined,
            Ok(_) | Err(_) => backend.state,
        }
    }
}

/// What the verdicts make of the backends of a service's VIP. Without a health check, nothing.
///
/// The floor is a share of the backends that the file makes active: if fewer than that are healthy, it is more likely
/// that the checks are wrong than that everything is down, and giving traffic to all is better than giving all of it
/// to few. Then no verdict counts.
#[must_use]
pub fn in_force(service: &Service, vip: IpAddr, verdicts: &Verdicts) -> InForce {
    let Some(check) = &service.health_check else { return InForce::default() };
    let asked: Vec<&Backend> = service.backends_of(vip).filter(|backend| is_asked(backend)).collect();
    let group = Group { service: service.name.clone(), vip };
    let unhealthy = match verdicts.unhealthy.get(&group) {
        Some(known) => named(known, &asked),
        None => carried(service, verdicts, &asked),
    };
    let mut in_force = InForce::default();
    if let Some(remarks) = verdicts.remarks.get(&group) {
        let note = |(id, remark): (&BackendId, &String)| format!("backend {} {remark}", shown(id));
        in_force.notes.extend(remarks.iter().map(note));
    }
    if unhealthy.is_empty() {
        return in_force;
    }
    let healthy = asked.len() - unhealthy.len();
    if healthy * 100 < usize::from(check.floor) * asked.len() {
        in_force.notes.push(format!(
            "{healthy} of {} backends are healthy, less than the floor of {} %: all stay in force",
            asked.len(),
            check.floor
        ));
    } else {
        in_force.quarantined = unhealthy.keys().copied().collect();
    }
    in_force.notes.extend(unhealthy.iter().map(|(id, unhealthy)| sentence(id, unhealthy)));
    in_force
}

fn named(known: &BTreeMap<BackendId, Unhealthy>, asked: &[&Backend]) -> BTreeMap<BackendId, Unhealthy> {
    let of = |backend: &&Backend| {
        let id = BackendId::of(backend);
        known.get(&id).map(|unhealthy| (id, unhealthy.clone()))
    };
    asked.iter().filter_map(of).collect()
}

/// Those that the datapath held for unhealthy when this process started.
fn carried(service: &Service, verdicts: &Verdicts, asked: &[&Backend]) -> BTreeMap<BackendId, Unhealthy> {
    if verdicts.carried.is_empty() {
        return BTreeMap::new();
    }
    let is_carried = |backend: &&&Backend| is_carried(service, verdicts, backend);
    asked.iter().filter(is_carried).map(|backend| (BackendId::of(backend), before())).collect()
}

/// Whether the datapath held a backend for unhealthy when this process started.
pub(super) fn is_carried(service: &Service, verdicts: &Verdicts, backend: &Backend) -> bool {
    service.ports.iter().any(|port| {
        let key = (service.name.clone(), backend.address, backend.port_for(port));
        verdicts.carried.contains(&key)
    })
}

/// What is known of a verdict that an earlier process came to.
pub(super) fn before() -> Unhealthy {
    Unhealthy { since_unix_ms: 0, why: "found unhealthy before netd started".into() }
}

/// Since when and why a backend is given no new flows.
pub(super) fn why_not(unhealthy: &Unhealthy) -> String {
    let Unhealthy { since_unix_ms, why } = unhealthy;
    match since_unix_ms {
        0 => format!("unhealthy: {why}"),
        since => format!("unhealthy since {}: {why}", clock::shown(*since)),
    }
}

fn sentence(id: &BackendId, unhealthy: &Unhealthy) -> String {
    format!("backend {} is {}", shown(id), why_not(unhealthy))
}

fn shown(id: &BackendId) -> String {
    match id.port {
        Some(port) => std::net::SocketAddr::new(id.address, port).to_string(),
        None => id.address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use netd_schema::{HealthCheck, Port, Protocol};

    fn id(last: u8) -> BackendId {
        BackendId { address: IpAddr::from([10, 0, 0, last]), port: None }
    }

    fn backend(last: u8) -> Backend {
        Backend { address: id(last).address, port: None, weight: 100, state: BackendState::Active }
    }

    fn vip() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    fn service(backends: u8, floor: u8) -> Service {
        Service {
            name: "web".into(),
            vips: vec![vip()],
            ports: vec![Port { protocol: Protocol::Tcp, port: 80, backend_port: None }],
            backends: (1..=backends).map(backend).collect(),
            health_check: Some(HealthCheck { floor, ..HealthCheck::default() }),
            ..Service::default()
        }
    }

    fn verdicts(unhealthy: &[u8]) -> Verdicts {
        let group = Group { service: "web".into(), vip: vip() };
        let one =
            |&last: &u8| (id(last), Unhealthy { since_unix_ms: 1000, why: "connection refused".into() });
        let unhealthy = BTreeMap::from([(group, unhealthy.iter().map(one).collect())]);
        Verdicts { unhealthy, ..Verdicts::default() }
    }

    fn states(service: &Service, verdicts: &Verdicts) -> String {
        let in_force = in_force(service, vip(), verdicts);
        let letter = |backend: &Backend| match in_force.state_of(backend) {
            BackendState::Active => 'A',
            BackendState::Terminating => 'T',
            BackendState::Quarantined => 'Q',
            BackendState::Maintenance => 'M',
        };
        service.backends.iter().map(letter).collect()
    }

    #[test]
    fn an_unhealthy_backend_is_quarantined_and_the_note_says_why_and_since_when() {
        let (service, verdicts) = (service(3, 10), verdicts(&[2]));
        assert_eq!(states(&service, &verdicts), "AQA");
        assert_eq!(
            in_force(&service, vip(), &verdicts).notes,
            ["backend 10.0.0.2 is unhealthy since 1970-01-01 00:00:01Z: connection refused"]
        );
    }

    #[test]
    fn b10_below_the_floor_all_stay_in_force() {
        assert_eq!(states(&service(4, 50), &verdicts(&[1, 2])), "QQAA");
        assert_eq!(states(&service(4, 50), &verdicts(&[1, 2, 3])), "AAAA");
        assert_eq!(states(&service(3, 10), &verdicts(&[1, 2, 3])), "AAA");
        let notes = in_force(&service(4, 50), vip(), &verdicts(&[1, 2, 3])).notes;
        assert_eq!(notes[0], "1 of 4 backends are healthy, less than the floor of 50 %: all stay in force");
        assert_eq!(notes.len(), 4);
    }

    #[test]
    fn without_a_floor_everything_may_be_out_of_force() {
        assert_eq!(states(&service(3, 0), &verdicts(&[1, 2, 3])), "QQQ");
    }

    #[test]
    fn what_the_file_takes_out_does_not_count_and_keeps_its_state() {
        let mut service = service(4, 50);
        service.backends[0].state = BackendState::Maintenance;
        service.backends[1].state = BackendState::Terminating;
        assert_eq!(states(&service, &verdicts(&[1, 2, 3])), "MTQA");
        assert_eq!(in_force(&service, vip(), &verdicts(&[1, 2, 3])).notes.len(), 1);
    }

    #[test]
    fn a_service_without_a_health_check_ignores_verdicts() {
        let service = Service { health_check: None, ..service(2, 0) };
        assert_eq!(states(&service, &verdicts(&[1])), "AA");
    }

    #[test]
    fn what_was_out_of_force_before_the_start_stays_so_until_its_vip_is_checked() {
        let carried = [("web".to_owned(), id(2).address, 80), ("web".to_owned(), id(1).address, 81)];
        let mut verdicts = Verdicts { carried: carried.into(), ..Verdicts::default() };
        assert_eq!(states(&service(3, 10), &verdicts), "AQA");
        verdicts.unhealthy.insert(Group { service: "web".into(), vip: vip() }, BTreeMap::new());
        assert_eq!(states(&service(3, 10), &verdicts), "AAA");
    }
}
