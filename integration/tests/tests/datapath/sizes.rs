//! Paths that are too narrow for the tunnel: clients are told and adapt, and nothing stalls.

use crate::{DNS, WEB, assert_sound, at, servers, web, with};
use netd_integration_tests::bed::device_to;
use netd_integration_tests::capture::Recording;
use netd_integration_tests::desired::file;
use netd_integration_tests::echo::{Servers, exchange};
use netd_integration_tests::netd::Daemon;
use netd_integration_tests::{Bed, Lab};
use std::net::UdpSocket;
use std::time::Duration;

const TRANSFER_BYTES: usize = 4 << 20;

/// A transfer through namespaces takes a fraction of it, unless it stalls; a busy machine is slower.
const TRANSFER_MAX: Duration = Duration::from_secs(30);

/// A bed with room for a full packet of the client, but not for the tunnel's header around it; servers are in it, and
/// netd with the file.
fn narrow(lab: &Lab, backends: usize, text: &str) -> (Bed, Servers, Daemon) {
    let bed = Bed::new(lab, backends);
    for (backend, number) in bed.backends.iter().zip(1..) {
        bed.lb.ip(&["link", "set", &device_to(number), "mtu", "1500"]);
        backend.ip(&["link", "set", "eth0", "mtu", "1500"]);
    }
    let servers = servers(&bed);
    bed.write(text);
    let netd = bed.start_ok();
    (bed, servers, netd)
}

/// What the client believes about its path to a VIP.
fn learned(bed: &Bed, vip: &str) -> String {
    bed.client.ip(&["route", "get", vip])
}

#[test]
fn large_transfers_go_both_ways_after_the_client_was_told_the_size() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers, _netd) = narrow(&lab, 2, &file(&[web(2)]));
    let recording = Recording::start(&bed, &bed.client, "eth0", "icmp or icmp6");
    for (to, mtu) in at(WEB).into_iter().zip(["mtu 1480", "mtu 1460"]) {
        let (stream, _) = bed.connect(to).unwrap();
        let took = exchange(&stream, TRANSFER_BYTES).unwrap();
        assert!(took < TRANSFER_MAX, "{to} took {took:?}");
        let route = learned(&bed, &to.ip().to_string());
        assert!(route.contains(mtu), "{to}: {route}");
    }
    let told = recording.end();
    assert_sound(&told);
    let v4 = with(&told, &["192.0.2.10 > 10.1.2.3: ICMP", "need to frag (mtu 1480)"]);
    let v6 = with(&told, &["2001:db8:100::10 > 2001:db8::1", "packet too big, mtu 1460"]);
    assert!(!v4.is_empty() && !v6.is_empty(), "{told:#?}");
}

/// A datagram with DF is lost and its sender told; those behind it come in fragments that fit.
#[test]
fn a_datagram_that_is_too_large_teaches_its_sender() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers, _netd) = narrow(&lab, 2, &file(&[web(2)]));
    for (to, payload) in at(DNS).into_iter().zip([1472, 1452]) {
        let socket = bed.client_udp(0, to);
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut answers = 0;
        for _ in 0..4 {
            answers += usize::from(is_echoed(&socket, payload));
        }
        assert!(answers >= 3, "{to}: {answers} of 4 were answered, {}", learned(&bed, &to.ip().to_string()));
        assert!(answers == 3, "{to}: the first was too large, and answered");
        // What fits is sent whole.
        assert!(is_echoed(&socket, payload - 100), "{to}");
    }
}

fn is_echoed(socket: &UdpSocket, payload: usize) -> bool {
    // An error belongs to the datagram before.
    while socket.send(&vec![7; payload]).is_err() {}
    let mut buffer = [0; 2048];
    socket.recv(&mut buffer).is_ok_and(|length| length == payload + 1)
}

#[test]
fn an_ipv4_packet_that_may_be_fragmented_is_dropped_without_a_word() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers, _netd) = narrow(&lab, 1, &file(&[web(1)]));
    bed.client.sysctl("net/ipv4/ip_no_pmtu_disc", "1");
    let recording = Recording::start(&bed, &bed.client, "eth0", "icmp");
    let socket = bed.client_udp(0, at(DNS)[0]);
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(!is_echoed(&socket, 1472));
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(is_echoed(&socket, 1400));
    assert_eq!(recording.end(), Vec::<String>::new());
}

/// Without errors there is no discovery: this is why the limit is not 0 by default.
#[test]
fn no_errors_are_made_with_a_limit_of_zero() {
    let Some(lab) = Lab::new() else { return };
    let text = file(&[web(1)]).replace("[load_balancer]", "[load_balancer]\nicmp_errors_per_second = 0");
    let (bed, _servers, _netd) = narrow(&lab, 1, &text);
    let recording = Recording::start(&bed, &bed.client, "eth0", "icmp or (icmp6 and ip6[40] < 128)");
    for (to, payload) in at(DNS).into_iter().zip([1472, 1452]) {
        let socket = bed.client_udp(0, to);
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(!is_echoed(&socket, payload) && !is_echoed(&socket, payload));
    }
    assert_eq!(recording.end(), Vec::<String>::new());
}
