//! Packets in layers, for the cases: what goes in, and what has to come out. By hand, so that neither the program nor
//! the model is asked what a packet looks like.

use std::net::IpAddr;

use crate::bed::{BALANCER_MAC, CLIENT_MAC};

pub const CLIENT: &str = "10.1.2.3";
pub const CLIENT6: &str = "2001:db8::1";
pub const VIP: &str = "192.0.2.10";
pub const VIP6: &str = "2001:db8:100::10";
pub const CLIENT_PORT: u16 = 12345;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PUSH: u8 = 8;
pub const ACK: u8 = 16;

/// A frame, layer by layer. Made by [`v4`], [`v6`] or [`ip`], with a transport from one of the methods.
#[derive(Clone, Debug)]
pub struct Layers {
    pub to_mac: [u8; 6],
    pub from_mac: [u8; 6],
    pub tags: Vec<u8>,
    /// The type, if it is not that of the family.
    pub kind: Option<[u8; 2]>,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub class: u8,
    pub label: u32,
    pub id: u16,
    /// 0x40: DF, 0x20: MF, 0x80: the reserved bit.
    pub flags: u8,
    pub offset: u16,
    pub hops: u8,
    pub options: Vec<u8>,
    /// What the length field says, if it lies.
    pub length: Option<u16>,
    /// Extension headers: number, and bytes without the first, the next header.
    pub chain: Vec<(u8, Vec<u8>)>,
    pub transport: Transport,
    /// The frontend's port that the packet is about, where its own bytes do not say.
    pub about: Option<u16>,
    /// The client and the protocol of the flow that it is about, if they are not its own.
    pub flow: Option<(IpAddr, u8)>,
    pub behind: Vec<u8>,
    pub cut: Option<usize>,
    pub patches: Vec<(usize, u8)>,
}

#[derive(Clone, Debug)]
pub enum Transport {
    Tcp {
        ports: (u16, u16),
        seq: u32,
        ack: u32,
        offset: u8,
        flags: u8,
        window: u16,
        data: Vec<u8>,
        sum: Sum,
    },
    Udp {
        ports: (u16, u16),
        data: Vec<u8>,
        sum: Sum,
    },
    /// Number, then type, code, the word behind the checksum, and what follows.
    Icmp {
        kind: u8,
        code: u8,
        word: u32,
        data: Vec<u8>,
        sum: Sum,
    },
    Raw {
        protocol: u8,
        bytes: Vec<u8>,
    },
}

/// The transport checksum that is written.
#[derive(Clone, Copy, Debug)]
pub enum Sum {
    Right,
    Is(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Family::V4 { "IPv4" } else { "IPv6" })
    }
}

/// From the client to the first VIP.
pub fn ip(family: Family) -> Layers {
    let (source, destination) = if family == Family::V4 { (CLIENT, VIP) } else { (CLIENT6, VIP6) };
    Layers {
        to_mac: BALANCER_MAC,
        from_mac: CLIENT_MAC,
        tags: Vec::new(),
        kind: None,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        class: 0,
        label: 0,
        id: 0,
        flags: 0x40,
        offset: 0,
        hops: 61,
        options: Vec::new(),
        length: None,
        chain: Vec::new(),
        transport: Transport::Raw { protocol: 59, bytes: Vec::new() },
        about: None,
        flow: None,
        behind: Vec::new(),
        cut: None,
        patches: Vec::new(),
    }
}

pub fn v4() -> Layers {
    ip(Family::V4)
}

pub fn v6() -> Layers {
    ip(Family::V6)
}

impl Layers {
    pub fn is_v4(&self) -> bool {
        self.source.is_ipv4()
    }

    pub fn from(mut self, source: &str) -> Self {
        self.source = source.parse().unwrap();
        self
    }

    pub fn to(mut self, destination: &str) -> Self {
        self.destination = destination.parse().unwrap();
        self
    }

    /// To one of several VIPs that have both families: the last number of its address.
    pub fn at_vip(self, last: &str) -> Self {
        let prefix = if self.is_v4() { "192.0.2." } else { "2001:db8:100::" };
        self.to(&format!("{prefix}{last}"))
    }

    pub fn at_mac(mut self, mac: [u8; 6]) -> Self {
        self.to_mac = mac;
        self
    }

    pub fn tag(mut self, tag: [u8; 4]) -> Self {
        self.tags.extend(tag);
        self
    }

    /// TOS or traffic class.
    pub fn class(mut self, class: u8) -> Self {
        self.class = class;
        self
    }

    pub fn label(mut self, label: u32) -> Self {
        self.label = label;
        self
    }

    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    pub fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    pub fn hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    /// Bytes of no-operation options.
    pub fn options(mut self, bytes: usize) -> Self {
        self.options = vec![1; bytes];
        self
    }

    pub fn length(mut self, length: usize) -> Self {
        self.length = Some(length as u16);
        self
    }

    /// An extension header; `bytes` are those after the next header.
    pub fn header(mut self, number: u8, bytes: &[u8]) -> Self {
        self.chain.push((number, bytes.to_vec()));
        self
    }

    pub fn hop_by_hop(self) -> Self {
        self.header(0, &[0, 1, 4, 0, 0, 0, 0])
    }

    pub fn destination_options(self) -> Self {
        self.header(60, &[0, 1, 4, 0, 0, 0, 0])
    }

    pub fn routing(self, left: u8) -> Self {
        self.header(43, &[0, 4, left, 0, 0, 0, 0])
    }

    pub fn authentication(self) -> Self {
        self.header(51, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    pub fn fragment_header(self, offset: u16, more: bool, id: u32) -> Self {
        let place = (offset << 3 | u16::from(more)).to_be_bytes();
        let id = id.to_be_bytes();
        self.header(44, &[0, place[0], place[1], id[0], id[1], id[2], id[3]])
    }

    pub fn tcp(mut self, from: u16, to: u16) -> Self {
        let (ports, data) = ((from, to), Vec::new());
        let (seq, ack, offset, flags, window) = (1000, 7, 5, ACK, 8192);
        self.transport = Transport::Tcp { ports, seq, ack, offset, flags, window, data, sum: Sum::Right };
        self
    }

    pub fn udp(mut self, from: u16, to: u16) -> Self {
        self.transport = Transport::Udp { ports: (from, to), data: Vec::new(), sum: Sum::Right };
        self
    }

    /// TCP or UDP, from the usual port.
    pub fn transport(self, protocol: u8, to: u16) -> Self {
        if protocol == 6 { self.tcp(CLIENT_PORT, to) } else { self.udp(CLIENT_PORT, to) }
    }

    pub fn icmp(mut self, kind: u8, code: u8, word: u32, data: &[u8]) -> Self {
        self.transport = Transport::Icmp { kind, code, word, data: data.to_vec(), sum: Sum::Right };
        self
    }

    /// An echo request of the family.
    pub fn ping(self, word: u32, data: &[u8]) -> Self {
        let kind = if self.is_v4() { 8 } else { 128 };
        self.icmp(kind, 0, word, data)
    }

    /// An echo reply of the family.
    pub fn pong(self, word: u32, data: &[u8]) -> Self {
        let kind = if self.is_v4() { 0 } else { 129 };
        self.icmp(kind, 0, word, data)
    }

    pub fn raw(mut self, protocol: u8, bytes: &[u8]) -> Self {
        self.transport = Transport::Raw { protocol, bytes: bytes.to_vec() };
        self
    }

    pub fn with(mut self, flags: u8) -> Self {
        if let Transport::Tcp { flags: old, .. } = &mut self.transport {
            *old = flags;
        }
        self
    }

    /// A SYN, as clients begin.
    pub fn syn(mut self) -> Self {
        if let Transport::Tcp { flags, ack, .. } = &mut self.transport {
            (*flags, *ack) = (SYN, 0);
        }
        self
    }

    pub fn numbers(mut self, sequence: u32, acknowledged: u32) -> Self {
        if let Transport::Tcp { seq, ack, .. } = &mut self.transport {
            (*seq, *ack) = (sequence, acknowledged);
        }
        self
    }

    pub fn window(mut self, bytes: u16) -> Self {
        if let Transport::Tcp { window, .. } = &mut self.transport {
            *window = bytes;
        }
        self
    }

    /// What the program says back to who sent this: addresses exchanged, 64 hops, DF, nothing else.
    pub fn turned(&self) -> Self {
        let mut back = ip(if self.is_v4() { Family::V4 } else { Family::V6 });
        (back.source, back.destination) = (self.destination, self.source);
        (back.from_mac, back.to_mac) = (self.to_mac, self.from_mac);
        back.hops = 64;
        back
    }

    /// The TCP header's length in words, if it lies.
    pub fn words(mut self, words: u8) -> Self {
        if let Transport::Tcp { offset, .. } = &mut self.transport {
            *offset = words;
        }
        self
    }

    pub fn data(mut self, bytes: &[u8]) -> Self {
        match &mut self.transport {
            Transport::Tcp { data, .. } | Transport::Udp { data, .. } | Transport::Icmp { data, .. } => {
                *data = bytes.to_vec();
            }
            Transport::Raw { bytes: old, .. } => *old = bytes.to_vec(),
        }
        self
    }

    pub fn sum(mut self, checksum: u16) -> Self {
        match &mut self.transport {
            Transport::Tcp { sum, .. } | Transport::Udp { sum, .. } | Transport::Icmp { sum, .. } => {
                *sum = Sum::Is(checksum);
            }
            Transport::Raw { .. } => {}
        }
        self
    }

    /// Another destination port, with the checksum that belongs to it.
    pub fn port(mut self, port: u16) -> Self {
        match &mut self.transport {
            Transport::Tcp { ports, .. } | Transport::Udp { ports, .. } => ports.1 = port,
            _ => {}
        }
        self
    }

    /// Which frontend's port it is about.
    pub fn about(mut self, port: u16) -> Self {
        self.about = Some(port);
        self
    }

    /// What follows the IP packet in the frame.
    pub fn behind(mut self, bytes: &[u8]) -> Self {
        self.behind = bytes.to_vec();
        self
    }

    /// The frame ends after so many bytes.
    pub fn cut(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    /// A byte of the IP packet, changed after everything was computed.
    pub fn patch(mut self, at: usize, byte: u8) -> Self {
        self.patches.push((at, byte));
        self
    }

    pub fn frontend_port(&self) -> Option<u16> {
        match &self.transport {
            Transport::Tcp { ports, .. } | Transport::Udp { ports, .. } => {
                Some(self.about.unwrap_or(ports.1))
            }
            _ => self.about,
        }
    }
}
