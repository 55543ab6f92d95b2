//! The tables that all cases share: one service for each behaviour, on a port of its own, the same over both families
//! and both transports.

use netd_bpf::abi::{
    ACTIVE, Backend, FrontendKey, GUE, IN_USE, OTHER_FAMILY, QUARANTINED, READY, TCP, TERMINATING, UDP,
    presum,
};

use super::layers::{FAMILIES, Family, VIP, VIP6};
use crate::bed::{BALANCER_MAC, INGRESS, NEXT_HOP_MAC, key};
use crate::reference::{Pool, Range, Service, Unknown, Vip};

pub const PLAIN: u16 = 80;
/// The backend's port is [`BACKEND_PORT`].
pub const MOVED: u16 = 81;
/// The backend is behind another device.
pub const ELSEWHERE: u16 = 82;
pub const BY_GUE: u16 = 83;
/// The backend is of the other family.
pub const CROSSED: u16 = 84;
pub const CROSSED_BY_GUE: u16 = 85;
/// The path takes [`NARROW_MTU`] bytes.
pub const NARROW: u16 = 86;
pub const PATHLESS: u16 = 87;
/// No slots; what comes is dropped.
pub const EMPTY: u16 = 88;
/// No slots; what comes is rejected.
pub const REFUSING: u16 = 89;
/// Source ranges with something allowed.
pub const LISTED: u16 = 90;
/// Source ranges that only deny.
pub const BARRED: u16 = 91;
/// All slots moved from [`OLD`] to [`NEW`], and the window is open.
pub const OPEN: u16 = 92;
/// The same, and the window is closed.
pub const CLOSED: u16 = 93;
/// The window is open, [`OLD`] is terminating.
pub const DRAINING: u16 = 94;
/// The window is open, [`OLD`] is quarantined.
pub const FAILED: u16 = 95;
/// The window is closed, [`OLD`] is terminating.
pub const DRAINED: u16 = 96;
/// The window is open, the current ring has no slots and [`OLD`] is terminating.
pub const EMPTIED: u16 = 97;
/// Affinity of an hour; the ring says [`NEW`], [`OLD`] is active, [`LEAVING`] terminating.
pub const STICKY: u16 = 98;
/// At random between [`OLD`] and [`NEW`]; [`LEAVING`] is terminating.
pub const CHANCE: u16 = 99;
/// The outer source has 16 hashed bits (IPv6: 32).
pub const SPREAD: u16 = 100;
/// 8 (48).
pub const SPREAD_LESS: u16 = 101;
/// 32 (64).
pub const SPREAD_MORE: u16 = 102;
/// 16381 slots of which those of the vectors are marked.
pub const SLOTS_16381: u16 = 103;
/// 251 of them.
pub const SLOTS_251: u16 = 104;
/// A path of [`NARROW_MTU`] bytes to a backend with a port of its own.
pub const NARROW_MOVED: u16 = 105;
/// The ring names a backend that is not in the block.
pub const BEYOND: u16 = 106;
/// Affinity and a ring that moved from [`OLD`] to [`NEW`], the window is open.
pub const STICKY_OPEN: u16 = 107;
/// One path, of each family's own kind, with 16 hashed bits, to a backend of the other family.
pub const CROSSED_SPREAD: u16 = 108;
/// At random, and all backends without a path.
pub const CHANCE_PATHLESS: u16 = 109;
/// Affinity as in [`STICKY`] and KEEP_FLOWS, the ring as it was.
pub const STICKY_DRAINING: u16 = 110;
/// Nothing moves from [`NEW`], but records are anywhere; the window is open, [`LEAVING`] terminating.
pub const ANYWHERE: u16 = 111;
/// All slots moved from [`OLD`] to [`NEW`], the window is closed, records are anywhere.
pub const ANYWHERE_CLOSED: u16 = 112;

const PORTS: std::ops::RangeInclusive<u16> = PLAIN..=ANYWHERE_CLOSED;

pub const OLD: u16 = 1;
pub const NEW: u16 = 2;
pub const LEAVING: u16 = 3;

pub const BACKEND_PORT: u16 = 8080;
pub const NARROW_MTU: u16 = 600;
pub const OTHER_DEVICE: u32 = 7;

/// The service that counts what is for the VIP with this last number, but for none of its services.
pub const VIP_SERVICE: u32 = 1;

/// VIPs by the last number of their address: rejects, passes and drops what is unknown, and answers no ping; has no
/// entry; the first one answers ping and drops.
pub const REJECTING: &str = "20";
pub const PASSING: &str = "30";
pub const ENTRYLESS: &str = "40";
pub const SILENT: &str = "50";

/// VIPs whose services on ports 80 and 443 are like one of the first VIP, by the last number of their address.
const OTHERS: [(&str, u16); 10] = [
    ("11", PLAIN),
    (REJECTING, PLAIN),
    (PASSING, PLAIN),
    (ENTRYLESS, PLAIN),
    (SILENT, PLAIN),
    ("61", SPREAD),
    ("62", SPREAD_LESS),
    ("63", SPREAD_MORE),
    ("64", SLOTS_16381),
    ("65", SLOTS_251),
];

/// Addresses of pools that no service has, by policy.
pub fn unassigned(family: Family, unknown: Unknown) -> &'static str {
    match (family, unknown) {
        (Family::V4, Unknown::Drop) => "198.51.100.1",
        (Family::V4, Unknown::Reject) => "198.51.100.129",
        (Family::V4, Unknown::Pass) => "198.51.100.193",
        (Family::V6, Unknown::Drop) => "2001:db8:200::1",
        (Family::V6, Unknown::Reject) => "2001:db8:200:1::1",
        (Family::V6, Unknown::Pass) => "2001:db8:200:2::1",
    }
}

pub fn pools() -> Vec<Pool> {
    let pool = |address: &str, bits, service, unknown| {
        let address = address.parse().unwrap();
        Pool { address, bits, service, unknown }
    };
    vec![
        pool("198.51.100.0", 24, 5, Unknown::Drop),
        pool("198.51.100.128", 25, 6, Unknown::Reject),
        pool("198.51.100.192", 26, 7, Unknown::Pass),
        pool("2001:db8:200::", 48, 5, Unknown::Drop),
        pool("2001:db8:200:1::", 64, 6, Unknown::Reject),
        pool("2001:db8:200:2::", 64, 7, Unknown::Pass),
    ]
}

/// A VIP of a pool, with an entry that is kinder than the pool's policy.
pub const POOLED: [&str; 2] = ["198.51.100.130", "2001:db8:200:1::2"];

pub fn vips() -> Vec<Vip> {
    let vip = |address: &str, service, ping, unknown| {
        let address = address.parse().unwrap();
        Vip { address, service, ping, unknown }
    };
    let mut vips = vec![vip(POOLED[0], 8, true, Unknown::Drop), vip(POOLED[1], 8, true, Unknown::Drop)];
    for prefix in ["192.0.2.", "2001:db8:100::"] {
        let address = |last: &str| format!("{prefix}{last}");
        vips.push(vip(&address("10"), VIP_SERVICE, true, Unknown::Drop));
        vips.push(vip(&address("11"), VIP_SERVICE, true, Unknown::Drop));
        vips.push(vip(&address(REJECTING), 2, false, Unknown::Reject));
        vips.push(vip(&address(PASSING), 3, false, Unknown::Pass));
        vips.push(vip(&address(SILENT), 4, false, Unknown::Drop));
    }
    vips
}

pub fn services() -> Vec<Service> {
    let mut services = Vec::new();
    for family in FAMILIES {
        let vip = if family == Family::V4 { VIP } else { VIP6 };
        for protocol in [TCP, UDP] {
            services.extend(PORTS.map(|port| service(family, port, key(vip, port, protocol))));
            for (last, like) in OTHERS {
                let prefix = if family == Family::V4 { "192.0.2." } else { "2001:db8:100::" };
                for port in [80, 443] {
                    services.push(service(family, like, key(&format!("{prefix}{last}"), port, protocol)));
                }
            }
        }
    }
    services
}

/// A service like the one on a port of the first VIP.
fn service(family: Family, port: u16, key: FrontendKey) -> Service {
    let backends = (0..4).map(|index| backend(family, port, index)).collect();
    let mut service = Service::new(key, vec![0; 251], backends);
    service.number = Some(port.into());
    if family == Family::V6 {
        service.seed = 0x9250_5688;
    }
    match port {
        EMPTY => service.slots.clear(),
        REFUSING => (service.slots, service.reject_no_backend) = (Vec::new(), true),
        BEYOND => service.slots = vec![9; 251],
        LISTED | BARRED => ranges(&mut service, port),
        OPEN..=EMPTIED | STICKY_OPEN | ANYWHERE | ANYWHERE_CLOSED => moved(&mut service, port),
        SLOTS_16381 => service.slots = marked(16381, [8056, 4598, 9864, 10504]),
        SLOTS_251 => service.slots = marked(251, [148, 141, 139, 0]),
        CHANCE | CHANCE_PATHLESS => {
            (service.random, service.slots) = (true, [OLD, NEW].into_iter().cycle().take(251).collect());
        }
        _ => {}
    }
    if matches!(port, STICKY | STICKY_OPEN | STICKY_DRAINING) {
        (service.affinity, service.slots) = (Some(30), vec![NEW; 251]);
    }
    if port == STICKY_DRAINING {
        service.previous = Some(service.slots.clone());
    }
    service
}

/// The four slots are those of the backends 0 to 3; all others name none.
fn marked(slots: usize, marks: [usize; 4]) -> Vec<u16> {
    let mut ring = vec![9; slots];
    for (index, slot) in marks.into_iter().enumerate() {
        ring[slot] = index as u16;
    }
    ring
}

fn moved(service: &mut Service, port: u16) {
    (service.slots, service.previous) = (vec![NEW; 251], Some(vec![OLD; 509]));
    service.window_open = !matches!(port, CLOSED | DRAINED | ANYWHERE_CLOSED);
    service.records_anywhere = matches!(port, ANYWHERE | ANYWHERE_CLOSED);
    let old = &mut service.backends[usize::from(OLD)];
    match port {
        DRAINING | DRAINED => old.state = TERMINATING,
        FAILED => old.state = QUARANTINED,
        EMPTIED => {
            old.state = TERMINATING;
            service.slots.clear();
        }
        ANYWHERE => service.previous = Some(vec![NEW; 509]),
        _ => {}
    }
}

fn ranges(service: &mut Service, port: u16) {
    let range = |address: &str, bits, allowed| {
        let address = address.parse().unwrap();
        Range { address, bits, allowed }
    };
    service.sources_listed = port == LISTED;
    service.sources = if port == LISTED {
        vec![
            range("10.0.0.0", 8, true),
            range("10.1.0.0", 16, false),
            range("10.1.2.0", 24, true),
            range("2001:db8::", 32, true),
            range("2001:db8:0:1::", 64, false),
            range("2001:db8:0:1::2", 128, true),
        ]
    } else {
        vec![range("10.9.0.0", 16, false), range("2001:db8:9::", 48, false)]
    };
}

/// The backend with a number of the service on a port.
pub fn backend(family: Family, port: u16, index: u16) -> Backend {
    let crossed = matches!(port, CROSSED | CROSSED_BY_GUE | CROSSED_SPREAD);
    let outer_v4 = (family == Family::V4) != crossed;
    let mut backend = Backend {
        destination_mac: NEXT_HOP_MAC,
        source_mac: BALANCER_MAC,
        mtu: if matches!(port, NARROW | NARROW_MOVED) { NARROW_MTU } else { 4000 },
        flags: IN_USE | READY,
        ifindex: if port == ELSEWHERE { OTHER_DEVICE } else { INGRESS },
        counter: u32::from(port) * 8 + u32::from(index) + if family == Family::V4 { 0 } else { 4096 },
        state: if index == LEAVING { TERMINATING } else { ACTIVE },
        ..Backend::default()
    };
    if crossed {
        backend.flags |= OTHER_FAMILY;
    }
    if matches!(port, BY_GUE | CROSSED_BY_GUE) {
        backend.flags |= GUE;
    }
    if matches!(port, PATHLESS | CHANCE_PATHLESS) {
        backend.flags &= !READY;
    }
    if matches!(port, MOVED | NARROW_MOVED) {
        backend.port = BACKEND_PORT.to_be_bytes();
    }
    (backend.source_bits, backend.source) = source(port, outer_v4);
    if outer_v4 {
        backend.destination[..4].copy_from_slice(&[10, 200, port as u8, index as u8]);
        let four = |bytes: [u8; 16]| <[u8; 4]>::try_from(&bytes[..4]).unwrap().into();
        backend.checksum = presum(four(backend.source), four(backend.destination));
    } else {
        backend.destination[..2].copy_from_slice(&[0xfd, 0]);
        backend.destination[12..14].copy_from_slice(&port.to_be_bytes());
        backend.destination[15] = index as u8;
    }
    backend
}

/// The hashed bits of the outer source, and its prefix.
fn source(port: u16, outer_v4: bool) -> (u8, [u8; 16]) {
    let whole = if outer_v4 { [10, 0, 0, 11].to_vec() } else { octets_of("2001:db8::11") };
    let (bits, bytes) = match (port, outer_v4) {
        (SPREAD | CROSSED_SPREAD, true) => (16, vec![10, 9, 0, 0]),
        (SPREAD_LESS, true) => (8, vec![10, 9, 8, 0]),
        (SPREAD_MORE, true) => (32, vec![0; 4]),
        (SPREAD | CROSSED_SPREAD, false) => (32, octets_of("f00d::")),
        (SPREAD_LESS, false) => (48, octets_of("f00d::")),
        (SPREAD_MORE, false) => (64, octets_of("f00d::")),
        _ => (0, whole),
    };
    let mut source = [0; 16];
    source[..bytes.len()].copy_from_slice(&bytes);
    (bits, source)
}

fn octets_of(address: &str) -> Vec<u8> {
    address.parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec()
}
