//! One kind of packet each.

use etherparse::PacketBuilder;
use netd_bpf::strict::Tunnel;
use netd_bpf::tc::Side::{Egress, Ingress};

use super::model::Why;
use super::{Bed, GENEVE_PORT, MARK, VXLAN_PORT, frame, in_tunnel, udp};
use crate::bed::in_own_world;

const PLAIN: (u16, u16) = (1234, 53);

/// The beginning of WireGuard's data messages.
const DATA: &[u8] = &[4, 0, 0, 0, 7, 7, 7, 7];

#[test]
fn what_is_for_a_listed_destination_does_not_leave_in_clear_wherever_it_comes_from() {
    in_own_world(|root| {
        let mut bed = Bed::new(root, None);
        for (from, to) in [
            ("10.244.1.5", "10.244.2.9"),
            ("198.51.100.1", "10.244.255.255"),
            ("10.0.0.1", "192.0.2.7"),
            ("fd00:244:1::5", "fd00:244:2::9"),
            ("2001:db8::1", "fd00:244:ffff::1"),
            ("2001:db8::1", "::9"),
        ] {
            let frame = frame(&udp(from, to, PLAIN, b"clear"));
            assert_eq!(bed.run(Egress, &frame, 0), Some(Why::OutPlain), "{to}");
        }
        for (from, to) in [
            ("10.244.1.5", "198.51.100.1"),
            ("10.244.1.5", "10.245.0.0"),
            ("10.244.1.5", "192.0.2.6"),
            ("10.244.1.5", "0.0.0.9"),
            ("fd00:244:1::5", "2001:db8::1"),
        ] {
            assert_eq!(bed.run(Egress, &frame(&udp(from, to, PLAIN, b"clear")), 0), None, "{to}");
        }
    });
}

#[test]
fn wireguards_own_packets_leave_also_for_a_listed_destination() {
    in_own_world(|root| {
        let mut bed = Bed::new(root, None);
        let ports = (51_871, 51_871);
        for (from, to) in [("10.0.0.1", "192.0.2.7"), ("2001:db8::1", "fd00:244:9::1")] {
            let encrypted = frame(&udp(from, to, ports, DATA));
            assert_eq!(bed.run(Egress, &encrypted, MARK), None);
            assert_eq!(bed.run(Egress, &encrypted, 0), Some(Why::OutPlain), "not without the mark");
            assert_eq!(bed.run(Egress, &encrypted, MARK | 1), Some(Why::OutPlain), "another mark");
            let clear = frame(&udp(from, to, ports, b"clear, with the mark"));
            assert_eq!(bed.run(Egress, &clear, MARK), Some(Why::OutPlain), "the mark alone is not enough");
        }
        let tcp = PacketBuilder::ipv4([10, 0, 0, 1], [192, 0, 2, 7], 64).tcp(1, 2, 3, 4);
        let mut packet = Vec::new();
        tcp.write(&mut packet, DATA).unwrap();
        assert_eq!(bed.run(Egress, &frame(&packet), MARK), Some(Why::OutPlain));
    });
}

#[test]
fn in_the_tunnel_of_the_nodes_what_is_carried_counts() {
    in_own_world(|root| {
        for tunnel in [Tunnel::Vxlan(VXLAN_PORT), Tunnel::Geneve(GENEVE_PORT)] {
            let mut bed = Bed::new(
                &root.join(format!("{}", u8::from(tunnel == Tunnel::Vxlan(VXLAN_PORT)))),
                Some(tunnel),
            );
            let listed = [
                frame(&udp("10.244.1.5", "10.244.2.9", PLAIN, b"clear")),
                frame(&udp("fd00:244:1::5", "fd00:244:2::9", PLAIN, b"clear")),
            ];
            let other = frame(&udp("198.51.100.9", "198.51.100.1", PLAIN, b"clear"));
            for (from, to) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
                for inner in &listed {
                    let outer = in_tunnel(from, to, tunnel, inner);
                    assert_eq!(bed.run(Egress, &outer, 0), Some(Why::OutTunnel));
                    assert_eq!(bed.run(Ingress, &outer, 0), Some(Why::InTunnel));
                }
                let outer = in_tunnel(from, to, tunnel, &other);
                assert_eq!(bed.run(Egress, &outer, 0), None);
                assert_eq!(bed.run(Ingress, &outer, 0), None);
                // At another port it is nobody's tunnel.
                let elsewhere = match tunnel {
                    Tunnel::Vxlan(port) => Tunnel::Vxlan(port + 1),
                    Tunnel::Geneve(port) => Tunnel::Geneve(port + 1),
                };
                let outer = in_tunnel(from, to, elsewhere, &listed[0]);
                assert_eq!(bed.run(Egress, &outer, 0), None);
            }
        }
    });
}

#[test]
fn what_comes_in_in_clear_from_a_listed_source_is_dropped() {
    in_own_world(|root| {
        let mut bed = Bed::new(root, None);
        for (from, to, why) in [
            ("10.244.2.9", "10.244.1.5", Some(Why::InPlain)),
            ("fd00:244:2::9", "2001:db8::1", Some(Why::InPlain)),
            ("198.51.100.1", "10.244.1.5", None),
            ("192.0.2.7", "10.244.1.5", None),
            ("2001:db8::2", "fd00:244:1::5", None),
        ] {
            assert_eq!(bed.run(Ingress, &frame(&udp(from, to, PLAIN, DATA)), MARK), why, "{from}");
        }
    });
}

#[test]
fn of_a_tunnels_packet_in_fragments_none_leaves() {
    in_own_world(|root| {
        let tunnel = Tunnel::Vxlan(VXLAN_PORT);
        let mut bed = Bed::new(root, Some(tunnel));
        let inner = frame(&udp("10.244.1.5", "10.244.2.9", PLAIN, &[7; 200]));
        let whole = in_tunnel("10.0.0.1", "10.0.0.2", tunnel, &inner);
        let part = |id: u16, flags: u16| {
            let mut part = whole.clone();
            part[18..20].copy_from_slice(&id.to_be_bytes());
            part[20..22].copy_from_slice(&flags.to_be_bytes());
            part
        };
        assert_eq!(bed.run(Egress, &part(7, 0x0010), 0), None, "nobody knows whose");
        assert_eq!(bed.run(Egress, &part(7, 0x2000), 0), Some(Why::OutTunnel));
        assert_eq!(bed.run(Egress, &part(7, 0x2010), 0), Some(Why::OutFragment));
        assert_eq!(bed.run(Egress, &part(7, 0x0020), 0), Some(Why::OutFragment));
        assert_eq!(bed.run(Egress, &part(8, 0x0020), 0), None, "of another packet");
        let whole = in_tunnel("2001:db8::1", "2001:db8::2", tunnel, &inner);
        let part = |id: u32, flags: u16| {
            let mut part = whole.clone();
            part[20] = 44;
            let [a, b] = flags.to_be_bytes();
            part.splice(54..54, [&[17, 0, a, b][..], &id.to_be_bytes()].concat());
            part
        };
        assert_eq!(bed.run(Egress, &part(9, 0x0001), 0), Some(Why::OutTunnel));
        assert_eq!(bed.run(Egress, &part(9, 0x0041), 0), Some(Why::OutFragment));
        assert_eq!(bed.run(Egress, &part(9, 0x0080), 0), Some(Why::OutFragment));
        assert_eq!(bed.run(Egress, &part(10, 0x0080), 0), None);
        assert_eq!(bed.run(Egress, &part(11, 0x0000), 0), Some(Why::OutTunnel), "a fragment that is whole");
    });
}

#[test]
fn neighbours_are_found_also_among_listed_destinations() {
    in_own_world(|root| {
        let mut bed = Bed::new(root, None);
        let icmp = |kind: u8, hops: u8| {
            let from: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
            let to: std::net::Ipv6Addr = "fd00:244:2::9".parse().unwrap();
            let builder = PacketBuilder::ipv6(from.octets(), to.octets(), hops);
            let mut packet = Vec::new();
            builder.icmpv6_raw(kind, 0, [0; 4]).write(&mut packet, &[0; 16]).unwrap();
            frame(&packet)
        };
        for kind in 133..=137 {
            assert_eq!(bed.run(Egress, &icmp(kind, 255), 0), None, "{kind}");
            assert_eq!(bed.run(Egress, &icmp(kind, 64), 0), Some(Why::OutPlain), "forwarded, {kind}");
        }
        for kind in [1, 128, 129, 132, 138] {
            assert_eq!(bed.run(Egress, &icmp(kind, 255), 0), Some(Why::OutPlain), "{kind}");
        }
        let arp = [&[2; 12][..], &[8, 6], &[0; 46]].concat();
        assert_eq!(bed.run(Egress, &arp, 0), None);
        assert_eq!(bed.run(Ingress, &arp, 0), None);
    });
}

/// A frame with these tags of VLANs.
fn tagged(frame: &[u8], tags: &[u16]) -> Vec<u8> {
    let mut tagged = frame.to_vec();
    for tag in tags {
        tagged.splice(12..12, [&[0x81, 0][..], &tag.to_be_bytes()].concat());
    }
    tagged
}

/// A frame of IPv6 with these headers behind that of IP, each of which is this many times eight bytes.
fn extended(frame: &[u8], headers: &[(u8, u8)]) -> Vec<u8> {
    let mut extended = frame.to_vec();
    for (kind, words) in headers.iter().rev() {
        let next = std::mem::replace(&mut extended[20], *kind);
        let padding = vec![0; usize::from(*words) * 8 - 2];
        extended.splice(54..54, [&[next, words - 1][..], &padding].concat());
    }
    extended
}

#[test]
fn tags_of_vlans_hide_nothing_neither_around_the_tunnel_nor_in_it() {
    in_own_world(|root| {
        let tunnel = Tunnel::Vxlan(VXLAN_PORT);
        let mut bed = Bed::new(root, Some(tunnel));
        let plain = frame(&udp("10.244.2.9", "10.244.3.5", PLAIN, b"clear"));
        let other = frame(&udp("198.51.100.9", "198.51.100.1", PLAIN, b"clear"));
        // What has no more than four tags is looked through, and what has more is nobody's.
        for (tags, is_let_through) in
            [(&[0][..], true), (&[0, 0], true), (&[0, 5, 0, 0], true), (&[0; 5], false)]
        {
            let inside = in_tunnel("10.0.0.2", "10.0.0.1", tunnel, &tagged(&plain, tags));
            assert_eq!(bed.run(Ingress, &inside, 0), Some(Why::InTunnel), "{tags:?}");
            assert_eq!(bed.run(Egress, &inside, 0), Some(Why::OutTunnel), "{tags:?}");
            assert_eq!(bed.run(Ingress, &tagged(&plain, tags), 0), Some(Why::InPlain), "{tags:?}");
            assert_eq!(bed.run(Egress, &tagged(&plain, tags), 0), Some(Why::OutPlain), "{tags:?}");
            let inside = in_tunnel("10.0.0.2", "10.0.0.1", tunnel, &plain);
            let why = if is_let_through { Why::InTunnel } else { Why::InPlain };
            assert_eq!(bed.run(Ingress, &tagged(&inside, tags), 0), Some(why), "{tags:?}");
            let inside = in_tunnel("10.0.0.2", "10.0.0.1", tunnel, &tagged(&other, tags));
            let why = (!is_let_through).then_some(Why::InTunnel);
            assert_eq!(bed.run(Ingress, &inside, 0), why, "{tags:?}");
        }
    });
}

#[test]
fn headers_behind_that_of_ipv6_hide_no_tunnel() {
    in_own_world(|root| {
        let tunnel = Tunnel::Vxlan(VXLAN_PORT);
        let mut bed = Bed::new(root, Some(tunnel));
        let of_pods = frame(&udp("10.244.2.9", "10.244.3.5", PLAIN, b"clear"));
        let other = frame(&udp("198.51.100.9", "198.51.100.1", PLAIN, b"clear"));
        let (hops, routing, options) = (0, 43, 60);
        for (headers, is_let_through) in [
            (&[(options, 1)][..], true),
            (&[(hops, 1), (options, 3), (routing, 2)], true),
            (&[(options, 1); 8], true),
            (&[(options, 1); 10], false),
        ] {
            let inside =
                |inner: &[u8]| extended(&in_tunnel("2001:db8::2", "2001:db8::1", tunnel, inner), headers);
            assert_eq!(bed.run(Ingress, &inside(&of_pods), 0), Some(Why::InTunnel), "{headers:?}");
            assert_eq!(bed.run(Egress, &inside(&of_pods), 0), Some(Why::OutTunnel), "{headers:?}");
            let why = (!is_let_through).then_some(Why::InTunnel);
            assert_eq!(bed.run(Ingress, &inside(&other), 0), why, "{headers:?}");
        }
        // Neither do they make a neighbour of what is none.
        let from: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
        let to: std::net::Ipv6Addr = "fd00:244:2::9".parse().unwrap();
        let mut solicitation = Vec::new();
        let builder = PacketBuilder::ipv6(from.octets(), to.octets(), 255);
        builder.icmpv6_raw(135, 0, [0; 4]).write(&mut solicitation, &[0; 16]).unwrap();
        let hidden = extended(&frame(&solicitation), &[(options, 1)]);
        assert_eq!(bed.run(Egress, &hidden, 0), Some(Why::OutPlain));
    });
}

#[test]
fn a_first_fragment_that_ends_before_what_is_carried_goes_nowhere_and_its_rest_neither() {
    in_own_world(|root| {
        for (number, tunnel) in
            [Tunnel::Vxlan(VXLAN_PORT), Tunnel::Geneve(GENEVE_PORT)].into_iter().enumerate()
        {
            let mut bed = Bed::new(&root.join(number.to_string()), Some(tunnel));
            let inner = frame(&udp("10.244.1.5", "10.244.2.9", PLAIN, &[7; 200]));
            let whole = in_tunnel("10.0.0.1", "10.0.0.2", tunnel, &inner);
            let cut = |id: u16, flags: u16, bytes: usize| {
                let mut part = whole.clone();
                part[18..20].copy_from_slice(&id.to_be_bytes());
                part[20..22].copy_from_slice(&flags.to_be_bytes());
                part.truncate(14 + 20 + bytes);
                part
            };
            // From UDP's header alone to the last byte before the addresses are whole.
            for (id, bytes) in (1..).zip([8, 16, 24, 32, 40]) {
                assert_eq!(bed.run(Ingress, &cut(id, 0x2000, bytes), 0), Some(Why::InTunnel), "{bytes}");
                assert_eq!(bed.run(Egress, &cut(id, 0x2000, bytes), 0), Some(Why::OutTunnel), "{bytes}");
                assert_eq!(bed.run(Egress, &cut(id, 0x0001, 200), 0), Some(Why::OutFragment), "{bytes}");
            }
            // Of IPv6 even UDP's header may be in the rest.
            let whole = in_tunnel("2001:db8::1", "2001:db8::2", tunnel, &inner);
            let mut first = extended(&whole, &[(60, 1)]);
            let next = std::mem::replace(&mut first[20], 44);
            first.splice(54..54, [next, 0, 0, 1, 0, 0, 0, 9]);
            first.truncate(14 + 40 + 8 + 8);
            assert_eq!(bed.run(Ingress, &first, 0), Some(Why::InTunnel));
            assert_eq!(bed.run(Egress, &first, 0), Some(Why::OutTunnel));
            let mut rest = whole.clone();
            rest[20] = 44;
            rest.splice(54..54, [60, 0, 0, 8, 0, 0, 0, 9]);
            assert_eq!(bed.run(Egress, &rest, 0), Some(Why::OutFragment));
        }
    });
}
