//! The page by the rules of Prometheus.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::report::{BgpReport, InForceReport, Reason, SessionReport};
use std::collections::BTreeSet;

fn service() -> ServiceTraffic {
    let backend = |last: u16, packets| BackendTraffic::active([0xfd00, 0, 0, 0, 0, 0, 0, last], packets);
    ServiceTraffic {
        service: "web".into(),
        frontends: vec!["[2001:db8::1]:80/tcp".into(), "192.0.2.10:80/tcp".into()],
        counts: [("no_backend".into(), 7), ("echo_replies".into(), 3)].into(),
        backends: vec![backend(1, 30), backend(2, u64::MAX / 10)],
        ..ServiceTraffic::default()
    }
}

fn pool() -> ServiceTraffic {
    let counts = [("unknown_port".into(), 11), ("rejected".into(), 10)].into();
    ServiceTraffic { service: "pool/public".into(), counts, ..ServiceTraffic::default() }
}

fn snapshot() -> Snapshot {
    let mut report = Report { word: Word::Ok, instance: "default".into(), ..Report::default() };
    report.config.in_force = Some(InForceReport { number: 9, ..InForceReport::default() });
    report
        .kinds
        .insert("service".into(), KindReport { desired: 3, ready: 2, failed: 1, ..KindReport::default() });
    report.kinds.insert("route".into(), KindReport { unread: Some("no".into()), ..KindReport::default() });
    let session = SessionReport {
        peer: [10, 0, 0, 1].into(),
        name: "tor-1".into(),
        asn: 64_513,
        state: "established".into(),
        since_unix_s: Some(1_700_000_000),
        flaps: 2,
        received: [("ipv4".to_owned(), 3)].into(),
        announced: [("ipv4".to_owned(), 4)].into(),
        why_not: None,
    };
    let announced = [("ipv4".to_owned(), 5)].into();
    let sessions = vec![session];
    report.bgp = Some(BgpReport { peers: 2, established: 1, announced, not_announced: 6, sessions });
    (report.pass.number, report.pass.reason, report.pass.applied) = (1, Reason::Resync, 4);
    report.pass.took.total_us = 1500;
    let mut tally = Tally::default();
    tally.count(&report);
    Snapshot {
        peers: BTreeMap::new(),
        report: Arc::new(report),
        accepted_unix_ms: Some(1_700_000_000_123),
        services: Some(vec![service(), pool()]),
        flows: Some(12),
        totals: BTreeMap::from([("web".to_owned(), (5, 50))]),
        nat: None,
        strict: None,
        decap: Some(Counts { packets: 8, bytes: 800, strangers: 3, not_taken: 2, ..Counts::default() }),
        tally,
    }
}

#[track_caller]
fn has(page: &str, line: &str) {
    assert!(page.lines().any(|one| one == line), "{line} in\n{page}");
}

#[test]
fn what_is_known_is_on_the_page() {
    let page = encode(snapshot()).unwrap();
    for line in [
        "netd_status{status=\"ok\"} 1",
        "netd_status{status=\"degraded\"} 0",
        "netd_config_generation 9",
        "netd_config_accepted_timestamp_seconds 1700000000",
        "netd_config_rejected 0",
        "netd_passes_total{reason=\"resync\"} 1",
        "netd_passes_total{reason=\"startup\"} 0",
        "netd_pass_duration_seconds_count 1",
        "netd_pass_duration_seconds_bucket{le=\"0.0025\"} 1",
        "netd_plan_changes{result=\"applied\"} 4",
        "netd_resources{kind=\"service\",status=\"failed\"} 1",
        "netd_resources_desired{kind=\"service\"} 3",
        "netd_kind_unread{kind=\"route\"} 1",
        "netd_flows_kept 12",
        "netd_service_packets_total{service=\"web\"} 5",
        "netd_service_dropped_packets_total{service=\"web\",reason=\"no_backend\"} 7",
        "netd_service_events_total{service=\"web\",event=\"echo_replies\"} 3",
        "netd_frontend_info{service=\"web\",frontend=\"192.0.2.10:80/tcp\"} 1",
        "netd_backend_packets_total{service=\"web\",backend=\"[fd00::1]:80\"} 30",
        "netd_backend_info{service=\"web\",backend=\"[fd00::2]:80\",state=\"active\"} 1",
        "netd_backend_new_flows_total{service=\"web\",backend=\"[fd00::1]:80\"} 3",
        "netd_pool_dropped_packets_total{pool=\"public\",reason=\"unknown_port\"} 11",
        "netd_pool_events_total{pool=\"public\",event=\"rejected\"} 10",
        "netd_bgp_peers 2",
        "netd_bgp_sessions_established 1",
        "netd_bgp_announced_prefixes{family=\"ipv4\"} 5",
        "netd_bgp_not_announced_prefixes 6",
        "netd_bgp_session_state{peer=\"10.0.0.1\",name=\"tor-1\",state=\"established\"} 1",
        "netd_bgp_session_state{peer=\"10.0.0.1\",name=\"tor-1\",state=\"idle\"} 0",
        "netd_bgp_session_established_timestamp_seconds{peer=\"10.0.0.1\"} 1700000000",
        "netd_bgp_session_flaps_total{peer=\"10.0.0.1\"} 2",
        "netd_bgp_session_received_prefixes{peer=\"10.0.0.1\",family=\"ipv4\"} 3",
        "netd_bgp_session_announced_prefixes{peer=\"10.0.0.1\",family=\"ipv4\"} 4",
        "netd_decap_packets_total 8",
        "netd_decap_not_taken_packets_total 2",
        "netd_decap_dropped_packets_total{reason=\"strangers\"} 3",
        "# EOF",
    ] {
        has(&page, line);
    }
    assert!(!page.contains("netd_resources{kind=\"route\""), "what is unread is not zero");
    assert!(!page.contains("service=\"pool/"), "a pool is no service: {page}");
}

#[test]
fn where_nothing_decapsulates_nothing_is_counted_of_it() {
    let page = encode(Snapshot { decap: None, ..snapshot() }).unwrap();
    assert!(!page.contains("netd_decap"), "{page}");
}

#[test]
fn counters_that_cannot_be_read_are_absent_and_not_zero() {
    let page = encode(Snapshot { services: None, flows: None, ..snapshot() }).unwrap();
    has(&page, "netd_counters_readable 0");
    assert!(
        !page.contains("netd_backend_") && !page.contains("netd_service_") && !page.contains("netd_flows")
    );
}

/// The rules of the text format that scrapers refuse a page for.
#[test]
fn the_page_keeps_the_rules_of_the_format() {
    let page = encode(snapshot()).unwrap();
    let (mut families, mut series, mut family) = (BTreeSet::new(), BTreeSet::new(), String::new());
    for line in page.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, _) = typed.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} twice");
            family = name.to_owned();
        }
        if line.starts_with('#') {
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap();
        assert!(series.insert(key.to_owned()), "{key} twice");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = key.split('{').next().unwrap();
        assert!(name.starts_with(&family), "{name} under {family}");
        assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_' || c.is_ascii_digit()), "{name}");
        assert!(!key.contains("{}"), "{key}");
    }
    assert!(page.ends_with("# EOF\n"));
    assert!(families.len() > 20, "{families:?}");
}

#[test]
fn a_name_cannot_break_out_of_its_label() {
    let odd = ServiceTraffic { service: "a\"} 1\nevil 2".into(), ..service() };
    let page = encode(Snapshot { services: Some(vec![odd]), ..snapshot() }).unwrap();
    assert!(!page.lines().any(|line| line.starts_with("evil")), "{page}");
}
