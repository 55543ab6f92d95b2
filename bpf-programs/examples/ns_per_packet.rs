//! What a packet costs: nanoseconds above a program that does nothing, measured in turns with it.
//!
//! `cargo run -p netd-bpf --example ns_per_packet`, as root: the time is the
//! kernel's, so that the profile does not matter. What the harness undoes of the program's work, a few nanoseconds, is
//! counted in. Figures move with the machine; compare figures of
//! one run.

use std::error::Error;
use std::path::Path;

use aya::maps::ProgramArray;

use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use netd_bpf::abi::{self, Backend, Frontend, FrontendKey, IN_USE, READY, Settings};
use netd_bpf::{Capacity, Datapath, mount_bpffs_if_missing};

static HARNESS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/harness.o"));

const SLOTS: u32 = 16381;
const ROUNDS: usize = 15;
const PACKETS: u32 = 400_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    mount_bpffs_if_missing(folder.path())?;
    let result = measure_all(folder.path());
    rustix::mount::unmount(folder.path(), rustix::mount::UnmountFlags::empty())?;
    result
}

fn measure_all(root: &Path) -> Outcome<()> {
    println!("services backends      flows |    best  median | ns above the empty program, with its harness");
    for (services, backends, flow_counts) in [
        (1, 100, &[1, 16_384, 131_072, 1_048_576][..]),
        (100, 100, &[131_072][..]),
        (1000, 100, &[131_072, 2_097_152][..]),
    ] {
        let mut datapath = filled(&root.join(services.to_string()), services, backends)?;
        for &flows in flow_counts {
            let program = root.join(format!("{services}/g{}/program", datapath.number()));
            print(services, backends, &flows.to_string(), &measure(&program, flows, services)?);
        }
        let missed = measure_miss(&mut datapath, &root.join(services.to_string()), services)?;
        print(services, backends, "no VIP", &missed);
        datapath.retire()?;
    }
    Ok(())
}

fn print(services: u32, backends: u32, flows: &str, cost: &Cost) {
    let Cost { best, median, empty } = cost;
    println!("{services:>8} {backends:>8} {flows:>10} | {best:>7.0} {median:>7.0} | {empty:.0}");
}

/// The same maps without frontends: every packet passes.
fn measure_miss(datapath: &mut Datapath, root: &Path, services: u32) -> Outcome<Cost> {
    let keys: Vec<FrontendKey> = datapath.maps().frontends()?.into_iter().map(|(key, _)| key).collect();
    datapath.maps().delete_frontends(&keys).into_iter().collect::<netd_bpf::Result<()>>()?;
    measure(&root.join(format!("g{}/program", datapath.number())), 131_072, services)
}

fn filled(root: &Path, services: u32, backends: u32) -> Outcome<Datapath> {
    let ring_lines = abi::ring_lines(SLOTS, false);
    let mut datapath = Datapath::create(
        root,
        &Capacity {
            frontends_v4: services,
            frontends_v6: 1,
            ring_lines: ring_lines * services,
            backend_lines: backends * services,
            counters: backends * services,
            services,
            flows: 1,
            fragments: 1,
            sources: 1,
            pools: 1,
        },
        &Settings::default(),
    )?;
    let slots: Vec<u16> =
        (0..SLOTS).map(|slot| (slot.wrapping_mul(2_654_435_761) >> 8) % backends).map(|s| s as u16).collect();
    let ring = abi::ring_bytes(&slots, false);
    let maps = datapath.maps();
    let mut frontends = Vec::new();
    for service in 0..services {
        maps.set_ring(service * ring_lines, &ring)?;
        let line = |k: u32| Backend {
            flags: READY | IN_USE,
            ifindex: 1,
            counter: service * backends + k,
            ..Backend::default()
        };
        maps.set_backend_lines(service * backends, &(0..backends).map(line).collect::<Vec<_>>())?;
        let key = FrontendKey {
            address: std::net::Ipv4Addr::from(0xc000_0000 + service).into(),
            port: 80,
            protocol: abi::TCP,
        };
        let frontend = Frontend {
            ring: service * ring_lines,
            slots: SLOTS,
            slots_magic: abi::magic(SLOTS),
            flow_seed: 0x71dc_da46,
            backends: service * backends,
            backend_count: backends,
            service,
            ..Frontend::default()
        };
        frontends.push((key, frontend));
    }
    maps.put_frontends(&frontends).into_iter().collect::<netd_bpf::Result<()>>()?;
    Ok(datapath)
}

/// Nanoseconds for a packet.
struct Cost {
    best: f64,
    median: f64,
    /// Of the harness with the empty program: how fast the machine is just now.
    empty: f64,
}

/// Best and median of what the program takes longer than the empty one, round by round.
fn measure(program: &Path, flows: u32, services: u32) -> Outcome<Cost> {
    // Only the descriptor is wanted, and opening an XDP program asks for a type that aya does not export.
    let measured = SchedClassifier::from_pin(program)?;
    let (mut with, mut without) = (harness(flows, services)?, harness(flows, services)?);
    let empty: &mut Xdp = without.program_mut("empty").ok_or("no empty program")?.try_into()?;
    empty.load()?;
    let empty_fd = empty.fd()?.try_clone()?;
    let mut calls_measured = ProgramArray::try_from(with.take_map("measured").ok_or("no program array")?)?;
    calls_measured.set(0, measured.fd()?, 0)?;
    let mut calls_empty = ProgramArray::try_from(without.take_map("measured").ok_or("no program array")?)?;
    calls_empty.set(0, &empty_fd, 0)?;
    let (mut bests, mut above) = ((f64::MAX, f64::MAX), Vec::new());
    for _ in 0..ROUNDS {
        let (long, short) = (run(&mut with)?, run(&mut without)?);
        bests = (bests.0.min(long), bests.1.min(short));
        above.push(long - short);
    }
    above.sort_by(f64::total_cmp);
    Ok(Cost { best: bests.0 - bests.1, median: above[ROUNDS / 2], empty: bests.1 })
}

fn harness(flows: u32, services: u32) -> Outcome<Ebpf> {
    let mut object = EbpfLoader::new()
        .override_global("flows", &flows, true)
        .override_global("services", &services, true)
        .load(HARNESS)?;
    let program: &mut Xdp = object.program_mut("harness").ok_or("no harness")?.try_into()?;
    program.load()?;
    Ok(object)
}

/// Nanoseconds for each packet of many.
fn run(object: &mut Ebpf) -> Outcome<f64> {
    let program: &mut Xdp = object.program_mut("harness").ok_or("no harness")?.try_into()?;
    let mut frame = vec![0; 64];
    frame[14] = 0x45;
    frame[17] = 50;
    frame[23] = abi::TCP;
    frame[36..38].copy_from_slice(&80u16.to_be_bytes());
    let options = TestRunOptions { data_in: Some(&frame), repeat: PACKETS, ..TestRunOptions::default() };
    let result = program.test_run(options)?;
    Ok(result.duration.as_secs_f64() * 1e9)
}
