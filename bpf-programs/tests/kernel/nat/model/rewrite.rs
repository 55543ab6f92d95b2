//! Sections 4 and 8 of `docs/nat.md`: a packet with another address and port, and every checksum that is over them.

use std::net::IpAddr;

use super::packet::{Packet, Part, What};

/// What is given another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Source,
    Destination,
}

/// The frame with another source or destination; without a port only the address changes.
pub fn translated(frame: &[u8], packet: &Packet, end: End, to: (IpAddr, Option<u16>)) -> Vec<u8> {
    let mut out = frame.to_vec();
    let changed = put(&mut out, packet, end, to);
    let has_transport = packet.part != Part::Later && packet.what != What::Error;
    if has_transport {
        let sum_at = checksum_at(packet);
        let over: Vec<_> = changed.iter().filter(|change| change.is_in_transport_sum(packet)).collect();
        let before = word(frame, sum_at);
        if packet.what != What::Udp || before != 0 {
            let mut after = carried(before, frame, &out, &over);
            if packet.what == What::Udp && after == 0 {
                after = 0xffff;
            }
            out[sum_at..sum_at + 2].copy_from_slice(&after.to_be_bytes());
        }
    }
    out
}

/// The frame of an error whose quoted packet has another source or destination.
pub fn quoting(frame: &[u8], error: &Packet, quoted: &Packet, end: End, to: (IpAddr, u16)) -> Vec<u8> {
    let mut out = frame.to_vec();
    let changed = put(&mut out, quoted, end, (to.0, Some(to.1)));
    let mut over: Vec<(usize, usize)> = changed.iter().map(|change| (change.at, change.bytes)).collect();
    if quoted.is_v4() {
        over.push((quoted.l3 + 10, 2));
    }
    let sum_at = checksum_at(quoted);
    if let Some(before) = frame.get(sum_at..sum_at + 2).map(|_| word(frame, sum_at))
        && (quoted.what != What::Udp || before != 0)
    {
        let counted: Vec<_> = changed.iter().filter(|change| change.is_in_transport_sum(quoted)).collect();
        let mut after = carried(before, frame, &out, &counted);
        if quoted.what == What::Udp && after == 0 {
            after = 0xffff;
        }
        out[sum_at..sum_at + 2].copy_from_slice(&after.to_be_bytes());
        over.push((sum_at, 2));
    }
    let changes: Vec<Change> =
        over.into_iter().map(|(at, bytes)| Change { at, bytes, is_address: false }).collect();
    let error_sum_at = error.l4 + 2;
    let after = carried(word(frame, error_sum_at), frame, &out, &changes.iter().collect::<Vec<_>>());
    out[error_sum_at..error_sum_at + 2].copy_from_slice(&after.to_be_bytes());
    out
}

/// The frame of an error with another source or destination of its own.
pub fn error(frame: &[u8], error: &Packet, end: End, to: IpAddr) -> Vec<u8> {
    let mut out = frame.to_vec();
    let changed = put(&mut out, error, end, (to, None));
    if !error.is_v4() {
        let at = error.l4 + 2;
        let after = carried(word(frame, at), frame, &out, &changed.iter().collect::<Vec<_>>());
        out[at..at + 2].copy_from_slice(&after.to_be_bytes());
    }
    out
}

/// Bytes that were written.
struct Change {
    at: usize,
    bytes: usize,
    is_address: bool,
}

impl Change {
    /// ICMP's checksum is over no addresses.
    fn is_in_transport_sum(&self, packet: &Packet) -> bool {
        !self.is_address || !packet.is_v4() || !packet.is_echo()
    }
}

/// Writes an address and a port, and the checksum of an IPv4 header: what was written, but for the checksum.
fn put(out: &mut [u8], packet: &Packet, end: End, to: (IpAddr, Option<u16>)) -> Vec<Change> {
    let before = out.to_vec();
    let (octets, at) = match (to.0, end) {
        (IpAddr::V4(address), End::Source) => (address.octets().to_vec(), packet.l3 + 12),
        (IpAddr::V4(address), End::Destination) => (address.octets().to_vec(), packet.l3 + 16),
        (IpAddr::V6(address), End::Source) => (address.octets().to_vec(), packet.l3 + 8),
        (IpAddr::V6(address), End::Destination) => (address.octets().to_vec(), packet.l3 + 24),
    };
    out[at..at + octets.len()].copy_from_slice(&octets);
    let mut changed = vec![Change { at, bytes: octets.len(), is_address: true }];
    if packet.is_v4() {
        let sum_at = packet.l3 + 10;
        let sum = carried(word(&before, sum_at), &before, out, &[&changed[0]]);
        out[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    if let Some(port) = to.1 {
        let at = match (packet.is_echo(), end) {
            (true, _) => packet.l4 + 4,
            (false, End::Source) => packet.l4,
            (false, End::Destination) => packet.l4 + 2,
        };
        out[at..at + 2].copy_from_slice(&port.to_be_bytes());
        changed.push(Change { at, bytes: 2, is_address: false });
    }
    changed
}

fn checksum_at(packet: &Packet) -> usize {
    packet.l4
        + match packet.what {
            What::Tcp => 16,
            What::Udp => 6,
            _ => 2,
        }
}

/// RFC 1624, equation 3. Of the two zeros this is 0: no sum of a word and its complement is nothing.
fn carried(checksum: u16, before: &[u8], after: &[u8], changes: &[&Change]) -> u16 {
    let mut sum = u64::from(!checksum);
    for change in changes {
        for at in (change.at..change.at + change.bytes).step_by(2) {
            sum += u64::from(!word(before, at)) + u64::from(word(after, at));
        }
    }
    ((0xffff - sum % 0xffff) % 0xffff) as u16
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
