//! The two plain load balancers that netd's is compared with, their maps filled like netd's.

use aya::maps::{Array, HashMap, Map};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use std::net::IpAddr;

use crate::Outcome;
use crate::balancer::Scene;
use crate::packets::{FIRST_VIP, PORT, address};

static PEERS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/peers.o"));

const RING_SLOTS: u32 = 65_537;
const TABLE_SLOTS: u32 = 16_381;
/// More services than this would take gigabytes.
pub const SERVICES_MAX: u32 = 1000;

/// The last word of the first backend's address.
const FIRST_BACKEND: u32 = 0x0b00_0000;

/// An address, a port, and a protocol or nothing, as the programs have them.
type Socket = [u8; 20];

/// Both, loaded.
pub struct Peers {
    pub lru_and_ring: ProgramFd,
    pub table_and_routes: ProgramFd,
    _object: Ebpf,
}

impl Peers {
    /// Routes are asked for as if packets had come in by `device`.
    pub fn filled(scene: &Scene, device: u32) -> Outcome<Self> {
        let backends = scene.services * scene.backends;
        let mut object = EbpfLoader::new()
            .override_global("backends_each", &scene.backends, true)
            .override_global("device", &device, true)
            .map_max_entries("services", scene.services)
            .map_max_entries("ring", scene.services * RING_SLOTS)
            .map_max_entries("tables", scene.services)
            .map_max_entries("targets", backends)
            .map_max_entries("target_hash", backends)
            .map_max_entries("service_counters", scene.services)
            .map_max_entries("target_counters", backends)
            .load(PEERS)?;
        fill_by_program(&mut object, "fill_ring", scene.services * RING_SLOTS)?;
        let mut filled: Array<_, u32> = map(&mut object, "filled")?.try_into()?;
        filled.set(0, 0, 0)?;
        fill_by_program(&mut object, "fill_tables", scene.services * TABLE_SLOTS)?;
        let mut services: HashMap<_, Socket, u32> = map(&mut object, "services")?.try_into()?;
        for service in 0..scene.services {
            let vip = address(scene.kind.is_ipv4, FIRST_VIP + service);
            services.insert(socket(vip, PORT, scene.kind.protocol), service, 0)?;
        }
        let target = |backend: u32| socket(address(scene.kind.is_ipv4, FIRST_BACKEND + backend), 0, 0);
        let mut targets: Array<_, Socket> = map(&mut object, "targets")?.try_into()?;
        for backend in 0..backends {
            targets.set(backend, target(backend), 0)?;
        }
        let mut targets: HashMap<_, u32, Socket> = map(&mut object, "target_hash")?.try_into()?;
        for backend in 0..backends {
            targets.insert(backend, target(backend), 0)?;
        }
        let lru_and_ring = loaded(&mut object, "lru_and_ring")?.fd()?.try_clone()?;
        let table_and_routes = loaded(&mut object, "table_and_routes")?.fd()?.try_clone()?;
        Ok(Self { lru_and_ring, table_and_routes, _object: object })
    }
}

fn map<'a>(object: &'a mut Ebpf, name: &str) -> Outcome<&'a mut Map> {
    Ok(object.map_mut(name).ok_or("no such map")?)
}

fn loaded<'a>(object: &'a mut Ebpf, name: &str) -> Outcome<&'a mut Xdp> {
    let program: &mut Xdp = object.program_mut(name).ok_or("no such program")?.try_into()?;
    program.load()?;
    Ok(program)
}

/// Sixty-five million system calls would take half a minute.
fn fill_by_program(object: &mut Ebpf, name: &str, entries: u32) -> Outcome<()> {
    const AT_ONCE: u32 = 256;
    let frame = [0; 64];
    let repeat = entries.div_ceil(AT_ONCE);
    let options = TestRunOptions { data_in: Some(&frame), repeat, ..TestRunOptions::default() };
    loaded(object, name)?.test_run(options)?;
    Ok(())
}

/// IPv4 addresses are in the first word.
fn socket(address: IpAddr, port: u16, protocol: u8) -> Socket {
    let mut socket = [0; 20];
    match address {
        IpAddr::V6(address) => socket[..16].copy_from_slice(&address.octets()),
        IpAddr::V4(address) => socket[..4].copy_from_slice(&address.octets()),
    }
    socket[16..18].copy_from_slice(&port.to_be_bytes());
    socket[18] = protocol;
    socket
}
