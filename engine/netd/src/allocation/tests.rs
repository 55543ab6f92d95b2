//! What services are given, case by case.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use netd_core::{Brake, Plan};

fn config(text: &str) -> Config {
    let parsed = netd_schema::parse("desired.toml", format!("version = 1\n{text}").as_bytes());
    parsed.unwrap_or_else(|mistakes| panic!("{}", mistakes.render(false))).config
}

fn pool(name: &str, ranges: &str, more: &str) -> String {
    format!("[[ip_pools]]\nname = \"{name}\"\nranges = [{ranges}]\n{more}\n")
}

/// A service of TCP port 80.
fn web(name: &str, pool: &str, more: &str) -> String {
    format!(
        "[[services]]\nname = \"{name}\"\npool = \"{pool}\"\nports = [{{ protocol = \"tcp\", port = 80 }}]\n{more}\n"
    )
}

/// Each service with its addresses: `web 192.0.2.0 2001:db8::`.
fn shown(allocation: &Allocation) -> Vec<String> {
    let line = |(name, addresses): (String, BTreeSet<IpAddr>)| {
        addresses.iter().fold(name, |line, address| format!("{line} {address}"))
    };
    allocation.held().into_iter().map(line).collect()
}

fn fresh(text: &str) -> Allocation {
    allocate(&config(text), &Held::new())
}

/// What the second file makes of what the first one gave.
fn then(first: &str, second: &str) -> Allocation {
    let first = config(first);
    let held = in_force(&first, &allocate(&first, &Held::new()).held());
    allocate(&config(second), &held)
}

const V4: &str = "\"192.0.2.0/29\"";

#[test]
fn the_lowest_free_address_is_chosen_by_the_order_of_the_names() {
    let pools = pool("public", "\"192.0.2.0/29\", \"2001:db8:100::10-2001:db8:100::20\"", "");
    let text = format!("{pools}{}{}", web("b", "public", ""), web("a", "auto", ""));
    assert_eq!(shown(&fresh(&text)), ["a 192.0.2.0 2001:db8:100::10", "b 192.0.2.1 2001:db8:100::11"]);
}

#[test]
fn what_the_file_names_goes_first_and_nothing_is_given_twice() {
    let named = "[[services]]\nname = \"static\"\nvips = [\"192.0.2.1\"]\nports = [{ protocol = \"udp\", port = 53 }]\nbackends = [{ address = \"192.0.2.2\" }]\n";
    let nodes = "[[nodes]]\nname = \"n\"\naddresses = [\"192.0.2.3\"]\n";
    let pools = pool("public", V4, "unassigned = \"pass\"");
    let text = format!(
        "{pools}{nodes}{named}{}{}",
        web("a", "public", ""),
        web("z", "public", "vips = [\"192.0.2.0\"]")
    );
    assert_eq!(shown(&fresh(&text)), ["a 192.0.2.4", "z 192.0.2.0"]);
}

#[test]
fn pools_are_asked_by_priority_and_then_by_name() {
    let pools = format!(
        "{}{}{}",
        pool("c", "\"192.0.2.0/31\"", "priority = 10"),
        pool("a", "\"192.0.2.8/32\"", ""),
        pool("b", "\"192.0.2.4/32\"", "")
    );
    let services: String = ["1", "2", "3", "4"].map(|name| web(name, "auto", "")).concat();
    let expected = ["1 192.0.2.0", "2 192.0.2.1", "3 192.0.2.8", "4 192.0.2.4"];
    assert_eq!(shown(&fresh(&format!("{pools}{services}"))), expected);
}

#[test]
fn a_pool_without_auto_assign_serves_only_who_names_it() {
    let pools = format!(
        "{}{}",
        pool("inner", V4, "auto_assign = false\npriority = 1"),
        pool("outer", "\"198.51.100.0/24\"", "")
    );
    let text = format!("{pools}{}{}", web("a", "auto", ""), web("b", "inner", ""));
    assert_eq!(shown(&fresh(&text)), ["a 198.51.100.0", "b 192.0.2.0"]);
}

#[test]
fn addresses_that_end_with_0_and_255_can_be_left_out() {
    let pools = pool("public", "\"192.0.2.254-192.0.3.1\"", "avoid = \"first-last\"");
    let services: String = ["a", "b", "c"].map(|name| web(name, "public", "")).concat();
    let allocation = fresh(&format!("{pools}{services}"));
    assert_eq!(shown(&allocation), ["a 192.0.2.254", "b 192.0.3.1"]);
    let why = "pool public is exhausted: 2 of 2 IPv4 addresses are taken";
    assert_eq!(allocation.waiting.values().collect::<Vec<_>>(), [why]);
    let asked = format!("{pools}{}", web("a", "public", "vips = [\"192.0.2.255\"]"));
    assert_eq!(shown(&fresh(&asked)), ["a 192.0.2.255"]);
}

#[test]
fn an_exhausted_pool_is_a_status_of_one_service_and_the_others_go_on() {
    let pools = format!(
        "{}{}",
        pool("small", "\"192.0.2.0/31\"", ""),
        pool("old", "\"198.51.100.0/24\"", "drain = true")
    );
    let services: String = ["a", "b", "c"].map(|name| web(name, "auto", "")).concat();
    let allocation = fresh(&format!("{pools}{services}"));
    assert_eq!(shown(&allocation), ["a 192.0.2.0", "b 192.0.2.1"]);
    let (key, why) = allocation.waiting.first_key_value().unwrap();
    assert_eq!((key.0.as_str(), key.1), ("c", Family::Ipv4));
    assert_eq!(why, "pool old is being drained; pool small is exhausted: 2 of 2 IPv4 addresses are taken");
    let freed = then(
        &format!("{pools}{services}"),
        &format!("{pools}{}{}", web("b", "auto", ""), web("c", "auto", "")),
    );
    assert_eq!(shown(&freed), ["b 192.0.2.1", "c 192.0.2.0"]);
}

#[test]
fn services_that_share_get_one_address_where_their_ports_do_not_collide() {
    let udp = "[[services]]\nname = \"dns\"\npool = \"public\"\nshare = \"edge\"\nports = [{ protocol = \"udp\", port = 80 }]\n";
    let text = format!(
        "{}{udp}{}{}{}",
        pool("public", V4, ""),
        web("web", "public", "share = \"edge\""),
        web("web-2", "public", "share = \"edge\""),
        web("web-3", "public", "share = \"other\""),
    );
    let allocation = fresh(&text);
    assert_eq!(shown(&allocation), ["dns 192.0.2.0", "web 192.0.2.0", "web-2 192.0.2.1", "web-3 192.0.2.2"]);
    assert_eq!(allocation.given[&("web".to_owned(), Family::Ipv4)].origin, Origin::Shared);
}

#[test]
fn an_edited_pool_renumbers_nobody_whose_address_is_still_in_a_range() {
    let services = format!("{}{}", web("a", "public", ""), web("b", "auto", ""));
    let before = format!("{}{services}", pool("public", V4, ""));
    for after in [
        pool("public", "\"192.0.2.0/24\", \"10.9.0.0/24\"", "priority = 5"),
        pool("public", "\"192.0.2.0-192.0.2.1\"", "avoid = \"first-last\""),
        format!("{}{}", pool("public", V4, "drain = true"), pool("next", "\"10.9.0.0/24\"", "priority = 1")),
        format!("{}{}", pool("public", V4, "auto_assign = false"), pool("next", "\"10.9.0.0/24\"", "")),
    ] {
        let allocation = then(&before, &format!("{after}{services}{}", web("0", "auto", "")));
        let kept: Vec<String> =
            shown(&allocation).into_iter().filter(|line| !line.starts_with('0')).collect();
        assert_eq!(kept, ["a 192.0.2.0", "b 192.0.2.1"], "{after}");
        assert!(allocation.moved.is_empty(), "{after}");
    }
}

#[test]
fn an_address_that_left_every_range_moves_and_the_plan_has_to_be_allowed() {
    let services = format!("{}{}", web("a", "public", ""), web("b", "public", ""));
    let before = format!("{}{services}", pool("public", V4, ""));
    let after = config(&format!("{}{services}", pool("public", "\"192.0.2.1-192.0.2.5\"", "")));
    let first = config(&before);
    let held = in_force(&first, &allocate(&first, &Held::new()).held());
    let allocation = allocate(&after, &held);
    assert_eq!(shown(&allocation), ["a 192.0.2.2", "b 192.0.2.1"]);
    let mut plan = Plan::default();
    remark(&allocation, &held, &after, &mut plan);
    let texts: Vec<&str> = plan.remarks.iter().map(|remark| remark.text.as_str()).collect();
    let why = "it is in no pool that the service may use";
    assert_eq!(texts, [format!("RENUMBER: 192.0.2.0 cannot stay, because {why}; 192.0.2.2 takes its place")]);
    assert!(plan.remarks.iter().all(is_move));
    let brake = crate::reconcile::renumbers(&plan).unwrap();
    assert_eq!(brake.to_string(), "it would RENUMBER a/ipv4 from 192.0.2.0 to 192.0.2.2");
    assert!(matches!(brake, Brake::Renumber { more: 0, .. }));
}

#[test]
fn a_family_that_a_pool_loses_is_a_move_and_one_that_the_service_gives_up_is_not() {
    let both = pool("public", "\"192.0.2.0/29\", \"2001:db8:100::/64\"", "");
    let before = format!("{both}{}", web("a", "public", ""));
    let lost = then(&before, &format!("{}{}", pool("public", V4, ""), web("a", "public", "")));
    let (key, moved) = lost.moved.first_key_value().unwrap();
    assert_eq!((key.1, moved.to), (Family::Ipv6, None));
    let given_up = then(&before, &format!("{both}{}", web("a", "public", "families = [\"ipv4\"]")));
    assert!(given_up.moved.is_empty());
    assert_eq!(shown(&given_up), ["a 192.0.2.0"]);
}

#[test]
fn an_address_that_another_service_names_is_taken_from_who_was_given_it() {
    let pools = pool("public", V4, "");
    let before = format!("{pools}{}", web("a", "public", ""));
    let after = format!("{pools}{}{}", web("a", "public", ""), web("b", "public", "vips = [\"192.0.2.0\"]"));
    let allocation = then(&before, &after);
    assert_eq!(shown(&allocation), ["a 192.0.2.1", "b 192.0.2.0"]);
    assert_eq!(allocation.moved.values().next().unwrap().why, "service b has it");
}

#[test]
fn a_service_that_gets_a_pool_keeps_the_address_that_it_named() {
    let pools = pool("public", V4, "");
    let named = web("a", "public", "").replace("pool = \"public\"", "vips = [\"192.0.2.6\"]");
    let allocation = then(&format!("{pools}{named}"), &format!("{pools}{}", web("a", "public", "")));
    assert_eq!(shown(&allocation), ["a 192.0.2.6"]);
    assert_eq!(allocation.given.values().next().unwrap().origin, Origin::Kept);
}

#[test]
fn addresses_written_into_the_file_change_nothing() {
    let pools = pool("public", V4, "");
    let before = format!("{pools}{}{}", web("a", "public", ""), web("b", "public", ""));
    let written = format!(
        "{pools}{}{}",
        web("a", "public", "vips = [\"192.0.2.0\"]"),
        web("b", "public", "vips = [\"192.0.2.1\"]")
    );
    assert_eq!(then(&before, &written).held(), fresh(&before).held());
    assert_eq!(fresh(&written).held(), fresh(&before).held());
}

#[test]
fn where_history_decided_it_is_said_that_nodes_may_differ() {
    let pools = pool("public", V4, "");
    let before = format!("{pools}{}{}", web("a", "public", ""), web("b", "public", ""));
    let after = format!("{pools}{}", web("b", "public", ""));
    let (allocation, alone) = (then(&before, &after), fresh(&after));
    let notes = desired(&allocation, &alone).notes;
    let note = "kept; a node that begins with this file would give it 192.0.2.0: `netd allocate --write` settles it for all nodes";
    assert_eq!(notes.values().collect::<Vec<_>>(), [note]);
    assert!(desired(&alone, &alone).notes.is_empty());
}

#[test]
fn what_the_pools_hold_is_counted() {
    let pools = format!(
        "{}{}",
        pool("public", "\"192.0.2.0/24\"", "avoid = \"first-last\""),
        pool("wide", "\"2001:db8::/32\"", "")
    );
    let text =
        config(&format!("{pools}{}{}", web("a", "auto", ""), web("b", "public", "vips = [\"192.0.2.0\"]")));
    let allocation = allocate(&text, &Held::new());
    let report = AddressReport::of(&text, String::new(), &allocation, &allocation);
    assert_eq!(report.pools[0].ipv4, Some(PoolUse { total: 254, used: 2, free: 253 }));
    assert_eq!(report.pools[0].ipv6, None);
    assert_eq!(report.pools[1].ipv6, Some(PoolUse { total: u64::MAX, used: 1, free: u64::MAX }));
    let origins: Vec<_> = report.services.iter().map(|one| (one.service.as_str(), one.origin)).collect();
    assert_eq!(origins, [("a", Origin::Chosen), ("a", Origin::Chosen), ("b", Origin::Requested)]);
}

#[test]
fn without_memory_the_datapath_says_what_services_have_and_unread_is_not_nothing() {
    use crate::kinds::service;
    use netd_core::{Observation, Observed, Reading};
    let served = config(
        "[[services]]\nname = \"web\"\nvips = [\"192.0.2.6\"]\nports = [{ protocol = \"tcp\", port = 80 }]\n",
    );
    let owned = service::desired(&served, &crate::facts::Facts::default()).unwrap().table;
    let observed = |reading| Observed([(service::NAME, reading)].into());
    let known = observed(Reading::Known(Observation { owned, ..Observation::default() }.into()));
    assert_eq!(carried(&known, &served).unwrap(), in_force(&served, &Held::new()));
    let unknown = observed(Reading::Unknown("no".into()));
    assert_eq!(carried(&unknown, &served).unwrap_err(), "no");
}

/// An egress policy for pods of both families, or of IPv4 only.
fn policy(name: &str, pool: &str, sources: &str, more: &str) -> String {
    format!(
        "[[egress]]\nname = \"{name}\"\nsources = [{sources}]\npool = \"{pool}\"\ngateways = []\n{more}\n"
    )
}

const PODS: &str = "\"10.244.0.0/16\"";
const ALL_PODS: &str = "\"10.244.0.0/16\", \"fd00:244::/32\"";

#[test]
fn policies_get_addresses_behind_services_of_the_families_that_their_packets_have() {
    let pools = pool("public", "\"192.0.2.0/29\", \"2001:db8:100::/64\"", "");
    let policies = [policy("b", "public", ALL_PODS, ""), policy("a", "auto", PODS, "")].concat();
    let text = format!("{pools}{policies}{}", web("z", "public", ""));
    let expected = ["egress/a 192.0.2.1", "egress/b 192.0.2.2 2001:db8:100::1", "z 192.0.2.0 2001:db8:100::"];
    assert_eq!(shown(&fresh(&text)), expected);
    let config = config(&text);
    let resolved = fresh(&text).resolve(&config).into_owned();
    assert_eq!(resolved.egress[1].ips.len(), 2);
    assert_eq!(resolved.egress[0].ips, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_policy_that_can_fail_over_has_those_addresses_of_its_pool_that_the_file_names() {
    let nodes = "[[nodes]]\nname = \"a\"\naddresses = [\"10.0.0.1\"]\n[[nodes]]\nname = \"b\"\n\
                 addresses = [\"10.0.0.2\"]\n[egress_failover]\nquorum = \"none\"\n";
    let ips = |watch: &str, more: &str| {
        let policy = policy("p", "public", PODS, more);
        let shared = policy.replace("gateways = []", "gateways = [{ node = \"a\" }, { node = \"b\" }]");
        let text = format!("{watch}{}{shared}", pool("public", V4, ""));
        let allocation = fresh(&text);
        assert_eq!(shown(&allocation).len(), 1, "it is given one all the same");
        allocation.resolve(&config(&text)).egress[0].ips.len()
    };
    assert_eq!(ips(nodes, ""), 0);
    assert_eq!(ips(nodes, "ips = [\"192.0.2.1\"]"), 1);
    assert_eq!(ips(nodes.split_once("[egress").unwrap().0, ""), 1);
}

#[test]
fn nobody_shares_an_address_with_a_policy() {
    let pools = pool("public", "\"192.0.2.0/31\"", "");
    let services = [web("a", "public", "share = \"s\""), web("b", "public", "share = \"s\"")].concat();
    let allocation = fresh(&format!("{pools}{services}{}", policy("a", "public", PODS, "")));
    assert_eq!(shown(&allocation), ["a 192.0.2.0", "b 192.0.2.1"]);
    let waiting: Vec<_> =
        allocation.waiting.iter().map(|((who, _), why)| (who.as_str(), why.as_str())).collect();
    assert_eq!(waiting, [("egress/a", "pool public is exhausted: 2 of 2 IPv4 addresses are taken")]);
}

#[test]
fn a_policy_keeps_its_address_and_one_that_cannot_stay_has_to_be_allowed() {
    let before = format!("{}{}", pool("public", V4, ""), policy("p", "public", PODS, ""));
    let wider = format!(
        "{}{}",
        pool("public", "\"192.0.1.0/29\", \"192.0.2.0/29\"", ""),
        policy("p", "public", PODS, "")
    );
    assert_eq!(shown(&then(&before, &wider)), ["egress/p 192.0.2.0"]);
    let service = web("a", "public", "vips = [\"192.0.2.0\"]");
    let taken = then(&before, &format!("{before}{service}"));
    let moved = &taken.moved[&("egress/p".to_owned(), Family::Ipv4)];
    assert_eq!((moved.to, moved.why.as_str()), (Some("192.0.2.1".parse().unwrap()), "service a has it"));
    let asked = policy("p", "public", PODS, "ips = [\"192.0.2.5\"]");
    let allocation = then(&before, &format!("{}{asked}", pool("public", V4, "")));
    assert!(allocation.moved.is_empty());
    assert_eq!(shown(&allocation), ["egress/p 192.0.2.5"]);
}

#[test]
fn without_memory_a_gateways_rules_say_which_address_a_policy_has() {
    use crate::egress::Rule;
    use crate::kinds::egress::{self, EgressSpec};
    use netd_core::{Observation, Observed, Reading, Table};
    let wanted = config(&format!(
        "{}{}",
        pool("public", V4, ""),
        policy("p", "public", PODS, "destinations = [\"198.51.100.0/24\"]")
    ));
    let own = Rule::Translate { address: "192.0.2.6".parse().unwrap(), first_port: 1, last_port: 2 };
    let other = Rule::Translate { address: "192.0.2.5".parse().unwrap(), first_port: 1, last_port: 2 };
    let rules = [("198.51.100.0/24", own), ("0.0.0.0/0", other)];
    let rules = rules.into_iter().map(|(to, rule)| (to.parse().unwrap(), rule)).collect();
    let spec = EgressSpec { source: "10.244.0.0/16".parse().unwrap(), rules };
    let owned: Table = [(egress::key(spec.source), std::sync::Arc::new(spec) as _)].into();
    let known = Reading::Known(Observation { owned, ..Observation::default() }.into());
    let held = carried(&Observed([(egress::NAME, known)].into()), &wanted).unwrap();
    assert_eq!(shown(&allocate(&wanted, &held)), ["egress/p 192.0.2.6"]);
}
