//! The bytes of packets in layers, and what fragments have of them.

use std::net::IpAddr;

use super::layers::{Layers, Sum, Transport};

impl Layers {
    /// The first fragment, with so many bytes of transport header and data.
    pub fn first(mut self, bytes: usize, id: u32) -> Self {
        let all = self.transport_bytes();
        self.about = self.about.or(self.frontend_port());
        let protocol = self.protocol();
        self.transport = Transport::Raw { protocol, bytes: all[..bytes].to_vec() };
        self.fragment(0, true, id)
    }

    /// What follows the first so many bytes, a multiple of eight.
    pub fn later(mut self, bytes: usize, id: u32) -> Self {
        let all = self.transport_bytes();
        self.about = self.about.or(self.frontend_port());
        let protocol = self.protocol();
        self.transport = Transport::Raw { protocol, bytes: all[bytes..].to_vec() };
        self.fragment((bytes / 8) as u16, false, id)
    }

    /// Makes it a fragment, whatever it holds.
    pub fn fragment(mut self, offset: u16, more: bool, id: u32) -> Self {
        if self.is_v4() {
            (self.id, self.offset) = (id as u16, offset);
            self.flags = if more { 0x20 } else { 0 };
            return self;
        }
        self.fragment_header(offset, more, id)
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let kind = self.kind.unwrap_or(if self.is_v4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        let mut frame = [&self.to_mac[..], &self.from_mac, &self.tags, &kind].concat();
        frame.extend(self.ip());
        frame.extend(&self.behind);
        frame.truncate(self.cut.unwrap_or(frame.len()));
        frame
    }

    /// What lies behind the Ethernet header.
    pub fn inner(&self) -> Vec<u8> {
        let mut inner = self.ip();
        inner.extend(&self.behind);
        inner
    }

    /// The length of the IP packet as its header says.
    pub fn said_length(&self) -> u16 {
        match self.length {
            Some(length) if self.is_v4() => length,
            Some(length) => 40 + length,
            None => self.ip().len() as u16,
        }
    }

    /// The IP packet.
    pub fn ip(&self) -> Vec<u8> {
        let body = self.transport_bytes();
        let mut ip = if self.is_v4() { self.header_v4(body.len()) } else { self.header_v6(body.len()) };
        ip.extend(body);
        for (at, byte) in &self.patches {
            ip[*at] = *byte;
        }
        ip
    }

    fn header_v4(&self, body: usize) -> Vec<u8> {
        let header = 20 + self.options.len();
        let length = self.length.unwrap_or((header + body) as u16).to_be_bytes();
        let (id, offset) = (self.id.to_be_bytes(), self.offset.to_be_bytes());
        let mut ip = vec![0x40 | (header / 4) as u8, self.class, length[0], length[1], id[0], id[1]];
        ip.extend([self.flags | offset[0], offset[1], self.hops, self.protocol(), 0, 0]);
        ip.extend([octets(self.source), octets(self.destination), self.options.clone()].concat());
        let sum = ones_complement(&ip).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
        ip
    }

    fn header_v6(&self, body: usize) -> Vec<u8> {
        let mut chain = Vec::new();
        for (k, (_, bytes)) in self.chain.iter().enumerate() {
            chain.push(self.chain.get(k + 1).map_or(self.protocol(), |(number, _)| *number));
            chain.extend(bytes);
        }
        let first = 6 << 28 | u32::from(self.class) << 20 | self.label;
        let length = self.length.unwrap_or((chain.len() + body) as u16);
        let next = self.chain.first().map_or(self.protocol(), |(number, _)| *number);
        let mut ip = first.to_be_bytes().to_vec();
        ip.extend(length.to_be_bytes());
        ip.extend([next, self.hops]);
        ip.extend([octets(self.source), octets(self.destination), chain].concat());
        ip
    }

    pub fn protocol(&self) -> u8 {
        match &self.transport {
            Transport::Tcp { .. } => 6,
            Transport::Udp { .. } => 17,
            Transport::Icmp { .. } if self.is_v4() => 1,
            Transport::Icmp { .. } => 58,
            Transport::Raw { protocol, .. } => *protocol,
        }
    }

    pub fn transport_bytes(&self) -> Vec<u8> {
        let (mut bytes, sum_at, sum) = match &self.transport {
            Transport::Tcp { ports, seq, ack, offset, flags, window, data, sum } => {
                let mut tcp = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
                tcp.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
                tcp.extend([offset << 4, *flags]);
                tcp.extend(window.to_be_bytes());
                tcp.extend([0; 4]);
                tcp.extend(data);
                (tcp, 16, *sum)
            }
            Transport::Udp { ports, data, sum } => {
                let length = (8 + data.len() as u16).to_be_bytes();
                let mut udp = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), length, [0, 0]].concat();
                udp.extend(data);
                (udp, 6, *sum)
            }
            Transport::Icmp { kind, code, word, data, sum } => {
                let mut icmp = vec![*kind, *code, 0, 0];
                icmp.extend(word.to_be_bytes());
                icmp.extend(data);
                (icmp, 2, *sum)
            }
            Transport::Raw { bytes, .. } => return bytes.clone(),
        };
        let written = match sum {
            Sum::Is(sum) => sum,
            Sum::Right => self.right_sum(&bytes),
        };
        bytes[sum_at..sum_at + 2].copy_from_slice(&written.to_be_bytes());
        bytes
    }

    /// With the pseudo header, except for ICMP of IPv4; of UDP never zero (RFC 768).
    fn right_sum(&self, bytes: &[u8]) -> u16 {
        let mut whole = Vec::new();
        if !(self.is_v4() && self.protocol() == 1) {
            whole.extend([octets(self.source), octets(self.destination)].concat());
            whole.extend((bytes.len() as u32).to_be_bytes());
            whole.extend([0, self.protocol()]);
        }
        whole.extend(bytes);
        match ones_complement(&whole) {
            0 if self.protocol() == 17 => 0xffff,
            sum => sum,
        }
    }
}

pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// RFC 1071, word by word.
pub fn ones_complement(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
