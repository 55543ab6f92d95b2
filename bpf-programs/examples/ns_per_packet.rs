//! What a packet costs: nanoseconds above a program that does nothing, measured in turns with it.
//!
//! `cargo run -p netd-bpf --example ns_per_packet`, as root: the time is the kernel's, so that the profile does not
//! matter. What the harness undoes of the program's work, a few nanoseconds, is counted in. Figures move with the
//! machine; compare ratios, of one run. An argument is the number of rounds.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use aya::maps::ProgramArray;
use aya::programs::{ProgramInfo, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use netd_bpf::abi::{self, Backend, Frontend, FrontendKey, IN_USE, READY, Settings, TCP, UDP};
use netd_bpf::{Capacity, Datapath, mount_bpffs_if_missing};

static HARNESS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/harness.o"));

const SLOTS: u32 = 16381;
const ROUNDS: usize = 15;
const PACKETS: u32 = 200_000;

/// The first VIP's last word, and that of addresses that are no VIPs.
const FIRST_VIP: u32 = 0xc000_0000;
const NO_VIP: u32 = 0xc800_0000;

/// Of all packets of IPv6, what comes before the last word of client and VIP.
const NETWORK: [u8; 12] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0];

/// TCP's flags, in the kinds of packets.
const ACK: u32 = 0x10;
const SYN: u32 = 0x02;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Packets of one kind.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    is_ipv4: bool,
    protocol: u8,
    /// Zero for UDP.
    tcp_flags: u32,
    first_vip: u32,
    /// That of the path; shorter than the frame's for packets that are too big.
    mtu: u16,
}

const V4: Kind =
    Kind { name: "IPv4 TCP", is_ipv4: true, protocol: TCP, tcp_flags: ACK, first_vip: FIRST_VIP, mtu: 1500 };
const V4_SYN: Kind = Kind { name: "IPv4 SYN", tcp_flags: SYN, ..V4 };
const V4_UDP: Kind = Kind { name: "IPv4 UDP", protocol: UDP, tcp_flags: 0, ..V4 };
const V4_BIG: Kind = Kind { name: "IPv4 too big", mtu: 60, ..V4 };
const V4_PASS: Kind = Kind { name: "IPv4 no VIP", first_vip: NO_VIP, ..V4 };
const V6: Kind = Kind { name: "IPv6 TCP", is_ipv4: false, ..V4 };
const V6_UDP: Kind = Kind { name: "IPv6 UDP", is_ipv4: false, ..V4_UDP };
const V6_BIG: Kind = Kind { name: "IPv6 too big", is_ipv4: false, ..V4_BIG };
const V6_PASS: Kind = Kind { name: "IPv6 no VIP", is_ipv4: false, ..V4_PASS };

/// Services, backends of each, and what is measured there: kind, flows.
type Case = (u32, u32, &'static [(Kind, u32)]);

const CASES: [Case; 4] = [
    (
        1,
        100,
        &[
            (V4, 1),
            (V4, 16_384),
            (V4, 131_072),
            (V4, 1_048_576),
            (V4_SYN, 131_072),
            (V4_UDP, 1),
            (V4_UDP, 131_072),
            (V6, 1),
            (V6, 131_072),
            (V6_UDP, 131_072),
            (V4_PASS, 131_072),
            (V6_PASS, 131_072),
            (V4_BIG, 131_072),
            (V6_BIG, 131_072),
        ],
    ),
    (100, 100, &[(V4, 131_072), (V4_SYN, 131_072), (V6, 131_072), (V4_PASS, 131_072)]),
    (1000, 100, &[(V4, 131_072), (V4, 2_097_152), (V6, 131_072), (V4_PASS, 131_072)]),
    (10_000, 2, &[(V4, 131_072), (V6, 131_072), (V4_PASS, 131_072)]),
];

fn main() -> Outcome<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let folder = tempfile::tempdir()?;
    mount_bpffs_if_missing(folder.path())?;
    let result = measure_all(folder.path(), rounds.max(1));
    rustix::mount::unmount(folder.path(), rustix::mount::UnmountFlags::empty())?;
    result
}

fn measure_all(root: &Path, rounds: usize) -> Outcome<()> {
    println!("services backends   packets            flows |   best median | empty | best / empty");
    for (services, backends, cases) in CASES {
        let root = root.join(services.to_string());
        for protocol in [TCP, UDP] {
            let kinds = cases.iter().filter(|(kind, _)| kind.protocol == protocol);
            let mut made: Option<(Datapath, u16)> = None;
            for (kind, flows) in kinds {
                if made.as_ref().is_none_or(|(_, mtu)| *mtu != kind.mtu) {
                    made = Some((filled(&root, services, backends, kind)?, kind.mtu));
                }
                let Some((datapath, _)) = &made else { continue };
                datapath.retire_others()?;
                let program = root.join(format!("g{}/program", datapath.number()));
                let Cost { best, median, empty } = measure(&program, kind, *flows, services, rounds)?;
                println!(
                    "{services:>8} {backends:>8}   {:<12} {flows:>11} | {best:>6.0} {median:>6.0} | {empty:>5.0} | {:>6.2}",
                    kind.name,
                    best / empty
                );
            }
        }
        if services == 1 {
            describe(&root)?;
        }
        Datapath::retire_all(&root)?;
    }
    Ok(())
}

/// How large the program is, and how much work it was for the verifier.
fn describe(root: &Path) -> Outcome<()> {
    let found = Datapath::open(root)?.ok_or("no program")?;
    let info = ProgramInfo::from_pin(root.join(format!("g{}/program", found.number())))?;
    let said = |figure: Option<u32>| figure.map_or("unknown".into(), |figure| figure.to_string());
    println!(
        "the verifier processed {} instructions; {} bytes, {} compiled for this processor",
        said(info.verified_instruction_count()),
        said(info.size_translated()),
        info.size_jitted()
    );
    Ok(())
}

fn filled(root: &Path, services: u32, backends: u32, kind: &Kind) -> Outcome<Datapath> {
    let ring_lines = abi::ring_lines(SLOTS, false);
    let capacity = Capacity {
        frontends_v4: services,
        frontends_v6: services,
        ring_lines: ring_lines * services,
        backend_lines: 2 * backends * services,
        counters: 2 * backends * services,
        services,
        flows: 1,
        fragments: 1,
        sources: 1,
        pools: 1,
    };
    // What is too big is answered each time.
    let settings = Settings { icmp_errors_per_second: u32::MAX, ..Settings::default() };
    let mut datapath = Datapath::create(root, &capacity, &settings)?;
    let slots: Vec<u16> =
        (0..SLOTS).map(|slot| (slot.wrapping_mul(2_654_435_761) >> 8) % backends).map(|s| s as u16).collect();
    let ring = abi::ring_bytes(&slots, false);
    let maps = datapath.maps();
    let mut frontends = Vec::new();
    for service in 0..services {
        maps.set_ring(service * ring_lines, &ring)?;
        for is_ipv4 in [true, false] {
            let block = (2 * service + u32::from(is_ipv4)) * backends;
            let line = |k: u32| Backend {
                flags: READY | IN_USE,
                ifindex: 1,
                counter: block + k,
                mtu: kind.mtu,
                ..Backend::default()
            };
            maps.set_backend_lines(block, &(0..backends).map(line).collect::<Vec<_>>())?;
            let frontend = Frontend {
                ring: service * ring_lines,
                slots: SLOTS,
                slots_magic: abi::magic(SLOTS),
                flow_seed: 0x71dc_da46,
                backends: block,
                backend_count: backends,
                service,
                ..Frontend::default()
            };
            let address = address(is_ipv4, FIRST_VIP + service);
            frontends.push((FrontendKey { address, port: 80, protocol: kind.protocol }, frontend));
        }
    }
    maps.put_frontends(&frontends).into_iter().collect::<netd_bpf::Result<()>>()?;
    Ok(datapath)
}

fn address(is_ipv4: bool, last_word: u32) -> IpAddr {
    if is_ipv4 {
        return Ipv4Addr::from(last_word).into();
    }
    let mut octets = [0; 16];
    octets[..12].copy_from_slice(&NETWORK);
    octets[12..].copy_from_slice(&last_word.to_be_bytes());
    Ipv6Addr::from(octets).into()
}

/// Nanoseconds for a packet.
struct Cost {
    best: f64,
    median: f64,
    /// Of the harness with the empty program: how fast the machine is just now.
    empty: f64,
}

/// Best and median of what the program takes longer than the empty one, round by round.
fn measure(program: &Path, kind: &Kind, flows: u32, services: u32, rounds: usize) -> Outcome<Cost> {
    // Only the descriptor is wanted, and opening an XDP program asks for a type that aya does not export.
    let measured = SchedClassifier::from_pin(program)?;
    let frame = frame(kind);
    let mut with = harness(kind, &frame, flows, services, 0)?;
    let mut without = harness(kind, &frame, flows, services, 0)?;
    let empty: &mut Xdp = without.program_mut("empty").ok_or("no empty program")?.try_into()?;
    empty.load()?;
    let empty_fd = empty.fd()?.try_clone()?;
    let mut calls_empty = ProgramArray::try_from(without.take_map("measured").ok_or("no program array")?)?;
    calls_empty.set(0, &empty_fd, 0)?;
    let mut calls_measured = ProgramArray::try_from(with.take_map("measured").ok_or("no program array")?)?;
    calls_measured.set(0, measured.fd()?, 0)?;
    let before = put_before(&mut with, &frame)?;
    let mut with = harness(kind, &frame, flows, services, before)?;
    let mut calls_measured = ProgramArray::try_from(with.take_map("measured").ok_or("no program array")?)?;
    calls_measured.set(0, measured.fd()?, 0)?;
    let (mut bests, mut above) = ((f64::MAX, f64::MAX), Vec::new());
    for _ in 0..rounds {
        let (long, short) = (run(&mut with, &frame, PACKETS)?, run(&mut without, &frame, PACKETS)?);
        bests = (bests.0.min(long), bests.1.min(short));
        above.push(long - short);
    }
    above.sort_by(f64::total_cmp);
    Ok(Cost { best: bests.0 - bests.1, median: above[rounds / 2], empty: bests.1 })
}

fn harness(kind: &Kind, frame: &[u8], flows: u32, services: u32, put_before: u32) -> Outcome<Ebpf> {
    let mut object = EbpfLoader::new()
        .override_global("flows", &flows, true)
        .override_global("services", &services, true)
        .override_global("first_vip", &kind.first_vip, true)
        .override_global("is_ipv6", &u32::from(!kind.is_ipv4), true)
        .override_global("tcp_flags", &kind.tcp_flags, true)
        .override_global("frame_bytes", &(frame.len() as u32), true)
        .override_global("put_before", &put_before, true)
        .load(HARNESS)?;
    let program: &mut Xdp = object.program_mut("harness").ok_or("no harness")?.try_into()?;
    program.load()?;
    Ok(object)
}

/// A client's packet, without what the harness writes.
fn frame(kind: &Kind) -> Vec<u8> {
    let mut frame = vec![0; if kind.is_ipv4 { 64 } else { 84 }];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    let (l4, length) = if kind.is_ipv4 { (34, 50_u16) } else { (54, 30) };
    if kind.is_ipv4 {
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        // Fragments are forbidden, so that what is too big is answered.
        frame[20] = 0x40;
        frame[22..24].copy_from_slice(&[64, kind.protocol]);
    } else {
        frame[14] = 0x60;
        frame[18..20].copy_from_slice(&length.to_be_bytes());
        frame[20..22].copy_from_slice(&[kind.protocol, 64]);
        frame[22..34].copy_from_slice(&NETWORK);
        frame[38..50].copy_from_slice(&NETWORK);
    }
    frame[l4 + 2..l4 + 4].copy_from_slice(&80_u16.to_be_bytes());
    frame[l4 + 4..l4 + 8].copy_from_slice(if kind.protocol == TCP {
        &[0xde, 0xad, 0xbe, 0xef]
    } else {
        &[0, 30, 0, 0]
    });
    if kind.protocol == TCP {
        frame[l4 + 12] = 0x50;
    }
    frame
}

/// The bytes that the program puts before the frame, seen from where the VIP's port is.
fn put_before(object: &mut Ebpf, frame: &[u8]) -> Outcome<u32> {
    let program: &mut Xdp = object.program_mut("harness").ok_or("no harness")?.try_into()?;
    let mut out = vec![0; frame.len() + 256];
    let options =
        TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
    let said = program.test_run(options)?;
    let out = &out[..(said.data_size_out as usize).min(out.len())];
    let l4 = if frame[14] == 0x45 { 34 } else { 54 };
    let mark = &frame[l4 + 2..l4 + 8];
    let at = out
        .windows(mark.len())
        .rposition(|bytes| bytes == mark)
        .ok_or("the packet is not in what comes out")?;
    Ok((at - l4 - 2) as u32)
}

/// Nanoseconds for each packet of many.
fn run(object: &mut Ebpf, frame: &[u8], packets: u32) -> Outcome<f64> {
    let program: &mut Xdp = object.program_mut("harness").ok_or("no harness")?.try_into()?;
    let options = TestRunOptions { data_in: Some(frame), repeat: packets, ..TestRunOptions::default() };
    Ok(program.test_run(options)?.duration.as_secs_f64() * 1e9)
}
