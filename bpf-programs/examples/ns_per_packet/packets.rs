//! The packets that are measured: what of them is always the same. The harness writes the rest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netd_bpf::abi::{TCP, UDP};

/// The first VIP's last word, and that of addresses that are no VIPs.
pub const FIRST_VIP: u32 = 0xc000_0000;
const NO_VIP: u32 = 0xc800_0000;

/// Of all packets of IPv6, what comes before the last word of client and VIP.
const NETWORK: [u8; 12] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0];

/// The port of all services.
pub const PORT: u16 = 80;

const ACK: u32 = 0x10;
const SYN: u32 = 0x02;

/// Packets of one kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub name: &'static str,
    pub is_ipv4: bool,
    pub protocol: u8,
    /// Zero for UDP.
    pub tcp_flags: u32,
    pub first_vip: u32,
    /// That of the path; shorter than the packet for one that is too big.
    pub mtu: u16,
}

pub const V4: Kind =
    Kind { name: "IPv4 TCP", is_ipv4: true, protocol: TCP, tcp_flags: ACK, first_vip: FIRST_VIP, mtu: 1500 };
pub const V4_SYN: Kind = Kind { name: "IPv4 SYN", tcp_flags: SYN, ..V4 };
pub const V4_UDP: Kind = Kind { name: "IPv4 UDP", protocol: UDP, tcp_flags: 0, ..V4 };
pub const V4_BIG: Kind = Kind { name: "IPv4 too big", mtu: 60, ..V4 };
pub const V4_PASS: Kind = Kind { name: "IPv4 no VIP", first_vip: NO_VIP, ..V4 };
pub const V6: Kind = Kind { name: "IPv6 TCP", is_ipv4: false, ..V4 };
pub const V6_SYN: Kind = Kind { name: "IPv6 SYN", is_ipv4: false, ..V4_SYN };
pub const V6_UDP: Kind = Kind { name: "IPv6 UDP", is_ipv4: false, ..V4_UDP };
pub const V6_BIG: Kind = Kind { name: "IPv6 too big", is_ipv4: false, ..V4_BIG };
pub const V6_PASS: Kind = Kind { name: "IPv6 no VIP", is_ipv4: false, ..V4_PASS };

impl Kind {
    /// Whether the packets do not fit their path.
    pub fn is_too_big(&self) -> bool {
        self.mtu < 1500
    }

    /// Where the transport header is.
    fn l4(&self) -> usize {
        if self.is_ipv4 { 34 } else { 54 }
    }

    /// A client's packet, without what the harness writes: 50 bytes of IPv4, or 70 of IPv6.
    pub fn frame(&self) -> Vec<u8> {
        let l4 = self.l4();
        let mut frame = vec![0; l4 + 30];
        frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        if self.is_ipv4 {
            frame[14] = 0x45;
            frame[16..18].copy_from_slice(&50_u16.to_be_bytes());
            // Fragments are forbidden, so that what is too big is answered.
            frame[20] = 0x40;
            frame[22..24].copy_from_slice(&[64, self.protocol]);
        } else {
            frame[14] = 0x60;
            frame[18..20].copy_from_slice(&30_u16.to_be_bytes());
            frame[20..22].copy_from_slice(&[self.protocol, 64]);
            frame[22..34].copy_from_slice(&NETWORK);
            frame[38..50].copy_from_slice(&NETWORK);
        }
        let rest = if self.protocol == TCP { &[0xde, 0xad, 0xbe, 0xef] } else { &[0, 30, 0, 0] };
        frame[l4 + 4..l4 + 8].copy_from_slice(rest);
        if self.protocol == TCP {
            frame[l4 + 12] = 0x50;
        }
        frame
    }

    /// How many bytes stand before the packet in what has become of its frame, that were not there.
    pub fn put_before(&self, frame: &[u8], out: &[u8]) -> Option<u32> {
        let mark = self.l4() + 4;
        let at = out.windows(4).rposition(|bytes| Some(bytes) == frame.get(mark..mark + 4))?;
        at.checked_sub(mark).map(|bytes| bytes as u32)
    }
}

/// A client's, a VIP's or a backend's address, by its last word.
pub fn address(is_ipv4: bool, last_word: u32) -> IpAddr {
    if is_ipv4 {
        return Ipv4Addr::from(last_word).into();
    }
    let mut octets = [0; 16];
    octets[..12].copy_from_slice(&NETWORK);
    octets[12..].copy_from_slice(&last_word.to_be_bytes());
    Ipv6Addr::from(octets).into()
}
