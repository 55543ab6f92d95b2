//! Section 1 of `docs/nat.md`: what a frame is read as.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a whole TCP header, which packets have to have.
pub const WHOLE_TCP: usize = 20;
/// Bytes of a transport header that a quoted packet has to have.
pub const QUOTED: usize = 8;

/// An IP packet in a frame; offsets are the frame's.
#[derive(Clone, Debug)]
pub struct Packet {
    pub l3: usize,
    pub l4: usize,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub part: Part,
    pub id: u32,
    pub what: What,
    /// An echo's identifier is both.
    pub source_port: u16,
    pub destination_port: u16,
    pub flags: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    First,
    Later,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Tcp,
    Udp,
    Request,
    Reply,
    Error,
    Unsupported,
    Unreadable,
    /// Of a later fragment nothing is known.
    Unknown,
}

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

impl Packet {
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        match frame.get(12..14)? {
            [0x08, 0x00] => Self::at(frame, 14, true, WHOLE_TCP),
            [0x86, 0xdd] => Self::at(frame, 14, false, WHOLE_TCP),
            _ => None,
        }
    }

    /// The packet that an error quotes, if it belongs to a flow.
    pub fn quoted_by(frame: &[u8], error: &Self) -> Option<Self> {
        let quoted = Self::at(frame, error.l4 + 8, error.is_v4(), QUOTED)?;
        matches!(quoted.what, What::Tcp | What::Udp | What::Request | What::Reply).then_some(quoted)
    }

    pub fn is_v4(&self) -> bool {
        self.source.is_ipv4()
    }

    pub fn is_echo(&self) -> bool {
        matches!(self.what, What::Request | What::Reply)
    }

    pub fn begins(&self) -> bool {
        self.what == What::Tcp && self.flags & (SYN | ACK) == SYN
    }

    pub fn resets(&self) -> bool {
        self.what == What::Tcp && self.flags & RST != 0
    }

    pub fn accepts(&self) -> bool {
        self.what == What::Tcp && self.flags & (SYN | ACK | RST) == SYN | ACK
    }

    pub fn ends(&self) -> bool {
        self.what == What::Tcp && self.flags & 1 != 0
    }

    fn at(frame: &[u8], l3: usize, is_v4: bool, tcp_bytes: usize) -> Option<Self> {
        let mut packet = if is_v4 { v4(frame, l3)? } else { v6(frame, l3)? };
        if packet.part == Part::Later || packet.what == What::Unreadable {
            return Some(packet);
        }
        packet.read_transport(frame, tcp_bytes);
        Some(packet)
    }

    fn read_transport(&mut self, frame: &[u8], tcp_bytes: usize) {
        let icmp = if self.is_v4() { 1 } else { 58 };
        let least = match self.protocol {
            6 => tcp_bytes,
            17 => 8,
            protocol if protocol == icmp => 8,
            _ => {
                self.what = What::Unsupported;
                return;
            }
        };
        let Some(header) = frame.get(self.l4..self.l4 + least) else {
            self.what = What::Unreadable;
            return;
        };
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if self.protocol == icmp {
            self.what = match (self.is_v4(), header[0]) {
                (true, 8) | (false, 128) => What::Request,
                (true, 0) | (false, 129) => What::Reply,
                (true, 3 | 11 | 12) | (false, 1..=4) => What::Error,
                _ => What::Unsupported,
            };
            (self.source_port, self.destination_port) = (word(4), word(4));
            return;
        }
        (self.source_port, self.destination_port) = (word(0), word(2));
        self.what = if self.protocol == 6 { What::Tcp } else { What::Udp };
        if self.protocol == 6 && least == WHOLE_TCP {
            self.flags = header[13];
        }
    }
}

fn v4(frame: &[u8], l3: usize) -> Option<Packet> {
    let ip: &[u8; 20] = frame.get(l3..)?.first_chunk()?;
    let l4 = l3 + usize::from(ip[0] & 15) * 4;
    if ip[0] >> 4 != 4 || ip[0] & 15 < 5 || l4 > frame.len() {
        return None;
    }
    let place = u16::from_be_bytes([ip[6], ip[7]]);
    let part = match (place & 0x1fff, place & 0x2000) {
        (0, 0) => Part::Whole,
        (0, _) => Part::First,
        _ => Part::Later,
    };
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]).into();
    let id = u16::from_be_bytes([ip[4], ip[5]]).into();
    Some(packet(l3, l4, (address(12), address(16)), ip[9], part, id))
}

fn v6(frame: &[u8], l3: usize) -> Option<Packet> {
    let ip: &[u8; 40] = frame.get(l3..)?.first_chunk()?;
    if ip[0] >> 4 != 6 {
        return None;
    }
    let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap()).into();
    let mut found = packet(l3, l3 + 40, (address(8), address(24)), ip[6], Part::Whole, 0);
    for skipped in 0.. {
        if !matches!(found.protocol, 0 | 43 | 44 | 60) {
            break;
        }
        let header = frame.get(found.l4..found.l4 + 8);
        let Some(header) = header.filter(|_| skipped < 8) else {
            found.what = What::Unreadable;
            break;
        };
        if found.protocol == 43 && header[3] != 0 {
            break;
        }
        let mut bytes = (usize::from(header[1]) + 1) * 8;
        if found.protocol == 44 {
            bytes = 8;
            found.id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            found.part = match (u16::from_be_bytes([header[2], header[3]]) & 0xfff8, header[3] & 1) {
                (0, 0) => Part::Whole,
                (0, _) => Part::First,
                _ => Part::Later,
            };
        }
        found.protocol = header[0];
        found.l4 += bytes;
        if found.l4 > frame.len() {
            found.what = What::Unreadable;
            break;
        }
        if found.part != Part::Whole {
            break;
        }
    }
    Some(found)
}

fn packet(l3: usize, l4: usize, ends: (IpAddr, IpAddr), protocol: u8, part: Part, id: u32) -> Packet {
    let (source, destination) = ends;
    let (source_port, destination_port, flags) = (0, 0, 0);
    let what = What::Unknown;
    Packet { l3, l4, source, destination, protocol, part, id, what, source_port, destination_port, flags }
}
