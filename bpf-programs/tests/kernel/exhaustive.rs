//! All values of what has few: the program and the model say the same for each length, header byte, and prefix.

use netd_bpf::Verdict;

use crate::bed::{Bed, in_own_world};
use crate::cases::hall::{
    self, BY_GUE, CROSSED, CROSSED_BY_GUE, MOVED, NARROW, NARROW_MOVED, PASSING, PLAIN, REFUSING, REJECTING,
    SPREAD, STICKY,
};
use crate::cases::hall_of;
use crate::cases::layers::{FAMILIES, Family, Layers, ip};
use crate::reference::{Service, Settings};

/// What is compared is collected, so that one run shows everything that differs.
struct Comparison {
    bed: Bed,
    failures: Vec<String>,
    frames: u64,
}

impl Comparison {
    fn of(&mut self, frame: &[u8]) -> Option<Verdict> {
        self.frames += 1;
        match self.bed.compare(frame) {
            Ok(verdict) => Some(verdict),
            Err(failure) => {
                self.failures.push(failure);
                None
            }
        }
    }
}

/// Compares in the hall of the cases; afterwards everything that is counted and recorded is the same, too.
fn in_hall(compare: impl FnOnce(&mut Comparison) + Send) {
    in_own_world(|root| {
        let bed = hall_of(root, Settings::default());
        let mut comparison = Comparison { bed, failures: Vec::new(), frames: 0 };
        compare(&mut comparison);
        let Comparison { mut bed, mut failures, frames } = comparison;
        let first: Vec<String> = failures.drain(..).take(20).collect();
        assert!(first.is_empty(), "of {frames} frames:\n{}", first.join("\n"));
        assert_eq!(bed.differences(), Vec::<String>::new());
    });
}

/// Frames of every shape that has a way of its own, with data.
fn shapes() -> Vec<Layers> {
    let mut shapes = Vec::new();
    for family in FAMILIES {
        let data = [0x99; 48];
        for port in
            [PLAIN, MOVED, BY_GUE, CROSSED, CROSSED_BY_GUE, NARROW, NARROW_MOVED, REFUSING, STICKY, 999]
        {
            shapes.push(ip(family).tcp(12345, port).data(&data));
            shapes.push(ip(family).tcp(12345, port).syn());
            shapes.push(ip(family).udp(12345, port).data(&data));
        }
        for vip in [REJECTING, PASSING] {
            shapes.push(ip(family).at_vip(vip).tcp(12345, 999).syn());
            shapes.push(ip(family).at_vip(vip).udp(12345, 999).data(&data));
            shapes.push(ip(family).at_vip(vip).raw(47, &data));
        }
        shapes.push(ip(family).tag([0x81, 0, 0, 5]).udp(12345, MOVED).data(&data));
        shapes.push(ip(family).ping(7, &data));
        shapes.push(error_about(family, MOVED));
        shapes.push(ip(family).udp(12345, MOVED).data(&data).first(24, 0x7001));
        shapes.push(ip(family).udp(12345, MOVED).data(&data).later(24, 0x7001));
        shapes.push(ip(family).udp(12345, NARROW).data(&[0; 700]));
    }
    for bytes in [4, 40] {
        shapes.push(ip(Family::V4).options(bytes).tcp(12345, MOVED).data(&[0x99; 48]));
        shapes.push(ip(Family::V4).options(bytes).at_vip(REJECTING).udp(12345, 999).data(&[0x99; 48]));
    }
    let chained = || ip(Family::V6).hop_by_hop().routing(0).authentication().fragment_header(0, false, 3);
    shapes.push(chained().udp(12345, MOVED).data(&[0x99; 48]));
    shapes.push(chained().at_vip(REJECTING).tcp(12345, 999).syn());
    shapes.push(chained().at_vip(REJECTING).raw(47, &[0x99; 48]));
    shapes.push(error_about(Family::V6, MOVED).hop_by_hop());
    shapes
}

fn error_about(family: Family, port: u16) -> Layers {
    let mut reply = ip(family).udp(port, 12345).data(&[1; 20]);
    std::mem::swap(&mut reply.source, &mut reply.destination);
    let kind = if family == Family::V4 { 3 } else { 1 };
    let router = if family == Family::V4 { "203.0.113.1" } else { "2001:db8:ffff::1" };
    ip(family).from(router).icmp(kind, 1, 0, &reply.ip())
}

#[test]
fn x2_every_length_of_every_shape() {
    in_hall(|comparison| {
        for shape in shapes() {
            let frame = shape.bytes();
            for length in 14..=frame.len() {
                comparison.of(&frame[..length]);
            }
        }
    });
}

#[test]
fn x3_every_value_of_every_header_byte_of_every_shape() {
    in_hall(|comparison| {
        for shape in shapes() {
            let mut frame = shape.bytes();
            // To the end of the longest headers that decide; what follows is data.
            for at in 0..frame.len().min(120) {
                let byte = frame[at];
                for value in 0..=255 {
                    frame[at] = value;
                    comparison.of(&frame);
                }
                frame[at] = byte;
                comparison.bed.forget_flows();
            }
        }
    });
}

#[test]
fn x3_every_total_length_near_the_frames() {
    in_hall(|comparison| {
        for shape in shapes() {
            let frame = shape.bytes();
            let at = 14 + shape.tags.len() + if shape.is_v4() { 2 } else { 4 };
            for length in (0..=frame.len() as u16 + 64).chain([0x7fff, 0x8000, 0xffd0, 0xffff]) {
                let mut frame = frame.clone();
                frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
                comparison.of(&frame);
            }
        }
    });
}

#[test]
fn x5_every_ethernet_type() {
    in_hall(|comparison| {
        for shape in [ip(Family::V4).udp(12345, PLAIN), ip(Family::V6).udp(12345, PLAIN)] {
            let mut frame = shape.bytes();
            for kind in 0..=u16::MAX {
                frame[12..14].copy_from_slice(&kind.to_be_bytes());
                comparison.of(&frame);
            }
        }
    });
}

#[test]
fn x6_every_fragment_offset_and_flag() {
    in_hall(|comparison| {
        for protocol in [6, 17] {
            let whole = ip(Family::V4).transport(protocol, MOVED).data(&[5; 40]);
            let mut frame = whole.bytes();
            for word in 0..=u16::MAX {
                frame[20..22].copy_from_slice(&word.to_be_bytes());
                comparison.of(&frame);
            }
            let whole =
                ip(Family::V6).fragment_header(0, true, 0x7777).transport(protocol, MOVED).data(&[5; 40]);
            let mut frame = whole.bytes();
            for word in 0..=u16::MAX {
                frame[56..58].copy_from_slice(&word.to_be_bytes());
                comparison.of(&frame);
            }
        }
    });
}

#[test]
fn x4_chains_of_every_depth_and_every_length_of_a_header() {
    in_hall(|comparison| {
        for vip in ["10", REJECTING, PASSING] {
            for depth in 0..=32 {
                let chain = (0..depth).fold(ip(Family::V6).at_vip(vip), |packet, k| match k % 4 {
                    0 => packet.hop_by_hop(),
                    1 => packet.routing(0),
                    2 => packet.authentication(),
                    _ => packet.destination_options(),
                });
                comparison.of(&chain.clone().udp(12345, PLAIN).data(&[1; 8]).bytes());
                comparison.of(&chain.raw(47, &[1; 8]).bytes());
            }
            for number in [0, 43, 44, 51, 60] {
                for length in 0..=255 {
                    let mut header = vec![0; 7];
                    header[0] = length;
                    let packet = ip(Family::V6).at_vip(vip).header(number, &header).udp(12345, PLAIN);
                    comparison.of(&packet.data(&[0; 1300]).bytes());
                }
            }
        }
    });
}

/// For every number of hashed bits, in both families and across them.
#[test]
fn the_outer_source_of_every_prefix_length() {
    in_own_world(|root| {
        let room = netd_bpf::Capacity { frontends_v4: 256, frontends_v6: 256, ..crate::bed::CAPACITY };
        let mut bed = Bed::with(root, Settings::default(), &room);
        for (family, crossed) in
            [(Family::V4, false), (Family::V6, false), (Family::V4, true), (Family::V6, true)]
        {
            bed.clear();
            let outer_v4 = (family == Family::V4) != crossed;
            let width = if outer_v4 { 32 } else { 128 };
            for bits in 0..=width {
                let mut backend = hall::backend(family, if crossed { CROSSED } else { SPREAD }, 0);
                let kept = u128::MAX.checked_shl(bits).unwrap_or(0);
                let prefix = (0xa5a5_5a5a_1234_8765_0fed_cba9_c3c3_3c3c & kept) << (128 - width);
                (backend.source, backend.source_bits) = (prefix.to_be_bytes(), bits as u8);
                if outer_v4 {
                    let four = |bytes: [u8; 16]| <[u8; 4]>::try_from(&bytes[..4]).unwrap().into();
                    backend.source[4..].fill(0);
                    backend.checksum = netd_bpf::abi::presum(four(backend.source), four(backend.destination));
                }
                let vip = ip(family).destination.to_string();
                let key = crate::bed::key(&vip, 1000 + bits as u16, netd_bpf::abi::UDP);
                bed.add(Service::new(key, vec![0; 251], vec![backend]));
                for client_port in [1, 80, 12345, 65535] {
                    let (verdict, _) = bed.run(&ip(family).udp(client_port, 1000 + bits as u16).bytes());
                    assert_eq!(verdict, Verdict::Transmit);
                }
            }
        }
    });
}
