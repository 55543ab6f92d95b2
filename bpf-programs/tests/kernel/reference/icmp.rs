//! Section 9: ICMP errors about a flow go where the flow goes.

use std::net::IpAddr;

use netd_bpf::abi::{FrontendKey, TCP, UDP};

use super::packet::{FlowFlags, Packet, Upper};
use super::table::Vip;
use super::{Answers, Count, FlowId, Manner, Model, Outcome};

/// The bytes of an ICMP header.
const HEADER: usize = 8;

impl Model {
    /// A message of one of the error types.
    pub(super) fn icmp_error(
        &mut self,
        packet: &Packet<'_>,
        upper: &Upper,
        vip: Vip,
        told: &[u8],
    ) -> Outcome {
        let quoted = quoted(packet, upper).filter(|(flow, _)| self.position(&flow.to).is_some());
        let Some((flow, port_at)) = quoted else { return self.unknown_without_reject(packet, vip) };
        let at = self.position(&flow.to).expect("it was looked for just now");
        if self.settings.icmp_errors_per_second == 0 {
            return self.drop(packet, self.services[at].number(at), Count::RateLimited);
        }
        let manner =
            Manner { flags: FlowFlags::default(), answers: Answers::None, counted: Some(Count::IcmpRelayed) };
        let upper = Upper { port_at: Some((port_at, upper.at + 2)), ..*upper };
        self.forward(packet, &upper, at, flow, manner, told)
    }
}

/// The flow that the quoted packet belongs to, turned around, and where the quoted source port lies.
fn quoted(packet: &Packet<'_>, upper: &Upper) -> Option<(FlowId, usize)> {
    let message = packet.from(upper.at);
    let quoted = message.get(HEADER..)?;
    let (vip, client, protocol, ports_at) =
        if packet.is_v4() { quoted_v4(quoted) } else { quoted_v6(quoted) }?;
    let ports = quoted.get(ports_at..ports_at + 4)?;
    if vip != packet.destination || !matches!(protocol, TCP | UDP) {
        return None;
    }
    let port = u16::from_be_bytes([ports[0], ports[1]]);
    let client_port = u16::from_be_bytes([ports[2], ports[3]]);
    let to = FrontendKey { address: vip, port, protocol };
    Some((FlowId { client, client_port, to }, upper.at + HEADER + ports_at))
}

/// Source, destination, protocol, and where the ports are.
fn quoted_v4(quoted: &[u8]) -> Option<(IpAddr, IpAddr, u8, usize)> {
    let header = usize::from(quoted.first()? & 15) * 4;
    let fixed = quoted.get(..20)?;
    let octets = |at: usize| IpAddr::from([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let sound = fixed[0] >> 4 == 4 && header >= 20 && (fixed[6] & 0x1f, fixed[7]) == (0, 0);
    sound.then(|| (octets(12), octets(16), fixed[9], header))
}

fn quoted_v6(quoted: &[u8]) -> Option<(IpAddr, IpAddr, u8, usize)> {
    let fixed = quoted.get(..40)?;
    let octets = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&fixed[at..at + 16]).expect("16 bytes"));
    if fixed[0] >> 4 != 6 {
        return None;
    }
    let (protocol, at) = match fixed[6] {
        44 => {
            let fragment = quoted.get(40..48)?;
            let offset = u16::from_be_bytes([fragment[2], fragment[3]]) >> 3;
            (offset == 0).then_some((fragment[0], 48))?
        }
        direct => (direct, 40),
    };
    Some((octets(8), octets(24), protocol, at))
}
