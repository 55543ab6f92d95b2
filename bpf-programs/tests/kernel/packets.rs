//! What goes in and what comes out, case by case.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{Ipv4Header, Ipv6FlowLabel, Ipv6Header, NetSlice, SlicedPacket};
use netd_bpf::Verdict;
use netd_bpf::abi::{IN_USE, TCP, UDP};

use crate::bed::{
    BALANCER_MAC, Bed, NEXT_HOP_MAC, Tuple, backend_v4, fix_ipv4, in_own_world, key, number_of, numbered_v4,
    numbered_v6,
};
use crate::reference::Service;
use crate::reference::checksum::are_right;

pub const VIP: &str = "192.0.2.10";
pub const VIP6: &str = "2001:db8:100::10";
pub const V4: Tuple<'static> = Tuple("10.1.2.3", 12345, VIP, 80);
pub const V6: Tuple<'static> = Tuple("2001:db8::1", 12345, VIP6, 80);

/// TCP and UDP on port 80 of both VIPs, one backend each, whose port is `port`.
pub fn four_services(bed: &mut Bed, port: u16) {
    for protocol in [TCP, UDP] {
        let mut v4 = numbered_v4(1);
        let mut v6 = numbered_v6(1);
        v4[0].port = port.to_be_bytes();
        v6[0].port = port.to_be_bytes();
        bed.add(Service::new(key(VIP, 80, protocol), vec![0; 251], v4));
        bed.add(Service::new(key(VIP6, 80, protocol), vec![0; 251], v6));
    }
}

#[test]
fn a_packet_for_a_vip_is_tunnelled_and_the_inner_one_stays_as_it_was() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 0);
        for frame in
            [V4.tcp(b"hello"), V4.udp(b"hello"), V6.tcp(b"hello"), V6.udp(b"hello"), V4.syn(), V6.syn()]
        {
            let (verdict, out) = bed.run(&frame);
            assert_eq!(verdict, Verdict::Transmit);
            assert_eq!(out[..12], [NEXT_HOP_MAC, BALANCER_MAC].concat());
            assert_eq!(out[out.len() - frame.len() + 14..], frame[14..]);
        }
    });
}

#[test]
fn the_outer_ipv4_header_copies_tos_id_and_df() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 0);
        let mut frame = V4.tcp(b"x");
        frame[15] = 0xb9;
        frame[18..20].copy_from_slice(&[0xab, 0xcd]);
        for df in [0x00, 0x40] {
            frame[20] = df;
            fix_ipv4(&mut frame);
            let (_, out) = bed.run(&frame);
            let (outer, _) = Ipv4Header::from_slice(&out[14..]).unwrap();
            assert_eq!((outer.dscp.value(), outer.ecn.value()), (0xb9 >> 2, 0xb9 & 3));
            assert_eq!(
                (outer.identification, outer.dont_fragment, outer.time_to_live),
                (0xabcd, df != 0, 64)
            );
            assert_eq!(outer.total_len as usize, frame.len() - 14 + 20);
            assert_eq!(outer.header_checksum, outer.calc_header_checksum());
        }
    });
}

#[test]
fn the_outer_ipv6_header_copies_traffic_class_and_flow_label() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 0);
        let mut frame = V6.udp(b"x");
        frame[14..18].copy_from_slice(&[0x6b, 0x9a, 0xbc, 0xde]);
        let (_, out) = bed.run(&frame);
        let (outer, _) = Ipv6Header::from_slice(&out[14..]).unwrap();
        assert_eq!(
            (outer.traffic_class, outer.flow_label),
            (0xb9, Ipv6FlowLabel::try_new(0xa_bcde).unwrap())
        );
        assert_eq!((outer.next_header.0, outer.hop_limit, outer.payload_length), (41, 64, 49));
    });
}

#[test]
fn a_backends_port_is_written_and_checksums_stay_right() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 8080);
        for payload in [&b""[..], b"a", b"hello world"] {
            for frame in [V4.tcp(payload), V4.udp(payload), V6.tcp(payload), V6.udp(payload)] {
                let (verdict, out) = bed.run(&frame);
                assert_eq!(verdict, Verdict::Transmit);
                let inner = [&frame[..14], &out[out.len() - frame.len() + 14..]].concat();
                let sliced = SlicedPacket::from_ethernet(&inner).unwrap();
                let port = match sliced.transport.unwrap() {
                    etherparse::TransportSlice::Tcp(tcp) => tcp.destination_port(),
                    etherparse::TransportSlice::Udp(udp) => udp.destination_port(),
                    other => panic!("{other:?}"),
                };
                assert_eq!(port, 8080);
                assert!(are_right(&inner));
            }
        }
    });
}

#[test]
fn x13_a_udp_packet_without_checksum_stays_without() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 8080);
        let mut frame = V4.udp(b"hello");
        frame[40..42].fill(0);
        let (_, out) = bed.run(&frame);
        assert_eq!(out[60..62], [0, 0]);
    });
}

#[test]
fn x13_a_udp_checksum_that_becomes_zero_is_written_as_all_ones() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 8080);
        let mut zeros = 0;
        for filler in 0..=u16::MAX {
            let frame = V4.udp(&filler.to_be_bytes());
            let sum = u32::from(u16::from_be_bytes([frame[40], frame[41]]));
            // Only the fillers near the one that makes it zero are worth a run.
            let after = (sum + 80 + 0xffff - 8080) % 0xffff;
            if (3..0xfffc).contains(&after) {
                continue;
            }
            let (_, out) = bed.run(&frame);
            zeros += u32::from(out[60..62] == [0xff, 0xff]);
            assert_ne!(out[60..62], [0, 0]);
        }
        assert!(zeros >= 1);
    });
}

#[test]
fn the_slot_is_that_of_the_published_hash() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut every = Service::new(key(VIP, 80, TCP), (0..16381).collect(), numbered_v4(16381));
        every.wide = true;
        bed.add(every);
        for (port, slot) in [(12345, 8056), (12346, 4598)] {
            let (_, out) = bed.run(&Tuple("10.1.2.3", port, VIP, 80).tcp(b""));
            assert_eq!(number_of(&out), slot);
        }
    });
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(Service::new(key(VIP, 443, TCP), (0..251).collect(), numbered_v4(251)));
        bed.add(Service::new(key("192.0.2.11", 80, TCP), (0..251).collect(), numbered_v4(251)));
        let (_, out) = bed.run(&Tuple("203.0.113.7", 53124, VIP, 443).tcp(b""));
        assert_eq!(number_of(&out), 139);
        let (_, out) = bed.run(&Tuple("10.1.2.3", 12345, "192.0.2.11", 80).tcp(b""));
        assert_eq!(number_of(&out), 148);
        let mut v6 = Service::new(key(VIP6, 80, TCP), (0..16381).collect(), numbered_v6(16381));
        (v6.wide, v6.seed) = (true, 0x9250_5688);
        bed.add(v6);
        let (_, out) = bed.run(&V6.tcp(b""));
        assert_eq!(number_of(&out), 10504);
    });
}

#[test]
fn the_outer_source_is_that_of_the_published_hash() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let with = |prefix: [u8; 4], bits: u8| {
            let mut backend = backend_v4(prefix, [10, 1, 0, 2], 0);
            backend.source_bits = bits;
            vec![backend]
        };
        bed.add(Service::new(key(VIP, 80, TCP), vec![0; 251], with([10, 9, 0, 0], 16)));
        bed.add(Service::new(key("192.0.2.11", 80, TCP), vec![0; 251], with([10, 9, 8, 0], 8)));
        bed.add(Service::new(key(VIP, 443, TCP), vec![0; 251], with([10, 9, 0, 0], 16)));
        for (tuple, expected) in [
            (V4, [10, 9, 22, 91]),
            (Tuple("10.1.2.3", 12346, VIP, 80), [10, 9, 111, 238]),
            (Tuple("10.1.2.3", 12345, "192.0.2.11", 80), [10, 9, 8, 22]),
            (Tuple("203.0.113.7", 53124, VIP, 443), [10, 9, 207, 110]),
        ] {
            let (_, out) = bed.run(&tuple.tcp(b""));
            assert_eq!(out[26..30], expected);
            let (outer, _) = Ipv4Header::from_slice(&out[14..]).unwrap();
            assert_eq!(outer.header_checksum, outer.calc_header_checksum());
        }
        for (k, (bits, expected)) in
            [(32, "f00d::727e:fc50"), (48, "f00d::2b7e:727e:fc50"), (64, "f00d::2b7e:fc50:727e:fc50")]
                .into_iter()
                .enumerate()
        {
            let mut backends = numbered_v6(1);
            backends[0].source = "f00d::".parse::<Ipv6Addr>().unwrap().octets();
            backends[0].source_bits = bits;
            let vip = format!("2001:db8:100::{k}");
            bed.add(Service::new(key(&vip, 80, TCP), vec![0; 251], backends));
            let (_, out) = bed.run(&Tuple("2001:db8::1", 12345, &vip, 80).tcp(b""));
            let source: [u8; 16] = out[22..38].try_into().unwrap();
            assert_eq!(Ipv6Addr::from(source).to_string(), expected);
        }
    });
}

#[test]
fn the_outer_source_is_of_the_port_that_the_client_asked_for() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut backend = backend_v4([10, 9, 0, 0], [10, 1, 0, 2], 0);
        (backend.source_bits, backend.port) = (16, 8080u16.to_be_bytes());
        bed.add(Service::new(key(VIP, 80, TCP), vec![0; 251], vec![backend]));
        let (_, out) = bed.run(&V4.tcp(b""));
        assert_eq!(Ipv4Addr::from(<[u8; 4]>::try_from(&out[26..30]).unwrap()), Ipv4Addr::new(10, 9, 22, 91));
    });
}

#[test]
fn another_device_gets_the_packet_redirected() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut backends = numbered_v4(1);
        backends[0].ifindex = 7;
        bed.add(Service::new(key(VIP, 80, TCP), vec![0; 251], backends));
        assert_eq!(bed.run(&V4.tcp(b"")).0, Verdict::Redirect);
    });
}

#[test]
fn k28_a_backend_whose_next_hop_is_unknown_gets_nothing_and_that_is_counted() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut backends = numbered_v4(1);
        backends[0].flags = IN_USE;
        bed.add(Service::new(key(VIP, 80, TCP), vec![0; 251], backends));
        assert_eq!(bed.run(&V4.tcp(b"")).0, Verdict::Drop);
        assert_eq!(bed.maps().service_counter(0).unwrap().no_next_hop, 1);
        assert_eq!(bed.maps().counter(0).unwrap().packets, 0);
    });
}

#[test]
fn a_service_without_backends_drops_and_that_is_counted() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(Service::new(key(VIP, 80, TCP), vec![], numbered_v4(1)));
        bed.add(Service::new(key(VIP6, 80, TCP), vec![], vec![]));
        bed.add(Service::new(key(VIP, 81, TCP), vec![9; 251], numbered_v4(1)));
        assert_eq!(bed.run(&V4.tcp(b"")).0, Verdict::Drop);
        assert_eq!(bed.run(&V6.tcp(b"")).0, Verdict::Drop);
        assert_eq!(bed.run(&Tuple("10.1.2.3", 1, VIP, 81).tcp(b"")).0, Verdict::Drop);
        for service in 0..3 {
            assert_eq!(bed.maps().service_counter(service).unwrap().no_backend, 1);
        }
    });
}

#[test]
fn packets_and_bytes_are_those_of_the_client() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 8080);
        let frames = [V4.tcp(b"hello"), V6.udp(b"hello"), V4.syn()];
        let bytes: usize = frames.iter().map(|frame| frame.len() - 14).sum();
        for frame in &frames {
            bed.run(frame);
        }
        let counter = bed.maps().counter(0).unwrap();
        assert_eq!((counter.packets, counter.bytes), (3, bytes as u64));
        let sliced = SlicedPacket::from_ethernet(&frames[0]).unwrap();
        let Some(NetSlice::Ipv4(ip)) = sliced.net else { panic!("IPv4") };
        assert_eq!(ip.header().total_len() as usize, frames[0].len() - 14);
    });
}
