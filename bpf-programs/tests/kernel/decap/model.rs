//! The model of the backend's side: what becomes of a frame, written from section 10 of `docs/datapath.md` alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netd_bpf::Verdict;
use netd_bpf::decap::{Prefix, Rules};

use crate::reference::checksum::carried_over;

/// What is counted, besides packets and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Nothing,
    Taken(u64),
    Strangers,
    NotTaken,
    Malformed,
    Congested,
}

/// What comes of a frame.
pub type Said = (Verdict, Vec<u8>, Counted);

/// A tunnel's packet, as far as its outer header says.
struct Tunnel<'a> {
    source: IpAddr,
    destination: IpAddr,
    ecn: u8,
    /// The version that the inner packet has to have.
    version: u8,
    /// From the outer header to the end of the frame.
    outer: &'a [u8],
    /// Where in `outer` the inner packet begins, and where the lengths say that it ends at the latest.
    begins: usize,
    ends: Option<usize>,
}

/// The program's answer.
pub fn run(rules: &Rules, frame: &[u8]) -> Said {
    let pass = |counted| (Verdict::Pass, frame.to_vec(), counted);
    let drop = |counted| (Verdict::Drop, frame.to_vec(), counted);
    let Some((at, tunnel)) = tunnel(frame, rules.gue_port) else { return pass(Counted::Nothing) };
    if !is_in(&rules.own, tunnel.destination) {
        return pass(Counted::Nothing);
    }
    let is_known = is_in(&rules.from, tunnel.source);
    let inner = tunnel.outer.get(tunnel.begins..).unwrap_or_default();
    let Some(receiver) = receiver(inner, tunnel.version) else {
        return if is_known { drop(Counted::Malformed) } else { pass(Counted::Nothing) };
    };
    match (is_in(&rules.to, receiver), is_known) {
        (false, true) => return pass(Counted::NotTaken),
        (false, false) => return pass(Counted::Nothing),
        (true, false) => return drop(Counted::Strangers),
        (true, true) => {}
    }
    let Some(length) = whole(&tunnel, inner) else { return drop(Counted::Malformed) };
    let Some(inner) = with_ecn(inner, tunnel.ecn) else { return drop(Counted::Congested) };
    let kind: [u8; 2] = if tunnel.version == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    let taken = [&frame[..at - 2], &kind, &inner].concat();
    (Verdict::Pass, taken, Counted::Taken(length as u64))
}

/// Where the outer header begins, and what it says; `None` for what is no tunnel's.
fn tunnel(frame: &[u8], gue_port: u16) -> Option<(usize, Tunnel<'_>)> {
    let kind = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
    let at = if matches!(kind(12)?, 0x8100 | 0x88a8) { 18 } else { 14 };
    let outer = frame.get(at..)?;
    let (source, destination, ecn, protocol, header, length) = match kind(at - 2)? {
        0x0800 => {
            let ip: &[u8; 20] = outer.first_chunk()?;
            let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
            if ip[0] != 0x45 || fragment != 0 {
                return None;
            }
            let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            (v4(&ip[12..16]), v4(&ip[16..20]), ip[1] & 3, ip[9], 20, length)
        }
        0x86dd => {
            let ip: &[u8; 40] = outer.first_chunk()?;
            if ip[0] >> 4 != 6 {
                return None;
            }
            let length = 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            (v6(&ip[8..24]), v6(&ip[24..40]), ip[1] >> 4 & 3, ip[6], 40, length)
        }
        _ => return None,
    };
    let (version, begins, ends) = match protocol {
        4 => (4, header, Some(length)),
        41 => (6, header, Some(length)),
        17 => {
            let udp: &[u8; 9] = outer.get(header..)?.first_chunk()?;
            if u16::from_be_bytes([udp[2], udp[3]]) != gue_port || !matches!(udp[8] >> 4, 4 | 6) {
                return None;
            }
            let end = header + usize::from(u16::from_be_bytes([udp[4], udp[5]]));
            (udp[8] >> 4, header + 8, (end <= length).then_some(end))
        }
        _ => return None,
    };
    let ends = ends.filter(|_| length <= outer.len());
    Some((at, Tunnel { source, destination, ecn, version, outer, begins, ends }))
}

fn receiver(inner: &[u8], version: u8) -> Option<IpAddr> {
    let header = inner.get(..if version == 4 { 20 } else { 40 })?;
    (header[0] >> 4 == version).then(|| if version == 4 { v4(&header[16..20]) } else { v6(&header[24..40]) })
}

/// How long the inner packet is, if it is whole.
fn whole(tunnel: &Tunnel<'_>, inner: &[u8]) -> Option<usize> {
    let word = |at: usize| usize::from(u16::from_be_bytes([inner[at], inner[at + 1]]));
    let length = match tunnel.version {
        4 => {
            let header = usize::from(inner[0] & 15) * 4;
            (header >= 20 && word(2) >= header).then(|| word(2))?
        }
        _ => 40 + word(4),
    };
    (tunnel.begins + length <= tunnel.ends?).then_some(length)
}

/// The inner packet, and what is behind it, with the bits of congestion; `None`: it has to be dropped.
fn with_ecn(inner: &[u8], outer: u8) -> Option<Vec<u8>> {
    let is_v4 = inner[0] >> 4 == 4;
    let bits = if is_v4 { inner[1] & 3 } else { inner[1] >> 4 & 3 };
    // The rows are the inner bits, the columns the outer ones, as RFC 6040 has them.
    let table = [
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3), Some(3), Some(3), Some(3)],
    ];
    let now: u8 = table[usize::from(bits)][usize::from(outer)]?;
    let mut after = inner.to_vec();
    if now != bits && is_v4 {
        after[1] = inner[1] & !3 | now;
        let checksum = carried_over(&inner[..20], &after[..20], 10);
        after[10..12].copy_from_slice(&checksum);
    } else if now != bits {
        after[1] = inner[1] & !0x30 | now << 4;
    }
    Some(after)
}

fn is_in<'a>(prefixes: impl IntoIterator<Item = &'a Prefix>, address: IpAddr) -> bool {
    prefixes.into_iter().any(|(network, bits)| match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(32 - u32::from(*bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(128 - u32::from(*bits)).unwrap_or(0) == 0
        }
        _ => false,
    })
}

fn v4(bytes: &[u8]) -> IpAddr {
    Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap()).into()
}

fn v6(bytes: &[u8]) -> IpAddr {
    Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()).into()
}
