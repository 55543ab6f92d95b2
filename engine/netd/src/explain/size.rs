//! Whether a packet fits the way to its backend with the tunnel's headers before it.

use super::{Explanation, Packet};
use netd_schema::Mode;
use std::net::SocketAddr;

/// Says how long a packet is in its tunnel, if somebody asked for a length; `mtu` is that of the way, where it is known.
pub(super) fn step(
    answer: &mut Explanation,
    packet: &Packet,
    mode: Mode,
    backend: SocketAddr,
    mtu: Option<u16>,
) {
    let Some(length) = packet.length else { return };
    let outer = outer_bytes(mode, backend);
    let inside = u32::from(length) + u32::from(outer);
    let how = match mtu {
        None => "whether that fits is known on the node only".to_owned(),
        Some(mtu) if inside <= u32::from(mtu) => format!("the way takes {mtu}"),
        Some(mtu) => format!("the way takes {mtu}: at most {} come through", mtu.saturating_sub(outer)),
    };
    answer.step("size", format!("{length} bytes, {inside} in the tunnel; {how}"));
}

/// The bytes that a tunnel puts before a packet.
fn outer_bytes(mode: Mode, backend: SocketAddr) -> u16 {
    let ip = if backend.is_ipv4() { 20 } else { 40 };
    match mode {
        Mode::DsrIpip => ip,
        Mode::DsrGue => ip + 8,
    }
}
