//! One file per mistake: the TOML, what the JSON Schema says to it, and the exact message; and one per doubt.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot read its files fails")]

mod corpus;

use corpus::{Verdict, cases, parses, schema_says};
use netd_schema::{Diagnostics, Severity, parse};
use std::fmt::Write as _;

#[test]
fn c12_c13_c14_c15_c16_c24_c25_every_mistake_has_its_exact_message() {
    every_message_is_exact("schema/testdata/invalid", 140, |name, toml| {
        parse("desired.toml", toml.as_bytes()).expect_err(name)
    });
}

#[test]
fn every_doubt_has_its_exact_message_and_refuses_nothing() {
    every_message_is_exact("schema/testdata/warnings", 12, |name, toml| {
        let warnings = parse("desired.toml", toml.as_bytes()).expect(name).warnings;
        assert!(warnings.list.iter().all(|it| it.severity == Severity::Warning), "{name}");
        assert_eq!(schema_says(toml), Verdict::Accepts, "{name}");
        warnings
    });
}

/// Compares; with `NETD_BLESS=1` in the environment the files are written instead.
fn every_message_is_exact(folder: &str, least: usize, found: impl Fn(&str, &str) -> Diagnostics) {
    let mut wrong = String::new();
    let cases = cases(folder, "txt");
    assert!(cases.len() > least, "the corpus was not found");
    for case in cases {
        let (toml, expected) = case.text.split_once(SEPARATOR).expect("a separator after the TOML");
        let rendered = found(&case.name, toml).render(false);
        let actual = format!("{}\n{rendered}", schema_says(toml).word());
        if std::env::var_os("NETD_BLESS").is_some() {
            std::fs::write(&case.path, format!("{toml}{SEPARATOR}{actual}")).expect("can be written");
        } else if actual != expected {
            let _ = writeln!(wrong, "== {}\n{actual}", case.name);
        }
    }
    assert!(wrong.is_empty(), "messages changed (NETD_BLESS=1 writes them):\n{wrong}");
}

/// Between the TOML and what is said about it.
const SEPARATOR: &str = "---- ";

#[test]
fn the_schema_accepts_whatever_the_parser_accepts() {
    for case in cases("examples-config", "toml") {
        assert!(parses(&case.text), "{} is refused", case.name);
        assert_eq!(schema_says(&case.text), Verdict::Accepts, "{}", case.name);
    }
}

/// What can be said in a schema is said there: unknown and missing keys, types, ranges, words, reserved words.
#[test]
fn the_schema_refuses_what_concerns_one_value() {
    let of_one_value = [
        "version_",
        "unknown_",
        "unsupported_",
        "missing_",
        "wrong_",
        "port_zero",
        "port_too_large",
        "weight_",
        "protocol_",
        "state_",
        "wireguard_port",
        "wireguard_mark_",
        "wireguard_mode_",
        "wireguard_mtu_",
        "wireguard_table_",
        "wireguard_device_",
        "wireguard_rule_",
        "wireguard_generation_",
        "service_name_with",
        "service_name_too_long",
        "device_name_",
        "mode_",
        "table_size_not",
        "hash_seed_",
        "vips_empty",
        "vip_not_an_address",
        "vip_with_a_prefix_length",
        "pod_cidr_without_a_length",
        "table_instead",
        "array_of_tables_instead",
        "affinity_a_number",
        "algorithm_",
        "backend_family_",
        "bgp_aggregate_out",
        "bgp_announce_unknown",
        "bgp_asn_",
        "bgp_bfd_too",
        "bgp_community_out",
        "bgp_families_",
        "bgp_family_unknown",
        "bgp_gobgpd_relative",
        "bgp_gobgpd_unknown",
        "bgp_graceful_",
        "bgp_hold_down_",
        "bgp_import_",
        "bgp_missing_",
        "bgp_password_file_",
        "bgp_prepend_too",
        "bgp_router_id_a",
        "bgp_unknown_keys_",
        "capture_filters_",
        "capture_name_",
        "capture_size_",
        "capture_without_",
        "duration_",
        "egress_announce_unknown",
        "egress_failover_",
        "egress_gateway_a",
        "egress_gateway_priority",
        "egress_group_empty",
        "egress_group_no",
        "egress_group_with_capitals",
        "egress_ip_with",
        "egress_ips_three",
        "egress_missing",
        "egress_on_no",
        "egress_one",
        "egress_sources_empty",
        "egress_unknown",
        "gue_port_",
        "hash_names_",
        "health_check_expect_empty",
        "health_check_fall_",
        "health_check_floor_",
        "health_check_kind_",
        "health_check_path_",
        "health_check_port_zero",
        "health_check_rise_",
        "health_check_status_",
        "health_check_via_",
        "health_check_without_",
        "hop_limit_",
        "icmp_errors_",
        "metrics_with",
        "network_mode_",
        "network_mtu_",
        "network_pod_devices_all",
        "network_port_zero",
        "network_tunnel_",
        "network_underlay_",
        "network_unknown",
        "network_vni_",
        "no_backend_",
        "outer_",
        "ping_",
        "service_mode_",
        "service_table_size_",
        "source_ranges_a",
        "traffic_policy_",
    ];
    let mut seen = 0;
    for case in cases("schema/testdata/invalid", "txt") {
        let (toml, _) = case.text.split_once(SEPARATOR).expect("a separator after the TOML");
        if of_one_value.iter().any(|start| case.name.starts_with(start)) {
            seen += 1;
            assert_ne!(schema_says(toml), Verdict::Accepts, "{}", case.name);
        }
    }
    assert!(seen > 70, "only {seen} cases");
}
