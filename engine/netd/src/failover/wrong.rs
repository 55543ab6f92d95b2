//! What keeps this node from being a gateway: what its facts say before it is one, and what came of its passes.

use super::Task;
use crate::egress;
use crate::facts::Facts;
use crate::kinds::{address, egress as rules, masquerade};
use crate::report::{Report, ResourceReport};
use netd_core::Phase;
use netd_schema::{Config, Egress};
use std::net::IpAddr;

/// The policies that this node and others may be the gateway of.
fn shared<'c>(config: &'c Config, me: &str) -> impl Iterator<Item = &'c Egress> {
    let is_mine = move |policy: &&Egress| policy.gateways.iter().any(|gateway| gateway.node == me);
    config.egress.iter().filter(|policy| egress::is_shared(policy)).filter(is_mine)
}

/// An egress address that the node could not have.
pub(super) fn by_facts(config: &Config, facts: &Facts, me: &str) -> Option<String> {
    let of = |address: IpAddr| {
        let whole = if address.is_ipv4() { 32 } else { 128 };
        // Those of netd are alone, and have no preferred lifetime.
        let is_foreign =
            |own: &&crate::facts::Address| own.address == address && (own.prefix_len != whole || own.usable);
        if let Some(own) = facts.addresses.iter().find(is_foreign) {
            let device = facts.links.get(&own.link).map_or("a device", |link| link.name.as_str());
            return Some(format!("{address} is an address of {device} that somebody else has put there"));
        }
        let has_way = egress::uplink(facts, address).is_some();
        (!has_way).then(|| format!("no route says which device the network of {address} is reached by"))
    };
    shared(config, me).flat_map(|policy| &policy.ips).find_map(|address| of(*address))
}

/// What a pass left undone of what egress needs: programs on the devices that it leaves or answers come by, rules, addresses.
pub(super) fn by_report(task: &Task, report: &Report) -> Option<String> {
    let needed = [masquerade::NAME, rules::NAME, address::NAME];
    for kind in needed {
        if let Some(why) = report.kinds.get(kind).and_then(|kind| kind.unread.as_ref()) {
            return Some(format!("{kind} cannot be read: {why}"));
        }
    }
    // Of very many that are not ready, the report lists the first; the counts are of all.
    let is_bad = |kind: &&&str| report.kinds.get(**kind).is_some_and(|of| of.failed + of.conflict > 0);
    let unlisted = |kind: &&&str| !report.not_ready.iter().any(|resource| resource.kind == **kind);
    let mut whole = [masquerade::NAME, rules::NAME].into_iter();
    if let Some(kind) = whole.find(|kind| is_bad(&kind) && unlisted(&kind)) {
        return Some(format!("{kind}: not all of it is in force"));
    }
    let is_shared = |key: &str| {
        shared(&task.config, &task.orders.me)
            .flat_map(|policy| &policy.ips)
            .any(|address| address::key(*address).as_str() == key)
    };
    let is_wrong = |resource: &&ResourceReport| {
        matches!(resource.phase, Phase::Failed | Phase::Conflict)
            && match resource.kind.as_str() {
                masquerade::NAME => task.devices.contains(&resource.key),
                rules::NAME => true,
                address::NAME => is_shared(&resource.key),
                _ => false,
            }
    };
    let found = report.not_ready.iter().find(is_wrong)?;
    Some(format!("{} {}: {}", found.kind, found.key, found.message))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::facts::Address;
    use crate::fake::{link, route};
    use crate::report::KindReport;
    use netd_schema::EgressGateway;

    fn config() -> Config {
        let policy = |name: &str, ip: &str, gateways: &[&str]| Egress {
            name: name.into(),
            ips: vec![ip.parse().unwrap()],
            gateways: gateways
                .iter()
                .map(|node| EgressGateway { node: (*node).into(), priority: 0 })
                .collect(),
            ..Egress::default()
        };
        let egress = vec![policy("one", "192.0.2.1", &["a", "b"]), policy("two", "192.0.2.2", &["a"])];
        Config { egress, ..Config::default() }
    }

    /// Policies of node "a" leave by eth0.
    fn task() -> Task {
        let failover = netd_schema::EgressFailover::default();
        let nodes = ["a", "b"].map(|name| netd_schema::Node { name: name.into(), ..Default::default() });
        let config = Config { nodes: nodes.into(), egress_failover: Some(failover), ..config() };
        let (tasks, taken) = tokio::sync::watch::channel(None);
        super::super::order(&tasks, Some(&config), "a", None);
        let mut task = taken.borrow().clone().unwrap();
        task.devices = ["eth0".to_owned()].into();
        task
    }

    fn facts() -> Facts {
        let mut facts = Facts::default();
        facts.links.insert(2, link(2, "eth0"));
        facts.routes.push(route("192.0.2.0/24".parse().unwrap(), 2, None));
        facts
    }

    #[test]
    fn an_address_of_somebody_else_and_one_without_a_way_are_wrong_before_they_are_wanted() {
        assert_eq!(by_facts(&config(), &facts(), "a"), None);
        let mut taken = facts();
        let (address, prefix_len) = ("192.0.2.1".parse().unwrap(), 24);
        let foreign = Address { link: 2, address, prefix_len, usable: true, temporary: false, global: true };
        taken.addresses.push(foreign);
        let why = by_facts(&config(), &taken, "a").unwrap();
        assert_eq!(why, "192.0.2.1 is an address of eth0 that somebody else has put there");
        assert_eq!(by_facts(&config(), &taken, "c"), None);
        let mut alone = facts();
        alone.addresses.push(Address { prefix_len: 32, ..foreign });
        assert!(by_facts(&config(), &alone, "a").is_some());
        alone.addresses[0].usable = false;
        assert_eq!(by_facts(&config(), &alone, "a"), None, "it is netd's own");
        let why = by_facts(&config(), &Facts::default(), "a").unwrap();
        assert_eq!(why, "no route says which device the network of 192.0.2.1 is reached by");
    }

    #[test]
    fn what_a_pass_left_undone_is_wrong_if_egress_needs_it() {
        let not_ready = |kind: &str, key: &str, phase| {
            let (kind, key, message) = (kind.to_owned(), key.to_owned(), "no".to_owned());
            let resource = ResourceReport { kind, key, phase, message };
            let report = Report { not_ready: vec![resource], ..Report::default() };
            by_report(&task(), &report)
        };
        assert_eq!(not_ready("masquerade", "eth0", Phase::Failed).unwrap(), "masquerade eth0: no");
        assert_eq!(not_ready("address", "192.0.2.1", Phase::Conflict).unwrap(), "address 192.0.2.1: no");
        for (kind, key, phase) in [
            ("masquerade", "eth1", Phase::Failed),
            ("address", "192.0.2.2", Phase::Failed),
            ("address", "192.0.2.1", Phase::Pending),
            ("service", "192.0.2.9:80/tcp", Phase::Failed),
        ] {
            assert_eq!(not_ready(kind, key, phase), None, "{kind} {key}");
        }
    }

    #[test]
    fn what_failed_and_is_too_much_to_be_listed_is_wrong_too() {
        let failed = KindReport { failed: 1, ..KindReport::default() };
        let report = Report { kinds: [("masquerade".to_owned(), failed)].into(), ..Report::default() };
        assert_eq!(by_report(&task(), &report).unwrap(), "masquerade: not all of it is in force");
    }

    #[test]
    fn what_cannot_be_read_is_wrong() {
        let unread = KindReport { unread: Some("no rights".into()), ..KindReport::default() };
        let report = Report { kinds: [("egress".to_owned(), unread)].into(), ..Report::default() };
        assert_eq!(by_report(&task(), &report).unwrap(), "egress cannot be read: no rights");
    }
}
