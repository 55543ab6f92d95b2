//! What netd says of the traffic: the commands' tables, the page for Prometheus, and a backend that is drained.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_integration_tests::bed::vip_v4;
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::echo::{Port, Servers};
use netd_integration_tests::netd::wait_until;
use netd_integration_tests::{Bed, Lab};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(15);

fn dns() -> SocketAddr {
    SocketAddr::new(vip_v4(10), 53)
}

fn service() -> Service {
    Service::new("dns", 10).port("udp", 53, 53).backend(1).backend(2)
}

fn with_metrics(listen: &str) -> String {
    format!("{}\n[metrics]\nlisten = \"{listen}\"\n", file(&[service()]))
}

/// What the listener in the lb's namespace answers; nothing when there is none.
fn get(bed: &Bed, listen: &str, path: &str) -> Option<String> {
    let address: SocketAddr = listen.parse().unwrap();
    bed.lb.run(|| {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: lb\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    })
}

/// The numbers of a page by their series.
fn numbers(page: &str) -> BTreeMap<&str, f64> {
    let body = page.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(key, value)| (key, value.parse().unwrap()))
        .collect()
}

#[test]
fn the_page_counts_what_the_backends_were_sent() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let _servers = Servers::start(&bed, &[Port::Udp(dns())]);
    let listen = "127.0.0.1:9471";
    bed.write(&with_metrics(listen));
    let _netd = bed.start_ok();
    // The first page is where the sums of a service begin.
    let first = get(&bed, listen, "/metrics").unwrap();
    assert!(first.starts_with("HTTP/1.1 200 OK"), "{first}");
    let mut sent = [0.0; 2];
    for _ in 0..40 {
        sent[usize::from(bed.ask_udp(dns()).unwrap()) - 1] += 1.0;
    }
    let series = |number: usize| {
        format!("netd_backend_packets_total{{service=\"dns\",backend=\"10.0.0.{number}:53\"}}")
    };
    wait_until("counted", PATIENCE, || {
        let page = get(&bed, listen, "/metrics").unwrap();
        let numbers = numbers(&page);
        let counted = [1, 2].map(|number| numbers.get(series(number).as_str()).copied().unwrap_or_default());
        counted == sent && numbers.get("netd_service_packets_total{service=\"dns\"}") == Some(&40.0)
    });
    let page = get(&bed, listen, "/metrics").unwrap();
    let numbers = numbers(&page);
    for (series, value) in [
        ("netd_status{status=\"ok\"}", 1.0),
        ("netd_config_generation", 1.0),
        ("netd_config_rejected", 0.0),
        ("netd_counters_readable", 1.0),
        ("netd_resources{kind=\"service\",status=\"ready\"}", 2.0),
        ("netd_resources{kind=\"metrics\",status=\"ready\"}", 1.0),
        ("netd_passes_total{reason=\"startup\"}", 1.0),
    ] {
        assert_eq!(numbers.get(series), Some(&value), "{series} in\n{page}");
    }
    assert!(get(&bed, listen, "/healthz").unwrap().ends_with("\r\n\r\nok\n"));
}

#[test]
fn the_listener_follows_the_file() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let (first, second) = ("127.0.0.1:9471", "0.0.0.0:9471");
    bed.write(&with_metrics(first));
    let _netd = bed.start_ok();
    assert!(get(&bed, first, "/metrics").is_some());
    bed.write(&with_metrics(second));
    let report = bed.wait_ok();
    assert!(report["notes"].to_string().contains("there is no password"), "{report:#}");
    assert!(get(&bed, first, "/metrics").is_some(), "every address has this one");
    bed.write(&file(&[service()]));
    bed.wait_ok();
    assert!(get(&bed, first, "/metrics").is_none());
}

#[test]
fn an_address_that_is_taken_is_a_status_and_is_taken_over_later() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let listen = "127.0.0.1:9471";
    let other = bed.lb.run(|| TcpListener::bind(listen)).unwrap();
    bed.write(&with_metrics(listen));
    let _netd = bed.start();
    let report = bed.wait("degraded", |report| report["word"] == "degraded");
    let failed = report["not_ready"].to_string();
    assert!(failed.contains("another program listens on this address"), "{report:#}");
    assert_eq!(report["kinds"]["service"]["ready"], 2, "the rest is in force: {report:#}");
    drop(other);
    bed.wait_ok();
    assert!(get(&bed, listen, "/metrics").is_some());
}

#[test]
fn the_tables_show_counts_and_rates() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let _servers = Servers::start(&bed, &[Port::Udp(dns())]);
    bed.write(&file(&[service()]));
    let _netd = bed.start_ok();
    for _ in 0..10 {
        bed.ask_udp(dns()).unwrap();
    }
    let services = bed.netd(&["services"]);
    assert!(services.out.contains("dns") && services.out.contains(" 10 "), "{services:?}");
    let one = bed.netd(&["services", "dns"]);
    assert!(one.out.contains("10.0.0.1:53") && one.out.contains("  dropped     0\n\n"), "{one:?}");
    let backends = bed.netd(&["backends", "--json"]).json();
    let packets: u64 = backends.as_array().unwrap().iter().map(|one| one["packets"].as_u64().unwrap()).sum();
    assert_eq!(packets, 10, "{backends:#}");
    let unknown = bed.netd(&["backends", "dms"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("did you mean `dns`?"), "{unknown:?}");
    let mut watching = bed.netd_under(&["timeout", "2.5"], &["services", "dns", "--json", "--watch", "1"]);
    let output = watching.output().unwrap();
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.len() >= 2, "{lines:?}");
    assert!(lines[0].pointer("/services/0/per_second").is_none());
    assert_eq!(lines[1].pointer("/services/0/per_second/packets"), Some(&serde_json::json!(0.0)));
}

#[test]
fn what_is_for_unassigned_addresses_is_counted_for_their_pool() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let listen = "127.0.0.1:9471";
    let pool = "[[ip_pools]]\nname = \"public\"\nranges = [\"192.0.2.0/24\"]\nunassigned = \"reject\"\n";
    bed.write(&format!("{}\n{pool}", with_metrics(listen)));
    let _netd = bed.start_ok();
    let nobodys = SocketAddr::new(vip_v4(99), 53);
    assert_eq!(bed.ask_udp(nobodys), None);
    let rows = bed.netd(&["services", "--json"]).json();
    let row = rows.as_array().unwrap().iter().find(|row| row["service"] == "pool/public").unwrap();
    assert_eq!((&row["unknown_port"], &row["rejected"]), (&1.into(), &1.into()), "{row}");
    let shown = bed.netd(&["services", "pool/public"]).out;
    assert!(shown.contains("    unknown_port  1\n") && shown.contains("    rejected      1\n"), "{shown}");
    let page = get(&bed, listen, "/metrics").unwrap();
    let counted = numbers(&page);
    let series = "netd_pool_dropped_packets_total{pool=\"public\",reason=\"unknown_port\"}";
    assert_eq!(counted.get(series), Some(&1.0), "{page}");
}

#[test]
fn connections_are_counted_by_backend_and_datagrams_are_not() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let over_tcp = SocketAddr::new(vip_v4(10), 80);
    let _servers = Servers::start(&bed, &[Port::Udp(dns()), Port::Tcp(over_tcp)]);
    let udp_alone = Service::new("time", 11).port("udp", 123, 123).backend(1);
    bed.write(&file(&[service().port("tcp", 80, 80), udp_alone]));
    let _netd = bed.start_ok();
    let mut begun = BTreeMap::new();
    for _ in 0..12 {
        *begun.entry(bed.ask_tcp(over_tcp)).or_insert(0) += 1;
        bed.ask_udp(dns()).unwrap();
    }
    let backends = bed.netd(&["backends", "dns", "--json"]).json();
    for (number, count) in begun {
        let of_it = |one: &&serde_json::Value| one["address"] == format!("10.0.0.{number}").as_str();
        let rows = backends.as_array().unwrap().iter().filter(of_it);
        let counted: u64 = rows.map(|row| row["new_flows"].as_u64().unwrap()).sum();
        assert_eq!(counted, count, "{backends:#}");
    }
    let table = bed.netd(&["backends", "time"]).out;
    assert!(table.contains("NEW FLOWS") && table.lines().any(|line| line.ends_with(" -")), "{table}");
}

#[test]
fn a_drained_backend_keeps_its_flows_until_they_end() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let over_tcp = SocketAddr::new(vip_v4(10), 80);
    let _servers = Servers::start(&bed, &[Port::Udp(dns()), Port::Tcp(over_tcp)]);
    let both = service().port("tcp", 80, 80);
    bed.write(&file(std::slice::from_ref(&both)));
    let _netd = bed.start_ok();
    let on_first = (20_000..20_100).find(|&port| bed.ask_udp_from(port, dns()) == Some(1)).unwrap();
    let (ends, stays) = (AtomicBool::new(false), AtomicBool::new(true));
    let drained = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                let answered_by = bed.ask_udp_from(on_first, dns());
                stays.fetch_and(answered_by == Some(1), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let now = bed.netd(&["drain", "dns", "10.0.0.1", "--wait", "6s", "--idle", "5s"]);
        assert_eq!(now.code, Some(1), "the flow goes on: {now:?}");
        for part in [
            "+  { address = \"10.0.0.1\", state = \"terminating\" }",
            "1 flow remains",
            "time to wait is over",
        ] {
            assert!(now.out.contains(part), "{part}: {now:?}");
        }
        ends.store(true, Ordering::Relaxed);
        bed.netd(&["drain", "dns", "10.0.0.1", "--wait", "20s", "--idle", "2s"])
    });
    assert!(stays.load(Ordering::Relaxed), "the flow was moved");
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert!(drained.out.contains("Drained: no packet of its flows for 2s."), "{drained:?}");
    // The first packet of TCP says that it is one; UDP has to be taken for an old flow for a while.
    let others: BTreeSet<_> = (0..20).map(|_| bed.ask_tcp(over_tcp)).collect();
    assert_eq!(others, BTreeSet::from([2]));
    let undone = bed.netd(&["drain", "dns", "10.0.0.1", "--undo"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(std::fs::read_to_string(bed.config_file()).unwrap(), file(&[both]));
    let all: BTreeSet<_> = (0..40).map(|_| bed.ask_tcp(over_tcp)).collect();
    assert_eq!(all.len(), 2, "{all:?}");
}
