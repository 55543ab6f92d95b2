//! Section 8: fragments of both families.

use std::net::IpAddr;

use netd_bpf::abi::{FrontendKey, TCP, UDP};

use super::packet::{FlowFlags, Packet, Upper, transport_bytes};
use super::table::{Unknown, Vip};
use super::{Answers, Count, FlowId, Manner, Model, Outcome};

/// Records that are older say nothing.
const VALID_NS: u64 = 30_000_000_000;

/// What the fragments of a packet have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FragmentId {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub id: u32,
    pub protocol: u8,
}

/// What a first fragment has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub source: u16,
    pub destination: u16,
    pub seen_ns: u64,
}

/// One fragment; `upper` is what its data are, or would be if it were the first.
pub(super) struct Fragment {
    /// In units of eight bytes.
    pub offset: u16,
    pub id: u32,
    pub upper: Upper,
}

impl Fragment {
    pub(super) fn of_v4(packet: &Packet<'_>) -> Option<Self> {
        let ip = packet.ip;
        let offset = u16::from_be_bytes([ip[6] & 0x1f, ip[7]]);
        let id = u32::from(u16::from_be_bytes([ip[4], ip[5]]));
        packet.is_fragment_v4().then(|| Self { offset, id, upper: packet.first() })
    }
}

impl Model {
    pub(super) fn fragment(
        &mut self,
        packet: &Packet<'_>,
        fragment: &Fragment,
        vip: Vip,
        told: &[u8],
    ) -> Outcome {
        let upper = &fragment.upper;
        match (upper.protocol, fragment.offset) {
            (TCP | UDP, 0) => self.first_fragment(packet, fragment, vip, told),
            (TCP, 1) => self.malformed(packet, vip),
            (TCP | UDP, _) => self.later_fragment(packet, fragment, vip, told),
            _ => self.unknown_without_reject(packet, vip),
        }
    }

    fn first_fragment(&mut self, packet: &Packet<'_>, fragment: &Fragment, vip: Vip, told: &[u8]) -> Outcome {
        let upper = &fragment.upper;
        if packet.length < upper.at + transport_bytes(upper.protocol) {
            return self.malformed(packet, vip);
        }
        let Some(flow) = self.flow_of(packet, upper) else { return self.unknown_without_reject(packet, vip) };
        let manner = Manner { flags: packet.flow_flags(upper), answers: Answers::Errors, counted: None };
        let sent_before = self.sent_on;
        let outcome = self.of_frontend_whole(packet, upper, flow, manner, told);
        if self.sent_on > sent_before {
            let (source, destination) = (flow.client_port, flow.to.port);
            let ports = Ports { source, destination, seen_ns: self.now_ns };
            self.fragments.insert(fragment_id(packet, fragment), ports);
        }
        outcome
    }

    fn later_fragment(&mut self, packet: &Packet<'_>, fragment: &Fragment, vip: Vip, told: &[u8]) -> Outcome {
        let upper = &fragment.upper;
        let record = self.fragments.get(&fragment_id(packet, fragment)).copied();
        let valid = record.filter(|ports| self.now_ns.saturating_sub(ports.seen_ns) <= VALID_NS);
        let flow = valid.map(|ports| FlowId {
            client: packet.source,
            client_port: ports.source,
            to: FrontendKey {
                address: packet.destination,
                port: ports.destination,
                protocol: upper.protocol,
            },
        });
        let Some((flow, at)) = flow.and_then(|flow| Some((flow, self.position(&flow.to)?))) else {
            return match vip.unknown {
                Unknown::Pass => self.pass(packet, vip),
                _ => self.drop(packet, vip.service, Count::FragmentLost),
            };
        };
        let manner =
            Manner { flags: FlowFlags::default(), answers: Answers::None, counted: Some(Count::Fragments) };
        // Its bytes are data: no port is in them.
        self.forward(packet, &Upper { port_at: None, ..*upper }, at, flow, manner, told)
    }
}

fn fragment_id(packet: &Packet<'_>, fragment: &Fragment) -> FragmentId {
    let (source, destination) = (packet.source, packet.destination);
    FragmentId { source, destination, id: fragment.id, protocol: fragment.upper.protocol }
}
