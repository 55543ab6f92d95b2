//! Decides on which device an egress address is.

use crate::facts::{Facts, Link, Route, RouteAction};
use std::cmp::Reverse;
use std::net::IpAddr;

/// The device that has an address of the egress address's network, else the one by which the node's routes lead to it.
///
/// A device that is down keeps the address, although no route leads there then: on another segment nobody asks for it, and
/// it might be somebody else's there.
#[must_use]
pub fn uplink(facts: &Facts, address: IpAddr) -> Option<&Link> {
    let routed = routed(facts, address);
    of_network(facts, address, routed).or_else(|| resting(facts, address)).or(routed)
}

/// Of several devices in the network, one that is up, and by which routes lead.
fn of_network<'f>(facts: &'f Facts, address: IpAddr, routed: Option<&Link>) -> Option<&'f Link> {
    let holds = |own: &&crate::facts::Address| {
        let network = ipnetwork::IpNetwork::new(own.address, own.prefix_len);
        own.global
            && own.prefix_len < whole(address)
            && own.address.is_ipv4() == address.is_ipv4()
            && network.is_ok_and(|network| network.contains(address))
    };
    let of_link = |own: &crate::facts::Address| Some((own.prefix_len, facts.links.get(&own.link)?));
    let found = facts.addresses.iter().filter(holds).filter_map(of_link);
    let best = found.max_by_key(|(prefix_len, link)| {
        let leads = routed.is_some_and(|routed| routed.index == link.index);
        (*prefix_len, link.up, leads, Reverse(link.index))
    });
    best.map(|(_, link)| link)
}

/// The device that has the address itself, and is down.
fn resting(facts: &Facts, address: IpAddr) -> Option<&Link> {
    let own = facts.addresses.iter().filter(|own| own.address == address);
    own.filter_map(|own| facts.links.get(&own.link)).find(|link| !link.up)
}

/// As the routes say, but for that of the address itself.
fn routed(facts: &Facts, address: IpAddr) -> Option<&Link> {
    let leads = |route: &&Route| {
        let to = route.destination;
        to.prefix() < whole(address) && to.is_ipv4() == address.is_ipv4() && to.contains(address)
    };
    let hops = facts.routes.iter().filter(leads).filter_map(|route| match &route.action {
        RouteAction::Forward(hops) => Some((route, hops.first()?)),
        RouteAction::Tunnel(..) | RouteAction::Discard | RouteAction::Other => None,
    });
    let best = hops.max_by_key(|(route, _)| (route.destination.prefix(), Reverse(route.metric)));
    facts.links.get(&best?.1.link)
}

fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::facts::Address;
    use crate::fake::{address, link, route};

    const ADDRESS: &str = "192.168.33.100";

    fn own(link: u32, own: &str, prefix_len: u8) -> Address {
        address(link, own.parse().unwrap(), prefix_len)
    }

    /// A default route by eth0, and eth1 in the network of the address.
    fn facts() -> Facts {
        let mut facts = Facts::default();
        for (index, name) in [(2, "eth0"), (3, "eth1"), (4, "eth2")] {
            facts.links.insert(index, Link { up: true, ..link(index, name) });
        }
        facts.routes.push(route("0.0.0.0/0".parse().unwrap(), 2, None));
        facts
    }

    fn chosen(facts: &Facts) -> &str {
        &uplink(facts, ADDRESS.parse().unwrap()).unwrap().name
    }

    fn down(facts: &mut Facts, index: u32) {
        facts.links.get_mut(&index).unwrap().up = false;
    }

    #[test]
    fn an_address_stays_on_the_device_of_its_network_that_is_down() {
        let mut facts = facts();
        facts.addresses = vec![own(2, "10.0.0.1", 24), own(3, "192.168.33.11", 24)];
        down(&mut facts, 3);
        assert_eq!(chosen(&facts), "eth1");
    }

    #[test]
    fn an_address_stays_where_it_is_while_that_device_is_down() {
        let mut facts = facts();
        facts.addresses = vec![own(2, "10.0.0.1", 24), own(3, ADDRESS, 32)];
        assert_eq!(chosen(&facts), "eth0");
        down(&mut facts, 3);
        assert_eq!(chosen(&facts), "eth1");
    }

    #[test]
    fn of_two_devices_in_the_network_one_that_is_up_has_the_address_and_then_the_one_that_routes_lead_by() {
        let mut facts = facts();
        facts.addresses = vec![own(3, "192.168.33.11", 24), own(4, "192.168.33.12", 24)];
        facts.routes.push(route("192.168.33.0/24".parse().unwrap(), 4, None));
        assert_eq!(chosen(&facts), "eth2");
        down(&mut facts, 4);
        assert_eq!(chosen(&facts), "eth1");
    }

    #[test]
    fn an_address_of_no_network_of_the_node_is_where_routes_lead() {
        let mut facts = facts();
        facts.addresses = vec![own(3, "192.168.34.11", 24), own(4, "2001:db8::1", 64)];
        assert_eq!(chosen(&facts), "eth0");
        facts.routes.clear();
        assert_eq!(uplink(&facts, ADDRESS.parse().unwrap()), None);
    }
}
