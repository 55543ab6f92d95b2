//! Packets that are not quite what they should be, or not for the load balancer.

use etherparse::PacketBuilder;
use netd_bpf::Verdict;
use netd_bpf::abi::{TCP, UDP};

use crate::bed::{
    BALANCER_MAC, Bed, CLIENT_MAC, Tuple, fix_ipv4, in_own_world, key, numbered_v4, numbered_v6,
};
use crate::packets::{V4, V6, VIP, VIP6, four_services};
use crate::reference::Service;

#[test]
fn x3_ip_options_are_carried_along_and_the_outer_header_has_none() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 8080);
        for options in [4, 8, 20, 40] {
            let mut frame = V4.tcp(b"hello");
            frame.splice(34..34, vec![1; options]);
            frame[14] = 0x45 + (options / 4) as u8;
            frame[17] += options as u8;
            fix_ipv4(&mut frame);
            let (verdict, out) = bed.run(&frame);
            assert_eq!(verdict, Verdict::Transmit);
            assert_eq!(out[14], 0x45);
        }
    });
}

#[test]
fn x6_fragments_pass_untouched() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 8080);
        for (flags, low) in [(0x20, 0), (0x20, 185), (0, 185), (0x60, 0), (0, 1)] {
            let mut frame = V4.udp(b"hello");
            frame[20..22].copy_from_slice(&[flags, low]);
            fix_ipv4(&mut frame);
            bed.passes(&frame);
        }
    });
}

#[test]
fn x3_lengths_that_lie_are_dropped_and_counted() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 8080);
        let mut lies = 0;
        for good in [V4.tcp(b"hello"), V4.udp(b"hello")] {
            let honest = u16::from_be_bytes([good[16], good[17]]);
            for length in (0..28).chain([honest + 1, honest + 100, 0xffff]) {
                let mut frame = good.clone();
                frame[16..18].copy_from_slice(&u16::to_be_bytes(length));
                fix_ipv4(&mut frame);
                assert_eq!(bed.run(&frame).0, Verdict::Drop);
                lies += 1;
            }
        }
        for good in [V6.tcp(b"hello"), V6.udp(b"hello")] {
            let honest = u16::from_be_bytes([good[18], good[19]]);
            for length in (0..8).chain([honest + 1, honest + 100, 0xffff]) {
                let mut frame = good.clone();
                frame[18..20].copy_from_slice(&u16::to_be_bytes(length));
                assert_eq!(bed.run(&frame).0, Verdict::Drop);
                lies += 1;
            }
        }
        let counted = (0..4).map(|service| bed.maps().service_counter(service).unwrap().malformed);
        assert_eq!(counted.sum::<u64>(), lies);
    });
}

#[test]
fn x3_what_is_no_ip_header_passes_untouched() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 8080);
        for good in [V4.tcp(b"hello"), V4.udp(b"hello")] {
            // Header lengths below five words, one beyond the frame, another version.
            for first in (0x40..0x45).chain([0x4f, 0x65]) {
                let mut frame = good.clone();
                frame[14] = first;
                bed.passes(&frame);
            }
        }
    });
}

#[test]
fn what_follows_the_ip_packet_is_not_counted_into_the_outer_length() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 0);
        let mut v4 = V4.udp(b"");
        let length = (v4.len() - 14) as u64;
        v4.resize(60, 0);
        let (_, out) = bed.run(&v4);
        assert_eq!(u64::from(u16::from_be_bytes([out[16], out[17]])), length + 20);
        assert_eq!(out.len(), 80);
        assert_eq!(bed.maps().counter(0).unwrap().bytes, length);
        let mut v6 = V6.udp(b"");
        v6.extend([0; 9]);
        let (_, out) = bed.run(&v6);
        assert_eq!(u16::from_be_bytes([out[18], out[19]]), 48);
    });
}

#[test]
fn what_is_not_for_a_service_passes_untouched() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(Service::new(key(VIP, 80, TCP), vec![0; 251], numbered_v4(1)));
        bed.add(Service::new(key(VIP6, 80, TCP), vec![0; 251], numbered_v6(1)));
        bed.passes(&Tuple("10.1.2.3", 1, VIP, 81).tcp(b"unknown port"));
        bed.passes(&Tuple("10.1.2.3", 1, "192.0.2.11", 80).tcp(b"unknown address"));
        bed.passes(&V4.udp(b"unknown protocol"));
        bed.passes(&Tuple("2001:db8::1", 1, VIP6, 81).tcp(b"unknown port"));
        bed.passes(&V6.udp(b"unknown protocol"));
        let mut ping = Vec::new();
        let builder =
            PacketBuilder::ethernet2(CLIENT_MAC, BALANCER_MAC).ipv4([10, 1, 2, 3], [192, 0, 2, 10], 61);
        builder.icmpv4_echo_request(1, 1).write(&mut ping, b"ping").unwrap();
        bed.passes(&ping);
    });
}

#[test]
fn x4_ipv6_extension_headers_pass_untouched() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 8080);
        for header in [0, 43, 44, 51, 60] {
            let mut frame = V6.udp(b"hello");
            let next = std::mem::replace(&mut frame[20], header);
            frame.splice(54..54, [next, 0, 0, 0, 0, 0, 0, 0]);
            frame[19] += 8;
            bed.passes(&frame);
        }
    });
}

#[test]
fn x5_a_tag_stays_where_the_packet_goes_back_and_goes_where_it_goes_on() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let tag = [0x81, 0x00, 0x20, 5];
        let mut elsewhere = numbered_v4(1);
        elsewhere[0].ifindex = 7;
        bed.add(Service::new(key(VIP, 80, TCP), vec![0; 251], numbered_v4(1)));
        bed.add(Service::new(key(VIP, 81, TCP), vec![0; 251], elsewhere));
        for (port, verdict, type_and_tag) in [
            (80, Verdict::Transmit, [&tag[..], &[0x08, 0x00, 0x45]].concat()),
            (81, Verdict::Redirect, vec![0x08, 0x00, 0x45]),
        ] {
            let mut frame = Tuple("10.1.2.3", 1, VIP, port).tcp(b"hello");
            frame.splice(12..12, tag);
            let (ran, out) = bed.run(&frame);
            assert_eq!((ran, &out[12..12 + type_and_tag.len()]), (verdict, &type_and_tag[..]));
        }
    });
}

#[test]
fn x5_two_tags_and_other_protocols_pass_untouched() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 8080);
        for inner_tag in [[0x81, 0x00, 0, 6], [0x88, 0xa8, 0, 6]] {
            let mut frame = V4.tcp(b"hello");
            frame.splice(12..12, [[0x88, 0xa8, 0, 5], inner_tag].concat());
            bed.passes(&frame);
        }
        for ethertype in [0x0000, 0x0806, 0x86dd, 0x8847, 0xffff] {
            let mut frame = V4.tcp(b"hello");
            frame[12..14].copy_from_slice(&u16::to_be_bytes(ethertype));
            bed.passes(&frame);
        }
    });
}

#[test]
fn x2_no_truncation_changes_a_packet_wrongly() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 8080);
        let payload = [7; 60];
        let mut shapes =
            vec![V4.tcp(&payload), V4.udp(&payload), V6.tcp(&payload), V6.udp(&payload), V4.syn()];
        let mut options = V4.tcp(&payload);
        options.splice(34..34, [1; 40]);
        options[14] = 0x4f;
        options[17] += 40;
        fix_ipv4(&mut options);
        shapes.push(options);
        let mut tagged = V4.tcp(&payload);
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        shapes.push(tagged);
        for shape in shapes {
            for length in 14..=shape.len().min(120) {
                let (verdict, _) = bed.run(&shape[..length]);
                assert_eq!(verdict == Verdict::Transmit, length == shape.len());
            }
            // A frame that is shorter than its header is refused before the program sees it.
            assert!((0..14).all(|length| bed.datapath.run(&shape[..length]).is_err()));
        }
    });
}

#[test]
fn x11_what_says_it_comes_from_a_service_from_itself_or_from_nowhere_is_dropped() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        for (vip, backends) in [("192.0.2.10", numbered_v4(1)), ("2001:db8:100::10", numbered_v6(1))] {
            for (port, protocol) in [(80, TCP), (53, UDP)] {
                bed.add(Service::new(key(vip, port, protocol), vec![0; 251], backends.clone()));
            }
        }
        let v4 = ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.10"];
        let v6 = ["::", "::1", "ff02::1", "::ffff:10.0.0.1", "2001:db8:100::10"];
        for (vip, sources) in [("192.0.2.10", v4), ("2001:db8:100::10", v6)] {
            for source in sources {
                assert_eq!(bed.run(&Tuple(source, 80, vip, 80).syn()).0, Verdict::Drop, "{source}");
                assert_eq!(bed.run(&Tuple(source, 53, vip, 53).udp(b"loop")).0, Verdict::Drop, "{source}");
            }
        }
    });
}
