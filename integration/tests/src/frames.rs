//! Frames as they are, sent from a device: fragments in any order, tags, and what no socket sends.

#![allow(clippy::panic, reason = "the scaffolding of tests says what went wrong and stops")]
#![allow(clippy::unwrap_used, reason = "the scaffolding of tests says what went wrong and stops")]

use crate::bed::index_of;
use crate::lab::Namespace;
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, PacketBuilder};
use std::net::{IpAddr, SocketAddr};

/// Sends what its arguments say, in hexadecimal, from the device of the index that comes first. Every Debian has Perl,
/// and Rust's standard library has no packet sockets.
const SENDER: &str = r#"
    my $index = shift;
    socket(my $packets, 17, 3, 0) or die "socket: $!";
    my $device = pack("S n l S C C a8", 17, 0, $index, 0, 0, 0, "");
    for my $frame (@ARGV) { send($packets, pack("H*", $frame), 0, $device) or die "send: $!" }
"#;

/// Bytes of an Ethernet header without a tag.
const ETHERNET: usize = 14;

/// A machine as its links know it.
pub trait Wire {
    /// Sends frames from a device, in this order.
    fn send_frames(&self, device: &str, frames: &[Vec<u8>]);

    /// A device's Ethernet address.
    fn mac(&self, device: &str) -> [u8; 6];
}

impl Wire for Namespace {
    fn send_frames(&self, device: &str, frames: &[Vec<u8>]) {
        let index = self.run(|| index_of(device));
        let mut command = self.command("perl");
        command.args(["-e", SENDER, &index.to_string()]);
        command.args(
            frames.iter().map(|frame| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        );
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn mac(&self, device: &str) -> [u8; 6] {
        let shown = self.ip(&["-o", "link", "show", device]);
        let (_, rest) = shown.split_once("link/ether ").unwrap();
        let bytes: Vec<u8> =
            rest[..17].split(':').map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
        bytes.try_into().unwrap()
    }
}

/// An IP packet with a datagram of UDP.
#[must_use]
pub fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let builder = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        families => panic!("{families:?} are of two families"),
    };
    let mut packet = Vec::new();
    builder.udp(from.port(), to.port()).write(&mut packet, payload).unwrap();
    packet
}

/// An IP packet of another protocol.
#[must_use]
pub fn of_protocol(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(payload.len()).unwrap();
            let mut header =
                Ipv4Header::new(length, 64, IpNumber(protocol), from.octets(), to.octets()).unwrap();
            header.header_checksum = header.calc_header_checksum();
            packet.extend_from_slice(&header.to_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                payload_length: u16::try_from(payload.len()).unwrap(),
                next_header: IpNumber(protocol),
                hop_limit: 64,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            packet.extend_from_slice(&header.to_bytes());
        }
        families => panic!("{families:?} are of two families"),
    }
    packet.extend_from_slice(payload);
    packet
}

/// Cuts an IP packet without options or extension headers into fragments of at most this many bytes behind the IP
/// header, which eight divides.
#[must_use]
pub fn fragments(packet: &[u8], bytes: usize, identification: u16) -> Vec<Vec<u8>> {
    let is_v4 = packet[0] >> 4 == 4;
    let payload = &packet[if is_v4 { Ipv4Header::MIN_LEN } else { Ipv6Header::LEN }..];
    let count = payload.chunks(bytes).len();
    let cut = |(at, piece): (usize, &[u8])| {
        let offset = IpFragOffset::try_new(u16::try_from(at * bytes / 8).unwrap()).unwrap();
        let more = at + 1 < count;
        let mut fragment = Vec::new();
        if is_v4 {
            let (mut header, _) = Ipv4Header::from_slice(packet).unwrap();
            header.identification = identification;
            header.dont_fragment = false;
            (header.more_fragments, header.fragment_offset) = (more, offset);
            header.set_payload_len(piece.len()).unwrap();
            header.header_checksum = header.calc_header_checksum();
            fragment.extend_from_slice(&header.to_bytes());
        } else {
            let (mut header, _) = Ipv6Header::from_slice(packet).unwrap();
            let extension = Ipv6FragmentHeader::new(header.next_header, offset, more, identification.into());
            header.next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
            header.set_payload_length(piece.len() + Ipv6FragmentHeader::LEN).unwrap();
            fragment.extend_from_slice(&header.to_bytes());
            fragment.extend_from_slice(&extension.to_bytes());
        }
        fragment.extend_from_slice(piece);
        fragment
    };
    payload.chunks(bytes).enumerate().map(cut).collect()
}

/// A frame from a machine's device to another's, around an IP packet, behind these tags of 802.1Q.
#[must_use]
pub fn frame(from: (&Namespace, &str), to: (&Namespace, &str), tags: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET + packet.len());
    frame.extend_from_slice(&to.0.mac(to.1));
    frame.extend_from_slice(&from.0.mac(from.1));
    for tag in tags {
        frame.extend_from_slice(&[0x81, 0x00]);
        frame.extend_from_slice(&tag.to_be_bytes());
    }
    frame.extend_from_slice(if packet[0] >> 4 == 4 { &[0x08, 0x00] } else { &[0x86, 0xdd] });
    frame.extend_from_slice(packet);
    frame
}
