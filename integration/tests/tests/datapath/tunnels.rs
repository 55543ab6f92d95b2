//! The tunnel's headers by tcpdump's reading, and backends that take them off.

use crate::{DNS, WEB, assert_sound, at, servers, web};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use netd_integration_tests::bed::vips;
use netd_integration_tests::capture::{Capture, Captured};
use netd_integration_tests::desired::{file, file_with};
use netd_integration_tests::echo::exchange;
use netd_integration_tests::{Arrival, Bed, Lab};
use rustix::net::sockopt::{set_ip_tos, set_ipv6_tclass};
use std::net::{IpAddr, SocketAddr};

/// Expedited forwarding, and a transport that understands congestion marks.
const TOS: u8 = 0xb8 | 0b10;

/// The first tunnelled packet that arrives at a backend that leaves it as it is.
fn captured(bed: &Bed, vip: IpAddr, filter: &str) -> Captured {
    let capture = Capture::first(bed, &bed.backends[0], filter);
    let socket = bed.client_udp(12345, SocketAddr::new(vip, DNS));
    match vip {
        IpAddr::V4(_) => set_ip_tos(&socket, TOS).unwrap(),
        IpAddr::V6(_) => set_ipv6_tclass(&socket, u32::from(TOS)).unwrap(),
    }
    socket.send(b"inside").unwrap();
    let captured = capture.wait();
    // The checksum of the outer UDP header is zero, as RFC 6935 allows for tunnels.
    assert_sound(&[captured.text.replace("[bad udp cksum 0x0000", "")]);
    captured
}

#[test]
fn outer_headers_have_what_the_file_says() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::with(&lab, &[Arrival::Leave]);
    bed.write(&file(&[web(1)]));
    let _netd = bed.start_ok();
    for (settings, v4, v6) in [
        ("", "(tos 0xba,ECT(0), ttl 64,", "(class 0xba, flowlabel "),
        ("hop_limit = 17", "(tos 0xba,ECT(0), ttl 17,", "hlim 17, next-header IPv6 (41)"),
        ("outer_dscp = 10", "(tos 0x2a,ECT(0), ttl 64,", "(class 0x2a, flowlabel "),
        ("outer_ecn = \"clear\"", "(tos 0xb8, ttl 64,", "(class 0xb8, flowlabel "),
        (
            "outer_dscp = 0\nouter_ecn = \"clear\"\nhop_limit = 255",
            "(tos 0x0, ttl 255,",
            "hlim 255, next-header IPv6 (41)",
        ),
    ] {
        bed.write(&file_with(&format!("devices = [\"eth0\"]\n{settings}"), &[web(1)]));
        bed.wait_ok();
        let [first, second] = vips(10).map(|vip| captured(&bed, vip, "ip proto 4 or ip6 proto 41").text);
        assert!(first.contains(v4), "{settings}: not {v4} in {first}");
        assert!(second.contains(v6), "{settings}: not {v6} in {second}");
        // The inner header is the client's.
        assert!(
            first.matches("tos 0xba").count() >= 1 && second.matches("class 0xba").count() >= 1,
            "{first}{second}"
        );
        assert!(second.matches("flowlabel").count() != 1, "one label is lost: {second}");
    }
}

#[test]
fn backends_of_one_family_serve_the_vips_of_both() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let _servers = servers(&bed);
    for family in ["ipv4", "ipv6", "same"] {
        bed.write(&file(&[web(2).with(&format!("backend_family = \"{family}\""))]));
        let _netd = bed.start_ok();
        for to in at(WEB) {
            let answered: std::collections::BTreeSet<u8> = (0..20).map(|_| bed.ask_tcp(to)).collect();
            assert_eq!(answered.len(), 2, "{family}, {to}");
            exchange(&bed.connect(to).unwrap().0, 1 << 20).unwrap();
        }
        for to in at(DNS) {
            assert!(bed.ask_udp(to).is_some(), "{family}, {to}");
        }
    }
}

#[test]
fn families_cross_in_headers_that_tcpdump_reads() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::with(&lab, &[Arrival::Leave]);
    for (family, vip, filter, expected) in [
        ("ipv4", vips(10)[1], "ip proto 41", "10.0.0.254 > 10.0.0.1: IP6 (class 0xba"),
        ("ipv6", vips(10)[0], "ip6 proto 4", "fd00::fe > fd00::1: IP (tos 0xba"),
    ] {
        bed.write(&file(&[web(1).with(&format!("backend_family = \"{family}\""))]));
        let _netd = bed.start_ok();
        let text = captured(&bed, vip, filter).text;
        assert!(text.contains(expected) && text.contains("[udp sum ok]"), "{family}: {text}");
    }
}

/// GUE, variant 1: after UDP comes the inner IP header at once. tcpdump reads the outer headers, and another library
/// what is in them.
#[test]
fn gue_is_udp_around_the_clients_packet() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::with(&lab, &[Arrival::Leave]);
    for (settings, port) in [("", 6080), ("gue_port = 7777", 7777)] {
        let settings = format!("devices = [\"eth0\"]\n{settings}");
        bed.write(&file_with(&settings, &[web(1).with("mode = \"dsr-gue\"")]));
        let _netd = bed.start_ok();
        for (vip, ends) in vips(10).into_iter().zip(["10.0.0.254.", "fd00::fe."]) {
            let Captured { frame, text } = captured(&bed, vip, &format!("udp dst port {port}"));
            let to = if vip.is_ipv4() { "10.0.0.1" } else { "fd00::1" };
            assert!(text.contains(ends) && text.contains(&format!("> {to}.{port}: ")), "{text}");
            let outer = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(TransportSlice::Udp(udp)) = &outer.transport else { panic!("{text}") };
            assert!(udp.source_port() >= 0xc000, "{text}");
            let inner = SlicedPacket::from_ip(udp.payload()).unwrap();
            let Some(TransportSlice::Udp(client)) = &inner.transport else { panic!("{inner:?}") };
            assert_eq!((client.source_port(), client.payload()), (12345, &b"inside"[..]));
            let sum = match inner.net.as_ref().unwrap() {
                NetSlice::Ipv4(ip) => {
                    client.to_header().calc_checksum_ipv4(&ip.header().to_header(), b"inside")
                }
                NetSlice::Ipv6(ip) => {
                    client.to_header().calc_checksum_ipv6(&ip.header().to_header(), b"inside")
                }
                NetSlice::Arp(_) => panic!("{inner:?}"),
            };
            assert_eq!(client.checksum(), sum.unwrap());
        }
    }
}
