//! Random tables.

use netd_bpf::abi::{Backend, GUE, IN_USE, OTHER_FAMILY, READY, TCP, UDP, presum};

use super::dice::Dice;
use super::frames::{CLIENT_PORTS, CLIENTS, client_address};
use crate::bed::{Bed, INGRESS, NEXT_HOP_MAC, key, now_ns};
use crate::cases::layers::{FAMILIES, Family};
use crate::reference::{FlowId, Pool, Range, Record, Service, Unknown, Vip};

/// Addresses of VIPs; which of them have an entry, services, or neither, is chance.
pub const VIPS_V4: [&str; 4] = ["192.0.2.10", "192.0.2.11", "192.0.2.200", "198.51.100.7"];
pub const VIPS_V6: [&str; 4] =
    ["2001:db8:100::10", "2001:db8:100::11", "2001:db8:100:2::1", "2001:db8:200::7"];
pub const FIRST_PORT: u16 = 80;
pub const PORTS: u16 = 3;

/// Records that a service has before a round, at most.
const RECORDS_MAX: u64 = 40;

/// Puts other tables into a bed.
pub fn lay(bed: &mut Bed, dice: &mut Dice) {
    bed.clear();
    for family in FAMILIES {
        for vip in vips(family) {
            if !dice.one_in(4) {
                let (ping, unknown, service) = (dice.one_in(2), policy(dice), 100 + dice.roll(8) as u32);
                bed.add_vip(Vip { address: vip.parse().unwrap(), service, ping, unknown });
            }
            for port in FIRST_PORT..FIRST_PORT + PORTS {
                for protocol in [TCP, UDP] {
                    if !dice.one_in(4) {
                        let service = service(dice, family, vip, port, protocol);
                        bed.add(service.clone());
                        records(bed, dice, family, &service);
                    }
                }
            }
        }
        for (address, bits) in prefixes(family) {
            if dice.one_in(2) {
                let (unknown, service) = (policy(dice), 110 + dice.roll(8) as u32);
                bed.add_pool(Pool { address: address.parse().unwrap(), bits, service, unknown });
            }
        }
    }
}

pub fn vips(family: Family) -> [&'static str; 4] {
    if family == Family::V4 { VIPS_V4 } else { VIPS_V6 }
}

fn prefixes(family: Family) -> [(&'static str, u8); 4] {
    if family == Family::V4 {
        [("192.0.2.0", 24), ("192.0.2.8", 29), ("192.0.2.200", 32), ("198.51.0.0", 16)]
    } else {
        [("2001:db8:100::", 48), ("2001:db8:100::", 64), ("2001:db8:100::10", 128), ("2001:db8:200::", 40)]
    }
}

fn policy(dice: &mut Dice) -> Unknown {
    dice.of(&[Unknown::Drop, Unknown::Reject, Unknown::Pass])
}

fn service(dice: &mut Dice, family: Family, vip: &str, port: u16, protocol: u8) -> Service {
    let count = if dice.one_in(8) { 1 + dice.roll(600) } else { 1 + dice.roll(8) };
    let random = dice.one_in(5);
    // What the program chooses has to show: in chance every slot names a backend that packets reach.
    let (slots, names) =
        if random { (251, count) } else { (dice.of(&[0, 1, 251, 251, 509, 1021]), count + 1) };
    let ring = |dice: &mut Dice, slots: u64| (0..slots).map(|_| dice.roll(names) as u16).collect::<Vec<_>>();
    let backends = (0..count).map(|index| backend(dice, family, index as u32, random)).collect();
    let mut service = Service::new(key(vip, port, protocol), ring(dice, slots), backends);
    (service.random, service.seed) = (random, dice.roll(1 << 32) as u32);
    service.wide = count >= 255 || dice.one_in(3);
    service.reject_no_backend = dice.one_in(2);
    if dice.one_in(2) {
        let slots = dice.of(&[0, 251, 509]);
        service.previous = Some(ring(dice, slots));
        service.wide_previous = count >= 255 || dice.one_in(3);
        service.window_open = dice.one_in(2);
        service.records_anywhere = dice.one_in(3);
    }
    service.affinity = dice.one_in(4).then_some(dice.of(&[20, 86_400]));
    if dice.one_in(3) {
        sources(dice, family, &mut service);
    }
    service
}

/// What earlier rings, and backends in other states, may have left behind.
fn records(bed: &mut Bed, dice: &mut Dice, family: Family, service: &Service) {
    for _ in 0..dice.roll(RECORDS_MAX) {
        let client = client_address(family, 1 + dice.roll(CLIENTS)).parse().unwrap();
        let port = CLIENT_PORTS.start + dice.roll(CLIENT_PORTS.len() as u64) as u16;
        let client_port = if service.affinity.is_some() && dice.one_in(2) { 0 } else { port };
        let index = dice.roll(service.backends.len() as u64 + 1) as u32;
        let counter = match service.backends.get(index as usize) {
            Some(backend) if !dice.one_in(8) => backend.counter,
            _ => dice.roll(20_000) as u32,
        };
        let seen_ns = now_ns().saturating_sub(dice.of(&[0, 5, 100]) * 1_000_000_000);
        bed.record(FlowId { client, client_port, to: service.key }, Record { counter, index, seen_ns });
    }
}

fn sources(dice: &mut Dice, family: Family, service: &mut Service) {
    let ranges = if family == Family::V4 {
        [("10.0.0.0", 8), ("10.1.2.0", 24), ("10.1.2.8", 29), ("10.1.2.5", 32)]
    } else {
        [("2001:db8::", 32), ("2001:db8::", 64), ("2001:db8::8", 125), ("2001:db8::5", 128)]
    };
    service.sources_listed = dice.one_in(2);
    for (address, bits) in ranges {
        if dice.one_in(2) {
            service.sources.push(Range { address: address.parse().unwrap(), bits, allowed: dice.one_in(2) });
        }
    }
}

fn backend(dice: &mut Dice, family: Family, index: u32, by_chance: bool) -> Backend {
    let mut backend = Backend {
        destination_mac: NEXT_HOP_MAC,
        source_mac: dice.bytes(6).try_into().unwrap(),
        mtu: dice.of(&[9000, 9000, 1500, 1280, 600, 150]),
        flags: dice.of(&[READY | IN_USE, READY | IN_USE, READY | IN_USE, IN_USE, READY]),
        ifindex: INGRESS + u32::from(dice.one_in(3)),
        counter: dice.roll(20_000) as u32,
        state: dice.of(&[0, 0, 0, 1, 1, 2, 3]),
        ..Backend::default()
    };
    if by_chance {
        (backend.flags, backend.mtu) = (READY | IN_USE, 9000);
    }
    for flag in [OTHER_FAMILY, GUE] {
        backend.flags |= if dice.one_in(4) { flag } else { 0 };
    }
    if dice.one_in(2) {
        backend.port = (1 + dice.roll(65_535) as u16).to_be_bytes();
    }
    let outer_v4 = (family == Family::V4) != (backend.flags & OTHER_FAMILY != 0);
    let width = if outer_v4 { 32 } else { 128 };
    backend.source_bits = if dice.one_in(2) { dice.roll(width + 1) as u8 } else { 0 };
    let kept = u128::MAX.checked_shl(u32::from(backend.source_bits)).unwrap_or(0) << (128 - width);
    let prefix = u128::from_be_bytes(dice.bytes(16).try_into().unwrap());
    let kept = if outer_v4 { kept & u128::MAX << 96 } else { kept };
    (backend.source, backend.destination) = ((prefix & kept).to_be_bytes(), [0; 16]);
    let number = index.to_be_bytes();
    if outer_v4 {
        backend.destination[..4].copy_from_slice(&[10, number[1] | 0x80, number[2], number[3]]);
        let four = |bytes: [u8; 16]| <[u8; 4]>::try_from(&bytes[..4]).unwrap().into();
        backend.checksum = presum(four(backend.source), four(backend.destination));
    } else {
        backend.destination[0] = 0xfd;
        backend.destination[12..].copy_from_slice(&number);
    }
    backend
}
