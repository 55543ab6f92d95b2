//! What becomes of Cilium's configurations.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;

/// The ConfigMap of Cilium's announcement.
const ANNOUNCED: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata:
  name: bgp-config
  namespace: kube-system
data:
  config.yaml: |
    peers:
      - peer-address: 10.0.0.1
        peer-asn: 64512
        my-asn: 64512
    address-pools:
      - name: default
        protocol: bgp
        addresses:
          - 192.0.2.0/24
"#;

fn lines(yaml: &str) -> Vec<String> {
    let text = translate(yaml).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
}

fn accepted(yaml: &str) -> netd_schema::Config {
    let text = translate(yaml).unwrap();
    netd_schema::parse("import.toml", text.as_bytes())
        .unwrap_or_else(|found| panic!("{found}\n{text}"))
        .config
}

#[test]
fn the_config_map_of_the_announcement_is_translated_whole() {
    let expected = [
        "version = 1",
        "[bgp]",
        "asn = 64512",
        "announce = [\"vips\"]",
        "[[bgp.peers]]",
        "address = \"10.0.0.1\"",
        "asn = 64512",
        "[[ip_pools]]",
        "name = \"default\"",
        "ranges = [\"192.0.2.0/24\"]",
    ];
    assert_eq!(lines(ANNOUNCED), expected);
    let config = accepted(ANNOUNCED);
    assert_eq!((config.bgp.unwrap().peers.len(), config.ip_pools.len()), (1, 1));
}

const EVERYTHING: &str = r#"
peers:
  - peer-address: 10.0.0.1
    peer-asn: 64513
    my-asn: 64512
    peer-port: 1179
    hold-time: 1m
    router-id: 10.0.0.11
    password: hunter2
    node-selectors:
      - match-expressions:
          - { key: kubernetes.io/hostname, operator: In, values: [lb-1, lb-2] }
  - peer-address: 2001:db8::1
    peer-asn: 64513
    my-asn: 64512
    node-selectors:
      - match-labels: { rack: a }
bgp-communities:
  no-advertise: 65535:65282
address-pools:
  - name: Public
    protocol: bgp
    addresses: [192.0.2.17/28, 198.51.100.1 - 198.51.100.9]
    auto-assign: false
    avoid-buggy-ips: true
    bgp-advertisements:
      - aggregation-length: 32
        localpref: 100
        communities: [no-advertise, "64512:7"]
      - aggregation-length: 24
  - name: lab
    protocol: layer2
    addresses: [2001:db8:7::/64]
"#;

#[test]
fn every_key_is_translated_or_said_not_to_be() {
    let text = translate(EVERYTHING).unwrap();
    for line in [
        "router_id = \"10.0.0.11\"",
        "port = 1179",
        "hold = \"60s\"",
        "password_file = \"/etc/netd/bgp-10.0.0.1.password\"",
        "nodes = [\"lb-1\", \"lb-2\"]",
        "# not translated: node-selectors [{\"match-labels\":{\"rack\":\"a\"}}]; netd selects by name: nodes = [\"...\"]",
        "# It was called Public.",
        "name = \"public\"",
        "ranges = [\"192.0.2.16/28\", \"198.51.100.1-198.51.100.9\"]",
        "auto_assign = false",
        "avoid = \"first-last\"",
        "pools = [\"public\"]",
        "communities = [\"65535:65282\", \"64512:7\"]",
        "local_preference = 100",
        "aggregate = { ipv4 = 24 }",
        "# not translated: protocol layer2; netd announces by BGP",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
    accepted(EVERYTHING);
}

#[test]
fn a_password_is_not_printed() {
    assert!(!translate(EVERYTHING).unwrap().contains("hunter2"));
}

#[test]
fn unknown_keys_are_named() {
    let yaml =
        "colour: red\npeers:\n  - peer-address: 10.0.0.1\n    peer-asn: 1\n    my-asn: 2\n    bfd: fast\n";
    let text = translate(yaml).unwrap();
    assert!(text.contains("# not translated: `colour`, which is not known here\n"), "{text}");
    assert!(text.contains("# not translated: `peers.bfd`, which is not known here\n"), "{text}");
}

#[test]
fn what_is_no_such_file_is_said() {
    assert_eq!(translate("a: 1").unwrap_err(), "it has neither `peers` nor `address-pools`");
    assert_eq!(translate("[1]").unwrap_err(), "it is not a table of keys");
    assert_eq!(translate("data: {}").unwrap_err(), "the ConfigMap holds no text under `data`");
    assert!(translate("a: [").is_err());
}

#[test]
fn nothing_that_is_written_there_becomes_a_line_of_its_own() {
    let yaml = "peers:\n  - peer-address: \"10.0.0.1\\\"\\n[evil]\"\n    peer-asn: \"1\\nx = 2\"\n    \"k\\n[evil]\": 1\n";
    let text = translate(yaml).unwrap();
    assert!(!text.lines().any(|line| line.starts_with("[evil]") || line.starts_with("x =")), "{text}");
    let delete = translate("peers:\n  - peer-address: \"a\\x7fb\"\n").unwrap();
    assert!(delete.contains("address = \"a\\u007fb\"\n"), "{delete}");
}

#[test]
fn durations_of_go_are_read() {
    let cases =
        [("90s", Some(90)), ("1m30s", Some(90)), ("1h", Some(3600)), ("", None), ("90", None), ("1ms", None)];
    for (text, expected) in cases {
        assert_eq!(seconds(text), expected, "{text}");
    }
}
