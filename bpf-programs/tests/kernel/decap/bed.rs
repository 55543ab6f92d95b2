//! A decapsulating program with rules, and frames for it that are put together byte by byte.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use netd_bpf::Verdict;
use netd_bpf::decap::abi::Counts;
use netd_bpf::decap::{Decap, Prefix, Rules};

use super::model::{self, Counted};
use crate::bed::{BALANCER_MAC, NEXT_HOP_MAC, Tuple, hex};
use crate::reference::checksum::checksum;

pub const BALANCER: &str = "10.100.7.9";
pub const BALANCER6: &str = "2001:db8:cafe::77";
pub const NODE: &str = "10.0.0.1";
pub const NODE6: &str = "fd00::1";
pub const VIP: &str = "192.0.2.10";
pub const VIP6: &str = "2001:db8:100::10";
pub const CLIENT: &str = "198.51.100.7";
pub const CLIENT6: &str = "2001:db8:9::7";
pub const STRANGER: &str = "203.0.113.5";
pub const STRANGER6: &str = "2001:db8:bad::5";
/// Not one that is taken.
pub const ELSEWHERE: &str = "192.0.3.1";
pub const ELSEWHERE6: &str = "2001:db8:101::1";
pub const GUE_PORT: u16 = 6080;

pub fn prefixes(texts: &[&str]) -> BTreeSet<Prefix> {
    let prefix = |text: &&str| {
        let (address, bits) = text.split_once('/').unwrap();
        (address.parse().unwrap(), bits.parse().unwrap())
    };
    texts.iter().map(prefix).collect()
}

pub fn rules() -> Rules {
    Rules {
        from: prefixes(&["10.100.0.0/16", "2001:db8:cafe::/64"]),
        own: prefixes(&["10.0.0.1/32", "10.9.0.1/32", "fd00::1/128"]),
        to: prefixes(&["192.0.2.0/24", "198.18.0.1/32", "2001:db8:100::/64"]),
        gue_port: GUE_PORT,
    }
}

/// The program; every frame is shown to the model, too.
pub struct Bed {
    pub decap: Decap,
    pub rules: Rules,
    counts: Counts,
}

impl Bed {
    pub fn new(root: &Path) -> Self {
        let mut decap = Decap::prepare(root).unwrap_or_else(|error| panic!("{error}"));
        let rules = rules();
        decap.set_rules(&rules).unwrap();
        Self { decap, rules, counts: Counts::default() }
    }

    pub fn set(&mut self, rules: Rules) {
        self.decap.set_rules(&rules).unwrap();
        self.rules = rules;
    }

    /// What the program says; it has to be what the model says, counted as the model counts.
    pub fn run(&mut self, frame: &[u8]) -> (Verdict, Vec<u8>, Counted) {
        let (verdict, out) = self.decap.run(frame).unwrap();
        let expected = model::run(&self.rules, frame);
        let shown = |verdict: Verdict, out: &[u8]| format!("{verdict:?} {}", hex(out));
        assert!(
            (verdict, &out) == (expected.0, &expected.1),
            "frame   {}\nprogram {}\nmodel   {} {:?}",
            hex(frame),
            shown(verdict, &out),
            shown(expected.0, &expected.1),
            expected.2
        );
        match expected.2 {
            Counted::Nothing => {}
            Counted::Taken(bytes) => {
                self.counts.packets += 1;
                self.counts.bytes += bytes;
            }
            Counted::Strangers => self.counts.strangers += 1,
            Counted::NotTaken => self.counts.not_taken += 1,
            Counted::Malformed => self.counts.malformed += 1,
            Counted::Congested => self.counts.congested += 1,
        }
        assert_eq!(self.decap.counts(), self.counts, "frame {}", hex(frame));
        expected
    }

    /// The frame without its tunnel.
    pub fn taken(&mut self, frame: &[u8]) -> Vec<u8> {
        let (verdict, out, counted) = self.run(frame);
        assert!(
            matches!((verdict, counted), (Verdict::Pass, Counted::Taken(_))),
            "{counted:?}: {}",
            hex(frame)
        );
        out
    }

    pub fn passes(&mut self, frame: &[u8]) {
        assert_eq!(self.run(frame), (Verdict::Pass, frame.to_vec(), Counted::Nothing));
    }

    pub fn drops(&mut self, frame: &[u8], why: Counted) {
        let (verdict, _, counted) = self.run(frame);
        assert_eq!((verdict, counted), (Verdict::Drop, why));
    }
}

/// How a packet gets from a balancer to the node.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub from: &'static str,
    pub to: &'static str,
    pub is_gue: bool,
    pub tag: Option<u16>,
    pub ecn: u8,
}

pub const V4: Way = Way { from: BALANCER, to: NODE, is_gue: false, tag: None, ecn: 0 };
pub const V6: Way = Way { from: BALANCER6, to: NODE6, is_gue: false, tag: None, ecn: 0 };

impl Way {
    /// All: both families, plain and GUE, with and without a tag.
    pub fn all() -> Vec<Self> {
        let tagged = [V4, V6].into_iter().flat_map(|way| [way, Self { tag: Some(0x8100), ..way }]);
        tagged.flat_map(|way| [way, Self { is_gue: true, ..way }]).collect()
    }

    /// The way from somebody who is no balancer.
    pub fn of_stranger(self) -> Self {
        Self { from: if self.is_v4() { STRANGER } else { STRANGER6 }, ..self }
    }

    pub fn is_v4(self) -> bool {
        self.to.parse::<IpAddr>().unwrap().is_ipv4()
    }

    /// Where the outer header begins.
    pub fn outer_at(self) -> usize {
        if self.tag.is_some() { 18 } else { 14 }
    }

    /// Where the inner one does.
    pub fn inner_at(self) -> usize {
        self.outer_at() + if self.is_v4() { 20 } else { 40 } + if self.is_gue { 8 } else { 0 }
    }

    /// The Ethernet header of a packet of this kind.
    pub fn ethernet(self, kind: u16) -> Vec<u8> {
        let mut bytes = [NEXT_HOP_MAC, BALANCER_MAC].concat();
        if let Some(tag) = self.tag {
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0x20, 0x64]);
        }
        bytes.extend(kind.to_be_bytes());
        bytes
    }

    /// The frame in which a packet arrives.
    pub fn frame(self, inner: &[u8]) -> Vec<u8> {
        let protocol = if inner[0] >> 4 == 4 { 4 } else { 41 };
        let mut udp = vec![0xc1, 0x23];
        udp.extend(GUE_PORT.to_be_bytes());
        udp.extend((inner.len() as u16 + 8).to_be_bytes());
        udp.extend([0, 0]);
        let (protocol, udp) = if self.is_gue { (17, udp) } else { (protocol, vec![]) };
        let payload = udp.len() + inner.len();
        let octets = |text: &str| match text.parse::<IpAddr>().unwrap() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let addresses = [octets(self.from), octets(self.to)].concat();
        let header = if self.is_v4() {
            let length = (payload as u16 + 20).to_be_bytes();
            let mut ip = vec![0x45, 0xb8 | self.ecn, length[0], length[1], 0, 7, 0x40, 0, 63, protocol, 0, 0];
            ip.extend(addresses);
            let sum = checksum(&[&ip]).to_be_bytes();
            ip[10..12].copy_from_slice(&sum);
            ip
        } else {
            let length = (payload as u16).to_be_bytes();
            let mut ip = vec![0x6b, 0x85 | self.ecn << 4, 0x43, 0x21, length[0], length[1], protocol, 63];
            ip.extend(addresses);
            ip
        };
        let kind = if self.is_v4() { 0x0800 } else { 0x86dd };
        [self.ethernet(kind), header, udp, inner.to_vec()].concat()
    }

    /// What the kernel gets of that frame.
    pub fn taken(self, inner: &[u8]) -> Vec<u8> {
        let kind = if inner[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
        [self.ethernet(kind), inner.to_vec()].concat()
    }
}

/// A client's packets to a VIP, of both families, TCP and UDP.
pub fn inner_packets() -> [Vec<u8>; 4] {
    let (v4, v6) = (Tuple(CLIENT, 40_001, VIP, 80), Tuple(CLIENT6, 40_001, VIP6, 80));
    [v4.tcp(b"GET /"), v4.udp(b"query"), v6.tcp(b"GET /"), v6.udp(b"query")].map(|frame| frame[14..].to_vec())
}

/// A packet with these bits of congestion.
pub fn with_ecn(packet: &[u8], ecn: u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[1] = packet[1] & !3 | ecn;
        fix_v4(&mut packet);
    } else {
        packet[1] = packet[1] & !0x30 | ecn << 4;
    }
    packet
}

/// Writes the checksum of an IPv4 header of five words.
pub fn fix_v4(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = checksum(&[&packet[..20]]).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
}
