//! What becomes of a frame, said plainly.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netd_bpf::decap::Prefix;
use netd_bpf::strict::abi::Counts;
use netd_bpf::strict::{Rules, Tunnel};
use netd_bpf::tc::Side;

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    OutPlain,
    OutTunnel,
    OutFragment,
    InPlain,
    InTunnel,
}

impl Why {
    /// Where it is counted.
    pub fn line(self, counts: &mut Counts) -> &mut u64 {
        match self {
            Self::OutPlain => &mut counts.out_plain,
            Self::OutTunnel => &mut counts.out_tunnel,
            Self::OutFragment => &mut counts.out_fragment,
            Self::InPlain => &mut counts.in_plain,
            Self::InTunnel => &mut counts.in_tunnel,
        }
    }
}

/// Whose fragments they are.
type Name = (IpAddr, IpAddr, u32);

/// Remembers the packets whose first fragments were dropped.
#[derive(Default)]
pub struct Model {
    dropped: BTreeSet<Name>,
}

/// A packet of IP, as far as it is looked at.
struct Packet<'f> {
    name: Name,
    protocol: u8,
    hops: u8,
    /// In bytes, or eight of them; what counts is whether it is zero.
    offset: u16,
    more: bool,
    payload: &'f [u8],
}

impl Model {
    /// Why the frame is dropped, if it is.
    pub fn run(&mut self, rules: &Rules, side: Side, frame: &[u8], mark: u32) -> Option<Why> {
        let packet = packet(frame)?;
        match side {
            Side::Egress => self.leaving(rules, &packet, mark),
            Side::Ingress => coming(rules, &packet),
        }
    }

    fn leaving(&mut self, rules: &Rules, packet: &Packet<'_>, mark: u32) -> Option<Why> {
        if is_wireguards(rules, packet, mark) {
            return None;
        }
        let (_, destination, _) = packet.name;
        if is_in(&rules.destinations, destination) {
            return (!is_neighbour_discovery(packet)).then_some(Why::OutPlain);
        }
        if packet.protocol == 17 && packet.offset != 0 {
            return self.dropped.contains(&packet.name).then_some(Why::OutFragment);
        }
        let (_, to, _) = carried(rules, packet)?.name;
        if !is_in(&rules.destinations, to) {
            return None;
        }
        if packet.more {
            self.dropped.insert(packet.name);
        }
        Some(Why::OutTunnel)
    }
}

fn coming(rules: &Rules, packet: &Packet<'_>) -> Option<Why> {
    if is_in(&rules.sources, packet.name.0) {
        return Some(Why::InPlain);
    }
    let (from, _, _) = carried(rules, packet)?.name;
    is_in(&rules.sources, from).then_some(Why::InTunnel)
}

fn packet(frame: &[u8]) -> Option<Packet<'_>> {
    let ip = frame.get(14..)?;
    match frame.get(12..14)? {
        [0x08, 0x00] => of_v4(ip),
        [0x86, 0xdd] => of_v6(ip),
        _ => None,
    }
}

fn of_v4(ip: &[u8]) -> Option<Packet<'_>> {
    let header: &[u8; 20] = ip.first_chunk()?;
    if header[0] >> 4 != 4 || header[0] & 15 < 5 {
        return None;
    }
    let address = |at: usize| IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(&header[at..at + 4]).unwrap()));
    let flags = u16::from_be_bytes([header[6], header[7]]);
    Some(Packet {
        name: (address(12), address(16), u16::from_be_bytes([header[4], header[5]]).into()),
        protocol: header[9],
        hops: header[8],
        offset: flags & 0x1fff,
        more: flags & 0x2000 != 0,
        payload: ip.get(usize::from(header[0] & 15) * 4..).unwrap_or_default(),
    })
}

fn of_v6(ip: &[u8]) -> Option<Packet<'_>> {
    let header: &[u8; 40] = ip.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let address =
        |at: usize| IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(&header[at..at + 16]).unwrap()));
    let (protocol, hops) = (header[6], header[7]);
    let whole = Packet {
        name: (address(8), address(24), 0),
        protocol,
        hops,
        offset: 0,
        more: false,
        payload: &ip[40..],
    };
    let Some(fragment) = ip[40..].first_chunk::<8>().filter(|_| protocol == 44) else { return Some(whole) };
    let flags = u16::from_be_bytes([fragment[2], fragment[3]]);
    let (from, to, _) = whole.name;
    Some(Packet {
        name: (from, to, u32::from_be_bytes(*fragment.last_chunk().unwrap())),
        protocol: fragment[0],
        offset: flags >> 3,
        more: flags & 1 != 0,
        payload: &ip[48..],
        ..whole
    })
}

fn is_wireguards(rules: &Rules, packet: &Packet<'_>, mark: u32) -> bool {
    if rules.mark == 0 || mark != rules.mark || packet.protocol != 17 {
        return false;
    }
    packet.offset != 0 || matches!(packet.payload.get(8..12), Some([kind, 0, 0, 0]) if (1..=4).contains(kind))
}

/// Router and neighbour solicitations and advertisements, and redirects.
fn is_neighbour_discovery(packet: &Packet<'_>) -> bool {
    let kind = packet.payload.first();
    packet.name.1.is_ipv6()
        && (packet.protocol, packet.hops, packet.offset) == (58, 255, 0)
        && kind.is_some_and(|kind| (133..=137).contains(kind))
}

/// The packet in the nodes' tunnel.
fn carried<'f>(rules: &Rules, packet: &Packet<'f>) -> Option<Packet<'f>> {
    if packet.protocol != 17 || packet.offset != 0 {
        return None;
    }
    let (udp, rest) = packet.payload.split_at_checked(8)?;
    let (port, header) = match rules.tunnel? {
        Tunnel::Vxlan(port) => (port, 8),
        Tunnel::Geneve(port) => (port, 8 + usize::from(rest.first()? & 0x3f) * 4),
    };
    if udp[2..4] != port.to_be_bytes() {
        return None;
    }
    self::packet(rest.get(header..)?)
}

fn is_in(prefixes: &BTreeSet<Prefix>, address: IpAddr) -> bool {
    prefixes.iter().any(|(network, bits)| match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(32 - u32::from(*bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(128 - u32::from(*bits)).unwrap_or(0) == 0
        }
        _ => false,
    })
}
