//! What the file asks for, and where the programs go.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::facts::Mac;
use crate::fake::{link, route};

const KEYS: [&str; 2] =
    ["AY+uNcRZ5HnNcRgVW2Ujkyj21PWoYMwP+SzdCKLmKSE=", "AmriAOKlQrwd7NDRejsjTA6kELLj4ObyanQFqZtM5iE="];

/// Two nodes, the second of which has no key in `[network]` of these lines.
fn config(strict: &str, network: &str) -> Config {
    let text = format!(
        "version = 1\n[wireguard]\n{strict}\n[network]\n{network}\n[[nodes]]\nname = \"one\"\n\
         addresses = [\"10.0.0.1\"]\npod_cidrs = [\"10.244.1.0/24\"]\nwireguard = {{ public_key = \"{}\" }}\n\
         [[nodes]]\nname = \"two\"\naddresses = [\"10.0.7.2\"]\npod_cidrs = [\"10.244.2.0/24\", \"fd00:244:2::/64\"]\n\
         wireguard = {{ public_key = \"{}\" }}\n[[nodes]]\nname = \"three\"\naddresses = [\"10.0.0.3\"]\n\
         pod_cidrs = [\"10.244.3.0/24\"]\n",
        KEYS[0], KEYS[1]
    );
    netd_schema::parse("test.toml", text.as_bytes()).unwrap().config
}

/// The node one, on whose eth1 another node is; the default route is by eth0.
fn facts() -> Facts {
    let mut facts = Facts { node: "one".into(), ..Facts::default() };
    for (index, name, kind) in
        [(2, "eth0", ""), (3, "eth1", "vlan"), (4, "lxc1", "veth"), (5, "netd_wg0", "tun")]
    {
        let (mac, kind) = (Some(Mac([2, 0, 0, 0, 0, 1])), kind.to_owned());
        facts.links.insert(index, Link { mac, kind, ..link(index, name) });
    }
    facts.routes.push(route("0.0.0.0/0".parse().unwrap(), 2, None));
    facts.routes.push(route("10.0.7.0/24".parse().unwrap(), 3, None));
    facts
}

fn spec(desired: &DesiredKind, device: &str) -> StrictSpec {
    desired.table.get(device).unwrap().as_any().downcast_ref::<StrictSpec>().unwrap().clone()
}

fn devices_of(desired: &DesiredKind) -> Vec<String> {
    desired.table.keys().map(ToString::to_string).collect()
}

#[test]
fn the_programs_are_on_what_leads_to_nodes_and_out_and_know_all_pods() {
    let wanted = desired(&config("strict = { egress = true, ingress = true }", ""), &facts()).unwrap();
    assert_eq!(devices_of(&wanted), ["eth0", "eth1"]);
    let expected = "nothing leaves in clear to 10.244.1.0/24, 10.244.2.0/24, 10.244.3.0/24, fd00:244:2::/64; nothing \
                    comes in in clear from 10.244.1.0/24, 10.244.2.0/24, 10.244.3.0/24, fd00:244:2::/64";
    assert_eq!(spec(&wanted, "eth1").summary(), expected);
    assert!(wanted.kept.contains("eth0"), "a route that goes does not take the programs off");
}

#[test]
fn whatever_else_a_watched_prefix_may_be_reached_by_is_watched_but_for_the_nodes_own_pods() {
    let file = config("strict = { egress = true }", "mode = \"vxlan\"");
    let mut facts = facts();
    let watched = |facts: &Facts| devices_of(&desired(&file, facts).unwrap());
    let mut add = |index, name: &str, kind: &str| {
        let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
        facts.links.insert(index, Link { mac, kind: kind.into(), ..link(index, name) });
    };
    add(10, "more", "vlan");
    add(11, "less", "bridge");
    add(12, "other", "veth");
    add(13, "nic", "");
    add(14, "flat", "bridge");
    for (prefix, index) in [
        ("10.244.2.128/25", 10),
        ("10.244.0.0/16", 11),
        ("10.9.0.0/16", 12),
        ("10.244.1.4/32", 4),
        ("10.244.1.5/32", 14),
        ("10.244.0.0/16", 14),
    ] {
        facts.routes.push(route(prefix.parse().unwrap(), index, None));
    }
    assert_eq!(watched(&facts), ["eth0", "eth1", "less", "more", "nic"]);
    // A route into netd's own WireGuard is the way; into somebody else's device of that name it is not.
    facts.routes.push(route("10.244.3.0/24".parse().unwrap(), 5, None));
    assert!(watched(&facts).contains(&"netd_wg0".to_owned()));
    facts.links.get_mut(&5).unwrap().alias = "netd:default".into();
    assert!(!watched(&facts).contains(&"netd_wg0".to_owned()));
}

#[test]
fn prefixes_of_the_file_and_the_tunnel_are_what_the_programs_go_by() {
    let file = config("strict = { egress = [\"10.244.0.0/16\"] }\nmark = 7", "mode = \"vxlan\"\nport = 9999");
    let rules = spec(&desired(&file, &facts()).unwrap(), "eth0").rules;
    assert_eq!(rules.destinations, ["10.244.0.0/16".parse().unwrap()].into());
    assert!(rules.sources.is_empty() && rules.mark == 7);
    assert_eq!(rules.tunnel, Some(("vxlan".to_owned(), 9999)));
    assert_eq!(Rules::held(&rules.for_program()), *rules);
}

#[test]
fn without_strict_mode_nothing_is_wanted_nor_kept() {
    for strict in ["", "strict = { egress = false }", "strict = { ingress = false }"] {
        let wanted = desired(&config(strict, ""), &facts()).unwrap();
        assert!(wanted.table.is_empty() && wanted.kept.is_empty() && wanted.held.is_empty());
    }
}

#[test]
fn a_device_that_cannot_be_watched_is_said() {
    let file = config("strict = { egress = true }", "");
    let mut facts = facts();
    facts.links.get_mut(&3).unwrap().mac = None;
    let wanted = desired(&file, &facts).unwrap();
    assert_eq!(devices_of(&wanted), ["eth0"]);
    assert!(wanted.held["eth1"].contains("no Ethernet device"));
    facts.routes.clear();
    facts.links.get_mut(&2).unwrap().up = false;
    let wanted = desired(&file, &facts).unwrap();
    assert!(wanted.table.is_empty() && wanted.held[NO_DEVICES].starts_with("no device is known"));
}

#[test]
fn a_prefix_more_is_a_field_of_its_own() {
    let before =
        spec(&desired(&config("strict = { egress = [\"10.1.0.0/16\"] }", ""), &facts()).unwrap(), "eth0");
    let after = config("strict = { egress = [\"10.1.0.0/16\", \"10.2.0.0/16\"] }", "");
    let after = spec(&desired(&after, &facts()).unwrap(), "eth0");
    let changes = after.changes(&before);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].field, "destination");
}
