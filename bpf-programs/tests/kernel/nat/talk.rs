//! Conversations: packets that leave and come in, one after the other, with what has to become of each.

use netd_bpf::nat::Verdict;
use netd_bpf::tc::Side;

use super::bed::{Bed, Both, NODE, POD, REMOTE};
use crate::bed::hex;
use crate::cases::layers::{FAMILIES, Family, Layers, ip};

/// The pod's port, which is in the range.
pub const PORT: u16 = 5000;
/// The remote's.
pub const SERVER: u16 = 443;

/// One conversation: it is held in both families.
pub struct Case {
    pub sentence: &'static str,
    pub talk: fn(&mut Talk<'_>),
}

pub fn case(sentence: &'static str, talk: fn(&mut Talk<'_>)) -> Case {
    Case { sentence, talk }
}

/// What has to become of a packet.
pub enum Then<'a> {
    Passes,
    /// Its drop has this name.
    Drops(&'static str),
    Becomes(&'a Layers),
    /// To the gateway of its policy.
    Steers,
}

pub use Then::{Becomes, Drops, Passes, Steers};

pub struct Talk<'a> {
    pub bed: &'a mut Bed,
    pub family: Family,
}

impl Talk<'_> {
    pub fn address(&self, both: &Both) -> &'static str {
        both.of(self.family)
    }

    /// Bare, from the pod to the remote.
    pub fn pod(&self) -> Layers {
        ip(self.family).from(self.address(&POD)).to(self.address(&REMOTE))
    }

    /// Bare, from the remote to the node.
    pub fn remote(&self) -> Layers {
        ip(self.family).from(self.address(&REMOTE)).to(self.address(&NODE))
    }

    pub fn from(&self, both: &Both) -> Layers {
        self.pod().from(self.address(both))
    }

    pub fn is_v4(&self) -> bool {
        self.family == Family::V4
    }

    /// The protocol's number.
    pub fn icmp(&self) -> u8 {
        if self.is_v4() { 1 } else { 58 }
    }

    /// A packet with the node's address instead of the pod's; the port stays, because it is in the range and free.
    pub fn outer(&self, packet: &Layers) -> Layers {
        packet.clone().from(self.address(&NODE))
    }

    /// A packet for the node as the pod gets it.
    pub fn inner(&self, packet: &Layers) -> Layers {
        packet.clone().to(self.address(&POD))
    }

    pub fn leaves(&mut self, packet: &Layers, then: Then<'_>) {
        self.check(Side::Egress, packet, then);
    }

    pub fn comes(&mut self, packet: &Layers, then: Then<'_>) {
        self.check(Side::Ingress, packet, then);
    }

    /// It leaves, under whatever port or number that is free, and that is returned.
    pub fn leaves_by_port(&mut self, packet: &Layers) -> u16 {
        self.leaves_as(packet, &NODE)
    }

    /// As [`Talk::leaves_by_port`], with this address.
    pub fn leaves_as(&mut self, packet: &Layers, outer: &Both) -> u16 {
        let (verdict, out) = self.bed.run(Side::Egress, &packet.bytes());
        assert_eq!(verdict, Verdict::Pass);
        let at = if self.is_v4() { 34 } else { 54 } + if packet.protocol() == self.icmp() { 4 } else { 0 };
        let port = u16::from_be_bytes([out[at], out[at + 1]]);
        let expected = packet.clone().from(self.address(outer)).with_source_port(port);
        assert_eq!(out, expected.bytes(), "from port {port}");
        port
    }

    /// What a count has grown by since the conversation began.
    pub fn counted(&mut self, name: &str) -> u64 {
        let counts = self.bed.counts().named();
        counts.into_iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn check(&mut self, side: Side, packet: &Layers, then: Then<'_>) {
        let frame = packet.bytes();
        let before = self.bed.counts();
        let (verdict, out) = self.bed.run(side, &frame);
        let expected = match then {
            Passes => (Verdict::Pass, frame.clone()),
            Drops(_) => (Verdict::Drop, frame.clone()),
            Becomes(other) => (Verdict::Pass, other.bytes()),
            Steers => (Verdict::Steer, frame.clone()),
        };
        assert!(
            (verdict, &out) == (expected.0, &expected.1),
            "{side:?}\nframe    {}\nbecame   {verdict:?} {}\nand not  {:?} {}",
            hex(&frame),
            hex(&out),
            expected.0,
            hex(&expected.1)
        );
        let after = self.bed.counts();
        if let Drops(name) = then {
            let grown =
                after.named().into_iter().zip(before.named()).filter(|(after, before)| after != before);
            let names: Vec<_> =
                grown.map(|((name, _), _)| name).filter(|name| *name != "ports_in_use").collect();
            assert_eq!(names, [name]);
        }
    }
}

/// Holds conversations in both families, each with tables of its own, and says what all of them say is wrong.
pub fn hold(bed: &mut Bed, cases: &[Case]) -> Vec<String> {
    let mut failures = Vec::new();
    for case in cases {
        for family in FAMILIES {
            bed.restart(super::bed::rules());
            let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                (case.talk)(&mut Talk { bed, family });
                bed.compare_tables();
            }));
            if let Err(why) = held {
                let text = why.downcast_ref::<String>().cloned();
                let text = text.or_else(|| why.downcast_ref::<&str>().map(ToString::to_string));
                failures.push(format!("{} over {family}:\n{}", case.sentence, text.unwrap_or_default()));
            }
        }
    }
    failures
}

impl Layers {
    /// Another source port, with the checksum that belongs to it.
    pub fn with_source_port(mut self, port: u16) -> Self {
        use crate::cases::layers::Transport::{Icmp, Raw, Tcp, Udp};
        match &mut self.transport {
            Tcp { ports, .. } | Udp { ports, .. } => ports.0 = port,
            Icmp { word, .. } => *word = *word & 0xffff | u32::from(port) << 16,
            Raw { .. } => {}
        }
        self
    }

    /// An ICMP error about a packet, of which it quotes so many bytes.
    pub fn error_about(self, packet: &Self, bytes: usize) -> Self {
        let kind = if self.is_v4() { 3 } else { 1 };
        let quoted = packet.inner();
        let kept = bytes.min(quoted.len());
        self.icmp(kind, 1, 0, &quoted[..kept])
    }
}
