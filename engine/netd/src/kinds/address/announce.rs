//! Tells a segment which Ethernet address has an address now: gratuitous ARP, and unsolicited neighbour advertisements.

use crate::facts::Mac;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Everybody on the segment.
const BROADCAST: [u8; 6] = [0xff; 6];

/// The group of all nodes, and its Ethernet address (RFC 2464, section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// ICMPv6's number, and the type of neighbour advertisements (RFC 4861, section 4.4).
const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 136;

/// Flags of an advertisement: it overrides what is known, and comes from a router.
const OVERRIDE: u8 = 0x20;
const ROUTER: u8 = 0x80;

/// Bytes of an advertisement with the Ethernet address as its option.
const ADVERTISEMENT_LEN: u16 = 32;

/// The frame that says so.
pub(super) fn frame(address: IpAddr, mac: Mac) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => gratuitous_arp(address, mac),
        IpAddr::V6(address) => advertisement(address, mac),
    }
}

/// A request for the address by the address itself (RFC 5227, section 3): who has an entry of it changes it.
fn gratuitous_arp(address: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    // Ethernet, IPv4, lengths of their addresses, request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac.0);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

/// To all nodes, from the address itself (RFC 4861, section 7.2.6).
fn advertisement(address: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE | ROUTER, 0, 0, 0];
    message.extend(address.octets());
    // Target link-layer address, one unit of eight bytes.
    message.extend([2, 1]);
    message.extend(mac.0);
    let sum = checksum(address, &message).to_be_bytes();
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum);
    }
    let mut frame = ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(ADVERTISEMENT_LEN.to_be_bytes());
    // A hop limit that no router lets through shows that it is from here.
    frame.extend([ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

fn ethernet(to: [u8; 6], from: Mac, ethertype: u16) -> Vec<u8> {
    to.into_iter().chain(from.0).chain(ethertype.to_be_bytes()).collect()
}

/// The Internet checksum over the message and the pseudo-header (RFC 8200, section 8.1).
fn checksum(source: Ipv6Addr, message: &[u8]) -> u16 {
    let pseudo = source.octets().into_iter().chain(ALL_NODES.octets());
    let pseudo = pseudo.chain(ADVERTISEMENT_LEN.to_be_bytes()).chain([0, ICMPV6]);
    let bytes: Vec<u8> = pseudo.chain(message.iter().copied()).collect();
    let words = bytes.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use etherparse::{Icmpv6Slice, NetSlice, SlicedPacket, TransportSlice};

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

    #[test]
    fn arp_says_that_the_address_is_here() {
        let frame = frame("192.168.33.100".parse().unwrap(), MAC);
        let expected = [
            "ffffffffffff 020000000009 0806",
            "0001 0800 06 04 0001",
            "020000000009 c0a82164",
            "000000000000 c0a82164",
        ];
        let expected: String = expected.concat().split_whitespace().collect();
        let found: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn an_advertisement_is_right_down_to_its_checksum() {
        let address: Ipv6Addr = "2001:db8:33::100".parse().unwrap();
        let frame = frame(address.into(), MAC);
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv6(ip)) = packet.net else { panic!("no IPv6") };
        assert_eq!((ip.header().source_addr(), ip.header().hop_limit()), (address, 255));
        let Some(TransportSlice::Icmpv6(message)) = packet.transport else { panic!("no ICMPv6") };
        let message: Icmpv6Slice<'_> = message;
        assert!(message.is_checksum_valid(ip.header().source(), ip.header().destination()));
        assert_eq!(message.slice().len(), usize::from(ADVERTISEMENT_LEN));
    }
}
