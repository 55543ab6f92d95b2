//! Strict mode's programs on frames: what is dropped, counted as what, and what goes on; against a plain model, too.

mod cases;
mod model;
mod pins;
mod random;

use std::net::IpAddr;
use std::path::Path;

use etherparse::PacketBuilder;
use netd_bpf::decap::Prefix;
use netd_bpf::strict::abi::Counts;
use netd_bpf::strict::{Rules, Strict, Tunnel, Verdict};
use netd_bpf::tc::Side;

use model::Model;

/// That of WireGuard's packets.
const MARK: u32 = 0xe00;

const VXLAN_PORT: u16 = 8472;
const GENEVE_PORT: u16 = 6081;

fn prefix(text: &str) -> Prefix {
    let (address, bits) = text.split_once('/').unwrap();
    (address.parse().unwrap(), bits.parse().unwrap())
}

fn rules(tunnel: Option<Tunnel>) -> Rules {
    let prefixes = |all: &[&str]| all.iter().map(|text| prefix(text)).collect();
    Rules {
        destinations: prefixes(&[
            "10.244.0.0/16",
            "10.244.2.0/24",
            "fd00:244::/32",
            "192.0.2.7/32",
            // It contains the mapped addresses, and is not meant for IPv4.
            "::/8",
        ]),
        sources: prefixes(&["10.244.0.0/16", "fd00:244::/32"]),
        mark: MARK,
        tunnel,
    }
}

/// The programs and the model, which have to say the same.
struct Bed {
    strict: Strict,
    rules: Rules,
    model: Model,
    counts: Counts,
}

impl Bed {
    fn new(root: &Path, tunnel: Option<Tunnel>) -> Self {
        let mut strict = Strict::prepare(root, None).unwrap_or_else(|error| panic!("{error}"));
        let rules = rules(tunnel);
        strict.set_rules(&rules).unwrap();
        Self { strict, rules, model: Model::default(), counts: Counts::default() }
    }

    /// What both say of a frame, and count.
    fn run(&mut self, side: Side, frame: &[u8], mark: u32) -> Option<model::Why> {
        let said = self.model.run(&self.rules, side, frame, mark);
        let verdict = self.strict.run(side, frame, mark);
        let verdict = verdict.unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
        let expected = if said.is_some() { Verdict::Drop } else { Verdict::Pass };
        assert_eq!(verdict, expected, "{side:?} mark {mark:#x}: {said:?} of {frame:02x?}");
        if let Some(why) = said {
            *why.line(&mut self.counts) += 1;
        }
        assert_eq!(self.strict.counts(), self.counts, "{side:?} mark {mark:#x}: {said:?} of {frame:02x?}");
        said
    }
}

/// A packet of UDP between two addresses of a family, without its Ethernet header.
fn udp(from: &str, to: &str, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let builder = match (from.parse().unwrap(), to.parse().unwrap()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        _ => panic!("{from} and {to} are of two families"),
    };
    let mut bytes = Vec::new();
    builder.udp(ports.0, ports.1).write(&mut bytes, payload).unwrap();
    bytes
}

/// The frame of a packet.
fn frame(packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind, packet].concat()
}

/// A frame in a tunnel between two nodes.
fn in_tunnel(from: &str, to: &str, tunnel: Tunnel, inner: &[u8]) -> Vec<u8> {
    let (port, header) = match tunnel {
        Tunnel::Vxlan(port) => (port, vec![8, 0, 0, 0, 0, 0, 1, 0]),
        // Two words of options.
        Tunnel::Geneve(port) => (port, vec![2, 0, 0x65, 0x58, 0, 0, 1, 0, 9, 9, 9, 9, 9, 9, 9, 9]),
    };
    frame(&udp(from, to, (40_000, port), &[&header, inner].concat()))
}
