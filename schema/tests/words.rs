//! The words of the file in every combination: what is accepted keeps what the model and the JSON Schema promise.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod corpus;

use corpus::{Verdict, schema_says};
use netd_schema::{Config, HealthCheck, HealthKind, OuterDscp, Service, TABLE_SIZES, TableSize, UnknownPort};
use netd_schema::{Network, NetworkMode, VNI_MAX, json_schema, parse};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::time::Duration;

/// Keys, each with some of the values that it may and may not have.
type Keys = &'static [(&'static str, &'static [&'static str])];

/// Those of a service.
const SERVICE: Keys = &[
    ("algorithm", &["\"maglev\"", "\"random\"", "\"rr\""]),
    ("udp_idle", &["\"0s\"", "\"90s\"", "\"6h\"", "\"7h\"", "60"]),
    ("affinity", &["\"1s\"", "\"3h\"", "\"24h\"", "\"25h\"", "\"999ms\"", "3"]),
    (
        "source_ranges",
        &[
            "{ allow = [\"10.0.0.0/8\"] }",
            "{ deny = [\"10.1.0.0/16\", \"2001:db8::/32\"] }",
            "{ allow = [\"10.0.0.0/8\"], deny = [\"10.0.0.0/8\"] }",
            "{ allow = [\"10.0.0.0/8\", \"0.0.0.0/0\"], deny = [\"10.1.0.0/16\"] }",
            "{}",
        ],
    ),
    ("table_size", &["\"auto\"", "251", "65521", "250"]),
    ("hash_names", &["\"cilium\"", "\"cilium-1.10\""]),
    ("no_backend", &["\"reject\"", "\"drop\"", "\"pass\""]),
    ("ping", &["true", "false", "1"]),
    ("unknown_port", &["\"drop\"", "\"reject\"", "\"pass\""]),
    ("backend_family", &["\"same\"", "\"ipv4\"", "\"ipv6\""]),
    ("pool", &["\"public\"", "\"auto\"", "\"public\"", "\"other\""]),
    ("families", &["[\"ipv4\"]", "[\"ipv6\", \"ipv4\"]", "[\"ipv4\", \"ipv4\"]", "[]"]),
    ("share", &["\"edge\"", "\"Edge\""]),
    ("mode", &["\"dsr-ipip\"", "\"dsr-gue\"", "\"snat\""]),
];

/// Those of a health check.
const HEALTH_CHECK: Keys = &[
    ("kind", &["\"tcp\"", "\"http\"", "\"https\"", "\"udp\"", "\"icmp\"", "\"http\"", "\"udp\""]),
    ("port", &["0", "1", "8080", "65536"]),
    ("interval", &["\"1s\"", "\"100ms\"", "\"1h\"", "\"99ms\""]),
    ("timeout", &["\"10ms\"", "\"100ms\"", "\"1h\"", "\"9ms\""]),
    ("rise", &["0", "1", "100", "101"]),
    ("fall", &["1", "3"]),
    ("via", &["\"tunnel\"", "\"direct\""]),
    ("path", &["\"/\"", "\"/a?b=%20\"", "\"a\"", "\"/ \""]),
    ("host", &["\"a.example\"", "\"::1\"", "\"a:1\""]),
    ("status", &["[\"200\"]", "[\"301\", \"200-299\", \"300\"]", "[\"299-200\"]", "[]"]),
    ("send", &["\"ping\"", "\"\\u0000\"", "\"\""]),
    ("expect", &["\"pong\""]),
    ("floor", &["0", "100", "101"]),
];

/// Those of the other tables, each with its header.
const TABLES: &[(&str, Keys)] = &[
    (
        "[load_balancer]",
        &[
            ("devices", &["[\"eth0\"]", "[\"eth0\", \"eth0\"]"]),
            ("table_size", &["\"auto\"", "251", "131071"]),
            (
                "rss_source",
                &["[\"10.100.0.0/16\"]", "[\"10.0.0.0/8\"]", "[\"2001:db8:cafe::/64\"]", "[\"fe80::/64\"]"],
            ),
            ("hop_limit", &["0", "1", "255", "256"]),
            ("outer_dscp", &["\"copy\"", "0", "63", "64"]),
            ("outer_ecn", &["\"copy\"", "\"clear\""]),
            ("gue_port", &["6080", "6081"]),
            ("icmp_errors_per_second", &["0", "1000000", "-1"]),
        ],
    ),
    (
        "[[ip_pools]]",
        &[
            ("name", &["\"public\""]),
            (
                "ranges",
                &[
                    "[\"192.0.2.0/24\"]",
                    "[\"192.0.2.10-192.0.2.99\", \"2001:db8:100::/64\"]",
                    "[\"192.0.2.9-192.0.2.8\"]",
                    "[\"10.0.0.0/8\", \"10.1.0.0/16\"]",
                    "[\"0.0.0.0/0\"]",
                ],
            ),
            ("unassigned", &["\"drop\"", "\"reject\"", "\"pass\""]),
            ("auto_assign", &["true", "false"]),
            ("priority", &["0", "65535", "65536"]),
            ("drain", &["true", "false"]),
            ("avoid", &["\"none\"", "\"first-last\"", "\"last\""]),
        ],
    ),
    (
        "[decap]",
        &[
            ("devices", &["[\"eth1\"]", "[\"eth0\"]"]),
            ("from", &["[\"10.100.0.0/16\"]", "[\"0.0.0.0/0\"]"]),
            ("to", &["[\"198.51.100.0/24\"]"]),
            ("gue_port", &["6080"]),
        ],
    ),
    (
        "[masquerade]",
        &[
            ("devices", &["[\"eth0\"]", "[\"eth0\", \"eth1\"]"]),
            ("source", &["[\"10.244.1.0/24\"]", "[\"0.0.0.0/0\"]", "[\"fd00::/64\", \"10.0.0.0/8\"]"]),
            ("exclude", &["[]", "[\"10.0.0.0/8\", \"fd00::/8\"]"]),
            ("addresses", &["[\"192.0.2.1\"]", "[\"192.0.2.1\", \"192.0.2.2\"]", "[\"::\"]"]),
            ("ports", &["\"1024-32767\"", "\"1-1\"", "\"9-8\"", "\"0-1\"", "\"80\"", "\"1-65536\""]),
            ("flows", &["1024", "4194304", "1"]),
        ],
    ),
    (
        "[notrack]",
        &[
            ("cidrs", &["[\"10.244.0.0/16\"]", "[\"0.0.0.0/0\"]", "[\"fd00::/8\", \"fd00:1::/64\"]"]),
            ("backend", &["\"nft\"", "\"iptables\"", "\"bpf\""]),
        ],
    ),
    ("[metrics]", &[("listen", &["\"127.0.0.1:9471\"", "\"[::]:1\"", "\"127.0.0.1:0\""])]),
];

const WEB: &str = "name = \"web\"\nvips = [\"192.0.2.10\", \"2001:db8:100::10\"]\n\
    ports = [{ protocol = \"udp\", port = 53 }, { protocol = \"tcp\", port = 80, backend_port = 8080 }]\n\
    backends = [{ address = \"10.1.0.2\" }, { address = \"2001:db8:1::2\", port = 81 }]\n";

fn service(lines: &str) -> String {
    format!("version = 1\n[[services]]\n{WEB}{lines}\n")
}

fn capture(lines: &str) -> String {
    format!("version = 1\n[[captures]]\n{lines}\n")
}

fn config(text: &str) -> Config {
    parse("test.toml", text.as_bytes()).unwrap_or_else(|found| panic!("{found}\n{text}")).config
}

#[test]
fn defaults_that_are_written_out_change_nothing() {
    let schema: serde_json::Value = serde_json::from_str(&json_schema()).expect("JSON");
    let written = |table: &str| {
        let mut text = String::new();
        let keys = schema["$defs"][table]["properties"].as_object().expect("a table of the schema");
        for (key, of) in keys {
            // A list that is empty may be refused if it is written; that it is absent is what its default says.
            if let Some(default) = of.get("default").filter(|default| **default != serde_json::json!([])) {
                let _ = writeln!(text, "{key} = {default}");
            }
        }
        text
    };
    let rest = "[decap]\ndevices = [\"eth1\"]\nfrom = [\"10.0.0.0/8\"]\n";
    let check = "[services.health_check]\nkind = \"http\"\n";
    let pool = "[[ip_pools]]\nname = \"public\"\nranges = [\"192.0.2.0/24\"]\n";
    let bare = service(&format!("{check}{pool}[load_balancer]\n[metrics]\n{rest}"));
    let full = service(&format!(
        "{}{check}{}{pool}{}[load_balancer]\n{}[metrics]\n{}{rest}{}",
        written("Service"),
        written("HealthCheck"),
        written("IpPool"),
        written("LoadBalancer"),
        written("Metrics"),
        written("Decap"),
    ));
    assert!(full.lines().count() > bare.lines().count() + 25, "{full}");
    assert_eq!(config(&bare), config(&full));
}

#[test]
fn statuses_are_the_fewest_ranges_that_say_the_same() {
    let text = service(
        "health_check = { kind = \"http\", status = [\"404\", \"301\", \"200-299\", \"300\", \"250-260\", \"200\"] }",
    );
    let check = config(&text).services[0].health_check.clone().expect("a check");
    assert_eq!(check.status, [200..=301, 404..=404]);
}

#[test]
fn a_check_asks_the_port_that_the_backend_gets_packets_on() {
    let ports = |check: &str| {
        let service = config(&service(&format!("health_check = {{ {check} }}"))).services.remove(0);
        service.backends.iter().map(|backend| service.checked_port(backend)).collect::<Vec<_>>()
    };
    assert_eq!(ports("kind = \"http\""), [Some(8080), Some(81)]);
    assert_eq!(ports("kind = \"udp\", send = \"x\""), [Some(53), Some(81)]);
    assert_eq!(ports("kind = \"tcp\", port = 9"), [Some(9), Some(9)]);
    assert_eq!(ports("kind = \"icmp\""), [None, None]);
}

#[test]
fn the_family_of_the_backends_can_be_chosen_for_all_vips() {
    let addresses = |family: &str| {
        let service = config(&service(&format!("backend_family = \"{family}\""))).services.remove(0);
        let of = |vip| service.backends_of(vip).map(|backend| backend.address.is_ipv4()).collect::<Vec<_>>();
        service.vips.iter().map(|vip| of(*vip)).collect::<Vec<_>>()
    };
    assert_eq!(addresses("same"), [[true], [false]]);
    assert_eq!(addresses("ipv4"), [[true], [true]]);
    assert_eq!(addresses("ipv6"), [[false], [false]]);
}

/// Some of the keys, each with one of its values, in any order.
fn lines(keys: Keys) -> impl Strategy<Value = Vec<String>> {
    let line = |(key, values): &(&'static str, &'static [&'static str])| {
        let key = *key;
        prop::option::weighted(0.4, prop::sample::select(*values))
            .prop_map(move |value| value.map(|value| format!("{key} = {value}")))
    };
    keys.iter()
        .map(line)
        .collect::<Vec<_>>()
        .prop_map(|lines| lines.into_iter().flatten().collect::<Vec<_>>())
        .prop_shuffle()
}

fn files() -> impl Strategy<Value = String> {
    let tables: Vec<_> = TABLES
        .iter()
        .map(|(header, keys)| {
            prop::option::of(lines(keys)).prop_map(move |lines| match lines {
                Some(lines) => format!("{header}\n{}\n", lines.join("\n")),
                None => String::new(),
            })
        })
        .collect();
    (lines(SERVICE), prop::option::of(lines(HEALTH_CHECK)), tables).prop_map(|(keys, check, tables)| {
        let check = check.map(|lines| format!("\n[services.health_check]\n{}", lines.join("\n")));
        service(&format!("{}{}\n{}", keys.join("\n"), check.unwrap_or_default(), tables.concat()))
    })
}

/// What the model says of itself.
fn keeps_its_promises(config: &Config) {
    let Config {
        allow_empty: _,
        nodes: _,
        load_balancer,
        services,
        ip_pools,
        decap,
        metrics,
        bgp: _,
        network,
        wireguard,
        masquerade,
        notrack,
        egress: _,
        egress_failover,
        captures,
    } = config;
    assert!(captures.iter().all(|it| !it.filters.is_empty() && it.name.starts_with(char::is_alphanumeric)));
    assert!(egress_failover.as_ref().is_none_or(|it| it.misses >= 3 && it.port > 0));
    is_a_network(network);
    if let Some(masquerade) = masquerade {
        assert!(masquerade.ports.first > 0 && masquerade.ports.first <= masquerade.ports.last);
        assert!(masquerade.source.iter().all(|prefix| prefix.prefix() > 0));
    }
    if let Some(notrack) = notrack {
        assert!(notrack.cidrs.is_sorted() && notrack.cidrs.iter().all(|prefix| prefix.prefix() > 0));
    }
    if let Some(wireguard) = wireguard {
        assert!(wireguard.port > 0 && wireguard.mark > 0 && !(252..=255).contains(&wireguard.table));
        assert!(wireguard.keepalive.is_none_or(|it| it > 0));
    }
    assert!(load_balancer.hop_limit > 0 && load_balancer.gue_port > 0);
    assert!(load_balancer.icmp_errors_per_second <= 1_000_000);
    assert!(!matches!(load_balancer.outer_dscp, OuterDscp::Fixed(64..)));
    for Service { vips, pool, families, share, affinity, source_ranges, table_size, health_check, .. } in
        services
    {
        assert!(!vips.is_empty() || pool.is_some());
        assert!(pool.is_some() || (families.is_none() && share.is_none()));
        assert!(families.as_ref().is_none_or(|it| !it.is_empty() && it.is_sorted_by(|a, b| a < b)));
        assert!(
            affinity.is_none_or(|it| (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&it))
        );
        assert!(source_ranges.allow.is_sorted() && source_ranges.deny.is_sorted());
        assert!(source_ranges.allow.iter().all(|prefix| !source_ranges.deny.contains(prefix)));
        if let Some(TableSize::Fixed(size)) = table_size {
            assert!(TABLE_SIZES.contains(size));
        }
        if let Some(check) = health_check {
            is_a_check(check);
        }
    }
    for pool in ip_pools {
        assert!(!pool.ranges.is_empty() && pool.ranges.is_sorted() && pool.name != "auto");
        assert!(matches!(pool.unassigned, UnknownPort::Drop | UnknownPort::Reject | UnknownPort::Pass));
    }
    if let Some(decap) = decap {
        assert!(!decap.devices.is_empty() && !decap.from.is_empty() && decap.gue_port > 0);
        assert!(decap.devices.iter().all(|device| !load_balancer.devices.contains(device)));
    }
    assert!(metrics.is_none_or(|it| it.listen.port() > 0));
}

fn is_a_network(network: &Network) {
    let Network { mode, tunnel, mtu: _, pod_devices } = network;
    assert!(*mode == NetworkMode::Direct || tunnel.is_some());
    assert!(tunnel.is_none_or(|it| it.port > 0 && (1..=VNI_MAX).contains(&it.vni)));
    assert!(pod_devices.is_sorted() && pod_devices.iter().all(|it| !it.start.is_empty()));
}

fn is_a_check(check: &HealthCheck) {
    assert!(check.timeout <= check.interval && !check.timeout.is_zero());
    assert!(check.rise > 0 && check.fall > 0 && check.floor <= 100);
    assert!(check.port.is_none_or(|port| port > 0) && check.path.starts_with('/'));
    assert!(check.status.windows(2).all(|two| two[0].end() + 1 < *two[1].start()));
    let http = matches!(check.kind, HealthKind::Http | HealthKind::Https);
    assert!(http || (check.path == "/" && check.host.is_none() && check.status == [200..=399]));
    assert!(check.kind == HealthKind::Udp || (check.send.is_empty() && check.expect.is_none()));
}

/// Texts that look like words of each kind, and others.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{0,14}(ms|s|m|h|min| s|\\.5s|H)?",
        "[0-9a-f.:\\[\\]%]{0,20}:?[0-9]{0,5}",
        "(127\\.0\\.0\\.1|\\[::1\\]|localhost|::1|\\[fe80::1%2\\])?:?[0-9]{0,6}",
        "/?[ -~]{0,12}",
        "[0-9]{1,3}-?[0-9]{0,3}",
        "[0-9]{1,3}\\.[0-9]\\.0\\.0/([0-9]{1,4}|255\\.[0-9]{1,3}\\.0\\.0)",
        "(dsr|cilium|ipv)-?[a-z0-9.]{0,5}",
        "\\PC{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_keeps_its_promises(text in files()) {
        match parse("test.toml", text.as_bytes()) {
            Ok(parsed) => {
                keeps_its_promises(&parsed.config);
                prop_assert_eq!(schema_says(&text), Verdict::Accepts, "{}", text);
            }
            Err(found) => {
                prop_assert!(!found.list.is_empty());
                prop_assert!(found.list.iter().all(|it| !it.labels.is_empty()), "{}", found);
            }
        }
    }

    #[test]
    fn the_order_of_keys_and_tables_has_no_meaning(keys in lines(SERVICE), other in any::<prop::sample::Index>()) {
        let mut turned = keys.clone();
        turned.rotate_left(other.index(keys.len().max(1)));
        let (one, two) = (service(&keys.join("\n")), service(&turned.join("\n")));
        let config = |text: &str| parse("test.toml", text.as_bytes()).ok().map(|parsed| parsed.config);
        prop_assert_eq!(config(&one), config(&two));
    }

    /// For every key that is a string, an editor never marks what the program accepts.
    #[test]
    fn any_text_is_taken_or_refused_and_the_schema_knows(text in texts()) {
        let quoted = toml::Value::String(text).to_string();
        let check = |kind: &str, key: &str| service(&format!("health_check = {{ kind = \"{kind}\", {key} = {quoted} }}"));
        let top = |table: &str, key: &str| format!("version = 1\n[{table}]\n{key} = {quoted}\n");
        let mut files = vec![
            service(&format!("source_ranges = {{ allow = [{quoted}] }}")),
            service(&format!("health_check = {{ kind = \"http\", status = [{quoted}] }}")),
            top("metrics", "listen"),
            top("load_balancer", "outer_dscp"),
            top("load_balancer", "outer_ecn"),
            top("network", "mode"),
            format!("version = 1\n[network]\npod_devices = [{quoted}]\n"),
            capture(&format!("name = {quoted}\nfilters = [\"any 0 any 0 ANY\"]\npackets = 1")),
            capture(&format!("name = \"a\"\nfilters = [{quoted}]\npackets = 1")),
            capture(&format!("name = \"a\"\nfilters = [\"any 0 any 0 ANY\"]\nbytes = {quoted}")),
        ];
        for (key, _) in SERVICE {
            files.push(service(&format!("{key} = {quoted}")));
        }
        for key in ["interval", "path", "host", "via"] {
            files.push(check("http", key));
        }
        for key in ["send", "expect", "timeout"] {
            files.push(check("udp", key));
        }
        for file in files {
            if let Ok(parsed) = parse("test.toml", file.as_bytes()) {
                keeps_its_promises(&parsed.config);
                prop_assert_eq!(schema_says(&file), Verdict::Accepts, "{}", file);
            }
        }
    }

    #[test]
    fn a_duration_is_its_number_times_its_unit(
        number in 0_u64..100_000, (unit, milliseconds) in prop::sample::select(vec![("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)]),
    ) {
        let duration = Duration::from_millis(number * milliseconds);
        let parsed = parse("test.toml", service(&format!("affinity = \"{number}{unit}\"")).as_bytes());
        let fits = (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&duration);
        let found = parsed.ok().map(|parsed| parsed.config.services[0].affinity);
        prop_assert_eq!(found, fits.then_some(Some(duration)));
    }
}
