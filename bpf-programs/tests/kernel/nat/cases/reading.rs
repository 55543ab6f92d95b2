//! What packets are read as: headers, options, extensions, lengths, tags.

use super::super::talk::{Becomes, Case, Drops, PORT, Passes, Talk, case};
use crate::cases::layers::Layers;

pub fn cases() -> Vec<Case> {
    let mut all = headers();
    all.extend(frames());
    all
}

fn translated(t: &mut Talk<'_>, packet: &Layers) {
    t.leaves(packet, Becomes(&t.outer(packet)));
}

fn headers() -> Vec<Case> {
    vec![
        case("options and extension headers are skipped", |t| {
            if t.is_v4() {
                for bytes in [4, 8, 40] {
                    translated(t, &t.pod().options(bytes).udp(PORT, 80));
                }
                return;
            }
            let pod = t.pod();
            translated(t, &pod.clone().hop_by_hop().udp(PORT, 80));
            translated(t, &pod.clone().hop_by_hop().destination_options().udp(PORT, 80));
            translated(t, &pod.clone().routing(0).udp(PORT, 80));
            translated(t, &pod.clone().hop_by_hop().routing(0).destination_options().tcp(PORT, 80));
            translated(t, &pod.hop_by_hop().ping(u32::from(PORT) << 16, b"x"));
        }),
        case("eight extension headers are skipped, a ninth is not", |t| {
            if t.is_v4() {
                return;
            }
            let mut packet = t.pod();
            for _ in 0..8 {
                packet = packet.destination_options();
            }
            translated(t, &packet.clone().udp(PORT, 80));
            t.leaves(&packet.destination_options().udp(PORT, 80), Drops("malformed"));
        }),
        case("extension headers that cannot be gone beyond do not leave", |t| {
            if t.is_v4() {
                return;
            }
            t.leaves(&t.pod().routing(1).udp(PORT, 80), Drops("unsupported"));
            t.leaves(&t.pod().authentication().udp(PORT, 80), Drops("unsupported"));
            t.leaves(&t.pod().header(135, &[0; 7]).udp(PORT, 80), Drops("unsupported"));
        }),
        case("a chain that leaves the frame is not read", |t| {
            if t.is_v4() {
                return;
            }
            t.leaves(&t.pod().header(60, &[9, 1, 4, 0, 0, 0, 0]).udp(PORT, 80), Drops("malformed"));
            t.leaves(&t.pod().hop_by_hop().udp(PORT, 80).cut(14 + 40 + 7), Drops("malformed"));
            t.comes(&t.remote().header(60, &[9, 1, 4, 0, 0, 0, 0]).udp(80, PORT), Passes);
        }),
        case("a transport header that is cut off is not read", |t| {
            let header = if t.is_v4() { 34 } else { 54 };
            let tcp = t.pod().tcp(PORT, 80);
            for bytes in [0, 4, 8, 13, 19] {
                t.leaves(&tcp.clone().cut(header + bytes), Drops("malformed"));
            }
            for packet in [t.pod().udp(PORT, 80), t.pod().ping(u32::from(PORT) << 16, b"")] {
                t.leaves(&packet.clone().cut(header + 7), Drops("malformed"));
                translated(t, &packet);
            }
            translated(t, &tcp);
        }),
        case("a cut packet that comes in is the host's", |t| {
            let asked = t.pod().tcp(PORT, 80);
            translated(t, &asked);
            let header = if t.is_v4() { 34 } else { 54 };
            t.comes(&t.remote().tcp(80, PORT).cut(header + 19), Passes);
        }),
    ]
}

fn frames() -> Vec<Case> {
    vec![
        case("a frame of another type passes", |t| {
            for kind in [[8, 6], [0x88, 0x63], [0, 40]] {
                let mut packet = t.pod().udp(PORT, 80);
                packet.kind = Some(kind);
                t.leaves(&packet, Passes);
                t.comes(&packet, Passes);
            }
        }),
        case("a packet of another version than its frame says passes", |t| {
            // The kernel runs no program on a frame that is shorter than the header of its type.
            let mut packet = t.pod().udp(PORT, 80).data(&[7; 20]);
            packet.kind = Some(if t.is_v4() { [0x86, 0xdd] } else { [8, 0] });
            t.leaves(&packet, Passes);
            t.comes(&packet, Passes);
        }),
        case("a frame with a tag passes", |t| {
            t.leaves(&t.pod().tag([0x81, 0, 0, 5]).udp(PORT, 80), Passes);
            t.leaves(&t.pod().tag([0x88, 0xa8, 0, 5]).udp(PORT, 80), Passes);
        }),
        case("an IPv4 header that is too short, or longer than its frame, passes", |t| {
            if t.is_v4() {
                t.leaves(&t.pod().udp(PORT, 80).patch(0, 0x44), Passes);
                t.leaves(&t.pod().udp(PORT, 80).patch(0, 0x4f), Passes);
            }
        }),
        case("a length in the IP header is not looked at", |t| {
            for length in [0, 1, 20, 9000] {
                translated(t, &t.pod().length(length).udp(PORT, 80).data(b"xyz"));
            }
        }),
    ]
}
