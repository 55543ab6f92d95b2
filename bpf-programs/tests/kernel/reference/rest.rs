//! Section 7: whatever else comes for a VIP.

use super::fragments::Fragment;
use super::packet::{Packet, Upper};
use super::table::{Unknown, Vip};
use super::{Count, Model, Outcome};

/// Extension headers that are walked.
const HEADERS_MAX: usize = 8;
const HEADERS_BYTES_MAX: usize = 2048;

/// What comes after an extension header.
enum Next {
    Header(Upper),
    Fragment(Fragment),
    Unknown,
    Malformed,
}

impl Model {
    pub(super) fn everything_else(&mut self, packet: &Packet<'_>, vip: Vip, told: &[u8]) -> Outcome {
        let first = packet.first();
        let fragment = Fragment::of_v4(packet);
        if is_discovery(packet, &first) {
            return packet.passed();
        }
        let whole = if fragment.is_some() { packet.holds_itself() } else { packet.is_whole(&first) };
        if !whole {
            return self.malformed(packet, vip);
        }
        if packet.is_martian() || (fragment.is_none() && self.talks_to_itself(packet, &first)) {
            return self.drop(packet, vip.service, Count::Martian);
        }
        if let Some(fragment) = fragment {
            return self.fragment(packet, &fragment, vip, told);
        }
        let mut upper = first;
        for walked in 0.. {
            if packet.is_v4() || !is_extension(upper.protocol) || walked == HEADERS_MAX {
                break;
            }
            match next(packet, &upper) {
                Next::Header(next) => upper = next,
                Next::Fragment(fragment) => return self.fragment(packet, &fragment, vip, told),
                Next::Unknown => break,
                Next::Malformed => return self.malformed(packet, vip),
            }
        }
        self.of_vip(packet, &upper, vip, told)
    }

    /// From where nothing is left to be passed over.
    fn of_vip(&mut self, packet: &Packet<'_>, upper: &Upper, vip: Vip, told: &[u8]) -> Outcome {
        if is_discovery(packet, upper) {
            return packet.passed();
        }
        if let Some(flow) = self.flow_of(packet, upper) {
            return self.of_frontend(packet, upper, flow, told);
        }
        if !packet.is_whole(upper) {
            return self.malformed(packet, vip);
        }
        if self.talks_to_itself(packet, upper) {
            return self.drop(packet, vip.service, Count::Martian);
        }
        if !packet.is_icmp(upper) {
            return self.unknown(packet, upper, vip);
        }
        let message = packet.from(upper.at);
        let plain = packet.header == if packet.is_v4() { 20 } else { upper.at };
        match (packet.is_v4(), message) {
            _ if message.len() < 8 => self.unknown_without_reject(packet, vip),
            (true, [3 | 11 | 12, ..]) | (false, [1..=4, ..]) => self.icmp_error(packet, upper, vip, told),
            (true, [8, 0, ..]) | (false, [128, 0, ..]) if vip.ping && plain && !packet.is_for_a_group() => {
                self.echo(packet, vip.service)
            }
            _ => self.unknown_without_reject(packet, vip),
        }
    }

    pub(super) fn unknown_without_reject(&mut self, packet: &Packet<'_>, vip: Vip) -> Outcome {
        match vip.unknown {
            Unknown::Drop | Unknown::Reject => self.drop(packet, vip.service, Count::UnknownPort),
            Unknown::Pass => self.pass(packet, vip),
        }
    }

    pub(super) fn malformed(&mut self, packet: &Packet<'_>, vip: Vip) -> Outcome {
        match vip.unknown {
            Unknown::Drop | Unknown::Reject => self.drop(packet, vip.service, Count::Malformed),
            Unknown::Pass => self.pass(packet, vip),
        }
    }

    pub(super) fn pass(&mut self, packet: &Packet<'_>, vip: Vip) -> Outcome {
        self.count(vip.service, Count::Passed);
        packet.passed()
    }

    fn unknown(&mut self, packet: &Packet<'_>, upper: &Upper, vip: Vip) -> Outcome {
        if vip.unknown != Unknown::Reject {
            return self.unknown_without_reject(packet, vip);
        }
        self.count(vip.service, Count::UnknownPort);
        self.reject(packet, upper, vip.service)
    }
}

/// ICMPv6 that the kernel has to see, whatever is wrong with it.
fn is_discovery(packet: &Packet<'_>, upper: &Upper) -> bool {
    let kind = packet.ip.get(upper.at);
    !packet.is_v4() && packet.is_icmp(upper) && matches!(kind, Some(130..=137 | 143))
}

fn is_extension(protocol: u8) -> bool {
    matches!(protocol, 0 | 43 | 44 | 51 | 60)
}

/// Passes over one extension header.
fn next(packet: &Packet<'_>, upper: &Upper) -> Next {
    let Some(header) = packet.from(upper.at.min(packet.length)).get(..8) else { return Next::Malformed };
    if upper.protocol == 43 && header[3] != 0 {
        return Next::Unknown;
    }
    let bytes = match upper.protocol {
        44 => 8,
        51 => (usize::from(header[1]) + 2) * 4,
        _ => (usize::from(header[1]) + 1) * 8,
    };
    let after = Upper::new(header[0], upper.at + bytes, upper.at);
    if after.at - packet.header > HEADERS_BYTES_MAX {
        return Next::Unknown;
    }
    if after.at > packet.length {
        return Next::Malformed;
    }
    let place = u16::from_be_bytes([header[2], header[3]]);
    if upper.protocol == 44 && (place >> 3, place & 1) != (0, 0) {
        let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        return Next::Fragment(Fragment { offset: place >> 3, id, upper: after });
    }
    Next::Header(after)
}
