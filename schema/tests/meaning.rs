//! What accepted files mean: two that say the same are the same.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod corpus;

use corpus::cases;
use netd_schema::{BackendState, Config, Protocol, TableSize, XdpMode, explain, parse};

fn config(text: &str) -> Config {
    parse("test.toml", text.as_bytes()).unwrap_or_else(|found| panic!("{found}")).config
}

#[test]
fn every_example_is_accepted_without_a_warning() {
    for case in cases("examples-config", "toml") {
        let parsed = parse(&case.name, case.text.as_bytes()).unwrap_or_else(|found| panic!("{found}"));
        assert!(parsed.warnings.is_empty(), "{}", parsed.warnings);
        assert!(case.text.starts_with("#:schema ../schema/desired.schema.json\n"), "{}", case.name);
    }
}

#[test]
fn order_and_format_have_no_meaning() {
    let one = config(
        "version = 1\n[[nodes]]\nname = \"a\"\naddresses = [\"10.0.0.1\"]\npod_cidrs = [\"10.2.0.0/16\", \"10.1.0.0/16\"]\n\
         [[nodes]]\nname = \"b\"\naddresses = [\"10.0.0.2\"]\n\
         [[services]]\nname = \"web\"\nvips = [\"192.0.2.2\", \"192.0.2.1\"]\n\
         ports = [{ protocol = \"udp\", port = 53 }, { protocol = \"tcp\", port = 53 }]\n\
         backends = [{ address = \"10.9.0.2\" }, { address = \"10.9.0.1\", weight = 100, state = \"active\" }]\n",
    );
    let other = config(
        "[[services]]\nbackend_set = 'set'\nname = 'web'\nvips = ['192.0.2.1', '192.0.2.2']\n\
         [[services.ports]]\nprotocol = 'tcp'\nport = 0x35\n[[services.ports]]\nprotocol = 'udp'\nport = 5_3\n\
         [[backend_sets]]\nname = 'set'\nbackends = [\n  { address = '10.9.0.1' }, # a comment\n  { address = '10.9.0.2' },\n]\n\
         [[nodes]]\nname = 'b'\naddresses = ['10.0.0.2']\n\
         [[nodes]]\nname = 'a'\naddresses = ['10.0.0.1']\npod_cidrs = ['10.1.0.0/16', '10.2.0.0/16']\n\
         [load_balancer]\ntable_size = 'auto'\n"
            .replacen("[[services]]", "version = 1\n[[services]]", 1)
            .as_str(),
    );
    assert_eq!(one, other);
}

#[test]
fn everything_that_acts_arrives_in_the_model() {
    let case =
        cases("examples-config", "toml").into_iter().find(|case| case.name == "full").expect("full.toml");
    let config = config(&case.text);
    assert_eq!(config.summary(), "2 nodes, 4 services, 13 backends");
    assert_eq!(config.load_balancer.mode, XdpMode::Native);
    assert_eq!(config.load_balancer.table_size, TableSize::Fixed(65_521));
    assert_eq!(config.load_balancer.devices, ["eth0", "eth1"]);
    assert_eq!(config.load_balancer.rss_source.len(), 2);
    let web = config.services.iter().find(|service| service.name == "web").expect("web");
    assert_eq!(web.ports[0].protocol, Protocol::Tcp);
    assert_eq!(web.ports[0].backend_port, Some(8080));
    let states: Vec<BackendState> = web.backends.iter().map(|backend| backend.state).collect();
    assert!(states.contains(&BackendState::Terminating) && states.contains(&BackendState::Maintenance));
    assert_eq!(web.backends_of(web.vips[1]).count(), 2);
    let effective: Vec<u16> =
        web.backends_of(web.vips[0]).map(|backend| backend.port_for(&web.ports[0])).collect();
    assert_eq!(effective, [8080, 8081, 8080, 8080, 8080]);
    let udp: Vec<u16> = web.backends_of(web.vips[1]).map(|backend| backend.port_for(&web.ports[1])).collect();
    assert_eq!(udp, [443, 443]);
}

#[test]
fn the_full_example_has_every_key() {
    let full =
        cases("examples-config", "toml").into_iter().find(|case| case.name == "full").expect("full.toml");
    let config: toml::Table = toml::from_str(&full.text).expect("TOML");
    let keys = explain("").expect("a list");
    let keys = keys.lines().filter(|line| !line.ends_with("(not supported by this version)"));
    let missing: Vec<&str> = keys
        .filter_map(|line| line.split(' ').next())
        .filter(|key| {
            // A set has backends as a service; two nodes cannot have one router identifier.
            !has(&toml::Value::Table(config.clone()), key)
                && !key.starts_with("backend_sets.backends.")
                && *key != "bgp.router_id"
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Whether one of the tables at the path has the key.
fn has(value: &toml::Value, path: &str) -> bool {
    match value {
        toml::Value::Array(items) => items.iter().any(|item| has(item, path)),
        toml::Value::Table(table) => {
            let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
            table.get(key).is_some_and(|value| rest.is_none_or(|rest| has(value, rest)))
        }
        _ => false,
    }
}

#[test]
fn a_warning_does_not_refuse_the_file() {
    let text = "version = 1\n[[nodes]]\nname = \"a\"\npod_cidrs = [\"10.1.0.0/16\"]\n";
    let warnings = parse("test.toml", text.as_bytes()).expect("accepted").warnings;
    assert_eq!(warnings.list.len(), 1);
    assert_eq!(warnings.list[0].message, "no other node can reach the pods in 10.1.0.0/16");
}

#[test]
fn diagnostics_as_json_carry_the_place_and_the_help() {
    let found = parse("x.toml", b"version = 1\nalow_empty = true\n").expect_err("a typo");
    let expected = serde_json::json!([{
        "severity": "error", "file": "x.toml", "line": 2, "column": 1,
        "message": "unknown key `alow_empty` at the top of the file",
        "labels": [{ "line": 2, "column": 1, "text": "this key does not exist" }],
        "help": "did you mean `allow_empty`?",
    }]);
    assert_eq!(found.to_json(), expected);
}

#[test]
fn a_key_is_explained_with_type_default_and_example() {
    let expected = "services.backends.weight\n  type      integer from 0 to 65535\n  default   100\n  example   weight = 50\n\n\
                    Its share relative to the other backends. 0 takes it out.\n";
    assert_eq!(explain("services.backends.weight").as_deref(), Ok(expected));
}

#[test]
fn words_tables_and_ranges_are_explained() {
    let dscp = explain("load_balancer.outer_dscp").expect("a key");
    assert!(
        dscp.contains("  type      `\"copy\"` or integer from 0 to 63\n  default   \"copy\"\n"),
        "{dscp}"
    );
    let ranges = explain("services.source_ranges").expect("a key");
    assert!(
        ranges.contains("source_ranges = { allow = [\"10.0.0.0/8\"], deny = [\"10.66.0.0/16\"] }\n"),
        "{ranges}"
    );
    assert!(
        ranges.ends_with("\nkeys\n  allow  Clients that are let in.\n  deny   Clients that are not.\n"),
        "{ranges}"
    );
    let affinity = explain("services.affinity").expect("a key");
    assert!(
        affinity.contains("a duration from 1s to 24h, in ms, s, m or h\n  default   none\n"),
        "{affinity}"
    );
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest() {
    let near = explain("services.backend.weigth").expect_err("no such key");
    assert_eq!(near, "there is no key `services.backend.weigth`; did you mean `services.backends.weight`?");
    let near = explain("weight").expect_err("not a full path");
    assert!(near.ends_with("did you mean `backend_sets.backends.weight`?"), "{near}");
}

#[test]
fn without_a_key_all_are_listed() {
    let list = explain("").expect("a list");
    for key in ["version", "services.ports.backend_port", "nodes.pod_cidrs", "load_balancer.hash_seed"] {
        assert!(list.lines().any(|line| line.starts_with(&format!("{key} "))), "{key} is not listed");
    }
    assert!(
        list.lines()
            .any(|line| line.starts_with("tuning ") && line.ends_with("(not supported by this version)"))
    );
}
