//! What a frame that the program sent is: a tunnel to a backend, or an answer to the client.

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};
use std::net::IpAddr;

/// A frame that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// To a backend.
    Tunnel {
        /// Source of the outer header.
        source: IpAddr,
        /// Destination of the outer header.
        destination: IpAddr,
        /// The destination port that the inner packet has, if it is one that has ports.
        port: Option<u16>,
        /// The tunnel's name.
        how: &'static str,
    },
    /// To the client: what it is told.
    Answer(String),
    /// To the client: the reply to its ping.
    Pong,
}

/// IP protocol numbers of tunnels.
const IPV4_INSIDE: u8 = 4;
const IPV6_INSIDE: u8 = 41;

/// Reads a frame; `None` if it is neither.
#[must_use]
pub fn sent(frame: &[u8]) -> Option<Sent> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let (source, destination, protocol, payload): (IpAddr, IpAddr, u8, &[u8]) = match sliced.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            let payload = ip.payload();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                payload.ip_number.0,
                payload.payload,
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let payload = ip.payload();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                payload.ip_number.0,
                payload.payload,
            )
        }
        NetSlice::Arp(_) => return None,
    };
    let tunnel = |how, inner: &[u8]| Some(Sent::Tunnel { source, destination, port: inner_port(inner), how });
    match (protocol, sliced.transport.as_ref()) {
        (IPV4_INSIDE, _) if destination.is_ipv4() => tunnel("IPIP", payload),
        (IPV4_INSIDE, _) => tunnel("IPv4 in IPv6", payload),
        (IPV6_INSIDE, _) if destination.is_ipv6() => tunnel("IP6IP6", payload),
        (IPV6_INSIDE, _) => tunnel("IPv6 in IPv4", payload),
        (_, Some(TransportSlice::Udp(udp))) => tunnel("GUE", udp.payload()),
        (_, Some(TransportSlice::Tcp(_))) => Some(Sent::Answer("a TCP reset".into())),
        (_, Some(TransportSlice::Icmpv4(icmp))) => Some(icmp_v4(icmp.icmp_type())),
        (_, Some(TransportSlice::Icmpv6(icmp))) => Some(icmp_v6(icmp.icmp_type())),
        _ => None,
    }
}

fn icmp_v4(icmp: Icmpv4Type) -> Sent {
    match icmp {
        Icmpv4Type::EchoReply(_) => Sent::Pong,
        Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu }) => {
            too_big(next_hop_mtu.into())
        }
        _ => Sent::Answer("an ICMP error".into()),
    }
}

fn icmp_v6(icmp: Icmpv6Type) -> Sent {
    match icmp {
        Icmpv6Type::EchoReply(_) => Sent::Pong,
        Icmpv6Type::PacketTooBig { mtu } => too_big(mtu),
        _ => Sent::Answer("an ICMP error".into()),
    }
}

fn too_big(mtu: u32) -> Sent {
    Sent::Answer(format!("an ICMP error: packets may be {mtu} bytes long"))
}

fn inner_port(inner: &[u8]) -> Option<u16> {
    match SlicedPacket::from_ip(inner).ok()?.transport? {
        TransportSlice::Tcp(tcp) => Some(tcp.destination_port()),
        TransportSlice::Udp(udp) => Some(udp.destination_port()),
        TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) => None,
    }
}
