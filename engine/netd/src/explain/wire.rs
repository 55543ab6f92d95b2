//! The Ethernet frame of a packet that is asked about.

use super::packet::{Complaint, Kind, Packet, TcpFlags};
use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Type, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header,
    Ipv6FragmentHeader, Ipv6Header, PacketBuilder, PacketBuilderStep, icmpv4, icmpv6,
};
use netd_schema::Protocol;
use std::net::{IpAddr, SocketAddr};

/// Ethernet addresses that belong to nobody: locally administered.
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

const HOPS: u8 = 64;

/// Where a later fragment begins, in eighths of bytes: behind a first one of usual length.
const LATER_OFFSET: u16 = 185;

/// How long packets may be where an error says that one was too big.
const NARROW_MTU: u16 = 1400;

/// The frame; the payload is zeros.
///
/// # Errors
///
/// None for addresses of one family, which reading the packet has made sure of; a sentence otherwise.
pub(super) fn frame(packet: &Packet) -> Result<Vec<u8>, String> {
    let ether_type = if packet.destination.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
    let ethernet = Ethernet2Header { source: CLIENT_MAC, destination: NODE_MAC, ether_type };
    let mut frame = ethernet.to_bytes().to_vec();
    frame.extend(cut(packet, &whole(packet)?)?);
    Ok(frame)
}

/// The IP packet before anybody made fragments of it.
fn whole(packet: &Packet) -> Result<Vec<u8>, String> {
    let data = packet.length.map_or(0, |length| length.saturating_sub(packet.least_length()));
    let data = vec![0; usize::from(data)];
    let (client, vip) = (packet.source, packet.destination);
    match packet.kind {
        Kind::Whole | Kind::FirstFragment(_) | Kind::LaterFragment(_) => segment(packet, client, vip, &data),
        Kind::Ping => {
            let ip = between(client.ip(), vip.ip())?;
            match vip.is_ipv4() {
                true => written(|bytes| ip.icmpv4_echo_request(1, 1).write(bytes, &data)),
                false => written(|bytes| ip.icmpv6_echo_request(1, 1).write(bytes, &data)),
            }
        }
        Kind::Error { from, complaint } => {
            let quoted = segment(packet, vip, client, &[])?;
            let ip = between(from, vip.ip())?;
            match vip.is_ipv4() {
                true => written(|bytes| ip.icmpv4(complaint_v4(complaint)).write(bytes, &quoted)),
                false => written(|bytes| ip.icmpv6(complaint_v6(complaint)).write(bytes, &quoted)),
            }
        }
    }
}

/// With its place among fragments, and DF or not.
fn cut(packet: &Packet, whole: &[u8]) -> Result<Vec<u8>, String> {
    let (id, offset, has_more) = match packet.kind {
        Kind::FirstFragment(id) => (id, 0, true),
        Kind::LaterFragment(id) => (id, LATER_OFFSET, false),
        Kind::Whole | Kind::Ping | Kind::Error { .. } => (0, 0, false),
    };
    let is_fragment = offset > 0 || has_more;
    let fragment_offset = IpFragOffset::try_new(offset).map_err(|error| error.to_string())?;
    if packet.destination.is_ipv4() {
        let (mut header, rest) = Ipv4Header::from_slice(whole).map_err(|error| error.to_string())?;
        header.dont_fragment = !packet.lacks_df && !is_fragment;
        header.more_fragments = has_more;
        header.fragment_offset = fragment_offset;
        // A larger one was refused where the packet was read.
        header.identification = id as u16;
        header.header_checksum = header.calc_header_checksum();
        return Ok([&header.to_bytes(), rest].concat());
    }
    if !is_fragment {
        return Ok(whole.to_vec());
    }
    let (mut header, rest) = Ipv6Header::from_slice(whole).map_err(|error| error.to_string())?;
    let fragment = Ipv6FragmentHeader::new(header.next_header, fragment_offset, has_more, id);
    header.next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
    header.payload_length += Ipv6FragmentHeader::LEN as u16;
    Ok([&header.to_bytes()[..], &fragment.to_bytes(), rest].concat())
}

fn between(from: IpAddr, to: IpAddr) -> Result<PacketBuilderStep<etherparse::IpHeaders>, String> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ok(PacketBuilder::ipv4(from.octets(), to.octets(), HOPS)),
        (IpAddr::V6(from), IpAddr::V6(to)) => Ok(PacketBuilder::ipv6(from.octets(), to.octets(), HOPS)),
        _ => Err("source and destination are of different families".into()),
    }
}

fn segment(packet: &Packet, from: SocketAddr, to: SocketAddr, data: &[u8]) -> Result<Vec<u8>, String> {
    let ip = between(from.ip(), to.ip())?;
    let (from, to) = (from.port(), to.port());
    match packet.protocol {
        Protocol::Udp => written(|bytes| ip.udp(from, to).write(bytes, data)),
        Protocol::Tcp => {
            let tcp = ip.tcp(from, to, 1, 65_535);
            let tcp = match packet.flags {
                TcpFlags::Syn => tcp.syn(),
                TcpFlags::Ack => tcp.ack(1),
                TcpFlags::Fin => tcp.fin().ack(1),
                TcpFlags::Rst => tcp.rst(),
            };
            written(|bytes| tcp.write(bytes, data))
        }
    }
}

fn written<E: std::fmt::Display>(
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    write(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn complaint_v4(complaint: Complaint) -> Icmpv4Type {
    use icmpv4::{DestUnreachableHeader, TimeExceededCode};
    match complaint {
        Complaint::TooBig => {
            let header = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: NARROW_MTU };
            Icmpv4Type::DestinationUnreachable(header)
        }
        Complaint::Unreachable => Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Host),
        Complaint::Expired => Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit),
    }
}

fn complaint_v6(complaint: Complaint) -> Icmpv6Type {
    use icmpv6::{DestUnreachableCode, TimeExceededCode};
    match complaint {
        Complaint::TooBig => Icmpv6Type::PacketTooBig { mtu: NARROW_MTU.into() },
        Complaint::Unreachable => Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Address),
        Complaint::Expired => Icmpv6Type::TimeExceeded(TimeExceededCode::HopLimitExceeded),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    fn framed(text: &str) -> Vec<u8> {
        frame(&text.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_frame_is_the_packet() {
        for text in ["tcp 10.1.2.3:12345 > 192.0.2.10:80", "udp [2001:db8::7]:9 > [2001:db8:100::10]:53"] {
            let frame = framed(text);
            let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
            assert!(sliced.transport.is_some() && sliced.net.is_some());
        }
        assert_eq!(framed("udp 10.1.2.3:1 > 192.0.2.10:53 length 1500").len(), 1514);
        assert_eq!(framed("tcp [2001:db8::7]:9 > [2001:db8:100::10]:53 ack length 1500").len(), 1514);
    }

    #[test]
    fn fragments_are_some() {
        for (text, first) in [
            ("udp 10.1.2.3:1 > 192.0.2.10:53 first-fragment id 7", true),
            ("udp 10.1.2.3:1 > 192.0.2.10:53 later-fragment id 7", false),
            ("udp [2001:db8::7]:9 > [2001:db8:100::10]:53 first-fragment id 7 length 1280", true),
            ("tcp [2001:db8::7]:9 > [2001:db8:100::10]:53 later-fragment id 7 length 1280", false),
        ] {
            let frame = framed(text);
            let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
            assert!(sliced.is_ip_payload_fragmented(), "{text}");
            assert_eq!(frame[14..].len(), if text.contains("length") { 1280 } else { 28 });
            if let Some(NetSlice::Ipv4(ip)) = &sliced.net {
                let header = ip.header();
                assert_eq!((header.identification(), header.more_fragments()), (7, first));
                assert!(!header.dont_fragment());
                assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
            }
        }
    }

    #[test]
    fn only_packets_that_may_be_cut_lack_df() {
        let flags = |text: &str| framed(text)[20];
        assert_eq!(flags("udp 10.1.2.3:1 > 192.0.2.10:53"), 0x40);
        assert_eq!(flags("udp 10.1.2.3:1 > 192.0.2.10:53 no-df"), 0);
        assert_eq!(flags("icmp 10.1.2.3 > 192.0.2.10"), 0x40);
    }

    #[test]
    fn an_error_quotes_the_packet_that_it_is_about() {
        for text in [
            "icmp 10.9.9.9 > 192.0.2.10 too-big tcp 192.0.2.10:80 > 10.1.2.3:4242",
            "icmp 2001:db8::9 > 2001:db8:100::10 expired udp [2001:db8:100::10]:80 > [2001:db8::7]:4242",
        ] {
            let frame = framed(text);
            let quoted = match SlicedPacket::from_ethernet(&frame).unwrap().transport.unwrap() {
                TransportSlice::Icmpv4(icmp) => icmp.payload().to_vec(),
                TransportSlice::Icmpv6(icmp) => icmp.payload().to_vec(),
                _ => Vec::new(),
            };
            let ports = match SlicedPacket::from_ip(&quoted).unwrap().transport.unwrap() {
                TransportSlice::Tcp(tcp) => (tcp.source_port(), tcp.destination_port()),
                TransportSlice::Udp(udp) => (udp.source_port(), udp.destination_port()),
                _ => (0, 0),
            };
            assert_eq!(ports, (80, 4242));
        }
    }
}
