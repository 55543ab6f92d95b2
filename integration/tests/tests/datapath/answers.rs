//! What clients are told where no backend answers: unknown ports, unassigned addresses, services without backends.

use crate::{NOTHING, WEB, assert_sound, at, client, servers, try_connect, try_datagram, web, with};
use netd_integration_tests::bed::{CLIENT_V4, CLIENT_V6, vip_v4, vip_v6, vips};
use netd_integration_tests::capture::Recording;
use netd_integration_tests::desired::file;
use netd_integration_tests::frames::{Wire as _, datagram, frame, of_protocol};
use netd_integration_tests::{Bed, Lab};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};

/// SCTP, which nobody here speaks.
const OTHER_PROTOCOL: u8 = 132;

/// What comes to the client from a VIP's addresses.
const ANSWERS: &str = "src net 192.0.2.0/24 or src net 2001:db8:100::/64";

fn assert_silent(bed: &Bed, to: SocketAddr) {
    assert_eq!(try_connect(&bed.client, to), Err(ErrorKind::TimedOut), "{to}");
    assert_eq!(try_datagram(bed, to), Err(ErrorKind::WouldBlock), "{to}");
}

fn assert_refused(bed: &Bed, to: SocketAddr) {
    assert_eq!(try_connect(&bed.client, to), Err(ErrorKind::ConnectionRefused), "{to}");
    assert_eq!(try_datagram(bed, to), Err(ErrorKind::ConnectionRefused), "{to}");
}

/// Sends a packet of a protocol that has no ports.
fn send_other_protocol(bed: &Bed, to: IpAddr) {
    let packet = of_protocol(client(to), to, OTHER_PROTOCOL, &[0; 16]);
    bed.client.send_frames("eth0", &[frame((&bed.client, "eth0"), (&bed.lb, "eth0"), &[], &packet)]);
}

#[test]
fn unknown_ports_are_silent_unless_they_are_to_be_rejected() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed);
    bed.write(&file(&[web(1)]));
    let _netd = bed.start_ok();
    let recording = Recording::start(&bed, &bed.client, "eth0", ANSWERS);
    for to in at(NOTHING) {
        assert_silent(&bed, to);
        send_other_protocol(&bed, to.ip());
    }
    assert_eq!(recording.end(), Vec::<String>::new());
    bed.write(&file(&[web(1).with("unknown_port = \"reject\"")]));
    bed.wait_ok();
    let recording = Recording::start(&bed, &bed.client, "eth0", ANSWERS);
    for to in at(NOTHING) {
        assert_refused(&bed, to);
        send_other_protocol(&bed, to.ip());
    }
    let told = recording.end();
    assert_sound(&told);
    for words in [
        ["192.0.2.10.81 > 10.1.2.3", "Flags [R.]"],
        ["192.0.2.10 > 10.1.2.3", "udp port 81 unreachable"],
        ["192.0.2.10 > 10.1.2.3", "protocol 132 unreachable"],
        ["2001:db8:100::10.81 > 2001:db8::1", "Flags [R.]"],
        ["2001:db8:100::10 > 2001:db8::1", "udp port 81"],
        ["2001:db8:100::10 > 2001:db8::1", "next header - octet 6"],
    ] {
        assert_eq!(with(&told, &words).len(), 1, "{words:?} in {told:#?}");
    }
    for to in at(WEB) {
        assert_eq!(bed.ask_tcp(to), 1);
    }
}

/// The node has the VIP, and a server of its own on another port of it.
#[test]
fn unknown_ports_that_pass_are_the_nodes() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let text = file(&[web(1).with("unknown_port = \"pass\"")]);
    bed.write(&text);
    for vip in vips(10) {
        let prefix = if vip.is_ipv4() { 32 } else { 128 };
        bed.lb.ip(&["addr", "add", &format!("{vip}/{prefix}"), "dev", "lo"]);
    }
    let _netd = bed.start_ok();
    for to in at(NOTHING) {
        let _listener = bed.lb.run(|| TcpListener::bind(to)).unwrap();
        assert_eq!(try_connect(&bed.client, to), Ok(()), "{to}");
    }
    // The kernel refuses what nobody listens to.
    assert_refused(&bed, at(NOTHING)[0]);
}

#[test]
fn rejects_are_limited() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let text = file(&[web(1).with("unknown_port = \"reject\"")]);
    bed.write(&text.replace("[load_balancer]", "[load_balancer]\nicmp_errors_per_second = 0"));
    let _netd = bed.start_ok();
    let recording = Recording::start(&bed, &bed.client, "eth0", ANSWERS);
    for to in at(NOTHING) {
        assert_silent(&bed, to);
    }
    assert_eq!(recording.end(), Vec::<String>::new());
}

/// The client is a router here, and its way to the VIPs is the lb, whose way to the world is the client.
fn make_a_loop(bed: &Bed) {
    bed.client.sysctl("net/ipv4/ip_forward", "1");
    bed.client.sysctl("net/ipv4/conf/all/send_redirects", "0");
    bed.client.sysctl("net/ipv6/conf/all/forwarding", "1");
    bed.lb.ip(&["route", "add", "default", "via", CLIENT_V4]);
    bed.lb.ip(&["route", "add", "default", "via", CLIENT_V6]);
}

/// How often a datagram for these addresses is seen on the link between client and lb.
fn seen(bed: &Bed) -> [usize; 2] {
    [vip_v4(77), vip_v6(77)].map(|vip| {
        let recording = Recording::start(bed, &bed.client, "eth0", &format!("dst host {vip} and udp port 9"));
        // From behind the client: a router drops what seems to come from itself.
        let from = if vip.is_ipv4() { "10.1.2.200:9" } else { "[2001:db8::200]:9" }.parse().unwrap();
        let packet = datagram(from, SocketAddr::new(vip, 9), b"round and round");
        bed.client.send_frames("eth0", &[frame((&bed.client, "eth0"), (&bed.lb, "eth0"), &[], &packet)]);
        recording.end().len()
    })
}

#[test]
fn packets_for_unassigned_addresses_of_a_pool_do_not_go_round_in_circles() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed);
    make_a_loop(&bed);
    bed.write(&file(&[web(1)]));
    let _netd = bed.start_ok();
    let without = seen(&bed);
    assert!(without.iter().all(|&times| times > 30), "there is no loop to be closed: {without:?}");
    let pool = |unassigned: &str| {
        let ranges = "ranges = [\"192.0.2.0/24\", \"2001:db8:100::/64\"]";
        format!("{}\n[[ip_pools]]\nname = \"public\"\n{ranges}\n{unassigned}\n", file(&[web(1)]))
    };
    bed.write(&pool(""));
    bed.wait_ok();
    assert_eq!(seen(&bed), [1, 1]);
    for vip in vips(77) {
        assert_silent(&bed, SocketAddr::new(vip, WEB));
        let said = crate::ping(&bed.client, vip, "56");
        assert!(said.out.contains("100% packet loss") && !said.out.contains("exceeded"), "{said:?}");
    }
    bed.write(&pool("unassigned = \"reject\""));
    bed.wait_ok();
    assert_eq!(seen(&bed), [1, 1]);
    for vip in vips(77) {
        assert_refused(&bed, SocketAddr::new(vip, WEB));
    }
    bed.write(&pool("unassigned = \"pass\""));
    bed.wait_ok();
    assert!(seen(&bed).iter().all(|&times| times > 30));
    // Addresses of services are theirs, whatever the pool says.
    for to in at(WEB) {
        assert_eq!(bed.ask_tcp(to), 1);
    }
}

#[test]
fn a_service_without_backends_refuses_at_once_or_is_silent() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed);
    let none = web(0).backend_with(1, "state = \"maintenance\"");
    bed.write(&file(std::slice::from_ref(&none)));
    let _netd = bed.start_ok();
    let both = |check: fn(&Bed, std::net::SocketAddr)| {
        for vip in vips(10) {
            check(&bed, SocketAddr::new(vip, WEB));
        }
    };
    // TCP is asked at port 80; UDP there is an unknown port, so at 53.
    for (to, dns) in at(WEB).into_iter().zip(at(crate::DNS)) {
        assert_eq!(try_connect(&bed.client, to), Err(ErrorKind::ConnectionRefused), "{to}");
        assert_eq!(try_datagram(&bed, dns), Err(ErrorKind::ConnectionRefused), "{dns}");
    }
    bed.write(&file(&[none.with("no_backend = \"drop\"")]));
    bed.wait_ok();
    both(assert_silent);
    for dns in at(crate::DNS) {
        assert_eq!(try_datagram(&bed, dns), Err(ErrorKind::WouldBlock), "{dns}");
    }
    bed.write(&file(&[web(1).with("no_backend = \"drop\"")]));
    bed.wait_ok();
    for to in at(WEB) {
        assert_eq!(bed.ask_tcp(to), 1);
    }
}
