//! The structs of the built object, by its type information, are those of user space.

use std::collections::BTreeMap;
use std::mem::offset_of;

use netd_bpf::abi::{
    Backend, Counter, EntryV4, EntryV6, Flow, FlowKey, Fragment, FragmentKey, Frontend, LINE_BYTES, Limit,
    Meta, Pool, PoolKey, ServiceCounter, Settings, Source, SourceKey,
};

use netd_bpf::recorder::abi::{Active, Capture, Header, Key, Mask};

/// A struct: its size, and each member's name and offset, in order; all in bytes.
pub type Layout = (usize, Vec<(String, usize)>);

macro_rules! layout {
    ($type:ty: $($member:ident),+) => {
        (size_of::<$type>(), vec![$((stringify!($member).to_owned(), offset_of!($type, $member))),+])
    };
}

fn user_space() -> BTreeMap<&'static str, Layout> {
    BTreeMap::from([
        ("entry_v4", layout!(EntryV4: address, port, protocol, zero, frontend, overflow)),
        ("entry_v6", layout!(EntryV6: address, port, protocol, zero, frontend, overflow, zeros)),
        ("bucket_v4", (LINE_BYTES, vec![("entries".into(), 0)])),
        ("bucket_v6", (LINE_BYTES, vec![("entries".into(), 0)])),
        (
            "frontend",
            layout!(Frontend: ring, slots, slots_magic, flow_seed, backends, backend_count, flags, service,
                previous_ring, previous_slots, previous_magic, affinity_seconds, first_counter, reserved, name_seed,
                other_flow_seed, previous_since, hash_names, ring_digest, notes),
        ),
        (
            "backend",
            layout!(Backend: destination_mac, source_mac, mtu, flags, destination, source, ifindex, counter, port,
                checksum, source_bits, state, weight),
        ),
        ("counter", layout!(Counter: packets, bytes)),
        (
            "service_counter",
            layout!(ServiceCounter: no_backend, no_next_hop, kept_flows, malformed, too_big, source_denied, martian,
                unknown_port, fragment_lost, rate_limited, rejected, told_too_big, echo_replies, icmp_relayed,
                fragments, passed),
        ),
        ("limit", layout!(Limit: second, errors, relayed, reserved)),
        ("flow_key", layout!(FlowKey: source, destination, source_port, destination_port, protocol, zero)),
        ("flow", layout!(Flow: counter, index, seen_ns)),
        ("fragment_key", layout!(FragmentKey: source, destination, id, protocol, zero)),
        ("fragment", layout!(Fragment: source_port, destination_port, zero, seen_ns)),
        ("source_key", layout!(SourceKey: bits, service, address)),
        ("source", layout!(Source: verdict, added)),
        ("pool_key", layout!(PoolKey: bits, address)),
        ("pool", layout!(Pool: flags, service)),
        (
            "settings",
            layout!(Settings: icmp_errors_per_second, gue_port, hop_limit, outer_dscp, copies_ecn, has_pools, zero),
        ),
        (
            "meta",
            layout!(Meta: abi_version, ncpu, counter_stride, service_stride, program_digest, settings, reserved),
        ),
        ("ring_line", (LINE_BYTES, vec![("bytes".into(), 0)])),
        ("service_name", (LINE_BYTES, vec![("bytes".into(), 0)])),
    ])
}

fn of_the_recorder() -> BTreeMap<&'static str, Layout> {
    BTreeMap::from([
        (
            "record_key",
            layout!(Key: source, destination, source_port, destination_port, protocol, has_ports, mask, zero),
        ),
        // The bits of a key, as words there.
        ("record_mask", layout!(Mask: bits, reserved)),
        ("record_active", layout!(Active: v4, v6)),
        (
            "record_capture",
            layout!(Capture: snaplen, share, taken, given, packets, bytes, lost_packets, lost_bytes, reserved),
        ),
        (
            "record_header",
            layout!(Header: id, ns, captures, bytes, kept, ifindex, service, backend, point, verdict, event, zero),
        ),
    ])
}

#[test]
fn every_struct_of_the_recorder_has_the_same_members_at_the_same_places() {
    let object = include_bytes!(concat!(env!("OUT_DIR"), "/xdp_lb_recorded.o"));
    let built = structs(section(object, ".BTF"));
    for (name, mut layout) in of_the_recorder() {
        if name == "record_mask" {
            layout.1[0].0 = "words".into();
        }
        assert_eq!(built.get(name), Some(&layout), "struct {name}");
    }
}

#[test]
fn every_struct_has_the_same_members_at_the_same_places() {
    let object = include_bytes!(concat!(env!("OUT_DIR"), "/xdp_lb.o"));
    let built = structs(section(object, ".BTF"));
    for (name, layout) in user_space() {
        assert_eq!(built.get(name), Some(&layout), "struct {name}");
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn u64_at(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

fn text(bytes: &[u8], at: usize) -> String {
    let end = bytes[at..].iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(bytes[at..at + end].to_vec()).unwrap()
}

/// A section of a 64-bit little-endian ELF file.
pub fn section<'a>(elf: &'a [u8], wanted: &str) -> &'a [u8] {
    let headers = u64_at(elf, 40);
    let header = |n: usize| &elf[headers + n * 64..];
    let content = |n: usize| &elf[u64_at(header(n), 24)..][..u64_at(header(n), 32)];
    let count = usize::from(u16::from_le_bytes([elf[60], elf[61]]));
    let names = content(usize::from(u16::from_le_bytes([elf[62], elf[63]])));
    let found = (1..count).find(|n| text(names, u32_at(header(*n), 0)) == wanted);
    content(found.unwrap())
}

/// The structs of a `.BTF` section (the kernel's Documentation/bpf/btf.rst describes it).
pub fn structs(btf: &[u8]) -> BTreeMap<String, Layout> {
    let header = u32_at(btf, 4);
    let (types, types_length) = (header + u32_at(btf, 8), u32_at(btf, 12));
    let names = &btf[header + u32_at(btf, 16)..];
    let (mut at, mut found) = (types, BTreeMap::new());
    while at < types + types_length {
        let (name, info, size) = (u32_at(btf, at), u32_at(btf, at + 4), u32_at(btf, at + 8));
        let (count, kind) = (info & 0xffff, info >> 24 & 31);
        at += 12;
        if kind == 4 {
            let member = |n: usize| (text(names, u32_at(btf, at + n * 12)), u32_at(btf, at + n * 12 + 8) / 8);
            found.insert(text(names, name), (size, (0..count).map(member).collect()));
        }
        // What follows a type depends on its kind.
        at += match kind {
            1 | 14 | 17 => 4,
            3 => 12,
            4 | 5 | 15 | 19 => count * 12,
            6 | 13 => count * 8,
            _ => 0,
        };
    }
    found
}
