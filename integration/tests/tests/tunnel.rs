//! The tunnel's header, as a backend that does not take it off sees it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use netd_integration_tests::bed::{
    CLIENT_V4, CLIENT_V6, TUNNEL_V4, TUNNEL_V6, backend_v4, backend_v6, vip_v4, vip_v6,
};
use netd_integration_tests::capture::{Capture, Captured};
use netd_integration_tests::desired::{Service, file_with};
use netd_integration_tests::{Arrival, Bed, Lab};
use rustix::net::sockopt::{set_ip_tos, set_ipv6_tclass};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const PAYLOAD: &[u8] = b"what is inside stays as it is";

/// Expedited forwarding, and a transport that understands congestion marks.
const TOS: u8 = 0xb8 | 0b10;

/// Captures what arrives at a backend when the client sends one packet of UDP to the VIP's port 53.
fn captured(lab: &Lab, more: &str, vip: IpAddr) -> Captured {
    let bed = Bed::with(lab, &[Arrival::Leave]);
    let service = Service::new("dns", 10).port("udp", 53, 5353).backend(1);
    bed.write(&file_with(&format!("devices = [\"eth0\"]\n{more}"), &[service]));
    let _netd = bed.start_ok();
    let filter = if vip.is_ipv4() { "ip proto 4" } else { "ip6 proto 41" };
    let capture = Capture::first(&bed, &bed.backends[0], filter);
    let socket = bed.client_udp(12345, SocketAddr::new(vip, 53));
    match vip {
        IpAddr::V4(_) => set_ip_tos(&socket, TOS).unwrap(),
        IpAddr::V6(_) => set_ipv6_tclass(&socket, u32::from(TOS)).unwrap(),
    }
    socket.send(PAYLOAD).unwrap();
    capture.wait()
}

/// The inner packet's transport: the port is rewritten, the checksum is right for it, the rest is the client's.
fn check_udp(inner: &SlicedPacket<'_>, is_ipv4: bool) {
    let Some(TransportSlice::Udp(udp)) = &inner.transport else { panic!("no UDP: {inner:?}") };
    assert_eq!((udp.source_port(), udp.destination_port(), udp.payload()), (12345, 5353, PAYLOAD));
    let header = udp.to_header();
    let sum = match (&inner.net, is_ipv4) {
        (Some(NetSlice::Ipv4(ip)), true) => header.calc_checksum_ipv4(&ip.header().to_header(), PAYLOAD),
        (Some(NetSlice::Ipv6(ip)), false) => header.calc_checksum_ipv6(&ip.header().to_header(), PAYLOAD),
        other => panic!("{other:?}"),
    };
    assert_eq!(udp.checksum(), sum.unwrap());
}

#[test]
fn an_ipv4_packet_is_put_into_ipip() {
    let Some(lab) = Lab::new() else { return };
    let Captured { frame, text } = captured(&lab, "", vip_v4(10));
    let (outer, inner) = (&frame[14..34], &frame[34..]);
    assert_eq!(outer[0], 0x45);
    assert_eq!(outer[1], TOS);
    assert_eq!(u16::from_be_bytes([outer[2], outer[3]]) as usize, frame.len() - 14);
    assert_eq!(outer[4..8], inner[4..8], "identification and fragment bits are the inner packet's");
    assert_eq!(outer[6] & 0x40, 0x40, "DF");
    assert_eq!(outer[8..10], [64, 4]);
    assert_eq!(outer[12..16], TUNNEL_V4.parse::<std::net::Ipv4Addr>().unwrap().octets());
    assert_eq!(outer[16..20], backend_v4(1).octets());
    let ip = SlicedPacket::from_ip(inner).unwrap();
    let Some(NetSlice::Ipv4(header)) = &ip.net else { panic!("{ip:?}") };
    let header = header.header().to_header();
    assert_eq!(header.source, CLIENT_V4.parse::<std::net::Ipv4Addr>().unwrap().octets());
    assert_eq!(IpAddr::from(header.destination), vip_v4(10));
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    check_udp(&ip, true);
    for words in
        ["tos 0xba", "ttl 64", "flags [DF]", "proto IPIP (4)", "10.0.0.254 > 10.0.0.1", "[udp sum ok]"]
    {
        assert!(text.contains(words), "tcpdump does not see {words}: {text}");
    }
    assert!(!text.contains("bad cksum"), "{text}");
}

#[test]
fn an_ipv6_packet_is_put_into_ip6ip6() {
    let Some(lab) = Lab::new() else { return };
    let Captured { frame, text } = captured(&lab, "", vip_v6(10));
    let (outer, inner) = (&frame[14..54], &frame[54..]);
    assert_eq!(outer[..4], inner[..4], "version, traffic class and flow label are the inner packet's");
    assert_eq!((outer[0] << 4 | outer[1] >> 4), TOS);
    assert_eq!(u16::from_be_bytes([outer[4], outer[5]]) as usize, inner.len());
    assert_eq!(outer[6..8], [41, 64]);
    assert_eq!(outer[8..24], TUNNEL_V6.parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!(outer[24..40], backend_v6(1).octets());
    let ip = SlicedPacket::from_ip(inner).unwrap();
    let Some(NetSlice::Ipv6(header)) = &ip.net else { panic!("{ip:?}") };
    let header = header.header().to_header();
    assert_eq!(header.source, CLIENT_V6.parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!(IpAddr::from(header.destination), vip_v6(10));
    check_udp(&ip, false);
    for words in ["class 0xba", "hlim 64", "next-header IPv6 (41)", "fd00::fe > fd00::1", "[udp sum ok]"] {
        assert!(text.contains(words), "tcpdump does not see {words}: {text}");
    }
}

/// The address that Cilium's function picks for a packet of this client to port 80.
#[test]
fn the_outer_source_is_picked_from_a_prefix_as_known_answers_say() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::with(&lab, &[Arrival::Leave]);
    let rss = "devices = [\"eth0\"]\nrss_source = [\"10.9.0.0/16\", \"f00d::/64\"]";
    bed.write(&file_with(rss, &[Service::new("web", 10).port("tcp", 80, 80).backend(1)]));
    let _netd = bed.start_ok();
    for (vip, filter, expected) in
        [(vip_v4(10), "ip proto 4", "10.9.22.91"), (vip_v6(10), "ip6 proto 41", "f00d::2b7e:fc50:727e:fc50")]
    {
        let capture = Capture::first(&bed, &bed.backends[0], filter);
        // Nobody answers: the backend leaves the tunnel as it is.
        assert!(bed.connect_from(12345, SocketAddr::new(vip, 80)).is_err());
        let Captured { frame, text } = capture.wait();
        let source: IpAddr = match vip {
            IpAddr::V4(_) => IpAddr::from(<[u8; 4]>::try_from(&frame[26..30]).unwrap()),
            IpAddr::V6(_) => IpAddr::from(<[u8; 16]>::try_from(&frame[22..38]).unwrap()),
        };
        assert_eq!(source, expected.parse::<IpAddr>().unwrap());
        assert!(!text.contains("bad cksum"), "{text}");
    }
}
