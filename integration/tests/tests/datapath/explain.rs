//! `netd explain` and the packet itself agree.

use crate::{DNS, NOTHING, WEB, at, client, servers, web};
use netd::balancer::Balancer;
use netd::explain::{Complaint, Evidence, Explanation, Packet, TcpFlags, loaded, offline};
use netd::facts::FactsReader;
use netd_integration_tests::bed::vips;
use netd_integration_tests::bed::{backend_v4, backend_v6};
use netd_integration_tests::desired::{Service, file, file_with};
use netd_integration_tests::dice::Dice;
use netd_integration_tests::{Bed, Lab};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

pub fn explain(bed: &Bed, more: &[&str], packet: &str) -> Value {
    let said = bed.netd(&[&["explain", "--json"], more, &[packet]].concat());
    assert_eq!(said.code, Some(0), "{packet}: {said:?}");
    said.json()
}

pub fn packet(protocol: &str, port: u16, to: SocketAddr) -> String {
    format!("{protocol} {} > {to}", SocketAddr::new(client(to.ip()), port))
}

/// The number of the backend that an answer names.
pub fn backend(answer: &Value) -> u8 {
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
                assert_eq!(online["device"], format!("b{number}"));
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

/// A SYN leaves a draining backend and takes its flow's record along; one that is only asked about does not.
#[test]
fn asking_about_a_syn_does_not_move_the_flow_of_a_draining_backend() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = servers(&bed);
    bed.write(&file(&[web(3).with("algorithm = \"random\"")]));
    let _netd = bed.start_ok();
    for to in at(WEB) {
        bed.write(&file(&[web(3).with("algorithm = \"random\"")]));
        bed.wait_ok();
        let real = bed.connect_from(21000, to).unwrap().1;
        let others = (1..=3).filter(|&number| number != usize::from(real));
        let draining =
            others.fold(web(0), Service::backend).backend_with(real.into(), "state = \"terminating\"");
        bed.write(&file(&[draining.with("algorithm = \"random\"")]));
        bed.wait_ok();
        let [syn, ack] = ["syn", "ack"].map(|flag| format!("{} {flag}", packet("tcp", 21000, to)));
        assert_eq!(backend(&explain(&bed, &[], &ack)), real);
        assert_ne!(backend(&explain(&bed, &[], &syn)), real);
        assert_eq!(backend(&explain(&bed, &[], &ack)), real, "the flow was moved");
    }
}

#[test]
fn an_address_of_a_pool_that_no_service_has_is_named_as_such() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let pool = "\n[[ip_pools]]\nname = \"public\"\nranges = [\"192.0.2.0/24\", \"2001:db8:100::/64\"]\n";
    bed.write(&(file(&[web(1)]) + pool));
    bed.apply();
    for to in vips(99) {
        let answer = explain(&bed, &[], &packet("udp", 21000, SocketAddr::new(to, 9)));
        assert_eq!((&answer["verdict"], &answer["service"]), (&"drop".into(), &Value::Null));
        let steps = answer["steps"].as_array().unwrap();
        let says =
            |what: &str, how: &str| steps.iter().any(|step| step["what"] == what && step["how"] == how);
        assert!(says("vip", &format!("{to} is an unassigned address of pool public")), "{answer:#}");
        assert!(says("counted", "as unknown_port"), "{answer:#}");
    }
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

/// Whether a packet goes back or over to another device depends on where it comes in; the answer says both.
#[test]
fn it_says_by_which_devices_the_packet_comes_and_goes() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file_with("devices = [\"eth0\", \"b1\"]", &[web(1)]));
    bed.apply();
    let text = packet("tcp", 21000, at(WEB)[0]);
    for (more, comes, goes) in [
        (&[][..], "comes in by eth0", "redirected to b1 for "),
        (&["--device", "b1"], "comes in by b1", "back out by b1 for "),
    ] {
        let answer = explain(&bed, more, &text);
        let how = |what: &str| {
            let steps = answer["steps"].as_array().unwrap();
            let step = steps.iter().find(|step| step["what"] == what).unwrap();
            step["how"].as_str().unwrap().to_owned()
        };
        assert_eq!(how("device"), comes, "{answer:#}");
        assert!(how("leaves").starts_with(goes), "{answer:#}");
        assert_eq!(answer["device"], "b1");
    }
    let said = bed.netd(&["explain", "--device", "lo", &text]);
    assert!(
        said.code == Some(1) && said.err.contains("the program is not on lo; it is on b1, eth0"),
        "{said:?}"
    );
}

/// What differs between the two answers for a packet: nothing but where they come from.
#[test]
fn the_file_and_the_loaded_program_agree_on_thousands_of_packets() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 4);
    bed.write(&of_all_kinds());
    bed.apply();
    let config = netd_schema::parse("desired.toml", of_all_kinds().as_bytes()).unwrap().config;
    let balancer = Balancer::new(bed.bpf_dir());
    let verdicts = bed.lb.run_async(|| async {
        let facts = FactsReader::new("lb".into()).read().await.unwrap();
        let mut dice = Dice::new(7);
        let mut verdicts = BTreeMap::new();
        for _ in 0..3000 {
            let text = thrown(&mut dice);
            let packet: Packet = text.parse().unwrap();
            let file = offline::explain(&config, &packet).unwrap();
            let loaded = loaded(&balancer, &bed.bpf_dir(), &facts, &packet, None).unwrap();
            let told = |answer: &Explanation| Explanation {
                reason: String::new(),
                evidence: Evidence::File,
                device: None,
                steps: Vec::new(),
                ..answer.clone()
            };
            assert_eq!(told(&file), told(&loaded), "{text}\n{}\n{}", file.text(), loaded.text());
            *verdicts.entry(loaded.verdict.word()).or_insert(0) += 1;
        }
        verdicts
    });
    assert!(verdicts.values().all(|count| *count > 50) && verdicts.len() == 5, "{verdicts:?}");
}

/// Services of every kind of answer, numbered by their VIPs.
fn of_all_kinds() -> String {
    let service = |name: &str, vip, backends| {
        let service = Service::new(name, vip).port("tcp", WEB, WEB).port("udp", DNS, DNS);
        (1..=backends).fold(service, Service::backend)
    };
    let ranges = "source_ranges = { allow = [\"10.0.0.0/8\", \"2001:db8::/32\"], deny = [\"10.66.0.0/16\"] }";
    let mut text = file_with(
        "devices = [\"eth0\"]\nrss_source = [\"10.9.0.0/16\", \"f00d::/48\"]\nicmp_errors_per_second = 1000000",
        &[
            service("web", 10, 3).backend_with(4, "weight = 30"),
            service("shut", 11, 3).with(ranges).with("unknown_port = \"reject\""),
            service("empty", 12, 0).with("no_backend = \"drop\"").with("unknown_port = \"pass\""),
            service("refusing", 13, 0),
            service("affine", 14, 4).with("affinity = \"1h\"").with("mode = \"dsr-gue\""),
            service("six", 15, 4).with("backend_family = \"ipv6\"").with("table_size = 4093"),
            Service::new("moved", 16).port("tcp", WEB, 8080).port("udp", DNS, 5353).backend(1).backend(2),
            Service::new("leaving", 17).port("tcp", WEB, WEB).backend_with(1, "state = \"terminating\""),
        ],
    );
    text.push_str("\n[[ip_pools]]\nname = \"public\"\nranges = [\"192.0.2.0/27\", \"2001:db8:100::/120\"]\n");
    text.push_str("unassigned = \"reject\"\n");
    text
}

/// A packet for one of them, or beside.
fn thrown(dice: &mut Dice) -> String {
    let vip = vips(u8::try_from(8 + dice.below(28)).unwrap())[usize::from(dice.below(2) == 0)];
    let port = [WEB, WEB, DNS, NOTHING][dice.below(4) as usize];
    let [low, high] = [dice.below(0x1_0000), dice.below(0x1_0000)];
    let client: IpAddr = match vip {
        IpAddr::V4(_) => {
            let [first, second] = [[10, 1], [10, 66], [203, 0]][dice.below(3) as usize];
            [first, second, (low >> 8) as u8, low as u8].into()
        }
        IpAddr::V6(_) => {
            let first = [0x2001, 0x2a00][dice.below(2) as usize];
            [first, 0xdb8, low as u16, 0, 0, 0, high as u16, 1].into()
        }
    };
    let client = SocketAddr::new(client, 1024 + (high as u16 >> 1));
    let target = SocketAddr::new(vip, port);
    let protocol = ["tcp", "udp"][dice.below(2) as usize];
    match dice.below(10) {
        0 => format!("icmp {} > {vip}", client.ip()),
        1 => {
            let complaint = Complaint::ALL[dice.below(3) as usize].word();
            format!(
                "icmp {} > {vip} {complaint} {protocol} {target} > {client}",
                vips(250)[usize::from(vip.is_ipv6())]
            )
        }
        2 => format!("{protocol} {client} > {target} first-fragment id {}", low + 1),
        3..=5 => format!("udp {client} > {target}"),
        flag => format!("tcp {client} > {target} {}", TcpFlags::ALL[flag as usize - 6].word()),
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
        ("icmp 10.1.2.3:1 > 192.0.2.10", "has a port, which ICMP does not"),
        ("sctp 10.1.2.3:1 > 192.0.2.10:80", "neither tcp nor udp nor icmp"),
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
