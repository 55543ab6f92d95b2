//! Random packets of few flows in both directions: the program and the model say the same, byte by byte; no two flows
//! share what answers are told by; and what went out comes back.
//!
//! `NETD_SEED=<seed>` runs the round of that seed alone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use netd_bpf::nat::abi::COUNTS;
use netd_bpf::nat::{EgressRule, EgressRules, Outer, Ports, Rules, Size, Verdict};
use netd_bpf::tc::Side;

use super::bed::{
    Bed, Both, EGRESS, EXCLUDED, NODE, OTHER_OF_NODE, OTHER_POD, OTHER_REMOTE, POD, REMOTE, ROUTER, outer,
    rules,
};
use crate::bed::{INGRESS, in_own_world};
use crate::cases::layers::{ACK, FAMILIES, FIN, Family, Layers, PUSH, RST, SYN, ip};
use crate::decap::bed::prefixes;
use crate::random::dice::Dice;

/// Packets of one run of the tests.
const PACKETS: u64 = 1_200_000;
/// Packets with the same rules, at most.
const ROUND: u64 = 4000;
/// No time that is compared is as near to another: where a busy machine takes longer, the round has fewer packets.
const ROUND_MAX: Duration = Duration::from_millis(500);
/// So few that the table is full now and then; the kernel counts larger tables only roughly.
const SIZE: Size = Size { flows: 96, direct: 4096, fragments: 4096, has_egress: true };
/// Time passes in steps that are far from every lifetime, and from every sum of them with others.
const STEP_SECONDS: u64 = 45;

#[test]
fn the_programs_say_of_random_packets_what_the_model_says() {
    in_own_world(|root| {
        let mut bed = Bed::with(root, rules(), SIZE);
        let only = std::env::var("NETD_SEED").ok().map(|seed| seed.parse().unwrap());
        let mut seen = [0; COUNTS];
        let (mut seed, mut packets) = (only.unwrap_or(0), 0);
        while packets < only.map_or(PACKETS, |_: u64| 1) {
            println!("seed {seed}");
            packets += round(&mut bed, seed);
            seen.iter_mut().zip(bed.counts().named()).for_each(|(sum, (_, count))| *sum += count);
            seed += 1;
        }
        println!(
            "{:?}",
            bed.model.counts.named().map(|(name, _)| name).into_iter().zip(seen).collect::<Vec<_>>()
        );
        // Every outcome was among them, often; no socket is there.
        let names = bed.model.counts.named().map(|(name, _)| name);
        for (name, count) in names.into_iter().zip(seen) {
            assert!(only.is_some() || name == "ports_in_use" || count > PACKETS / 10_000, "{name}: {count}");
        }
    });
}

/// Says how many packets it had.
fn round(bed: &mut Bed, seed: u64) -> u64 {
    let mut dice = Dice::new(seed);
    bed.restart(random_rules(&mut dice));
    bed.set_egress(random_egress(&mut dice));
    let began = Instant::now();
    let mut packets = 0;
    while packets < ROUND && began.elapsed() < ROUND_MAX {
        packets += 1;
        if dice.one_in(200) {
            bed.age(STEP_SECONDS);
        }
        if dice.one_in(500) {
            bed.set_rules(random_rules(&mut dice));
            bed.set_egress(random_egress(&mut dice));
            if dice.one_in(2) {
                bed.forget_addresses();
            }
        }
        let side = if dice.one_in(2) { Side::Egress } else { Side::Ingress };
        let packet = packet(&mut dice, bed, side);
        // What pods send always comes in by a device.
        let is_of_pod =
            [POD, OTHER_POD].iter().any(|pod| [pod.0, pod.1].contains(&&*packet.source.to_string()));
        bed.came_in_by = if is_of_pod { 7 } else { dice.of(&[0, 0, 7]) };
        let mut frame = packet.bytes();
        if dice.one_in(8) {
            damage(&mut dice, &mut frame);
        }
        let (verdict, out) = bed.run(side, &frame);
        if side == Side::Egress && verdict == Verdict::Pass && out != frame {
            comes_back(bed, &frame, &out);
        }
    }
    bed.compare_tables();
    nobody_shares(bed);
    packets
}

/// An answer to a translated packet of a whole flow is an answer to the packet.
fn comes_back(bed: &mut Bed, before: &[u8], after: &[u8]) {
    let (Some(asked), Some(question)) = (answer_to(after), answer_to(before)) else { return };
    let (verdict, mut out) = bed.run(Side::Ingress, &asked);
    // Both zeros of a checksum mean the same.
    for (byte, expected) in out.iter_mut().zip(&question).collect::<Vec<_>>() {
        if (*byte, *expected) == (0, 0xff) {
            *byte = 0xff;
        }
    }
    assert_eq!((verdict, out), (Verdict::Pass, question), "what went out does not come back");
}

/// UDP or TCP without options, turned around, with the checksum as it was: addresses and ports are in it all the same.
fn answer_to(frame: &[u8]) -> Option<Vec<u8>> {
    let (addresses, transport) = match (frame[12], frame[14], frame.get(23)?, frame.get(20)?) {
        (0x08, 0x45, 6 | 17, _) if frame[20] & 0x3f == 0 && frame[21] == 0 => ((26, 4), 34),
        (0x86, _, _, 6 | 17) => ((22, 16), 54),
        _ => return None,
    };
    let is_tcp = [frame[23], frame[20]][usize::from(frame[12] == 0x86)] == 6;
    if frame.len() < transport + if is_tcp { 20 } else { 8 } {
        return None;
    }
    let mut turned = frame.to_vec();
    let (at, bytes) = addresses;
    turned[at..at + bytes].copy_from_slice(&frame[at + bytes..at + 2 * bytes]);
    turned[at + bytes..at + 2 * bytes].copy_from_slice(&frame[at..at + bytes]);
    turned[transport..transport + 2].copy_from_slice(&frame[transport + 2..transport + 4]);
    turned[transport + 2..transport + 4].copy_from_slice(&frame[transport..transport + 2]);
    Some(turned)
}

/// The keys of mappings are what answers are told by, so that they differ; no flow has two that are alive.
fn nobody_shares(bed: &Bed) {
    let alive = bed.model.mappings.iter().filter(|(key, _)| bed.model.alive(key).is_some());
    let flows: Vec<_> = alive
        .map(|(key, it)| (it.inner, it.inner_port, key.remote, key.remote_port, key.protocol, key.outer))
        .collect();
    assert_eq!(flows.iter().collect::<BTreeSet<_>>().len(), flows.len());
}

fn random_rules(dice: &mut Dice) -> Rules {
    let (first, last) = dice.of(&[(1024, 32_767), (30_000, 30_015), (1, 65_535), (7000, 7000), (5000, 5003)]);
    let mut device = Outer { ports: Ports { first, last }, ..outer() };
    match dice.roll(10) {
        0 => device.v4 = None,
        1 => device.v6 = None,
        _ => {}
    }
    Rules { devices: [(INGRESS, device)].into(), ..rules() }
}

/// Rules for one destination or more of two classes, of which one takes what the other one has.
fn random_egress(dice: &mut Dice) -> EgressRules {
    let mut egress = EgressRules::default();
    let network = |text: &str| *prefixes(&[text]).first().unwrap();
    let sources = [
        ("10.244.0.0/16", 1),
        ("fd00:244::/32", 1),
        ("10.244.1.6/32", 2),
        ("fd00:244:1::6/128", 2),
        ("::/0", 2),
    ];
    let destinations =
        ["0.0.0.0/0", "::/0", "198.51.100.0/24", "2001:db8:9::/64", "198.51.100.8/32", "2001:db8:9::8/128"];
    for (source, class) in sources {
        if dice.one_in(2) {
            egress.sources.insert(network(source), class);
        }
    }
    for class in [1, 2] {
        for to in destinations.map(network) {
            if dice.one_in(3) {
                egress.rules.insert((class, to), random_rule(dice, to.0.is_ipv4()));
            }
        }
    }
    egress
}

fn random_rule(dice: &mut Dice, is_v4: bool) -> EgressRule {
    let family = if is_v4 { Family::V4 } else { Family::V6 };
    let address = of(dice, family, &[&EGRESS, &EGRESS, &EGRESS, &NODE]).parse().unwrap();
    let (first, last) = dice.of(&[(32_768, 65_535), (40_000, 40_007), (5000, 5001)]);
    match dice.roll(8) {
        0 => EgressRule::Tunnel { remote: address, vni: 1, ifindex: dice.of(&[3, 7]) },
        1 => EgressRule::NextHop { address, ifindex: 3 },
        2 => EgressRule::Drop,
        3 => EgressRule::Pass,
        _ => EgressRule::Translate { address, ports: Ports { first, last } },
    }
}

fn packet(dice: &mut Dice, bed: &Bed, side: Side) -> Layers {
    let family = dice.of(&FAMILIES);
    let mut bare = if side == Side::Egress { leaving(dice, family) } else { coming(dice, family) };
    if dice.one_in(4) {
        bare = decorated(dice, bare);
    }
    let own = if side == Side::Egress { pods_port(dice) } else { outer_port(dice, bed) };
    let packet = transport(dice, bare, side, own);
    match dice.roll(12) {
        kind @ (0 | 1) => {
            let bytes = dice.of(&[8, 16, 24, 32]).min(packet.transport_bytes().len());
            let id = dice.roll(4) as u32;
            if kind == 0 { packet.first(bytes, id) } else { packet.later(bytes, id) }
        }
        _ => packet,
    }
}

fn of(dice: &mut Dice, family: Family, all: &[&Both]) -> &'static str {
    all[dice.roll(all.len() as u64) as usize].of(family)
}

fn leaving(dice: &mut Dice, family: Family) -> Layers {
    let from = of(dice, family, &[&POD, &POD, &POD, &OTHER_POD, &OTHER_POD, &NODE, &OTHER_OF_NODE, &EGRESS]);
    let to = of(dice, family, &[&REMOTE, &REMOTE, &REMOTE, &OTHER_REMOTE, &EXCLUDED]);
    ip(family).from(from).to(to)
}

fn coming(dice: &mut Dice, family: Family) -> Layers {
    let from = of(dice, family, &[&REMOTE, &REMOTE, &REMOTE, &OTHER_REMOTE, &ROUTER]);
    let to =
        of(dice, family, &[&NODE, &NODE, &NODE, &NODE, &EGRESS, &EGRESS, &OTHER_OF_NODE, &POD, &OTHER_POD]);
    ip(family).from(from).to(to)
}

fn pods_port(dice: &mut Dice) -> u16 {
    dice.of(&[5000, 5001, 5002, 30_001, 40_000, 40_001, 50_000, 0, 65_535])
}

/// Mostly one that somebody has.
fn outer_port(dice: &mut Dice, bed: &Bed) -> u16 {
    let count = bed.model.mappings.len() as u64;
    if count == 0 || dice.one_in(5) {
        return pods_port(dice);
    }
    bed.model.mappings.keys().nth(dice.roll(count) as usize).unwrap().outer_port
}

fn decorated(dice: &mut Dice, bare: Layers) -> Layers {
    let bare = bare.hops(dice.of(&[1, 64])).class(dice.of(&[0, 3, 0xb8])).id(dice.roll(3) as u16);
    match (bare.is_v4(), dice.roll(4)) {
        (true, 0) => bare.options(4),
        (true, _) => bare,
        (false, 0) => bare.hop_by_hop(),
        (false, 1) => bare.destination_options().routing(dice.of(&[0, 0, 1])),
        (false, 2) => bare.fragment_header(0, false, 3),
        (false, _) => bare.authentication(),
    }
}

/// A packet with this port of its own, in the direction of its side.
fn transport(dice: &mut Dice, bare: Layers, side: Side, own: u16) -> Layers {
    let other = dice.of(&[80, 80, 80, 53, 443]);
    let (from, to) = if side == Side::Egress { (own, other) } else { (other, own) };
    let count = dice.of(&[0, 1, 16, 33, 64]);
    let data = dice.bytes(count);
    let flags =
        dice.of(&[SYN, SYN, ACK, ACK, SYN | ACK, ACK | PUSH, ACK | FIN, FIN, RST, RST | ACK, 0, 0xff]);
    let sum = dice.of(&[None, None, None, None, None, Some(0), Some(0xffff), Some(0x1234)]);
    let word = u32::from(own) << 16 | 1;
    let is_v4 = bare.is_v4();
    let packet = match dice.roll(20) {
        0..6 => bare.tcp(from, to).with(flags).data(&data),
        6..12 => bare.udp(from, to).data(&data),
        12..14 if side == Side::Egress => bare.ping(word, &data),
        12..14 => bare.pong(word, &data),
        14 if side == Side::Egress => bare.pong(word, &data),
        14 => bare.ping(word, &data),
        15 => bare.icmp(dice.of(&[5, 13, 133, 136, 255]), 0, word, &data),
        16 => bare.raw(dice.of(&[47, 132, 50, 1, 58, 0, 43, 44, 51, 59, 60]), &data),
        _ => return error(dice, bare, side, (from, to)),
    };
    match sum {
        Some(sum) if is_v4 || !dice.one_in(2) => packet.sum(sum),
        _ => packet,
    }
}

/// An error about a packet that went the other way.
fn error(dice: &mut Dice, bare: Layers, side: Side, ports: (u16, u16)) -> Layers {
    let family = if bare.is_v4() { Family::V4 } else { Family::V6 };
    let mut quoted = if dice.one_in(6) {
        if side == Side::Egress { coming(dice, family) } else { leaving(dice, family) }
    } else {
        ip(family).from(&bare.destination.to_string()).to(&bare.source.to_string())
    };
    if side == Side::Egress && dice.one_in(3) {
        quoted = quoted.to(of(dice, family, &[&POD, &OTHER_POD]));
    }
    if side == Side::Ingress && dice.one_in(2) {
        quoted = quoted.to(of(dice, family, &[&REMOTE, &OTHER_REMOTE]));
    }
    let count = dice.of(&[0, 8, 20]);
    let data = dice.bytes(count);
    let word = u32::from(if side == Side::Egress { ports.0 } else { ports.1 }) << 16;
    let quoted = match dice.roll(8) {
        0..3 => quoted.tcp(ports.1, ports.0).data(&data),
        3..6 => quoted.udp(ports.1, ports.0).data(&data).sum(dice.of(&[0, 0x1234, 0xffff, 0xfffe])),
        6 => quoted.ping(word, &data),
        _ => quoted.pong(word, &data),
    };
    let quoted = match dice.roll(10) {
        0 => quoted.first(8, 9),
        1 => quoted.later(8, 9),
        _ => quoted,
    };
    let bytes = dice.of(&[1000, 28, 48, 36, 38, 56, 58, 20, 12]);
    let about = bare.error_about(&quoted, bytes);
    let kind = if family == Family::V4 { dice.of(&[3, 11, 12]) } else { dice.of(&[1, 2, 3, 4]) };
    match about.transport.clone() {
        crate::cases::layers::Transport::Icmp { code, word, data, .. } => about.icmp(kind, code, word, &data),
        _ => about,
    }
}

/// Changes bytes behind the frame's type; what is left is longer than the header of its type, or no program is run on it.
fn damage(dice: &mut Dice, frame: &mut Vec<u8>) {
    let least = 14 + if frame[12] == 0x08 { 20 } else { 40 };
    for _ in 0..dice.of(&[0, 1, 1, 2, 4]) {
        let at = 14 + dice.roll(frame.len() as u64 - 14) as usize;
        frame[at] = match dice.roll(3) {
            0 => dice.roll(256) as u8,
            1 => frame[at] ^ 1 << dice.roll(8),
            _ => dice.of(&[0, 1, 6, 17, 44, 58, 60, 0x45, 0xff]),
        };
    }
    if dice.one_in(2) {
        frame.truncate(least + dice.roll((frame.len() - least) as u64 + 1) as usize);
    }
}
