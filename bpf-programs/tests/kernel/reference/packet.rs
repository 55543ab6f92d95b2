//! A frame taken apart, as far as the specification's first two sections look.

use std::net::IpAddr;

use netd_bpf::Verdict;
use netd_bpf::abi::{TCP, UDP};

pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;

/// An IP packet in its frame.
pub struct Packet<'a> {
    pub frame: &'a [u8],
    /// The 802.1Q or 802.1ad tag, or nothing.
    pub tag: &'a [u8],
    /// From the IP header to the end of the frame.
    pub ip: &'a [u8],
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Bytes of the IP header with options, without extension headers.
    pub header: usize,
    /// Bytes of the IP packet as its header says.
    pub length: usize,
}

/// What follows the IP header, or the extension headers that were passed.
#[derive(Clone, Copy)]
pub struct Upper {
    pub protocol: u8,
    /// Its offset from the IP header on.
    pub at: usize,
    /// The offset of the field that names it.
    pub named_at: usize,
    /// Where the port lies that a backend may have of its own, and the checksum over it.
    pub port_at: Option<(usize, usize)>,
}

impl Upper {
    pub fn new(protocol: u8, at: usize, named_at: usize) -> Self {
        let port_at = match protocol {
            TCP => Some((at + 2, at + 16)),
            UDP => Some((at + 2, at + 6)),
            _ => None,
        };
        Self { protocol, at, named_at, port_at }
    }
}

/// What the choice of a backend has to know about a packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowFlags {
    /// A TCP SYN without ACK.
    pub syn: bool,
    /// It may make records.
    pub records: bool,
    /// It may refresh them.
    pub refreshes: bool,
    /// Where slots are chosen at random, this packet may be the first of its flow.
    pub starts: bool,
}

impl<'a> Packet<'a> {
    /// Section 1. None: the frame passes.
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let tagged = matches!(frame.get(12..14)?, [0x81, 0x00] | [0x88, 0xa8]);
        let tag = if tagged { frame.get(12..16)? } else { &[] };
        let kind = frame.get(12 + tag.len()..14 + tag.len())?;
        let ip = &frame[14 + tag.len()..];
        let be16 = |at: usize| usize::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
        let (source, destination, header, length): (IpAddr, IpAddr, usize, usize) = match kind {
            [0x08, 0x00] if ip.len() >= 20 && ip[0] >> 4 == 4 => {
                let octets = |at: usize| [ip[at], ip[at + 1], ip[at + 2], ip[at + 3]].into();
                (octets(12), octets(16), usize::from(ip[0] & 15) * 4, be16(2))
            }
            [0x86, 0xdd] if ip.len() >= 40 && ip[0] >> 4 == 6 => {
                let octets = |at: usize| <[u8; 16]>::try_from(&ip[at..at + 16]).expect("16 bytes").into();
                (octets(8), octets(24), 40, 40 + be16(4))
            }
            _ => return None,
        };
        let whole = header >= 20 && header <= ip.len();
        whole.then_some(Self { frame, tag, ip, source, destination, header, length })
    }

    pub fn is_v4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// What the IP header itself names.
    pub fn first(&self) -> Upper {
        let named_at = if self.is_v4() { 9 } else { 6 };
        Upper::new(self.ip[named_at], self.header, named_at)
    }

    pub fn hop_limit(&self) -> u8 {
        self.ip[if self.is_v4() { 8 } else { 7 }]
    }

    /// TOS or traffic class.
    pub fn traffic_class(&self) -> u8 {
        if self.is_v4() { self.ip[1] } else { self.ip[0] << 4 | self.ip[1] >> 4 }
    }

    pub fn has_df(&self) -> bool {
        self.is_v4() && self.ip[6] & 0x40 != 0
    }

    pub fn is_fragment_v4(&self) -> bool {
        self.is_v4() && (self.ip[6] & 0x3f, self.ip[7]) != (0, 0)
    }

    pub fn is_icmp(&self, upper: &Upper) -> bool {
        upper.protocol == if self.is_v4() { ICMP } else { ICMPV6 }
    }

    /// Sent to a group at the link: nothing answers it.
    pub fn is_for_a_group(&self) -> bool {
        self.frame[0] & 1 != 0
    }

    /// Source and destination port, as far as the frame goes.
    pub fn ports(&self, upper: &Upper) -> Option<(u16, u16)> {
        if !matches!(upper.protocol, TCP | UDP) {
            return None;
        }
        let bytes = self.ip.get(upper.at..upper.at + 4)?;
        Some((u16::from_be_bytes([bytes[0], bytes[1]]), u16::from_be_bytes([bytes[2], bytes[3]])))
    }

    /// The packet holds its header, the frame the packet, and it may still travel.
    pub fn holds_itself(&self) -> bool {
        self.length >= self.header && self.length <= self.ip.len() && self.hop_limit() != 0
    }

    /// Section 2, step 1: the same, and its transport header.
    pub fn is_whole(&self, upper: &Upper) -> bool {
        self.holds_itself() && self.length >= upper.at + transport_bytes(upper.protocol)
    }

    /// The part of the IP packet that starts at an offset.
    pub fn from(&self, at: usize) -> &'a [u8] {
        &self.ip[at..self.length]
    }

    /// Of a whole packet of TCP or UDP.
    pub fn flow_flags(&self, upper: &Upper) -> FlowFlags {
        if upper.protocol == UDP {
            return FlowFlags { syn: false, records: true, refreshes: true, starts: true };
        }
        let flags = self.ip[upper.at + 13];
        let (syn, ack, rst) = (flags & 0x02 != 0, flags & 0x10 != 0, flags & 0x04 != 0);
        FlowFlags { syn: syn && !ack, records: !rst && (syn || ack), refreshes: true, starts: syn && !ack }
    }

    /// Section 2, step 2, as far as addresses say.
    pub fn is_martian(&self) -> bool {
        let odd = match self.source {
            IpAddr::V4(source) => matches!(source.octets()[0], 0 | 127 | 224..),
            IpAddr::V6(source) => {
                source.is_unspecified()
                    || source.is_loopback()
                    || source.is_multicast()
                    || source.to_ipv4_mapped().is_some()
            }
        };
        odd || self.source == self.destination
    }

    pub fn dropped(&self) -> (Verdict, Vec<u8>) {
        (Verdict::Drop, self.frame.to_vec())
    }

    pub fn passed(&self) -> (Verdict, Vec<u8>) {
        (Verdict::Pass, self.frame.to_vec())
    }
}

/// The bytes that a transport header has at least.
pub fn transport_bytes(protocol: u8) -> usize {
    match protocol {
        TCP => 20,
        UDP => 8,
        _ => 0,
    }
}
