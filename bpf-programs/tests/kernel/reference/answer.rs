//! Section 6, and the answer of section 5: what the program says to clients itself.

use netd_bpf::Verdict;
use netd_bpf::abi::{TCP, UDP};

use super::checksum::{carried_over, checksum};
use super::packet::{ICMP, ICMPV6, Packet, Upper};
use super::{Count, Model, Outcome};

/// How much of an IPv6 packet an error quotes at most.
const QUOTED_V6: usize = 104;

impl Model {
    /// Section 5, for a packet that errors may answer.
    pub(super) fn too_big(&mut self, packet: &Packet<'_>, service: u32, mtu: u16, outer: usize) -> Outcome {
        if packet.is_v4() && !packet.has_df() {
            return packet.dropped();
        }
        let mtu = (usize::from(mtu) - outer) as u32;
        let [kind, code] = if packet.is_v4() { [3, 4] } else { [2, 0] };
        let answer = error(packet, kind, code, mtu);
        self.answer(packet, service, Count::ToldTooBig, answer)
    }

    /// Says no, as the protocol wants it. The reason is counted already.
    pub(super) fn reject(&mut self, packet: &Packet<'_>, upper: &Upper, service: u32) -> Outcome {
        let answer = match (upper.protocol, packet.is_v4()) {
            (TCP, _) => reset(packet, upper),
            (UDP, true) => error(packet, 3, 3, 0),
            (UDP, false) => error(packet, 1, 4, 0),
            (_, true) => error(packet, 3, 2, 0),
            (_, false) => error(packet, 4, 1, upper.named_at as u32),
        };
        self.answer(packet, service, Count::Rejected, answer)
    }

    /// The reply to an echo request, whose place and wholeness were looked at.
    pub(super) fn echo(&mut self, packet: &Packet<'_>, service: u32) -> Outcome {
        self.count(service, Count::EchoReplies);
        let mut ip = packet.ip.to_vec();
        let (source, destination) = if packet.is_v4() { (12..16, 16..20) } else { (8..24, 24..40) };
        ip[source.clone()].copy_from_slice(&packet.ip[destination.clone()]);
        ip[destination].copy_from_slice(&packet.ip[source]);
        if packet.is_v4() {
            (ip[6], ip[8]) = (ip[6] & 0x40, 64);
            ip[10..12].fill(0);
            let sum = checksum(&[&ip[..20]]).to_be_bytes();
            ip[10..12].copy_from_slice(&sum);
        } else {
            ip[7] = 64;
        }
        let at = packet.header;
        ip[at] = if packet.is_v4() { 0 } else { 129 };
        let sum = match carried_over(packet.from(at), &ip[at..packet.length], 2) {
            [0, 0] => [0xff, 0xff],
            other => other,
        };
        ip[at + 2..at + 4].copy_from_slice(&sum);
        (Verdict::Transmit, turned_around(packet, &ip))
    }

    /// Sends an answer, if there is one and the limit allows.
    fn answer(&mut self, packet: &Packet<'_>, service: u32, count: Count, ip: Option<Vec<u8>>) -> Outcome {
        let Some(ip) = ip.filter(|_| !packet.is_for_a_group()) else { return packet.dropped() };
        if self.settings.icmp_errors_per_second == 0 {
            return self.drop(packet, service, Count::RateLimited);
        }
        self.count(service, count);
        (Verdict::Transmit, turned_around(packet, &ip))
    }
}

/// The Ethernet header of an answer, and the answer.
fn turned_around(packet: &Packet<'_>, ip: &[u8]) -> Vec<u8> {
    let kind = &packet.frame[12 + packet.tag.len()..14 + packet.tag.len()];
    [&packet.frame[6..12], &packet.frame[..6], packet.tag, kind, ip].concat()
}

fn error(packet: &Packet<'_>, kind: u8, code: u8, word: u32) -> Option<Vec<u8>> {
    let whole = packet.from(0);
    let quoted = if packet.is_v4() {
        whole.get(..packet.header + 8)?
    } else {
        &whole[..QUOTED_V6.min(whole.len() & !3)]
    };
    let mut icmp = vec![kind, code, 0, 0];
    icmp.extend(word.to_be_bytes());
    icmp.extend(quoted);
    if packet.is_v4() {
        let sum = checksum(&[&icmp]).to_be_bytes();
        icmp[2..4].copy_from_slice(&sum);
        return Some(header_v4(packet, packet.ip[1], [packet.ip[4], packet.ip[5]], ICMP, &icmp));
    }
    finish_v6(packet, &mut icmp, 2, ICMPV6);
    Some(header_v6(packet, [packet.ip[0], packet.ip[1], packet.ip[2], packet.ip[3]], ICMPV6, &icmp))
}

/// RFC 9293, 3.10.7.1. None: in answer to a RST, or to what has no sound header.
fn reset(packet: &Packet<'_>, upper: &Upper) -> Option<Vec<u8>> {
    let tcp = packet.from(upper.at);
    let offset = usize::from(tcp[12] >> 4) * 4;
    let flags = tcp[13];
    if flags & 0x04 != 0 || offset < 20 || offset > tcp.len() {
        return None;
    }
    let data = (tcp.len() - offset) as u32 + u32::from(flags & 0x02 != 0) + u32::from(flags & 0x01 != 0);
    let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    let (sequence, acknowledged, flags) =
        if flags & 0x10 != 0 { (word(8), 0, 0x04) } else { (0, word(4).wrapping_add(data), 0x14) };
    let mut answer = [&tcp[2..4], &tcp[..2]].concat();
    answer.extend(sequence.to_be_bytes());
    answer.extend(acknowledged.to_be_bytes());
    answer.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
    if packet.is_v4() {
        let length = (answer.len() as u16).to_be_bytes();
        let sum = checksum(&[&packet.ip[12..20], &[0, TCP], &length, &answer]).to_be_bytes();
        answer[16..18].copy_from_slice(&sum);
        return Some(header_v4(packet, 0, [0, 0], TCP, &answer));
    }
    finish_v6(packet, &mut answer, 16, TCP);
    Some(header_v6(packet, [0x60, 0, 0, 0], TCP, &answer))
}

/// Writes a checksum with the pseudo header of IPv6, which is the same in both directions.
fn finish_v6(packet: &Packet<'_>, message: &mut [u8], at: usize, protocol: u8) {
    let length = (message.len() as u32).to_be_bytes();
    let sum = checksum(&[&packet.ip[8..40], &length, &[0, protocol], message]).to_be_bytes();
    message[at..at + 2].copy_from_slice(&sum);
}

fn header_v4(packet: &Packet<'_>, tos: u8, id: [u8; 2], protocol: u8, message: &[u8]) -> Vec<u8> {
    let length = ((20 + message.len()) as u16).to_be_bytes();
    let mut ip = vec![0x45, tos, length[0], length[1], id[0], id[1], 0x40, 0, 64, protocol, 0, 0];
    ip.extend([&packet.ip[16..20], &packet.ip[12..16]].concat());
    let sum = checksum(&[&ip]).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    ip.extend(message);
    ip
}

fn header_v6(packet: &Packet<'_>, first: [u8; 4], protocol: u8, message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u16).to_be_bytes();
    let mut ip = [first, [length[0], length[1], protocol, 64]].concat();
    ip.extend([&packet.ip[24..40], &packet.ip[8..24], message].concat());
    ip
}
