//! The load balancer as its clients and backends see it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_bpf::Datapath;
use netd_bpf::abi::{FrontendKey, TCP};
use netd_integration_tests::bed::{LB_V4, LB_V6, backend_v4, backend_v6, no_checksum_offload, vip_v4, vips};
use netd_integration_tests::desired::{Service, file, file_with};
use netd_integration_tests::echo::{Port, Servers};
use netd_integration_tests::{Bed, Lab, snapshot};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener};

fn both(port: u16) -> [SocketAddr; 2] {
    vips(10).map(|vip| SocketAddr::new(vip, port))
}

#[test]
fn tcp_and_udp_reach_every_backend_over_both_families() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let ports: Vec<Port> = both(80).map(Port::Tcp).into_iter().chain(both(53).map(Port::Udp)).collect();
    let _servers = Servers::start(&bed, &ports);
    let service = Service::new("web", 10).port("tcp", 80, 80).port("udp", 53, 53).backend(1).backend(2);
    bed.write(&file(&[service]));
    let _netd = bed.start_ok();
    for (tcp, udp) in both(80).into_iter().zip(both(53)) {
        let mut seen = BTreeSet::new();
        for _ in 0..30 {
            seen.insert(bed.ask_tcp(tcp));
            seen.insert(bed.ask_udp(udp).unwrap() + 10);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 11, 12], "{tcp}");
    }
    assert!(bed.connect(SocketAddr::new(vip_v4(11), 80)).is_err());
}

#[test]
fn tcp_and_udp_of_one_port_are_two_services() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let ports: Vec<Port> = both(443).map(Port::Tcp).into_iter().chain(both(443).map(Port::Udp)).collect();
    let _servers = Servers::start(&bed, &ports);
    let web = Service::new("web", 10).port("tcp", 443, 443).backend(1);
    let quic = Service::new("quic", 10).port("udp", 443, 443).backend(2);
    bed.write(&file(&[web, quic]));
    let _netd = bed.start_ok();
    for to in both(443) {
        for _ in 0..5 {
            assert_eq!((bed.ask_tcp(to), bed.ask_udp(to)), (1, Some(2)), "{to}");
        }
    }
}

#[test]
fn what_is_not_for_a_vip_passes_untouched() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file(&[Service::new("web", 10).port("tcp", 80, 80).backend(1)]));
    let _netd = bed.start_ok();
    // The lb's own address at the service's port, and a backend's, through the lb's forwarding.
    let own: [SocketAddr; 2] = [LB_V4, LB_V6].map(|ip| SocketAddr::new(ip.parse().unwrap(), 80));
    let backends: [IpAddr; 2] = [backend_v4(1).into(), backend_v6(1).into()];
    for address in own {
        let listener = bed.lb.run(|| TcpListener::bind(address)).unwrap();
        let _stream = bed.client.run(|| std::net::TcpStream::connect(address)).unwrap();
        listener.accept().unwrap();
    }
    for ip in backends {
        let address = SocketAddr::new(ip, 80);
        let listener = bed.backends[0].run(|| TcpListener::bind(address)).unwrap();
        let _stream = bed.client.run(|| std::net::TcpStream::connect(address)).unwrap();
        listener.accept().unwrap();
    }
}

/// By the seed and the names that Cilium has, table 251 of three backends is known, and the slot of this client too.
#[test]
fn a_client_goes_where_the_known_answer_says() {
    const FIRST: [u16; 24] = [2, 2, 1, 1, 2, 3, 2, 2, 1, 3, 3, 3, 2, 2, 3, 1, 1, 1, 3, 2, 2, 3, 1, 3];
    const DIGEST: &str = "81a386cd0df51e68c1dd6dd4fbeb8e10e4e1ad330f237379b188f3eb772f704e";
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = Servers::start(&bed, &both(80).map(Port::Tcp));
    let service = Service::new("web", 10).port("tcp", 80, 80).backend(1).backend(2).backend(3);
    bed.write(&file_with("devices = [\"eth0\"]\ntable_size = 251", &[service]));
    let _netd = bed.start_ok();
    let mut datapath = Datapath::open(&bed.bpf_dir()).unwrap().unwrap();
    let maps = datapath.maps();
    let key = FrontendKey { address: vip_v4(10), port: 80, protocol: TCP };
    let entry = maps.frontends().unwrap().into_iter().find(|(found, _)| *found == key).unwrap().1;
    let lines = maps.backend_lines(entry.backends, entry.backend_count).unwrap();
    let slots = snapshot::slots(maps, &entry);
    let ring: Vec<u16> =
        slots.iter().map(|&slot| u16::from(lines[usize::from(slot)].destination[3])).collect();
    assert_eq!(ring[..24], FIRST);
    let bytes: Vec<u8> = ring.iter().flat_map(|&number| u32::from(number).to_le_bytes()).collect();
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, DIGEST);
    for (port, slot) in [(12345, 148), (12346, 141)] {
        let (_stream, number) = bed.connect_from(port, both(80)[0]).unwrap();
        assert_eq!(u16::from(number), ring[slot], "port {port}");
    }
}

#[test]
fn every_device_of_the_file_takes_traffic() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = Servers::start(&bed, &both(80).map(Port::Tcp));
    let second = lab.namespace("client2");
    bed.lb.veth("eth1", &second, "eth0");
    no_checksum_offload(&second, "eth0");
    bed.lb.ip(&["addr", "add", "10.1.3.1/24", "dev", "eth1"]);
    second.ip(&["addr", "add", "10.1.3.2/24", "dev", "eth0"]);
    second.ip(&["route", "add", "default", "via", "10.1.3.1"]);
    let web = Service::new("web", 10).port("tcp", 80, 80).backend(1);
    bed.write(&file_with("devices = [\"eth0\", \"eth1\"]", std::slice::from_ref(&web)));
    let _netd = bed.start_ok();
    assert_eq!(bed.ask_tcp(both(80)[0]), 1);
    let from_second = || {
        let patience = std::time::Duration::from_secs(2);
        second.run(|| std::net::TcpStream::connect_timeout(&both(80)[0], patience)).is_ok()
    };
    assert!(from_second());
    bed.write(&file_with("devices = [\"eth0\"]", &[web]));
    bed.wait_ok();
    assert!(!bed.lb.ip(&["link", "show", "eth1"]).contains("xdp"));
    assert!(!from_second());
    assert_eq!(bed.ask_tcp(both(80)[1]), 1);
}

#[test]
fn generic_mode_carries_the_same_traffic() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let ports: Vec<Port> = both(80).map(Port::Tcp).into_iter().chain(both(53).map(Port::Udp)).collect();
    let _servers = Servers::start(&bed, &ports);
    let web = Service::new("web", 10).port("tcp", 80, 80).port("udp", 53, 53).backend(1);
    for (mode, shown) in [("generic", "xdpgeneric"), ("native", "xdp "), ("generic", "xdpgeneric")] {
        bed.write(&file_with(
            &format!("devices = [\"eth0\"]\nmode = \"{mode}\""),
            std::slice::from_ref(&web),
        ));
        let _netd = bed.start_ok();
        assert!(bed.lb.ip(&["link", "show", "eth0"]).contains(shown), "{mode}");
        for (tcp, udp) in both(80).into_iter().zip(both(53)) {
            assert_eq!((bed.ask_tcp(tcp), bed.ask_udp(udp)), (1, Some(1)), "{mode}");
        }
    }
}

#[test]
fn packets_are_counted_by_backend() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let _servers = Servers::start(&bed, &both(53).map(Port::Udp));
    bed.write(&file(&[Service::new("dns", 10).port("udp", 53, 53).backend(1).backend(2)]));
    let _netd = bed.start_ok();
    let mut sent = [0u64; 2];
    for at in 0..40 {
        sent[usize::from(bed.ask_udp(both(53)[at % 2]).unwrap()) - 1] += 1;
    }
    let said = bed.netd(&["services", "--json"]).json();
    let backends = said.pointer("/0/backends").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut counted = [0u64; 2];
    for backend in &backends {
        let address: IpAddr = backend["address"].as_str().unwrap().parse().unwrap();
        let number = match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        counted[usize::from(number) - 1] += backend["packets"].as_u64().unwrap();
    }
    assert_eq!(counted, sent, "{said:#}");
}

#[test]
fn a_service_without_usable_backends_drops_and_one_that_gets_some_answers() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = Servers::start(&bed, &both(53).map(Port::Udp));
    let dns = Service::new("dns", 10).port("udp", 53, 53);
    bed.write(&file(&[dns.clone().backend_with(1, "state = \"maintenance\"")]));
    let _netd = bed.start_ok();
    assert_eq!((bed.ask_udp(both(53)[0]), bed.ask_udp(both(53)[1])), (None, None));
    let said = bed.netd(&["services", "--json"]).json();
    assert_eq!(said.pointer("/0/no_backend").and_then(Value::as_u64), Some(2), "{said:#}");
    bed.write(&file(&[dns.backend(1)]));
    bed.wait_ok();
    assert_eq!((bed.ask_udp(both(53)[0]), bed.ask_udp(both(53)[1])), (Some(1), Some(1)));
}
