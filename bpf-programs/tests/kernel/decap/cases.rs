//! What is taken, what is dropped and what passes, in cases with names.

use netd_bpf::decap::Rules;

use super::bed::{
    Bed, CLIENT, CLIENT6, ELSEWHERE, ELSEWHERE6, GUE_PORT, V4, V6, Way, fix_v4, inner_packets, prefixes,
    rules, with_ecn,
};
use super::model::Counted;
use crate::bed::{Tuple, in_own_world};

#[test]
fn every_family_comes_out_of_every_family_with_and_without_udp_and_tag() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        for way in Way::all() {
            for inner in inner_packets() {
                assert_eq!(bed.taken(&way.frame(&inner)), way.taken(&inner), "{way:?}");
            }
        }
        let taken = 4 * Way::all().len() as u64;
        let bytes: usize = inner_packets().iter().map(Vec::len).sum();
        let counts = bed.decap.counts();
        assert_eq!((counts.packets, counts.bytes), (taken, bytes as u64 * taken / 4));
    });
}

#[test]
fn a_tag_of_a_providers_bridge_stays_too() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let way = Way { tag: Some(0x88a8), ..V6 };
        let [inner, ..] = inner_packets();
        assert_eq!(bed.taken(&way.frame(&inner)), way.taken(&inner));
        // Two tags are not looked behind.
        let twice = [&way.ethernet(0x8100), &[0, 5, 0x86, 0xdd][..], &way.frame(&inner)[18..]].concat();
        bed.passes(&twice);
    });
}

#[test]
fn x12_strangers_never_get_in() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        for way in Way::all() {
            for inner in inner_packets() {
                bed.drops(&way.of_stranger().frame(&inner), Counted::Strangers);
            }
        }
        // Not even with lengths that no kernel would take: it may think otherwise.
        let mut lying = V4.of_stranger().frame(&inner_packets()[0]);
        lying[16..18].copy_from_slice(&20_u16.to_be_bytes());
        bed.drops(&lying, Counted::Strangers);
    });
}

#[test]
fn other_tunnels_of_the_node_are_left_alone() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let (v4, v6) = (Tuple(CLIENT, 5, ELSEWHERE, 80), Tuple(CLIENT6, 5, ELSEWHERE6, 80));
        for inner in [v4.tcp(b"another's")[14..].to_vec(), v6.udp(b"another's")[14..].to_vec()] {
            for way in Way::all() {
                bed.passes(&way.of_stranger().frame(&inner));
                let (_, out, counted) = bed.run(&way.frame(&inner));
                assert_eq!((out, counted), (way.frame(&inner), Counted::NotTaken));
                // To another node, which this one forwards to.
                for to in ["10.0.0.2", "192.0.2.10", "fd00::2", "2001:db8:100::10"] {
                    if to.contains(':') != way.is_v4() {
                        bed.passes(&Way { to, ..way }.frame(&inner_packets()[0]));
                    }
                }
            }
        }
    });
}

#[test]
fn what_is_no_tunnel_passes() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        for frame in [
            Tuple(CLIENT, 1, "10.0.0.1", 22).tcp(b"ssh"),
            Tuple("10.100.7.9", 1, "10.0.0.1", GUE_PORT).tcp(b"Enot GUE"),
            Tuple("10.100.7.9", 1, "10.0.0.1", 53).udp(b"E is a version 4 with five words"),
            Tuple("10.100.7.9", 1, "10.0.0.1", GUE_PORT).udp(b""),
            Tuple("10.100.7.9", 1, "10.0.0.1", GUE_PORT).udp(b"\0\x04\0\0E is GUE's variant 0"),
            Tuple("10.100.7.9", 1, "10.0.0.1", GUE_PORT).udp(b"P is version 5"),
            Tuple("2001:db8:cafe::77", 1, "fd00::1", GUE_PORT).udp(b"p is version 7"),
            Tuple("2001:db8:cafe::77", 1, "fd00::1", 443).udp(b"`quic"),
        ] {
            bed.passes(&frame);
        }
        let mut arp = V4.frame(&inner_packets()[0]);
        arp[12..14].copy_from_slice(&[8, 6]);
        bed.passes(&arp);
    });
}

#[test]
fn outer_options_fragments_and_versions_are_left_to_the_kernel() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let [inner, ..] = inner_packets();
        let mut with_options = V4.frame(&inner);
        with_options[14] = 0x46;
        with_options.splice(34..34, [1, 1, 1, 0]);
        bed.passes(&with_options);
        for fragment in [0x2000_u16, 0x0001, 0x1fff, 0x3000] {
            let mut frame = V4.frame(&inner);
            frame[20..22].copy_from_slice(&fragment.to_be_bytes());
            bed.passes(&frame);
        }
        // DF, and the bit that nobody uses, are no fragments.
        for flags in [0x4000_u16, 0x8000, 0x0000] {
            let mut frame = V4.frame(&inner);
            frame[20..22].copy_from_slice(&flags.to_be_bytes());
            assert_eq!(bed.taken(&frame), V4.taken(&inner));
        }
        for first in [0x44, 0x35, 0x65] {
            let mut frame = V4.frame(&inner);
            frame[14] = first;
            bed.passes(&frame);
        }
        for next_header in [0, 43, 44, 50, 51, 59, 60] {
            let mut frame = V6.frame(&inner);
            frame[20] = next_header;
            bed.passes(&frame);
        }
        let mut frame = V6.frame(&inner);
        frame[14] = 0x4b;
        bed.passes(&frame);
    });
}

#[test]
fn an_inner_packet_of_another_version_than_announced_is_malformed() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        for way in [V4, V6] {
            for inner in inner_packets() {
                let mut frame = way.frame(&inner);
                let at = if way.is_v4() { 23 } else { 20 };
                frame[at] = if frame[at] == 4 { 41 } else { 4 };
                bed.drops(&frame, Counted::Malformed);
                let mut frame = way.of_stranger().frame(&inner);
                frame[at] = if frame[at] == 4 { 41 } else { 4 };
                bed.passes(&frame);
            }
        }
    });
}

#[test]
fn inner_options_fragments_ttls_and_checksums_stay_as_they_are() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let [inner, _, inner6, _] = inner_packets();
        let mut odd: Vec<Vec<u8>> = Vec::new();
        for (at, value) in [(6, 0x20), (7, 3), (8, 0), (8, 1), (9, 132), (10, 0x77), (12, 127), (21, 9)] {
            odd.push(inner.clone());
            odd.last_mut().unwrap()[at] = value;
        }
        for (at, value) in [(1, 0xff), (6, 44), (7, 0), (8, 0xff), (41, 9)] {
            odd.push(inner6.clone());
            odd.last_mut().unwrap()[at] = value;
        }
        let mut options = inner.clone();
        options[0] = 0x47;
        odd.push(options);
        for inner in odd {
            for way in [V4, V6, Way { is_gue: true, ..V6 }] {
                assert_eq!(bed.taken(&way.frame(&inner)), way.taken(&inner));
            }
        }
    });
}

#[test]
fn congestion_is_handed_on_as_rfc_6040_says() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let (not, one, zero, ce) = (0, 1, 2, 3);
        // Inner, outer, and what comes out: figure 4 of the RFC.
        let table = [
            (not, [Some(not), Some(not), Some(not), None]),
            (zero, [Some(zero), Some(one), Some(zero), Some(ce)]),
            (one, [Some(one), Some(one), Some(one), Some(ce)]),
            (ce, [Some(ce), Some(ce), Some(ce), Some(ce)]),
        ];
        for way in Way::all() {
            for packet in inner_packets() {
                for (inner, row) in table {
                    for (outer, expected) in (0..).zip(row) {
                        let frame = Way { ecn: outer, ..way }.frame(&with_ecn(&packet, inner));
                        match expected {
                            // With a checksum that is right, of which there is one.
                            Some(bits) => assert_eq!(bed.taken(&frame), way.taken(&with_ecn(&packet, bits))),
                            None => bed.drops(&frame, Counted::Congested),
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn a_checksum_that_was_wrong_stays_wrong_when_the_header_changes() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let [inner, ..] = inner_packets();
        let inner = with_ecn(&inner, 2);
        let right = u16::from_be_bytes([inner[10], inner[11]]);
        for off in (1..=0xffff_u16).step_by(257) {
            let mut wrong = inner.clone();
            wrong[10..12].copy_from_slice(&right.wrapping_add(off).to_be_bytes());
            let out = bed.taken(&Way { ecn: 3, ..V4 }.frame(&wrong));
            let mut fixed = out[14..].to_vec();
            fix_v4(&mut fixed);
            assert_eq!(out[15] & 3, 3);
            // 0 and 0xffff say the same.
            assert_eq!(fixed[10..12] == out[24..26], off == 0xffff, "{off}");
        }
    });
}

#[test]
fn bytes_behind_the_packets_stay() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        for way in Way::all() {
            for inner in inner_packets() {
                // Padding of the link, and then of the tunnel.
                let padded = [way.frame(&inner), vec![0xaa; 9]].concat();
                assert_eq!(bed.taken(&padded), [way.taken(&inner), vec![0xaa; 9]].concat());
                let mut longer = way.frame(&[inner.clone(), vec![0xbb; 3]].concat());
                assert_eq!(bed.taken(&longer), [way.taken(&inner), vec![0xbb; 3]].concat());
                longer.extend([0xcc; 2]);
                bed.taken(&longer);
            }
        }
    });
}

#[test]
fn the_gue_port_is_the_files() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let way = Way { is_gue: true, ..V4 };
        let [inner, ..] = inner_packets();
        bed.set(Rules { gue_port: 7777, ..rules() });
        bed.passes(&way.frame(&inner));
        let mut frame = way.frame(&inner);
        frame[36..38].copy_from_slice(&7777_u16.to_be_bytes());
        assert_eq!(bed.taken(&frame), way.taken(&inner));
    });
}

#[test]
fn a_prefix_is_for_its_own_family() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let [inner, _, inner6, _] = inner_packets();
        // Shorter than the mapped addresses' prefix, and around it.
        let wide = || prefixes(&["::/1", "::/64", "2001:db8::/32"]);
        bed.set(Rules { from: wide(), ..rules() });
        bed.drops(&V4.frame(&inner), Counted::Strangers);
        bed.taken(&V6.frame(&inner));
        bed.set(Rules { to: wide(), ..rules() });
        let (_, _, counted) = bed.run(&V4.frame(&inner));
        assert_eq!(counted, Counted::NotTaken);
        bed.taken(&V4.frame(&inner6));
        bed.set(Rules { own: prefixes(&["::/1"]), ..rules() });
        bed.passes(&V4.frame(&inner));
        // And an IPv4 one is not for the mapped addresses themselves, which nobody may send.
        bed.set(Rules { from: prefixes(&["10.100.0.0/16"]), ..rules() });
        bed.drops(&Way { from: "::ffff:10.100.7.9", ..V6 }.frame(&inner), Counted::Strangers);
        bed.set(Rules { from: prefixes(&["0.0.0.0/0", "::/0"]), ..rules() });
        bed.taken(&Way { from: "::1", ..V6 }.frame(&inner));
    });
}

#[test]
fn without_rules_everything_passes() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.set(Rules::default());
        for way in Way::all() {
            for inner in inner_packets() {
                bed.passes(&way.frame(&inner));
            }
        }
    });
}
