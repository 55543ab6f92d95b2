//! Every file of examples-config/ says what it is for, is accepted, and plans what it is about.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity, reason = "tests")]

use ipnetwork::IpNetwork;
use netd::balancer::Balancer;
use netd::facts::{Address, Facts, Link, Mac, NextHop, Route, RouteAction};
use netd::kinds::capture::Recording;
use netd::kinds::{self, Context};
use netd::metrics::{Page, Sources};
use netd::report::Report;
use netd::speaker::Speaker;
use netd::wireguard::Devices;
use netd_core::{Desired, Observation, Observed, Plan, Reading};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the examples are about: the changes of each kind on a node that has nothing yet.
const CHANGES: [(&str, &str, &[(&str, usize)]); 19] = [
    ("minimal", "lb", &[("neighbour", 1), ("balancer", 1), ("service", 1), ("vip", 1), ("attachment", 1)]),
    ("load-balancer", "lb", &[("neighbour", 2), ("service", 8), ("vip", 3), ("attachment", 1)]),
    ("health-checks", "lb", &[("service", 4), ("vip", 3)]),
    ("clients", "lb", &[("service", 3), ("vip", 3)]),
    ("tunnels", "lb", &[("neighbour", 2), ("service", 3), ("vip", 3)]),
    ("captures", "lb", &[("service", 2), ("capture", 2)]),
    ("cilium-tier", "lb", &[("service", 1)]),
    ("pools", "lb", &[("service", 5), ("vip", 7), ("metrics", 1)]),
    ("pod-routes", "node-1", &[("route", 3), ("service", 0), ("attachment", 0)]),
    ("overlay", "node-1", &[("link", 1), ("overlay", 1), ("route", 4), ("service", 0), ("attachment", 0)]),
    (
        "wireguard",
        "node-1",
        &[
            ("strict", 1),
            ("wireguard_device", 1),
            ("wireguard_peer", 2),
            ("wireguard_route", 6),
            ("rule", 2),
            ("route", 3),
        ],
    ),
    ("masquerade", "node-1", &[("masquerade", 1), ("service", 0), ("attachment", 0)]),
    ("notrack", "node-1", &[("notrack", 1), ("masquerade", 1), ("service", 0), ("attachment", 0)]),
    ("egress", "gw-1", &[("masquerade", 1), ("egress", 5), ("address", 3), ("service", 0)]),
    ("egress-failover", "gw-1", &[("masquerade", 1), ("egress", 1), ("address", 0), ("service", 0)]),
    (
        "egress-bgp",
        "gw-1",
        &[("egress", 2), ("address", 2), ("bgp_path", 2), ("vip", 0), ("attachment", 0), ("service", 0)],
    ),
    ("backend-node", "backend", &[("decap", 1), ("service", 0), ("attachment", 0)]),
    ("bgp", "lb-1", &[("service", 2), ("bgp_instance", 1), ("bgp_peer", 2)]),
    (
        "full",
        "lb-1",
        &[
            ("wireguard_device", 2),
            ("wireguard_peer", 2),
            ("wireguard_route", 4),
            ("rule", 2),
            ("route", 4),
            ("strict", 1),
            ("bgp_peer", 4),
            ("bgp_path", 2),
            ("service", 8),
            ("attachment", 2),
            ("decap", 1),
            ("metrics", 1),
            ("capture", 1),
        ],
    ),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples-config")
}

fn examples() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    let text = |path: PathBuf| {
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap())
    };
    files.map(text).collect()
}

/// A node with three devices and both families, whose router is on the first, and with tunnel devices that may be netd's.
fn facts(node: &str) -> Facts {
    let mut facts = Facts { node: node.to_owned(), ..Facts::default() };
    for (index, name) in (2..).zip(["eth0", "eth1", "eth2"]) {
        let mac = Some(Mac([2, 0, 0, 0, 0, index as u8]));
        let link = Link {
            index,
            name: name.into(),
            mac,
            mtu: 1500,
            up: true,
            kind: "veth".into(),
            alias: String::new(),
            xdp: None,
        };
        facts.links.insert(index, link);
    }
    for (index, name, kind) in [(9, "netd_vxlan", "vxlan"), (10, "netd_wg0", "wireguard")] {
        let (name, kind, alias) = (name.to_owned(), kind.to_owned(), facts.instance.alias());
        let tunnel = Link { index, name, kind, alias, ..facts.links[&2].clone() };
        facts.links.insert(index, tunnel);
    }
    for (own, network, router) in
        [("10.0.0.11", "10.0.0.0/24", "10.0.0.1"), ("2001:db8::11", "2001:db8::/64", "2001:db8::1")]
    {
        let network: IpNetwork = network.parse().unwrap();
        let address = own.parse().unwrap();
        facts.addresses.push(Address {
            link: 2,
            address,
            prefix_len: network.prefix(),
            usable: true,
            temporary: false,
            global: true,
        });
        let all = if network.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        for (destination, via) in [(network, None), (all.parse().unwrap(), Some(router.parse().unwrap()))] {
            facts.routes.push(Route {
                destination,
                table: 254,
                metric: 0,
                protocol: 2,
                action: RouteAction::Forward(vec![NextHop { link: 2, via, weight: 1 }]),
                source: None,
                mtu: None,
            });
        }
    }
    facts
}

fn planned(name: &str, text: &str, node: &str) -> Plan {
    let file = format!("examples-config/{name}.toml");
    let config = netd_schema::parse(&file, text.as_bytes())
        .unwrap_or_else(|why| panic!("{}", why.render(false)))
        .config;
    let nowhere = Path::new("/nowhere");
    let speaker = Arc::new(tokio::sync::Mutex::new(Speaker::new(nowhere, None)));
    let devices = Devices::new("default", nowhere.into(), nowhere.into());
    let wireguard = Arc::new(tokio::sync::Mutex::new(devices));
    let balancer = Arc::new(Balancer::new(nowhere.into()));
    let bpf_dir = nowhere.into();
    let (page, recording) = (Some(page()), Recording::Elsewhere(nowhere.into()));
    let kinds = kinds::all(&Context { bpf_dir, balancer, page, speaker, recording, wireguard });
    let facts = facts(node);
    let order: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
    let nothing = order.iter().map(|kind| (*kind, Reading::Known(Observation::default().into()))).collect();
    let config = netd::allocation::from_the_file_alone(&config);
    let wanted =
        kinds.iter().map(|kind| (kind.name, (kind.desired)(&config, &facts).map(Into::into))).collect();
    netd_core::plan(&order, &Desired(wanted), &Observed(nothing))
}

/// With a page the kinds are those of a daemon.
fn page() -> Arc<Page> {
    let (_, reports) = tokio::sync::watch::channel(Arc::new(Report::default()));
    Arc::new(Page::new(Sources {
        reports,
        traffic: Arc::new(|| Ok(Vec::new())),
        flows: Arc::new(|| Ok(0)),
        decap: Arc::new(|| Ok(None)),
        nat: Arc::new(|| Ok(None)),
        strict: Arc::new(|| Ok(None)),
    }))
}

#[test]
fn every_example_is_accepted_and_plans_something_without_waiting_for_anything() {
    let node_of =
        |name: &str| CHANGES.iter().find(|(known, ..)| *known == name).map_or("lb-1", |(_, node, _)| node);
    for (name, text) in examples() {
        let mut plan = planned(&name, &text, node_of(&name));
        // VIPs are announced when their backends were checked and the way there is resolved; an address that can fail over
        // is taken when the gateways were heard.
        plan.held.retain(|held| held.id.kind != "bgp_path" && held.id.kind != "address");
        assert!(!plan.steps.is_empty(), "{name} plans nothing");
        assert!(
            plan.held.is_empty() && plan.unread.is_empty() && plan.conflicts.is_empty(),
            "{name}: {plan:#?}"
        );
    }
}

#[test]
fn the_examples_plan_what_they_are_about() {
    let examples = examples();
    for (name, node, changes) in CHANGES {
        let plan = planned(name, &examples[name], node);
        for (kind, count) in changes {
            let steps = plan.steps.iter().filter(|step| step.id.kind == *kind);
            let keys: Vec<String> = steps.map(|step| step.id.key.to_string()).collect();
            assert_eq!(keys.len(), *count, "{kind} of {name}: {keys:?}");
        }
    }
}

/// An editor checks the file against the schema that its first line names, and a reader knows what it is for.
#[test]
fn every_example_names_its_schema_and_then_says_what_it_is_for() {
    for (name, text) in examples() {
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("#:schema ../schema/desired.schema.json"), "{name}");
        assert_eq!(lines.next(), Some(""), "{name}");
        let purpose: Vec<&str> = lines.map_while(|line| line.strip_prefix("# ")).collect();
        assert!(purpose.last().is_some_and(|end| end.ends_with('.')), "{name}: {purpose:?}");
    }
}
