//! What the load balancer does with packets for VIPs that are no service's: pings, unknown ports, and addresses of
//! pools that no service has. Those that egress policies have of its pools are left to the kernel.
//!
//! Key: the VIP, or the pool's prefix. Mark of ownership: everything in the maps that are pinned under netd's own
//! directory. An update costs no packet: one entry is replaced.

mod again;
mod target;

pub use again::again;
pub use target::VipTarget;

use crate::facts::Facts;
use ipnetwork::IpNetwork;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::{Config, UnknownPort};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "vip";

/// Before the name of a pool, where its counters are named: no service can be called so.
pub const POOL_PREFIX: &str = "pool/";

/// A VIP or a pool's prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VipSpec {
    /// What it covers: one address, or a pool's prefix.
    #[serde(serialize_with = "as_text")]
    pub prefix: IpNetwork,
    /// Whose counters count: a service of the VIP, or `pool/NAME`.
    pub counted_for: String,
    /// Whether echo requests are answered; never for a pool.
    pub ping: bool,
    /// What becomes of packets that no service takes.
    #[serde(serialize_with = "policy_word")]
    pub unknown_port: UnknownPort,
}

impl VipSpec {
    /// The name among VIPs: an address without its length.
    #[must_use]
    pub fn key(&self) -> Key {
        match self.is_pool() {
            true => Key::new(self.prefix.to_string()),
            false => Key::new(self.prefix.ip().to_string()),
        }
    }

    /// Whether it is a pool's prefix, not a VIP.
    #[must_use]
    pub fn is_pool(&self) -> bool {
        self.counted_for.starts_with(POOL_PREFIX)
    }
}

/// The VIPs and pools that the file asks for.
///
/// # Errors
///
/// None.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let mut vips: BTreeMap<IpAddr, VipSpec> = BTreeMap::new();
    let mut services: Vec<_> = config.services.iter().collect();
    services.sort_by(|one, other| one.name.cmp(&other.name));
    for service in services {
        for &vip in &service.vips {
            vips.entry(vip).or_insert_with(|| VipSpec {
                prefix: IpNetwork::from(vip),
                counted_for: service.name.clone(),
                ping: service.ping,
                unknown_port: service.unknown_port,
            });
        }
    }
    for (vip, mut spec) in vips {
        if facts.is_own_address(vip) && spec.unknown_port != UnknownPort::Pass {
            spec.unknown_port = UnknownPort::Pass;
            let note = "it is an address of this node: packets that no service takes are left to the kernel";
            desired.notes.insert(spec.key(), note.into());
        }
        desired.table.insert(spec.key(), Arc::new(spec));
    }
    for pool in config.balanced_pools() {
        let of_pool = |prefix, unknown_port| VipSpec {
            prefix,
            counted_for: format!("{POOL_PREFIX}{}", pool.name),
            ping: false,
            unknown_port,
        };
        let ranges = pool.ranges.iter().map(|range| of_pool(*range, pool.unassigned));
        // What an egress policy has is no service's, and not to be dropped: answers come to it.
        let all = config.egress.iter().flat_map(|policy| &policy.ips).filter(|ip| pool.contains(**ip));
        let egress = all.map(|ip| of_pool(IpNetwork::from(*ip), UnknownPort::Pass));
        for spec in ranges.chain(egress) {
            desired.table.insert(spec.key(), Arc::new(spec));
        }
    }
    Ok(desired)
}

fn as_text<S: serde::Serializer>(prefix: &IpNetwork, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(prefix)
}

fn word(policy: UnknownPort) -> &'static str {
    match policy {
        UnknownPort::Drop => "drop",
        UnknownPort::Reject => "reject",
        UnknownPort::Pass => "pass",
    }
}

fn policy_word<S: serde::Serializer>(policy: &UnknownPort, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(word(*policy))
}

fn ping_word(ping: bool) -> &'static str {
    if ping { "answered" } else { "not answered" }
}

impl Described for VipSpec {
    fn summary(&self) -> String {
        match self.is_pool() {
            true => format!("{}: unassigned addresses {}", self.counted_for, word(self.unknown_port)),
            false => format!(
                "{}: ping {}, unknown ports {}",
                self.counted_for,
                ping_word(self.ping),
                word(self.unknown_port)
            ),
        }
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        if self.counted_for != observed.counted_for {
            changes.push(FieldChange::changed("counted for", &observed.counted_for, &self.counted_for));
        }
        if self.ping != observed.ping {
            changes.push(FieldChange::changed("ping", ping_word(observed.ping), ping_word(self.ping)));
        }
        if self.unknown_port != observed.unknown_port {
            let (before, after) = (word(observed.unknown_port), word(self.unknown_port));
            changes.push(FieldChange::changed("unknown ports", before, after));
        }
        if self.prefix != observed.prefix {
            changes.push(FieldChange::changed("prefix", observed.prefix, self.prefix));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::facts::Address;
    use netd_schema::{IpPool, Service};

    fn service(name: &str, vips: &[&str]) -> Service {
        let vips = vips.iter().map(|vip| vip.parse().unwrap()).collect();
        Service { name: name.into(), vips, ping: true, ..Service::default() }
    }

    fn specs(config: &Config, facts: &Facts) -> Vec<VipSpec> {
        let table = desired(config, facts).unwrap().table;
        table.values().map(|spec| spec.as_any().downcast_ref::<VipSpec>().unwrap().clone()).collect()
    }

    #[test]
    fn a_vip_of_two_services_is_one_resource_counted_for_the_first_by_name() {
        let services = vec![service("web", &["192.0.2.10"]), service("dns", &["192.0.2.10"])];
        let specs = specs(&Config { services, ..Config::default() }, &Facts::default());
        assert_eq!(specs.len(), 1);
        assert_eq!((specs[0].key(), specs[0].counted_for.as_str()), (Key::new("192.0.2.10"), "dns"));
        assert_eq!(specs[0].unknown_port, UnknownPort::Drop);
    }

    #[test]
    fn an_address_of_the_node_itself_never_drops_what_no_service_takes() {
        let address = "192.0.2.10".parse().unwrap();
        let own = Address { link: 1, address, prefix_len: 32, usable: true, temporary: false, global: true };
        let facts = Facts { addresses: vec![own], ..Facts::default() };
        let config = Config { services: vec![service("web", &["192.0.2.10"])], ..Config::default() };
        let desired = desired(&config, &facts).unwrap();
        assert!(desired.notes.values().next().unwrap().contains("an address of this node"));
        assert_eq!(specs(&config, &facts)[0].unknown_port, UnknownPort::Pass);
    }

    #[test]
    fn a_pool_has_a_policy_for_its_unassigned_addresses() {
        let ranges = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8:100::/64".parse().unwrap()];
        let pool =
            IpPool { name: "public".into(), ranges, unassigned: UnknownPort::Reject, ..IpPool::default() };
        let specs = specs(&Config { ip_pools: vec![pool], ..Config::default() }, &Facts::default());
        assert_eq!(specs.len(), 2);
        assert!(specs.iter().all(|spec| spec.is_pool() && spec.unknown_port == UnknownPort::Reject));
        assert_eq!(specs[0].summary(), "pool/public: unassigned addresses reject");
    }
}
