//! Which prefixes a node announces, to whom, and what is said about them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod told;

use super::*;
use crate::facts::{Address, Link, Mac, Neighbour};
use crate::fake;
use crate::health::Verdicts;
use crate::health::verdict::{BackendId, Group, Unhealthy};
use netd_core::Described as _;
use std::fmt::Write as _;
use std::time::Duration;

/// A node with two services, a way to their backends, and an eBGP peer.
const BASE: &str = r#"
version = 1
[[nodes]]
name = "a"
addresses = ["10.0.0.11", "2001:db8::11"]
pod_cidrs = ["10.244.1.0/24"]
[[nodes]]
name = "b"
addresses = ["10.0.0.12"]
pod_cidrs = ["10.244.2.0/24"]
[[services]]
name = "web"
vips = ["192.0.2.10"]
ports = [{ protocol = "tcp", port = 80 }]
backends = [{ address = "10.1.0.2" }, { address = "10.1.0.3" }]
health_check = { kind = "tcp" }
[[services]]
name = "dns"
vips = ["192.0.2.53"]
ports = [{ protocol = "udp", port = 53 }]
backends = [{ address = "10.1.0.4" }]
health_check = { kind = "icmp" }
"#;

const PEER: &str = "[[bgp.peers]]\naddress = \"10.0.0.1\"\nasn = 64513\n";

fn file(bgp: &str, rest: &str) -> Config {
    let text = format!("{BASE}[bgp]\nasn = 64512\n{bgp}\n{rest}");
    parse(&text)
}

fn parse(text: &str) -> Config {
    netd_schema::parse("test.toml", text.as_bytes()).unwrap_or_else(|found| panic!("{found}")).config
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Everything is reached by one router on eth0, and every VIP is judged to be well.
fn facts(config: &Config) -> Facts {
    let eth0 = Link { mac: Some(Mac([2; 6])), ..fake::link(2, "eth0") };
    let address = |text: &str, bits| fake::address(2, ip(text), bits);
    let route = |prefix: &str, via: &str| fake::route(prefix.parse().unwrap(), 2, Some(ip(via)));
    let known = Neighbour { mac: Some(Mac([3; 6])), valid: true, ..Neighbour::default() };
    let mut health = Verdicts::default();
    for service in &config.services {
        for &vip in &service.vips {
            health.unhealthy.insert(Group { service: service.name.clone(), vip }, BTreeMap::new());
        }
    }
    Facts {
        node: "a".into(),
        links: BTreeMap::from([(2, eth0)]),
        addresses: vec![address("10.0.0.11", 24), address("2001:db8::11", 64)],
        routes: vec![route("0.0.0.0/0", "10.0.0.254"), route("::/0", "2001:db8::fe")],
        neighbours: BTreeMap::from([((2, ip("10.0.0.254")), known), ((2, ip("2001:db8::fe")), known)]),
        health: Arc::new(health),
        ..Facts::default()
    }
}

/// Says that backends of a service have been unhealthy for so many seconds.
fn sicken(facts: &mut Facts, service: &str, vip: &str, backends: &[&str], seconds: u64) {
    let mut health = (*facts.health).clone();
    let group = Group { service: service.into(), vip: ip(vip) };
    for backend in backends {
        let id = BackendId { address: ip(backend), port: None };
        let why = Unhealthy { since_unix_ms: 1, why: "refused".into() };
        health.unhealthy.entry(group.clone()).or_default().insert(id, why);
        health.unhealthy_for.entry(group.clone()).or_default().insert(id, Duration::from_secs(seconds));
    }
    facts.health = Arc::new(health);
}

/// Everything that is wanted, a line each, as a plan says it; what waits after it.
fn shown(config: &Config, facts: &Facts) -> String {
    let desired = desired(config, facts).unwrap();
    let mut text = String::new();
    for spec in desired.table.values() {
        let _ = writeln!(text, "{}", spec.headline().unwrap());
    }
    for (key, why) in &desired.held {
        let _ = writeln!(text, "… {key}: {why}");
    }
    if let Some(turns_in) = desired.turns_in {
        let _ = writeln!(text, "in {} ms", turns_in.as_millis());
    }
    text
}

#[track_caller]
fn expect(config: &Config, expected: &[&str]) {
    assert_eq!(
        shown(config, &facts(config)),
        expected.iter().map(|line| format!("{line}\n")).collect::<String>()
    );
}

#[track_caller]
fn expect_with(config: &Config, facts: &Facts, expected: &[&str]) {
    assert_eq!(shown(config, facts), expected.iter().map(|line| format!("{line}\n")).collect::<String>());
}

const WEB: &str = "announce 192.0.2.10/32 to 10.0.0.1";
const DNS: &str = "announce 192.0.2.53/32 to 10.0.0.1";

#[test]
fn vips_with_a_healthy_backend_go_to_every_peer() {
    expect(&file("", PEER), &[WEB, DNS]);
    expect(&file("announce = []", PEER), &[]);
    assert_eq!(shown(&parse(BASE), &facts(&parse(BASE))), "");
}

#[test]
fn a_plan_says_it_as_an_operator_would() {
    let rule = "[[bgp.announcements]]\ncommunities = [\"64512:100\"]\n";
    let config = file("", &format!("{PEER}{rule}"));
    expect(
        &config,
        &[
            "announce 192.0.2.10/32 to 10.0.0.1 (community 64512:100)",
            "announce 192.0.2.53/32 to 10.0.0.1 (community 64512:100)",
        ],
    );
}

#[test]
fn this_nodes_pod_prefixes_are_announced_and_no_others() {
    let config = file("announce = [\"pod-cidrs\"]", PEER);
    expect(&config, &["announce 10.244.1.0/24 to 10.0.0.1"]);
    let facts = Facts { node: "b".into(), ..facts(&config) };
    expect_with(&config, &facts, &["announce 10.244.2.0/24 to 10.0.0.1"]);
}

#[test]
fn a_vip_without_a_usable_backend_in_the_file_is_not_announced() {
    let maintenance =
        BASE.replace("{ address = \"10.1.0.4\" }", "{ address = \"10.1.0.4\", state = \"maintenance\" }");
    let config = parse(&format!("{maintenance}[bgp]\nasn = 64512\n{PEER}"));
    expect(&config, &[WEB]);
}

#[test]
fn b15_a_vip_whose_backends_are_out_of_reach_is_withdrawn_at_once() {
    let config = file("", PEER);
    let mut facts = facts(&config);
    facts.links.get_mut(&2).unwrap().up = false;
    expect_with(&config, &facts, &[]);
}

#[test]
fn a_vip_waits_until_the_way_to_a_backend_is_resolved_and_is_not_withdrawn_for_it() {
    let config = file("", PEER);
    let mut facts = facts(&config);
    facts.neighbours.clear();
    let why = "the way to its backends is not resolved yet";
    expect_with(&config, &facts, &[&format!("… 192.0.2.10/32: {why}"), &format!("… 192.0.2.53/32: {why}")]);
}

#[test]
fn before_the_first_verdict_a_vip_stays_as_it_is() {
    let config = file("", PEER);
    let mut facts = facts(&config);
    let mut health = (*facts.health).clone();
    health.unjudged.insert(Group { service: "web".into(), vip: ip("192.0.2.10") });
    facts.health = Arc::new(health);
    expect_with(&config, &facts, &[DNS, "… 192.0.2.10/32: its backends have not been checked yet"]);
    facts.health = Arc::default();
    assert!(desired(&config, &facts).unwrap().table.is_empty());
}

#[test]
fn a_vip_whose_last_backend_went_is_held_for_a_while_and_then_withdrawn() {
    let config = file("", PEER);
    let mut facts = facts(&config);
    sicken(&mut facts, "web", "192.0.2.10", &["10.1.0.2"], 100);
    expect_with(&config, &facts, &[WEB, DNS]);
    sicken(&mut facts, "web", "192.0.2.10", &["10.1.0.3"], 2);
    let why = "its last backend was found unhealthy: it is withdrawn unless one recovers in time";
    expect_with(&config, &facts, &[DNS, &format!("… 192.0.2.10/32: {why}"), "in 3000 ms"]);
    sicken(&mut facts, "web", "192.0.2.10", &["10.1.0.3"], 5);
    expect_with(&config, &facts, &[DNS]);
}

#[test]
fn b10_verdicts_never_withdraw_more_than_the_floor_allows() {
    let config = file("", PEER);
    let mut facts = facts(&config);
    sicken(&mut facts, "web", "192.0.2.10", &["10.1.0.2", "10.1.0.3"], 100);
    sicken(&mut facts, "dns", "192.0.2.53", &["10.1.0.4"], 100);
    expect_with(&config, &facts, &[WEB, DNS]);
    let note = desired(&config, &facts).unwrap().notes.remove("192.0.2.10/32").unwrap();
    let expected = "0 of 2 VIPs have a healthy backend, less than the floor of 50 %: all stay announced";
    assert_eq!(note, expected);
    expect_with(&file("floor = 0", PEER), &facts, &[]);
}

#[test]
fn with_a_local_policy_only_nodes_that_have_a_backend_announce() {
    let local = BASE
        .replace("{ address = \"10.1.0.4\" }", "{ address = \"10.244.2.7\" }")
        .replace("health_check = { kind = \"icmp\" }", "traffic_policy = \"local\"");
    let config = parse(&format!("{local}[bgp]\nasn = 64512\n{PEER}"));
    expect(&config, &[WEB]);
    let facts = Facts { node: "b".into(), ..facts(&config) };
    expect_with(&config, &facts, &[WEB, DNS]);
}

#[test]
fn a_vip_of_two_services_is_announced_for_the_better_one() {
    let shared = BASE.replace("192.0.2.53", "192.0.2.10");
    let config = parse(&format!("{shared}[bgp]\nasn = 64512\n{PEER}"));
    let mut facts = facts(&config);
    sicken(&mut facts, "web", "192.0.2.10", &["10.1.0.2", "10.1.0.3"], 100);
    expect_with(&config, &facts, &[WEB]);
}

#[test]
fn b9_an_announcement_stands_on_the_datapath_and_on_the_speaker() {
    let config = file("", PEER);
    let needs = desired(&config, &facts(&config)).unwrap().needs.remove("192.0.2.10/32").unwrap();
    let one = |kind, key| Need::One(ResourceId { kind, key: Key::new(key) });
    let expected = [
        one(service::NAME, "192.0.2.10:80/tcp"),
        one(vip::NAME, "192.0.2.10"),
        Need::AnyOf(attachment::NAME),
        one(bgp_instance::NAME, "managed"),
    ];
    assert_eq!(needs.as_ref(), expected);
}

const POOL: &str = "[[ip_pools]]\nname = \"public\"\nranges = [\"192.0.2.0/25\"]\n";

#[test]
fn vips_become_aggregates_with_what_all_of_them_have() {
    let rules = "
        [[bgp.announcements]]
        aggregate = { ipv4 = 24 }
        [[bgp.announcements]]
        services = [\"web\"]
        communities = [\"64512:1\"]
        [[bgp.announcements]]
        services = [\"dns\"]
        communities = [\"64512:2\"]
    ";
    let config = file("", &format!("{PEER}{rules}"));
    expect(&config, &["announce 192.0.2.0/24 to 10.0.0.1 (communities 64512:1 64512:2)"]);
    assert_eq!(aggregates(&config, &facts(&config)), ["192.0.2.0/24".parse().unwrap()].into());
    let needs = desired(&config, &facts(&config)).unwrap().needs.remove("192.0.2.0/24").unwrap();
    assert!(needs.contains(&Need::One(ResourceId { kind: route::NAME, key: Key::new("192.0.2.0/24") })));
    let in_pool = file("", &format!("{PEER}{rules}{POOL}"));
    expect(&in_pool, &["announce 192.0.2.0/25 to 10.0.0.1 (communities 64512:1 64512:2)"]);
}

/// What of the change from one file to the next has to be allowed first.
fn brakes(from: &Config, to: &Config) -> Vec<String> {
    let owned = desired(from, &facts(from)).unwrap().table;
    let found = netd_core::Observation { owned, ..Default::default() };
    let observed = netd_core::Observed([(NAME, netd_core::Reading::Known(found.into()))].into());
    let wanted = desired(to, &facts(to)).unwrap();
    let wanted =
        netd_core::Desired([(NAME, Ok(DesiredKind { needs: BTreeMap::new(), ..wanted }.into()))].into());
    let plan = netd_core::plan(&[NAME], &wanted, &observed);
    plan.brakes(&[NAME]).iter().map(ToString::to_string).collect()
}

#[test]
fn s13_the_only_announcement_goes_when_that_is_allowed_and_another_length_of_it_at_once() {
    let aggregated = file("", &format!("{PEER}[[bgp.announcements]]\naggregate = {{ ipv4 = 24 }}\n"));
    let nothing = file("announce = []", PEER);
    assert_eq!(brakes(&aggregated, &nothing), ["it would delete every resource of kind bgp_path (1)"]);
    let without_peers = file("", "");
    assert_eq!(brakes(&aggregated, &without_peers), ["it would delete every resource of kind bgp_path (1)"]);
    assert!(brakes(&aggregated, &file("", PEER)).is_empty(), "its VIPs are announced one by one instead");
    assert!(brakes(&file("", PEER), &aggregated).is_empty());
}

#[test]
fn an_aggregate_lasts_as_long_as_one_of_its_vips() {
    let config = file("floor = 0", &format!("{PEER}[[bgp.announcements]]\naggregate = {{ ipv4 = 24 }}\n"));
    let mut facts = facts(&config);
    sicken(&mut facts, "web", "192.0.2.10", &["10.1.0.2", "10.1.0.3"], 100);
    expect_with(&config, &facts, &["announce 192.0.2.0/24 to 10.0.0.1"]);
    sicken(&mut facts, "dns", "192.0.2.53", &["10.1.0.4"], 100);
    expect_with(&config, &facts, &[]);
    assert_eq!(aggregates(&config, &facts).len(), 1, "the refusal stays: the router may not know yet");
}

#[test]
fn a_pool_selects_vips_by_where_they_are() {
    let rule = "[[bgp.announcements]]\npools = [\"public\"]\ncommunities = [\"64512:7\"]\n";
    let narrow = POOL.replace("/25", "/28");
    expect(
        &file("announce = []", &format!("{PEER}{rule}{narrow}")),
        &["announce 192.0.2.10/32 to 10.0.0.1 (community 64512:7)"],
    );
}

#[test]
fn a_node_without_peers_announces_nothing_and_says_so_to_nobody() {
    let elsewhere = format!("{PEER}nodes = [\"b\"]\n");
    expect(&file("", &elsewhere), &[]);
}

#[test]
fn every_field_of_an_announcement_is_compared() {
    let plain = PathSpec {
        prefix: "192.0.2.1/32".parse().unwrap(),
        next_hop: None,
        communities: BTreeSet::new(),
        large_communities: BTreeSet::new(),
        local_preference: None,
        med: None,
        prepend: Vec::new(),
        to: Recipients::All(BTreeSet::new()),
        besides: BTreeMap::new(),
    };
    let other = PathSpec {
        prefix: "192.0.2.2/32".parse().unwrap(),
        next_hop: Some(ip("10.0.0.1")),
        communities: [netd_schema::Community(1)].into(),
        large_communities: [netd_schema::LargeCommunity { administrator: 1, data: [2, 3] }].into(),
        local_preference: Some(1),
        med: Some(1),
        prepend: vec![1],
        to: Recipients::Only(BTreeSet::new()),
        besides: [(ip("10.0.0.2"), Besides::default())].into(),
    };
    assert_eq!(other.changes(&plain).len(), 9);
    assert!(plain.changes(&plain).is_empty());
    assert_eq!(plain.headline().unwrap(), "announce 192.0.2.1/32 to every peer");
}

const EGRESS: &str = "[[egress]]\nname = \"legacy\"\nsources = [\"10.244.0.0/16\", \"fd00:244::/32\"]\n\
                      ips = [\"192.168.33.100\", \"2001:db8:33::100\"]\n";

#[test]
fn the_gateway_in_force_announces_egress_addresses_once_it_has_them_and_no_other_node_does() {
    let peer = "[[bgp.peers]]\naddress = \"10.0.0.1\"\nasn = 64513\nfamilies = [\"ipv4\", \"ipv6\"]\n";
    let by = |node: &str, announce: &str, bgp: &str| {
        let policy = format!("{EGRESS}gateways = [{{ node = \"{node}\" }}]\nannounce = [{announce}]\n");
        file(&format!("announce = [{bgp}]\n"), &format!("{peer}{policy}"))
    };
    let both = [
        "announce 192.168.33.100/32 to 10.0.0.1",
        "announce 2001:db8:33::100/128 to 10.0.0.1 (next hop 2001:db8::11)",
    ];
    let own = by("a", "\"arp\", \"bgp\"", "");
    expect(&own, &both);
    let key = Key::new("192.168.33.100/32");
    let needs = desired(&own, &facts(&own)).unwrap().needs[&key].to_vec();
    let id = ResourceId { kind: "address", key: Key::new("192.168.33.100") };
    assert!(needs.contains(&Need::One(id)), "{needs:?}");
    expect(&by("b", "\"bgp\"", ""), &[]);
    expect(&by("a", "\"arp\"", ""), &[]);
    expect(&by("a", "\"arp\"", "\"egress-ips\""), &both);
}

#[test]
fn rules_say_which_peers_are_told_of_egress_addresses_and_what() {
    let pools = "[[ip_pools]]\nname = \"out\"\nranges = [\"192.168.33.96/28\"]\n";
    let policy = EGRESS.replace(", \"2001:db8:33::100\"", "").replace(", \"fd00:244::/32\"", "");
    let rule = "[[bgp.announcements]]\nwhat = [\"egress-ips\"]\npools = [\"out\"]\npeers = [\"10.0.0.1\"]\nmed = 7\n";
    let other = "[[bgp.peers]]\naddress = \"10.0.0.2\"\nasn = 64514\n";
    let policy = format!("{policy}pool = \"out\"\ngateways = [{{ node = \"a\" }}]\n");
    let config = file("announce = []\n", &format!("{PEER}{other}{rule}{pools}{policy}"));
    expect(&config, &["announce 192.168.33.100/32 to 10.0.0.1 (MED 7)"]);
}

#[test]
fn an_address_that_another_gateway_gets_is_withdrawn_without_a_word_and_one_that_goes_is_not() {
    let by = |node: &str, more: &str| {
        let policy = format!("{EGRESS}gateways = [{{ node = \"{node}\" }}]\nannounce = [\"bgp\"]\n{more}");
        file("announce = []\n", &format!("{PEER}{policy}"))
    };
    let before = by("a", "");
    let owned = desired(&before, &facts(&before)).unwrap().table;
    let plan = |after: &Config| {
        let wanted = desired(after, &facts(after)).unwrap();
        let observed = netd_core::Observation { owned: owned.clone(), ..netd_core::Observation::default() };
        let desired = netd_core::Desired([(NAME, Ok(wanted.into()))].into());
        let observed = netd_core::Observed([(NAME, netd_core::Reading::Known(observed.into()))].into());
        netd_core::plan(&[NAME], &desired, &observed)
    };
    let moved = by("b", "");
    assert!(!plan(&moved).brakes(&[NAME]).is_empty() && is_only_elsewhere(&plan(&moved), &moved));
    let gone = file("announce = []\n", PEER);
    assert!(!is_only_elsewhere(&plan(&gone), &gone));
    assert!(!is_only_elsewhere(&plan(&before), &before));
}
