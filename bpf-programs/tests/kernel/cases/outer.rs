//! The outer headers that a case expects, written out by hand.

use std::net::IpAddr;

use netd_bpf::Verdict;
use netd_bpf::abi::{Backend, GUE, OTHER_FAMILY};

use super::bytes::{octets, ones_complement};
use super::hall;
use super::layers::{Family, Layers};
use crate::bed::{BALANCER_MAC, INGRESS, NEXT_HOP_MAC};

/// What is put before a packet. Without changes: what a packet with these layers gets from the service on its port.
pub struct Outer {
    pub tags: Vec<u8>,
    pub class: u8,
    /// Of IPv4.
    pub id: u16,
    /// Of IPv4: 0x40 is DF.
    pub flags: u8,
    /// Of IPv6.
    pub label: u32,
    pub hops: u8,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Source and destination port.
    pub gue: Option<(u16, u16)>,
    pub verdict: Verdict,
}

impl Outer {
    pub fn usual(packet: &Layers, backend: u16) -> Self {
        let family = if packet.is_v4() { Family::V4 } else { Family::V6 };
        let port = packet.frontend_port().expect("the case says which frontend it is about");
        let backend = hall::backend(family, port, backend);
        let transmits = backend.ifindex == INGRESS;
        let (id, flags) = if packet.is_v4() { (packet.id, packet.flags & 0x40) } else { (0, 0x40) };
        Self {
            tags: if transmits { packet.tags.clone() } else { Vec::new() },
            class: packet.class,
            id,
            flags,
            label: packet.label,
            hops: 64,
            source: address(&backend, backend.source, packet),
            destination: address(&backend, backend.destination, packet),
            gue: (backend.flags & GUE != 0).then_some((0, 6080)),
            verdict: if transmits { Verdict::Transmit } else { Verdict::Redirect },
        }
    }

    /// The whole frame.
    pub fn around(&self, packet: &Layers) -> (Verdict, Vec<u8>) {
        let (said, rest) = (packet.said_length(), packet.inner());
        let mut body = Vec::new();
        if let Some((from, to)) = self.gue {
            let length = 8 + said;
            for word in [from, to, length, 0] {
                body.extend(word.to_be_bytes());
            }
        }
        let length = body.len() as u16 + said;
        let protocol = match (self.gue, packet.is_v4()) {
            (Some(_), _) => 17,
            (None, true) => 4,
            (None, false) => 41,
        };
        let header = if self.destination.is_ipv4() {
            self.header_v4(length + 20, protocol)
        } else {
            self.header_v6(length, protocol)
        };
        let kind = if self.destination.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
        let ethernet = [&NEXT_HOP_MAC[..], &BALANCER_MAC, &self.tags, &kind].concat();
        (self.verdict, [ethernet, header, body, rest].concat())
    }

    fn header_v4(&self, length: u16, protocol: u8) -> Vec<u8> {
        let (length, id) = (length.to_be_bytes(), self.id.to_be_bytes());
        let mut ip = vec![0x45, self.class, length[0], length[1], id[0], id[1], self.flags, 0];
        ip.extend([self.hops, protocol, 0, 0]);
        ip.extend([octets(self.source), octets(self.destination)].concat());
        let sum = ones_complement(&ip).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
        ip
    }

    fn header_v6(&self, length: u16, next: u8) -> Vec<u8> {
        let first = 6 << 28 | u32::from(self.class) << 20 | self.label;
        let mut ip = first.to_be_bytes().to_vec();
        ip.extend(length.to_be_bytes());
        ip.extend([next, self.hops]);
        ip.extend([octets(self.source), octets(self.destination)].concat());
        ip
    }
}

fn address(backend: &Backend, bytes: [u8; 16], packet: &Layers) -> IpAddr {
    if packet.is_v4() != (backend.flags & OTHER_FAMILY != 0) {
        <[u8; 4]>::try_from(&bytes[..4]).unwrap().into()
    } else {
        bytes.into()
    }
}
