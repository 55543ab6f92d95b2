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
    /// Whether all headers are there, up to that of what the packet carries.
    is_read: bool,
    /// Whether there are no headers between that of IP and that one.
    is_bare: bool,
}

/// What is found where a packet may be.
enum Found<'f> {
    Nothing,
    Packet(Packet<'f>),
    /// There may be one, and it cannot be read.
    Hidden,
}

impl Model {
    /// Why the frame is dropped, if it is.
    pub fn run(&mut self, rules: &Rules, side: Side, frame: &[u8], mark: u32) -> Option<Why> {
        match (side, packet(&frame[12..])) {
            (_, Found::Nothing) => None,
            (Side::Egress, Found::Hidden) => Some(Why::OutPlain),
            (Side::Ingress, Found::Hidden) => Some(Why::InPlain),
            (Side::Egress, Found::Packet(packet)) => self.leaving(rules, &packet.whole(), mark),
            (Side::Ingress, Found::Packet(packet)) => coming(rules, &packet.whole()),
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
        if packet.offset != 0 {
            let is_named = packet.protocol == 17 || destination.is_ipv6();
            return (is_named && self.dropped.contains(&packet.name)).then_some(Why::OutFragment);
        }
        match carried(rules, packet) {
            Found::Nothing => return None,
            Found::Packet(inner) if !is_in(&rules.destinations, inner.name.1) => return None,
            Found::Packet(_) | Found::Hidden => {}
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
    match carried(rules, packet) {
        Found::Nothing => None,
        Found::Packet(inner) => is_in(&rules.sources, inner.name.0).then_some(Why::InTunnel),
        Found::Hidden => Some(Why::InTunnel),
    }
}

/// The packet of a frame, from its type on. Four tags of VLANs are looked through.
fn packet(frame: &[u8]) -> Found<'_> {
    let mut rest = frame;
    for tags in 0.. {
        let Some((kind, ip)) = rest.split_at_checked(2) else { return Found::Hidden };
        let packet = match kind {
            [0x08, 0x00] => of_v4(ip),
            [0x86, 0xdd] => of_v6(ip),
            [0x81, 0x00] | [0x88, 0xa8] if tags < 4 => {
                rest = ip.get(2..).unwrap_or_default();
                continue;
            }
            [0x81, 0x00] | [0x88, 0xa8] => None,
            _ => return Found::Nothing,
        };
        return packet.map_or(Found::Hidden, Found::Packet);
    }
    unreachable!("every way out of the loop is a return")
}

impl<'f> Packet<'f> {
    /// With the headers behind that of IPv6, of which eight are looked through.
    fn whole(mut self) -> Self {
        let mut is_named = false;
        for _ in 0..=8 {
            if self.name.1.is_ipv4() || ![0, 43, 44, 60].contains(&self.protocol) {
                return Self { is_read: true, ..self };
            }
            let Some(header) = self.payload.first_chunk::<8>() else { break };
            let is_fragment = self.protocol == 44;
            let length = if is_fragment { 8 } else { (usize::from(header[1]) + 1) * 8 };
            (self.protocol, self.is_bare) = (header[0], false);
            self.payload = self.payload.get(length..).unwrap_or_default();
            if !is_fragment {
                continue;
            }
            let flags = u16::from_be_bytes([header[2], header[3]]);
            if !std::mem::replace(&mut is_named, true) {
                self.name.2 = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            }
            self.more |= flags & 1 != 0;
            if flags >> 3 != 0 {
                return Self { offset: flags >> 3, is_read: true, ..self };
            }
        }
        self
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
        is_read: true,
        is_bare: true,
    })
}

fn of_v6(ip: &[u8]) -> Option<Packet<'_>> {
    let header: &[u8; 40] = ip.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let address =
        |at: usize| IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(&header[at..at + 16]).unwrap()));
    Some(Packet {
        name: (address(8), address(24), 0),
        protocol: header[6],
        hops: header[7],
        offset: 0,
        more: false,
        payload: &ip[40..],
        is_read: false,
        is_bare: true,
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
    (packet.name.1.is_ipv6() && packet.is_bare)
        && (packet.protocol, packet.hops, packet.offset) == (58, 255, 0)
        && kind.is_some_and(|kind| (133..=137).contains(kind))
}

/// The packet in the nodes' tunnel.
fn carried<'f>(rules: &Rules, packet: &Packet<'f>) -> Found<'f> {
    let Some(tunnel) = rules.tunnel.filter(|_| packet.offset == 0) else { return Found::Nothing };
    if packet.is_read && packet.protocol != 17 {
        return Found::Nothing;
    }
    let Some((udp, rest)) = packet.payload.split_at_checked(8).filter(|_| packet.is_read) else {
        return Found::Hidden;
    };
    let (Tunnel::Vxlan(port) | Tunnel::Geneve(port)) = tunnel;
    if udp[2..4] != port.to_be_bytes() {
        return Found::Nothing;
    }
    let options = match tunnel {
        Tunnel::Vxlan(_) => Some(0),
        Tunnel::Geneve(_) => rest.first().map(|first| usize::from(first & 0x3f) * 4),
    };
    // The tunnel's header, and two addresses of Ethernet.
    let inner = options.and_then(|options| rest.get(options + 8 + 12..));
    inner.map_or(Found::Hidden, self::packet)
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
