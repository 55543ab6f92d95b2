//! Who asks for addresses: services and egress policies, as the choice sees them.

use netd_schema::{Config, Egress, Family, PoolChoice, Protocol, Service};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Before the name of an egress policy, where it is told from services: no service can be called so.
pub const EGRESS_PREFIX: &str = "egress/";

/// One that is to have addresses.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    /// Who: a service's name, or that of an egress policy behind [`EGRESS_PREFIX`].
    pub(super) owner: String,
    /// What it is: `service`, `egress policy`.
    pub(super) what: &'static str,
    /// What it is called.
    pub(super) name: &'a str,
    /// Where addresses come from; without one, it has only those that it names.
    pub(super) pool: Option<&'a PoolChoice>,
    /// The addresses that the file names.
    pub(super) named: &'a [IpAddr],
    /// Of which families it is to have one, if the file says so; else of those that its pool has.
    pub(super) families: Option<Vec<Family>>,
    /// The word of those with whom it may share an address.
    pub(super) share: Option<&'a str>,
    /// What it does with an address; others that share it may not do the same.
    pub(super) ports: BTreeSet<(Protocol, u16)>,
}

impl<'a> Claim<'a> {
    /// All of a file, in the order in which they are asked: services by their names, then policies by theirs. So no policy
    /// decides which address a service gets.
    pub(super) fn all(config: &'a Config) -> Vec<Self> {
        let mut services: Vec<&Service> = config.services.iter().collect();
        services.sort_by(|one, other| one.name.cmp(&other.name));
        let mut policies: Vec<&Egress> = config.egress.iter().collect();
        policies.sort_by(|one, other| one.name.cmp(&other.name));
        let services = services.into_iter().map(Self::of_service);
        services.chain(policies.into_iter().map(Self::of_policy)).collect()
    }

    fn of_service(service: &'a Service) -> Self {
        Self {
            owner: service.name.clone(),
            what: "service",
            name: &service.name,
            pool: service.pool.as_ref(),
            named: &service.vips,
            families: service.families.clone(),
            share: service.share.as_deref(),
            ports: service.ports.iter().map(|port| (port.protocol, port.port)).collect(),
        }
    }

    /// Nobody else gets the address of a policy: answers to packets that left with it have to come to its gateway.
    fn of_policy(policy: &'a Egress) -> Self {
        Self {
            owner: owner_of(policy),
            what: "egress policy",
            name: &policy.name,
            pool: policy.pool.as_ref(),
            named: &policy.ips,
            families: Some(Family::BOTH.into_iter().filter(|family| policy.takes(*family)).collect()),
            share: None,
            ports: BTreeSet::new(),
        }
    }
}

/// What a policy is called among those who have addresses.
pub(super) fn owner_of(policy: &Egress) -> String {
    format!("{EGRESS_PREFIX}{}", policy.name)
}
