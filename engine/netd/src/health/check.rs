//! What is to be checked: the checks that a file asks for, each once, and which backends of which VIPs each speaks of.

use super::verdict::{BackendId, Group};
use netd_schema::{Backend, BackendState, Config, HealthCheck, HealthKind, Service, Via};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// One check, shared by everything that it says something about. Two services that ask the same of the same backend
/// in the same way have one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Check {
    /// Which backend, and by which way.
    pub target: Target,
    /// What is asked.
    pub question: Question,
    /// How often, and how many answers make a verdict.
    pub pace: Pace,
}

/// Whom a check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The backend's own address: where the tunnel leads, or what is asked itself.
    pub backend: IpAddr,
    /// The VIP that is asked through the tunnel; `None` asks the backend's own address.
    pub vip: Option<IpAddr>,
    /// The UDP port of the tunnel; `None` is a tunnel of IP in IP, or no tunnel.
    pub gue_port: Option<u16>,
    /// The port of the transport; 0 for an echo request.
    pub port: u16,
}

/// What a check asks, and which answer is good.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Whether a connection can be opened.
    Tcp,
    /// Whether a request is answered with a good status.
    Http(HttpQuestion),
    /// Whether a datagram is answered; without an expectation, whether it is not refused.
    Udp {
        /// The payload that is sent.
        send: Vec<u8>,
        /// What the answer has to contain.
        expect: Option<Vec<u8>>,
    },
    /// Whether an echo request is answered.
    Icmp,
}

/// A request of HTTP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpQuestion {
    /// Whether it is asked inside TLS. The certificate is not verified: it is the backend that is asked, not its name.
    pub is_tls: bool,
    /// What is asked for; begins with `/`.
    pub path: String,
    /// The `Host` header and the name in TLS; without one the address that is asked.
    pub host: Option<String>,
    /// The first and the last of each range of good statuses.
    pub status: Vec<(u16, u16)>,
}

/// How often a check is made, and how many answers make a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pace {
    /// From the start of one check to the start of the next.
    pub interval: Duration,
    /// How long everything of one check may take.
    pub timeout: Duration,
    /// So many good answers in a row make a backend healthy; at least 1.
    pub rise: u32,
    /// So many failures in a row make it unhealthy; at least 1.
    pub fall: u32,
}

/// The checks that a file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Each check once.
    pub checks: BTreeSet<Check>,
    /// Whom they speak of: for every VIP of a service that is checked, its backends.
    pub groups: BTreeMap<Group, BTreeMap<BackendId, Member>>,
}

/// A backend that is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The check that speaks of it.
    pub check: Check,
    /// The ports at which it is given packets.
    pub ports: Vec<u16>,
}

impl Wanted {
    /// The checks of a file. Backends that are taken out by hand, and those of weight 0, are not asked.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let mut wanted = Self::default();
        for service in &config.services {
            let Some(health) = &service.health_check else { continue };
            for &vip in &service.vips {
                let asked = |backend: &&Backend| is_asked(backend);
                let member = |backend: &Backend| {
                    let check = check(config.load_balancer.gue_port, service, health, vip, backend);
                    let ports = service.ports.iter().map(|port| backend.port_for(port)).collect();
                    (BackendId::of(backend), Member { check, ports })
                };
                let group: BTreeMap<BackendId, Member> =
                    service.backends_of(vip).filter(asked).map(member).collect();
                wanted.checks.extend(group.values().map(|member| member.check.clone()));
                wanted.groups.insert(Group { service: service.name.clone(), vip }, group);
            }
        }
        wanted
    }
}

/// Whether the verdict on a backend matters: the file gives it traffic.
#[must_use]
pub fn is_asked(backend: &Backend) -> bool {
    backend.state == BackendState::Active && backend.weight > 0
}

fn check(gue_port: u16, service: &Service, health: &HealthCheck, vip: IpAddr, backend: &Backend) -> Check {
    let (vip, gue_port) = match (health.via, service.mode) {
        (Via::Direct, _) => (None, None),
        (Via::Tunnel, netd_schema::Mode::DsrIpip) => (Some(vip), None),
        (Via::Tunnel, netd_schema::Mode::DsrGue) => (Some(vip), Some(gue_port)),
    };
    let port = service.checked_port(backend).unwrap_or(0);
    let HealthCheck { interval, timeout, rise, fall, .. } = *health;
    Check {
        target: Target { backend: backend.address, vip, gue_port, port },
        question: question(health),
        pace: Pace { interval, timeout, rise, fall },
    }
}

fn question(health: &HealthCheck) -> Question {
    let bounds = |range: &RangeInclusive<u16>| (*range.start(), *range.end());
    let http = |is_tls| {
        Question::Http(HttpQuestion {
            is_tls,
            path: health.path.clone(),
            host: health.host.clone(),
            status: health.status.iter().map(bounds).collect(),
        })
    };
    match health.kind {
        HealthKind::Tcp => Question::Tcp,
        HealthKind::Http => http(false),
        HealthKind::Https => http(true),
        HealthKind::Udp => Question::Udp { send: health.send.clone(), expect: health.expect.clone() },
        HealthKind::Icmp => Question::Icmp,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use netd_schema::{Port, Protocol};

    fn backend(address: &str) -> Backend {
        Backend { address: address.parse().unwrap(), port: None, weight: 100, state: BackendState::Active }
    }

    fn service(name: &str, via: Via) -> Service {
        Service {
            name: name.into(),
            vips: vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()],
            ports: vec![Port { protocol: Protocol::Tcp, port: 80, backend_port: Some(8080) }],
            backends: vec![backend("10.0.0.1"), backend("10.0.0.2"), backend("fd00::1")],
            health_check: Some(HealthCheck { via, ..HealthCheck::default() }),
            ..Service::default()
        }
    }

    fn wanted(services: Vec<Service>) -> Wanted {
        Wanted::of(&Config { services, ..Config::default() })
    }

    #[test]
    fn a_direct_check_is_shared_by_vips_and_services() {
        let wanted = wanted(vec![service("a", Via::Direct), service("b", Via::Direct)]);
        assert_eq!((wanted.checks.len(), wanted.groups.len()), (2, 4));
        assert!(wanted.checks.iter().all(|check| check.target.vip.is_none() && check.target.port == 8080));
    }

    #[test]
    fn through_the_tunnel_every_vip_is_asked() {
        let wanted = wanted(vec![service("a", Via::Tunnel)]);
        assert_eq!((wanted.checks.len(), wanted.groups.len()), (4, 2));
    }

    #[test]
    fn what_is_taken_out_by_hand_is_not_asked() {
        let mut one = service("a", Via::Direct);
        one.backends[0].state = BackendState::Maintenance;
        one.backends[1].weight = 0;
        let wanted = wanted(vec![one]);
        assert!(wanted.checks.is_empty());
        assert!(wanted.groups.values().all(BTreeMap::is_empty));
    }

    #[test]
    fn without_a_health_check_nothing_is_asked() {
        let one = Service { health_check: None, ..service("a", Via::Tunnel) };
        assert_eq!(wanted(vec![one]), Wanted::default());
    }
}
