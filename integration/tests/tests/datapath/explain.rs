//! `netd explain` and the packet itself agree.

use crate::{DNS, NOTHING, WEB, at, client, servers, web};
use netd_integration_tests::bed::{backend_v4, backend_v6};
use netd_integration_tests::desired::file;
use netd_integration_tests::{Bed, Lab};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

fn explain(bed: &Bed, more: &[&str], packet: &str) -> Value {
    let said = bed.netd(&[&["explain", "--json"], more, &[packet]].concat());
    assert_eq!(said.code, Some(0), "{packet}: {said:?}");
    said.json()
}

fn packet(protocol: &str, port: u16, to: SocketAddr) -> String {
    format!("{protocol} {} > {to}", SocketAddr::new(client(to.ip()), port))
}

/// The number of the backend that an answer names.
fn backend(answer: &Value) -> u8 {
    let backend: SocketAddr = answer["backend"].as_str().unwrap().parse().unwrap();
    match backend.ip() {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    }
}

#[test]
fn it_names_the_backend_that_the_packet_reaches_online_and_offline() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = servers(&bed);
    bed.write(&file(&[web(3).with("table_size = 4093")]));
    let _netd = bed.start_ok();
    for (tcp, udp) in at(WEB).into_iter().zip(at(DNS)) {
        for port in 21000..21008 {
            for (protocol, to) in [("tcp", tcp), ("udp", udp)] {
                let text = packet(protocol, port, to);
                let online = explain(&bed, &[], &text);
                let offline = explain(&bed, &["--offline"], &text);
                let real = match protocol {
                    "tcp" => bed.connect_from(port, to).unwrap().1,
                    _ => bed.ask_udp_from(port, to).unwrap(),
                };
                assert_eq!((backend(&online), backend(&offline)), (real, real), "{text}: {online:#}");
                for member in [
                    "verdict",
                    "service",
                    "frontend",
                    "flow_hash",
                    "table_size",
                    "slot",
                    "backend",
                    "outer_destination",
                ] {
                    assert_eq!(online[member], offline[member], "{member} of {text}");
                }
                assert_eq!((&online["verdict"], &online["service"]), (&"forward".into(), &"web".into()));
                assert_eq!(online["table_size"], 4093);
                let hash = u32::from_str_radix(online["flow_hash"].as_str().unwrap(), 16).unwrap();
                assert_eq!(online["slot"], hash % 4093);
                let number = usize::from(real);
                let (source, destination): (&str, IpAddr) = match to.ip() {
                    IpAddr::V4(_) => ("10.0.0.254", backend_v4(number).into()),
                    IpAddr::V6(_) => ("fd00::fe", backend_v6(number).into()),
                };
                assert_eq!(online["outer_source"], source);
                assert_eq!(online["outer_destination"], destination.to_string());
            }
        }
    }
}

#[test]
fn it_says_what_becomes_of_packets_that_no_backend_gets() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed);
    let [v4, v6] = at(WEB);
    let elsewhere = "192.0.3.1:80".parse().unwrap();
    let unknown = at(NOTHING);
    let cases = [
        (web(1), v4, "forward"),
        (web(1), elsewhere, "pass"),
        (web(1), unknown[0], "drop"),
        (web(1).with("unknown_port = \"reject\""), unknown[0], "reject"),
        (web(1).with("unknown_port = \"reject\""), unknown[1], "reject"),
        (web(1).with("unknown_port = \"pass\""), unknown[1], "pass"),
        (web(0), v6, "reject"),
        (web(0).with("no_backend = \"drop\""), v4, "drop"),
        (web(1).with("source_ranges = { allow = [\"10.66.0.0/16\"] }"), v4, "drop"),
        (web(1).with("source_ranges = { deny = [\"10.66.0.0/16\"] }"), v4, "forward"),
    ];
    bed.write(&file(&[web(1)]));
    let _netd = bed.start_ok();
    for (service, to, verdict) in cases {
        bed.write(&file(&[service]));
        bed.wait_ok();
        let text = packet("tcp", 21000, to);
        let [online, offline] = [&[][..], &["--offline"]].map(|more| explain(&bed, more, &text));
        assert_eq!(
            (&online["verdict"], &offline["verdict"]),
            (&verdict.into(), &verdict.into()),
            "{text}: {online:#} {offline:#}"
        );
        if verdict != "forward" {
            assert!(
                online["backend"].is_null() && offline["backend"].is_null(),
                "{text}: {online:#} {offline:#}"
            );
        }
    }
}

/// What a person asks leaves no record: the client's own packets are balanced as if nobody had asked.
#[test]
fn asking_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = servers(&bed);
    bed.write(&file(&[web(3).with("affinity = \"1h\"")]));
    let _netd = bed.start_ok();
    let text = packet("tcp", 21000, at(WEB)[0]);
    let first = explain(&bed, &[], &text);
    let steps = first["steps"].as_array().unwrap();
    assert!(!steps.iter().any(|step| step["what"] == "record"), "{first:#}");
    let second = explain(&bed, &[], &text);
    assert_eq!(first, second);
    let real = bed.connect(at(WEB)[0]).unwrap().1;
    assert_eq!(backend(&first), real);
    let third = explain(&bed, &[], &text);
    assert_eq!(backend(&third), real);
    assert!(third["steps"].as_array().unwrap().iter().any(|step| step["what"] == "record"), "{third:#}");
    // The record decides, and the answer says so, also when the ring would name another one.
    let rest = (1..=3)
        .filter(|&number| number != usize::from(real))
        .fold(web(0), |service, number| service.backend(number));
    bed.write(&file(&[rest.backend_with(real.into(), "weight = 1").with("affinity = \"1h\"")]));
    bed.wait_ok();
    let fourth = explain(&bed, &[], &text);
    assert_eq!(backend(&fourth), real, "{fourth:#}");
    assert_eq!(bed.connect(at(WEB)[0]).unwrap().1, real);
}

#[test]
fn other_families_and_gue_are_explained() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let _servers = servers(&bed);
    for (line, v4, v6) in [
        ("backend_family = \"ipv6\"", "fd00::", "fd00::"),
        ("backend_family = \"ipv4\"", "10.0.0.", "10.0.0."),
        ("mode = \"dsr-gue\"", "10.0.0.", "fd00::"),
    ] {
        bed.write(&file(&[web(2).with(line)]));
        let _netd = bed.start_ok();
        for (to, begins) in at(WEB).into_iter().zip([v4, v6]) {
            let text = packet("tcp", 21000, to);
            for more in [&[][..], &["--offline"]] {
                let answer = explain(&bed, more, &text);
                assert_eq!(answer["verdict"], "forward", "{line}, {text}: {answer:#}");
                assert!(
                    answer["outer_destination"].as_str().unwrap().starts_with(begins),
                    "{line}: {answer:#}"
                );
            }
            if !line.contains("gue") {
                let real = bed.connect_from(21000, to).unwrap().1;
                assert_eq!(backend(&explain(&bed, &[], &text)), real);
            }
        }
    }
}

#[test]
fn wrong_input_and_a_node_without_netd_are_answered_with_a_sentence() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file(&[web(1)]));
    let said = bed.netd(&["explain", "tcp 10.1.2.3:1 > 192.0.2.10:80"]);
    assert!(said.code == Some(1) && said.err.contains("nothing is loaded"), "{said:?}");
    let _netd = bed.start_ok();
    for (words, what) in [
        ("tcp 10.1.2.3:1 > [2001:db8::2]:80", "different families"),
        ("icmp 10.1.2.3:1 > 192.0.2.10:80", "neither tcp nor udp"),
        ("tcp 10.1.2.3 > 192.0.2.10:80", "has no port"),
        ("tcp 10.1.2.3:70000 > 192.0.2.10:80", "is not an address with a port"),
        ("udp 10.1.2.3:1 > 192.0.2.10:53 syn", "is not understood"),
        ("\u{1b}[2J", "a protocol, a source"),
    ] {
        let said = bed.netd(&["explain", words]);
        assert!(said.code == Some(1) && said.out.is_empty(), "{said:?}");
        assert!(said.err.contains(what) && !said.err.contains('\u{1b}'), "{said:?}");
    }
    // Words of a shell without quotes, as far as it lets them through.
    let said = bed.netd(&["explain", "tcp", "10.1.2.3:1", ">", "192.0.2.10:80", "ack"]);
    assert!(said.code == Some(0) && said.out.contains("forward"), "{said:?}");
}
