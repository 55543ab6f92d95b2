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
