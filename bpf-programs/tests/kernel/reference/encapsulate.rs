//! Section 4: what is put before a packet, and the port that changes in it.

use netd_bpf::Verdict;
use netd_bpf::abi::{Backend, GUE, OTHER_FAMILY, UDP};

use super::checksum::{carried_over, checksum};
use super::packet::{Packet, Upper};
use super::{FlowId, Settings, hash};

const GUE_BYTES: usize = 8;

/// The bytes that go before a packet.
pub fn outer_bytes(inner_v4: bool, backend: &Backend) -> usize {
    let ip = if is_outer_v4(inner_v4, backend) { 20 } else { 40 };
    ip + if backend.flags & GUE != 0 { GUE_BYTES } else { 0 }
}

/// The frame that leaves. None: it would be longer than IP can say.
pub fn encapsulated(
    packet: &Packet<'_>,
    upper: &Upper,
    backend: &Backend,
    flow: &FlowId,
    hash: u32,
    settings: &Settings,
) -> Option<(Verdict, Vec<u8>)> {
    let v4 = is_outer_v4(packet.is_v4(), backend);
    let gue = backend.flags & GUE != 0;
    let length = packet.length + if gue { GUE_BYTES } else { 0 };
    let kind = match (gue, packet.is_v4()) {
        (true, _) => UDP,
        (false, true) => 4,
        (false, false) => 41,
    };
    let mut ip = if v4 {
        outer_v4(packet, backend, flow, settings, kind, u16::try_from(length + 20).ok()?)
    } else {
        outer_v6(packet, backend, flow, settings, kind, hash, u16::try_from(length).ok()?)
    };
    if gue {
        ip.extend((0xc000 | (hash & 0x3fff) as u16).to_be_bytes());
        ip.extend(settings.gue_port.to_be_bytes());
        ip.extend((length as u16).to_be_bytes());
        ip.extend([0, 0]);
    }
    let transmits = backend.ifindex == crate::bed::INGRESS;
    let mut frame = [backend.destination_mac, backend.source_mac].concat();
    if transmits {
        frame.extend(packet.tag);
    }
    frame.extend(if v4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    frame.extend(ip);
    frame.extend(inner(packet, upper, backend));
    Some((if transmits { Verdict::Transmit } else { Verdict::Redirect }, frame))
}

/// Whether a frame, with or without tag, is encapsulated for a backend, whatever the inner family.
pub fn goes_to(frame: &[u8], backend: &Backend) -> bool {
    let at = if matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8])) { 18 } else { 14 };
    let destination = match frame.get(at - 2..at) {
        Some([0x08, 0x00]) => frame.get(at + 16..at + 20).map(|address| [address, &[0; 12]].concat()),
        Some([0x86, 0xdd]) => frame.get(at + 24..at + 40).map(<[u8]>::to_vec),
        _ => None,
    };
    destination.is_some_and(|destination| destination == backend.destination)
}

fn is_outer_v4(inner_v4: bool, backend: &Backend) -> bool {
    inner_v4 != (backend.flags & OTHER_FAMILY != 0)
}

fn outer_v4(
    packet: &Packet<'_>,
    backend: &Backend,
    flow: &FlowId,
    settings: &Settings,
    kind: u8,
    length: u16,
) -> Vec<u8> {
    let id = if packet.is_v4() { [packet.ip[4], packet.ip[5]] } else { [0, 0] };
    let df = !packet.is_v4() || packet.has_df();
    let mut header = vec![0x45, outer_class(packet, settings)];
    header.extend(length.to_be_bytes());
    header.extend([id[0], id[1], u8::from(df) << 6, 0, settings.hop_limit, kind, 0, 0]);
    header.extend(hash::outer_source(flow, &backend.source[..4], backend.source_bits.into()));
    header.extend(&backend.destination[..4]);
    let sum = checksum(&[&header]).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    header
}

fn outer_v6(
    packet: &Packet<'_>,
    backend: &Backend,
    flow: &FlowId,
    settings: &Settings,
    kind: u8,
    hash: u32,
    length: u16,
) -> Vec<u8> {
    let label = match packet.ip {
        [first, second, third, fourth, ..] if !packet.is_v4() => {
            u32::from_be_bytes([*first, *second, *third, *fourth]) & 0xf_ffff
        }
        _ => hash & 0xf_ffff,
    };
    let first = 6 << 28 | u32::from(outer_class(packet, settings)) << 20 | label;
    let mut header = first.to_be_bytes().to_vec();
    header.extend(length.to_be_bytes());
    header.extend([kind, settings.hop_limit]);
    header.extend(hash::outer_source(flow, &backend.source, backend.source_bits.into()));
    header.extend(backend.destination);
    header
}

fn outer_class(packet: &Packet<'_>, settings: &Settings) -> u8 {
    let inner = packet.traffic_class();
    let dscp = settings.outer_dscp.unwrap_or(inner >> 2);
    dscp << 2 | if settings.copies_ecn { inner & 3 } else { 0 }
}

/// The packet and what follows it in the frame, with the backend's port.
fn inner(packet: &Packet<'_>, upper: &Upper, backend: &Backend) -> Vec<u8> {
    let mut inner = packet.ip.to_vec();
    let Some((port, sum)) = upper.port_at.filter(|_| backend.port != [0, 0]) else { return inner };
    let before = packet.from(upper.at);
    let none = upper.protocol == UDP && inner[sum..sum + 2] == [0, 0];
    inner[port..port + 2].copy_from_slice(&backend.port);
    if !none {
        let after = &inner[upper.at..packet.length];
        let mut carried = carried_over(before, after, sum - upper.at);
        if upper.protocol == UDP && carried == [0, 0] {
            carried = [0xff, 0xff];
        }
        inner[sum..sum + 2].copy_from_slice(&carried);
    }
    inner
}
