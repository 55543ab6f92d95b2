//! Routers between clients and the load balancer: traceroute, and their errors about what backends send.

use crate::{WEB, assert_sound, at, servers, web, with};
use netd_integration_tests::bed::{CLIENT_V4, CLIENT_V6, no_checksum_offload, vips};
use netd_integration_tests::capture::Recording;
use netd_integration_tests::desired::file;
use netd_integration_tests::echo::{Servers, exchange};
use netd_integration_tests::netd::Daemon;
use netd_integration_tests::{Bed, Lab, Namespace};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A client behind the bed's client, which is its router.
fn far(lab: &Lab, bed: &Bed) -> Namespace {
    let far = lab.namespace("far");
    let router = &bed.client;
    router.sysctl("net/ipv4/ip_forward", "1");
    router.sysctl("net/ipv6/conf/all/forwarding", "1");
    router.veth("eth1", &far, "eth0");
    no_checksum_offload(&far, "eth0");
    router.ip(&["addr", "add", "10.9.0.1/24", "dev", "eth1"]);
    router.ip(&["addr", "add", "2001:db8:9::1/64", "dev", "eth1", "nodad"]);
    far.ip(&["addr", "add", "10.9.0.2/24", "dev", "eth0"]);
    far.ip(&["addr", "add", "2001:db8:9::2/64", "dev", "eth0", "nodad"]);
    far.ip(&["route", "add", "default", "via", "10.9.0.1"]);
    far.ip(&["route", "add", "default", "via", "2001:db8:9::1"]);
    bed.lb.ip(&["route", "add", "10.9.0.0/24", "via", CLIENT_V4]);
    bed.lb.ip(&["route", "add", "2001:db8:9::/64", "via", CLIENT_V6]);
    far
}

/// A bed in which the router's way to the far client is narrower than both ends think; large packets of the client still
/// fit. Servers and netd are in it.
fn narrow(lab: &Lab) -> (Bed, Namespace, Servers, Daemon) {
    let bed = Bed::new(lab, 3);
    let far = far(lab, &bed);
    for address in ["10.9.0.2/32", "2001:db8:9::2/128"] {
        bed.client.ip(&["route", "add", address, "dev", "eth1", "mtu", "lock", "1300"]);
    }
    let servers = servers(&bed);
    bed.write(&file(&[web(3)]));
    let netd = bed.start_ok();
    (bed, far, servers, netd)
}

/// A busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(10);

fn connect(far: &Namespace, to: SocketAddr) -> (TcpStream, u8) {
    let mut stream = far.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut number = [0];
    stream.read_exact(&mut number).unwrap();
    (stream, number[0])
}

/// The hops, as traceroute names them.
fn traceroute(far: &Namespace, method: &[&str], to: SocketAddr) -> Vec<String> {
    let to = to.ip().to_string();
    let words = [&["traceroute", "-n", "-q", "1", "-w", "1", "-m", "4"], method, &[to.as_str()]].concat();
    let said = crate::run(far, &words);
    assert_eq!(said.code, Some(0), "{said:?}");
    let hop = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    said.out.lines().skip(1).map(hop).collect()
}

#[test]
fn traceroutes_of_every_kind_end_at_the_vip() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let far = far(&lab, &bed);
    let _servers = servers(&bed);
    bed.write(&file(&[web(2).with("unknown_port = \"reject\"")]));
    let _netd = bed.start_ok();
    for (to, router) in at(WEB).into_iter().zip(["10.9.0.1", "2001:db8:9::1"]) {
        let way = [router.to_owned(), to.ip().to_string()];
        for method in [&["-I"][..], &["-U", "-p", "33434"], &["-T", "-p", "80"], &["-T", "-p", "81"]] {
            assert_eq!(traceroute(&far, method, to), way, "{method:?} to {to}");
        }
    }
    bed.write(&file(&[web(2).with("ping = false")]));
    bed.wait_ok();
    for (to, router) in at(WEB).into_iter().zip(["10.9.0.1", "2001:db8:9::1"]) {
        for method in [&["-I"][..], &["-U", "-p", "33434"]] {
            assert_eq!(traceroute(&far, method, to), [router, "*", "*", "*"], "{method:?} to {to}");
        }
    }
}

/// What the backend sends is too large for the last link, and it is told by way of the VIP.
#[test]
fn a_routers_errors_reach_the_backend_that_they_are_about() {
    let Some(lab) = Lab::new() else { return };
    let (bed, far, _servers, _netd) = narrow(&lab);
    let recording = Recording::start(&bed, &bed.client, "eth0", "icmp or (icmp6 and ip6[40] == 2)");
    let mut answered = [0; 3];
    for to in at(WEB) {
        // Ports are chance, and so are backends: as many flows as it takes to meet all three.
        let mut met = BTreeSet::new();
        for flow in 0.. {
            assert!(flow < 100, "{to}: only {met:?} answer");
            let (stream, number) = connect(&far, to);
            exchange(&stream, 256 << 10).unwrap();
            answered[usize::from(number) - 1] += 1;
            met.insert(number);
            if flow >= 7 && met.len() == 3 {
                break;
            }
        }
    }
    let told = recording.end();
    assert_sound(&told);
    assert!(
        !with(&told, &["> 192.0.2.10: ICMP 10.9.0.2 unreachable - need to frag (mtu 1300)"]).is_empty(),
        "{told:#?}"
    );
    assert!(!with(&told, &["> 2001:db8:100::10:", "packet too big, mtu 1300"]).is_empty(), "{told:#?}");
    for (backend, flows) in bed.backends.iter().zip(answered) {
        let learned = ["10.9.0.2", "2001:db8:9::2"].map(|far| backend.ip(&["route", "get", far]));
        assert!(learned.iter().any(|route| route.contains("mtu 1300")), "{flows} flows: {learned:?}");
    }
}

/// Only the owner is told, and the others do not learn anything.
#[test]
fn a_routers_error_goes_to_one_backend() {
    let Some(lab) = Lab::new() else { return };
    let (bed, far, _servers, _netd) = narrow(&lab);
    for (vip, far_address) in vips(10).into_iter().zip(["10.9.0.2", "2001:db8:9::2"]) {
        let (stream, owner) = connect(&far, SocketAddr::new(vip, WEB));
        exchange(&stream, 64 << 10).unwrap();
        for (backend, number) in bed.backends.iter().zip(1u8..) {
            let learned = backend.ip(&["route", "get", far_address]).contains("mtu 1300");
            assert_eq!(learned, number == owner, "backend {number}, owner {owner}, {vip}");
        }
    }
}
