//! Which device follows from a file and the facts.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::fake;
use std::collections::BTreeMap;

fn config(network: &str) -> Config {
    let text = format!(
        "version = 1\n\
         nodes = [\n\
         {{ name = \"a\", addresses = [\"10.0.0.1\", \"2001:db8::1\"], pod_cidrs = [\"10.244.1.0/24\"] }},\n\
         {{ name = \"b\", addresses = [\"10.0.0.2\", \"2001:db8::2\"], pod_cidrs = [\"10.244.2.0/24\"] }},\n\
         {{ name = \"c\", addresses = [\"10.0.9.3\"], pod_cidrs = [\"fd00:244:3::/64\"] }},\n\
         ]\n[network]\n{network}\n"
    );
    netd_schema::parse("test.toml", text.as_bytes()).unwrap().config
}

/// Node a, which reaches c by a second device with smaller packets.
fn facts() -> Facts {
    let route = |prefix: &str, link| fake::route(prefix.parse().unwrap(), link, None);
    Facts {
        node: "a".into(),
        links: BTreeMap::from([
            (2, fake::link(2, "eth0")),
            (3, crate::facts::Link { mtu: 1400, ..fake::link(3, "eth1") }),
        ]),
        addresses: vec![fake::address(2, "10.0.0.1".parse().unwrap(), 24)],
        routes: vec![route("10.0.0.0/24", 2), route("10.0.9.0/24", 3), route("2001:db8::/64", 2)],
        ..Facts::default()
    }
}

fn summary(network: &str, facts: &Facts) -> String {
    let desired = desired(&config(network), facts).unwrap();
    let lines = desired.table.iter().map(|(key, spec)| format!("{key} {}", spec.summary()));
    let held = desired.held.iter().map(|(key, reason)| format!("{key} waits: {reason}"));
    let notes = desired.notes.iter().map(|(key, note)| format!("{key} note: {note}"));
    lines.chain(held).chain(notes).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_mtu_is_what_the_smallest_device_below_leaves() {
    assert_eq!(summary("mode = \"vxlan\"", &facts()), "netd_vxlan vxlan at UDP port 8472, MTU 1350");
    let mut without_c = facts();
    without_c.routes.remove(1);
    assert_eq!(summary("mode = \"vxlan\"", &without_c), "netd_vxlan vxlan at UDP port 8472, MTU 1450");
    let geneve = summary("mode = \"geneve\"\nport = 7000", &facts());
    assert_eq!(geneve, "netd_geneve geneve at UDP port 7000, MTU 1350");
}

#[test]
fn a_tunnel_stands_ready_in_direct_mode_only_if_the_file_names_it() {
    assert_eq!(summary("mode = \"direct\"", &facts()), "");
    let ready = summary("mode = \"direct\"\ntunnel = \"vxlan\"", &facts());
    assert_eq!(ready, "netd_vxlan vxlan at UDP port 8472, MTU 1350");
}

#[test]
fn an_mtu_that_does_not_fit_is_made_and_told() {
    let said = summary("mode = \"vxlan\"\nmtu = 1500", &facts());
    let expected = "netd_vxlan vxlan at UDP port 8472, MTU 1500\nnetd_vxlan note: its MTU is 1500, and eth1 leaves \
                    1350: larger packets come in pieces or not at all";
    assert_eq!(said, expected);
}

#[test]
fn a_device_below_that_leaves_too_little_for_ipv6_makes_it_wait() {
    let mut facts = facts();
    facts.links.get_mut(&3).unwrap().mtu = 1300;
    let expected =
        "netd_vxlan waits: the MTU of eth1 leaves 1250 bytes for a packet of a pod, and IPv6 needs 1280";
    assert_eq!(summary("mode = \"vxlan\"", &facts), expected);
}

#[test]
fn another_instance_has_a_device_of_its_own() {
    let instance = "edge-of-the-network".parse().unwrap();
    let said = summary("mode = \"vxlan\"", &Facts { instance, ..facts() });
    assert_eq!(said, "edge-of-t_vxlan vxlan at UDP port 8472, MTU 1350");
}
