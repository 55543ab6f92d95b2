//! What the file asks for, and how differences read.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use netd_schema::{Node, Notrack};

fn networks(texts: &[&str]) -> BTreeSet<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn config(backend: NotrackBackend, cidrs: &[&str]) -> Config {
    let node = |name: &str, pods: &[&str]| {
        let pod_cidrs = networks(pods).into_iter().collect();
        Node { name: name.into(), pod_cidrs, ..Node::default() }
    };
    let cidrs = networks(cidrs).into_iter().collect();
    Config {
        nodes: vec![node("a", &["10.244.1.0/24", "fd00:244:1::/64"]), node("b", &["10.244.2.0/24"])],
        notrack: Some(Notrack { cidrs, backend }),
        ..Config::default()
    }
}

fn specs(config: &Config) -> Vec<(String, NotrackSpec)> {
    let desired = desired(config, &Facts::default()).unwrap();
    let spec = |spec: &Arc<dyn netd_core::Spec>| spec.as_any().downcast_ref::<NotrackSpec>().unwrap().clone();
    desired.table.iter().map(|(key, it)| (key.to_string(), spec(it))).collect()
}

#[test]
fn without_prefixes_those_of_all_nodes_pods_are_meant() {
    let [(key, spec)] = specs(&config(NotrackBackend::Nft, &[])).try_into().unwrap();
    assert_eq!(key, "nft");
    assert_eq!(spec.prefixes, networks(&["10.244.1.0/24", "10.244.2.0/24", "fd00:244:1::/64"]));
    assert_eq!(spec.summary(), "packets from and to 3 prefixes are not tracked, by nftables");
}

#[test]
fn iptables_has_rules_of_a_family_only_where_there_are_prefixes_of_it() {
    let [(v4, of_v4), (v6, of_v6)] = specs(&config(NotrackBackend::Iptables, &[])).try_into().unwrap();
    assert_eq!((v4.as_str(), v6.as_str()), ("iptables ipv4", "iptables ipv6"));
    assert_eq!((of_v4.prefixes.len(), of_v6.prefixes.len()), (2, 1));
    let [(only, spec)] = specs(&config(NotrackBackend::Iptables, &["fd00:244::/32"])).try_into().unwrap();
    assert_eq!(only, "iptables ipv6");
    assert_eq!(spec.summary(), "packets from and to fd00:244::/32 are not tracked, by iptables");
}

#[test]
fn a_change_names_the_prefixes_and_what_somebody_else_did() {
    let spec = |prefixes: &[&str], altered: Option<&str>| {
        let (prefixes, altered) = (networks(prefixes), altered.map(ToOwned::to_owned));
        NotrackSpec { carrier: Carrier::Nft, prefixes, altered }
    };
    let wanted = spec(&["10.244.1.0/24", "10.244.2.0/24"], None);
    let changes = wanted.changes(&spec(&["10.244.1.0/24", "10.9.0.0/16"], Some("changed by somebody else")));
    let expected = [
        FieldChange::removed("prefix", "10.9.0.0/16"),
        FieldChange::added("prefix", "10.244.2.0/24"),
        FieldChange::changed("rules", "changed by somebody else", "as netd makes them"),
    ];
    assert_eq!(changes, expected);
    assert!(wanted.changes(&wanted).is_empty());
}

#[test]
fn many_rules_of_iptables_are_remarked() {
    let many: Vec<String> = (0..65).map(|at| format!("10.{at}.0.0/16")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let desired = desired(&config(NotrackBackend::Iptables, &many), &Facts::default()).unwrap();
    let note = "every packet is compared with 130 rules: a `cidrs` with fewer prefixes costs less";
    assert_eq!(desired.notes[&Carrier::Iptables(Family::Ipv4).key()], note);
}
