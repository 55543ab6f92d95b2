//! What has to come out of the load balancer, in plain Rust: written from `docs/datapath.md`, not from the programs.
//! Checksums are computed over everything, never updated. One file for each concern of the specification.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netd_bpf::Verdict;
use netd_bpf::abi::{Counter, FrontendKey, READY, TCP, UDP};

mod answer;
pub mod checksum;
mod choose;
mod counters;
mod encapsulate;
mod fragments;
mod hash;
mod icmp;
mod packet;
mod rest;
mod table;

pub use counters::{Count, Counts};
pub use fragments::{FragmentId, Ports};
pub use packet::FlowFlags;
pub use table::{Pool, Range, Service, Settings, Unknown, Vip};

use choose::{Choice, Question, Records};
use packet::{Packet, Upper};

/// A flow of a service: client, its port, and the frontend that it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId {
    pub client: IpAddr,
    /// Zero in the record of a client.
    pub client_port: u16,
    pub to: FrontendKey,
}

/// What a record says: a backend by its counter and its place in the block, and when it was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub counter: u32,
    pub index: u32,
    pub seen_ns: u64,
}

/// The tables and everything that packets change.
#[derive(Default)]
pub struct Model {
    pub settings: Settings,
    pub services: Vec<Service>,
    pub vips: Vec<Vip>,
    pub pools: Vec<Pool>,
    pub flows: Records,
    pub fragments: BTreeMap<FragmentId, Ports>,
    pub sent: BTreeMap<u32, Counter>,
    /// TCP connections that began, by the backend's counter.
    pub new_flows: BTreeMap<u32, u64>,
    pub counts: BTreeMap<u32, Counts>,
    /// Nanoseconds since boot.
    pub now_ns: u64,
    /// Packets that went to a backend.
    pub sent_on: u64,
}

/// How a packet of a frontend is treated, by what it is.
#[derive(Clone, Copy)]
struct Manner {
    flags: FlowFlags,
    /// Section 6 may answer it.
    answers: Answers,
    counted: Option<Count>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// Errors and rejects.
    All,
    /// A first fragment: an error about its size, no reject.
    Errors,
    None,
}

type Outcome = (Verdict, Vec<u8>);

impl Model {
    /// What becomes of a frame. Where the program may choose freely, it has chosen what `told`, the frame that it sent,
    /// shows; whether it was allowed to is decided here.
    pub fn run(&mut self, frame: &[u8], told: &[u8]) -> Outcome {
        let untouched = |verdict| (verdict, frame.to_vec());
        let Some(packet) = Packet::parse(frame) else { return untouched(Verdict::Pass) };
        let upper = packet.first();
        if !packet.is_fragment_v4()
            && let Some(flow) = self.flow_of(&packet, &upper)
        {
            return self.of_frontend(&packet, &upper, flow, told);
        }
        let Some(vip) = self.vip(packet.destination) else { return untouched(Verdict::Pass) };
        self.everything_else(&packet, vip, told)
    }

    /// Section 2, for a packet that is no fragment.
    fn of_frontend(&mut self, packet: &Packet<'_>, upper: &Upper, flow: FlowId, told: &[u8]) -> Outcome {
        let at = self.position(&flow.to).expect("the flow was made for a frontend");
        if !packet.is_whole(upper) {
            return self.drop(packet, self.services[at].number(at), Count::Malformed);
        }
        let manner = Manner { flags: packet.flow_flags(upper), answers: Answers::All, counted: None };
        self.of_frontend_whole(packet, upper, flow, manner, told)
    }

    /// Section 2 from its second step on.
    fn of_frontend_whole(
        &mut self,
        packet: &Packet<'_>,
        upper: &Upper,
        flow: FlowId,
        manner: Manner,
        told: &[u8],
    ) -> Outcome {
        let at = self.position(&flow.to).expect("the flow was made for a frontend");
        let number = self.services[at].number(at);
        if packet.is_martian() || self.talks_to_itself(packet, upper) {
            return self.drop(packet, number, Count::Martian);
        }
        if !self.services[at].lets_in(flow.client) {
            return self.drop(packet, number, Count::SourceDenied);
        }
        self.forward(packet, upper, at, flow, manner, told)
    }

    /// From the choice of a backend on: everything that goes to one comes here.
    fn forward(
        &mut self,
        packet: &Packet<'_>,
        upper: &Upper,
        at: usize,
        flow: FlowId,
        manner: Manner,
        told: &[u8],
    ) -> Outcome {
        let service = &self.services[at];
        let number = service.number(at);
        let hash = hash::flow_hash(service, &flow);
        let question = Question { service, flow, hash, flags: manner.flags, now_ns: self.now_ns, told };
        let Choice { index, written } = choose::choose(&question, &mut self.flows);
        for _ in 0..written {
            self.count(number, Count::KeptFlows);
        }
        let service = &self.services[at];
        let Some(backend) = index.and_then(|index| service.backends.get(index as usize)).copied() else {
            self.count(number, Count::NoBackend);
            let rejects = self.services[at].reject_no_backend && manner.answers == Answers::All;
            return if rejects { self.reject(packet, upper, number) } else { packet.dropped() };
        };
        if backend.flags & READY == 0 {
            return self.drop(packet, number, Count::NoNextHop);
        }
        let outer = encapsulate::outer_bytes(packet.is_v4(), &backend);
        if packet.length + outer > usize::from(backend.mtu) {
            self.count(number, Count::TooBig);
            let answered = manner.answers != Answers::None;
            return if answered {
                self.too_big(packet, number, backend.mtu, outer)
            } else {
                packet.dropped()
            };
        }
        let Some(out) = encapsulate::encapsulated(packet, upper, &backend, &flow, hash, &self.settings)
        else {
            return self.drop(packet, number, Count::Malformed);
        };
        self.sent_on += 1;
        let sent = self.sent.entry(backend.counter).or_default();
        sent.packets += 1;
        sent.bytes += packet.length as u64;
        if manner.flags.syn {
            *self.new_flows.entry(backend.counter).or_default() += 1;
        }
        if let Some(count) = manner.counted {
            self.count(number, count);
        }
        out
    }

    /// The flow that a packet belongs to, if its destination and port are a frontend.
    fn flow_of(&self, packet: &Packet<'_>, upper: &Upper) -> Option<FlowId> {
        let (client_port, port) = packet.ports(upper)?;
        let to = FrontendKey { address: packet.destination, port, protocol: upper.protocol };
        self.position(&to).map(|_| FlowId { client: packet.source, client_port, to })
    }

    fn position(&self, key: &FrontendKey) -> Option<usize> {
        self.services.iter().position(|service| service.key == *key)
    }

    /// A new flow whose client is a service, too: the two would answer each other forever.
    fn talks_to_itself(&self, packet: &Packet<'_>, upper: &Upper) -> bool {
        let Some((port, _)) = packet.ports(upper) else { return false };
        let starts = match upper.protocol {
            TCP => packet.flow_flags(upper).syn,
            UDP => true,
            _ => false,
        };
        starts
            && self
                .position(&FrontendKey { address: packet.source, port, protocol: upper.protocol })
                .is_some()
    }

    fn drop(&mut self, packet: &Packet<'_>, service: u32, count: Count) -> Outcome {
        self.count(service, count);
        packet.dropped()
    }

    fn count(&mut self, service: u32, count: Count) {
        self.counts.entry(service).or_default().add(count);
    }
}
