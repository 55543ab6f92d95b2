//! A world for one test: namespaces, a BPF file system, services in the maps, frames.
#![allow(unsafe_code, reason = "namespaces of a thread")]

use std::path::Path;
use std::process::Command;

use etherparse::{IpHeaders, PacketBuilder};
use netd_bpf::abi::{
    self, AFFINITY, Backend, CAREFUL, COPY, Flow, FlowKey, Frontend, FrontendKey, IN_USE, KEEP_FLOWS, PING,
    PoolKey, RANDOM, READY, RECORDS_ANYWHERE, REJECT_NO_BACKEND, SOURCE_ALLOWED, SOURCE_DENIED, SOURCES,
    SOURCES_LISTED, Settings as AbiSettings, Source, SourceKey, UNKNOWN_DROP, UNKNOWN_REJECT, WIDE_PREVIOUS,
    WIDE_SLOTS, WINDOW_OPEN,
};
use netd_bpf::{Capacity, Datapath, Maps, Verdict};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::reference::checksum::checksum;
use crate::reference::{Counts, FlowId, Model, Pool, Record, Service, Settings, Unknown, Vip};

pub const CAPACITY: Capacity = Capacity {
    frontends_v4: 64,
    frontends_v6: 64,
    ring_lines: 4096,
    backend_lines: 20_000,
    counters: 20_000,
    services: 128,
    flows: 65_536,
    fragments: 8192,
    sources: 1024,
    pools: 64,
};

/// Lines 0 and on stay unused, so that a forgotten base is seen.
const FIRST_RING: u32 = 3;
const FIRST_BACKEND: u32 = 5;

pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const BALANCER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const NEXT_HOP_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];

/// The loopback device of a namespace: where test runs say that frames come in.
pub const INGRESS: u32 = 1;

/// Runs a test on a thread with namespaces of its own; the folder is in a BPF file system.
pub fn in_own_world(test: impl FnOnce(&Path) + Send) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: loading programs needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let world = scope.spawn(|| {
            // SAFETY: the thread is new and ends with the test; no descriptor table is unshared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }.unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount("bpf", folder.path(), "bpf", MountFlags::empty(), None).unwrap();
            test(folder.path());
        });
        if let Err(panic) = world.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs `ip` in the namespace of the calling thread.
pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The program with services, and the model of both.
pub struct Bed {
    pub datapath: Datapath,
    pub model: Model,
    next_ring: u32,
    next_backend: u32,
}

impl Bed {
    pub fn new(root: &Path) -> Self {
        Self::with(root, Settings::default(), &CAPACITY)
    }

    pub fn with(root: &Path, settings: Settings, capacity: &Capacity) -> Self {
        let constants = AbiSettings {
            icmp_errors_per_second: settings.icmp_errors_per_second,
            gue_port: settings.gue_port.to_be_bytes(),
            hop_limit: settings.hop_limit,
            outer_dscp: settings.outer_dscp.unwrap_or(COPY),
            copies_ecn: settings.copies_ecn.into(),
            has_pools: 1,
            zero: [0; 6],
        };
        let datapath = Datapath::create(root, capacity, &constants).unwrap_or_else(|error| panic!("{error}"));
        let model = Model { settings, ..Model::default() };
        Self { model, ..Self::of(datapath) }
    }

    /// A generation whose maps are empty.
    pub fn of(datapath: Datapath) -> Self {
        Self { datapath, model: Model::default(), next_ring: FIRST_RING, next_backend: FIRST_BACKEND }
    }

    pub fn maps(&mut self) -> &mut dyn Maps {
        self.datapath.maps()
    }

    /// Puts a service into the maps and into the model.
    pub fn add(&mut self, service: Service) -> Frontend {
        let ring = self.next_ring;
        let previous_ring = ring + self.write_ring(&service.slots, service.wide);
        let previous = service.previous.clone().unwrap_or_default();
        let lines = self.write_ring(&previous, service.wide_previous);
        assert_eq!(self.next_ring, previous_ring + lines);
        let backends = self.next_backend;
        self.next_backend += service.backends.len() as u32;
        self.maps().set_backend_lines(backends, &service.backends).unwrap();
        let frontend = Frontend {
            ring,
            slots: service.slots.len() as u32,
            slots_magic: abi::magic(service.slots.len() as u32),
            flow_seed: service.seed,
            backends,
            backend_count: service.backends.len() as u32,
            flags: flags(&service),
            service: service.number(self.model.services.len()),
            previous_ring,
            previous_slots: previous.len() as u32,
            previous_magic: abi::magic(previous.len() as u32),
            affinity_seconds: service.affinity.unwrap_or_default(),
            first_counter: abi::first_counter(&service.backends),
            ..Frontend::default()
        };
        for range in &service.sources {
            let verdict = if range.allowed { SOURCE_ALLOWED } else { SOURCE_DENIED };
            let key = SourceKey::new(frontend.service, range.address, range.bits);
            self.maps().put_sources(&[(key, Source::new(verdict))]).unwrap();
        }
        self.put(service.key, frontend);
        self.model.services.push(service);
        frontend
    }

    pub fn add_vip(&mut self, vip: Vip) {
        let ping = if vip.ping { PING } else { 0 };
        let frontend =
            Frontend { flags: ping | policy(vip.unknown), service: vip.service, ..Frontend::default() };
        self.put(FrontendKey::vip_entry(vip.address), frontend);
        self.model.vips.push(vip);
    }

    pub fn add_pool(&mut self, pool: Pool) {
        let value = abi::Pool { flags: policy(pool.unknown), service: pool.service };
        self.maps().put_pools(&[(PoolKey::new(pool.address, pool.bits), value)]).unwrap();
        self.model.pools.push(pool);
    }

    /// Empties the tables, in the maps and in the model. Counters and records of fragments stay.
    pub fn clear(&mut self) {
        let keys: Vec<FrontendKey> = self.maps().frontends().unwrap().iter().map(|(key, _)| *key).collect();
        for result in self.maps().delete_frontends(&keys) {
            result.unwrap();
        }
        let sources: Vec<SourceKey> = self.maps().sources().unwrap().iter().map(|(key, _)| *key).collect();
        self.maps().delete_sources(&sources).unwrap();
        let pools: Vec<PoolKey> = self.maps().pools().unwrap().iter().map(|(key, _)| *key).collect();
        self.maps().delete_pools(&pools).unwrap();
        (self.next_ring, self.next_backend) = (FIRST_RING, FIRST_BACKEND);
        self.model.services.clear();
        self.model.vips.clear();
        self.model.pools.clear();
        self.forget_flows();
    }

    pub fn forget_flows(&mut self) {
        self.maps().purge_flows(&|_, _| true).unwrap();
        self.model.flows.clear();
    }

    /// Sets a record, in the maps and in the model.
    pub fn record(&mut self, flow: FlowId, record: Record) {
        let value = Flow { counter: record.counter, index: record.index, seen_ns: record.seen_ns };
        self.maps().put_flows(&[(flow_key(&flow), value)]).unwrap();
        self.model.flows.insert(flow, record);
    }

    /// Runs the program and the model on a frame; they have to agree. What they say.
    pub fn run(&mut self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let ran = self.datapath.run(frame).unwrap();
        if let Err(difference) = self.compare_with(frame, &ran) {
            panic!("{difference}");
        }
        ran
    }

    /// The verdict of both, or how they differ.
    pub fn compare(&mut self, frame: &[u8]) -> Result<Verdict, String> {
        let ran = self.datapath.run(frame).unwrap();
        self.compare_with(frame, &ran)
    }

    fn compare_with(&mut self, frame: &[u8], ran: &(Verdict, Vec<u8>)) -> Result<Verdict, String> {
        self.model.now_ns = now_ns();
        let expected = self.model.run(frame, &ran.1);
        if *ran == expected {
            return Ok(ran.0);
        }
        let line = |said: &(Verdict, Vec<u8>)| format!("{:?} {}", said.0, hex(&said.1));
        Err(format!("frame   {}\nprogram {}\nmodel   {}", hex(frame), line(ran), line(&expected)))
    }

    /// Everything that packets have changed is the same in the maps and in the model. What is not, in words.
    pub fn differences(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for service in 0..CAPACITY.services {
            let counted: [u64; 16] = bytemuck::cast(self.maps().service_counter(service).unwrap());
            let expected = self.model.counts.get(&service).copied().unwrap_or_default();
            if counted != expected.0 {
                found.push(format!("service {service}: {:?}, expected {expected:?}", Counts(counted)));
            }
        }
        for (index, expected) in self.model.sent.clone() {
            let counted = self.maps().counter(index).unwrap();
            if counted != expected {
                found.push(format!("backend {index}: {counted:?}, expected {expected:?}"));
            }
        }
        for (index, expected) in self.model.new_flows.clone() {
            let counted = self.maps().new_flows(index).unwrap();
            if counted != expected {
                found.push(format!("backend {index}: {counted} new flows, expected {expected}"));
            }
        }
        let mut records: Vec<_> = self.maps().flows().unwrap();
        let mut expected: Vec<_> = self
            .model
            .flows
            .iter()
            .map(|(id, record)| (flow_key(id), record.counter, record.index))
            .collect();
        records.sort_unstable_by_key(|(key, _)| *key);
        expected.sort_unstable();
        let records: Vec<_> = records.iter().map(|(key, flow)| (*key, flow.counter, flow.index)).collect();
        if records != expected {
            let odd = records.iter().filter(|record| !expected.contains(record)).take(3).collect::<Vec<_>>();
            let missing =
                expected.iter().filter(|record| !records.contains(record)).take(3).collect::<Vec<_>>();
            found.push(format!("records that should not be: {odd:?}, that should: {missing:?}"));
        }
        found
    }

    /// As [`Bed::run`], for a frame that has to pass untouched.
    pub fn passes(&mut self, frame: &[u8]) {
        assert_eq!(self.run(frame), (Verdict::Pass, frame.to_vec()));
    }

    fn put(&mut self, key: FrontendKey, frontend: Frontend) {
        for result in self.maps().put_frontends(&[(key, frontend)]) {
            result.unwrap();
        }
    }

    fn write_ring(&mut self, slots: &[u16], wide: bool) -> u32 {
        let at = self.next_ring;
        self.maps().set_ring(at, &abi::ring_bytes(slots, wide)).unwrap();
        let lines = abi::ring_lines(slots.len() as u32, wide);
        self.next_ring += lines;
        lines
    }
}

fn flags(service: &Service) -> u32 {
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    let sources = !service.sources.is_empty() || service.sources_listed;
    flag(service.wide, WIDE_SLOTS)
        | flag(service.previous.is_some(), KEEP_FLOWS)
        | flag(service.window_open, WINDOW_OPEN)
        | flag(service.records_anywhere, RECORDS_ANYWHERE)
        | flag(service.wide_previous, WIDE_PREVIOUS)
        | flag(service.random, RANDOM | CAREFUL)
        | flag(service.affinity.is_some(), AFFINITY | CAREFUL)
        | flag(sources, SOURCES | CAREFUL)
        | flag(service.sources_listed, SOURCES_LISTED)
        | flag(service.reject_no_backend, REJECT_NO_BACKEND)
}

fn policy(unknown: Unknown) -> u32 {
    match unknown {
        Unknown::Drop => UNKNOWN_DROP,
        Unknown::Reject => UNKNOWN_REJECT,
        Unknown::Pass => 0,
    }
}

fn flow_key(flow: &FlowId) -> FlowKey {
    let octets = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(address) => address.octets(),
    };
    FlowKey {
        source: octets(flow.client),
        destination: octets(flow.to.address),
        source_port: flow.client_port.to_be_bytes(),
        destination_port: flow.to.port.to_be_bytes(),
        protocol: flow.to.protocol,
        zero: [0; 3],
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nanoseconds since boot, as the programs count them.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

pub fn key(address: &str, port: u16, protocol: u8) -> FrontendKey {
    FrontendKey { address: address.parse().unwrap(), port, protocol }
}

/// A backend for tunnels over IPv4, reached through the device that packets come in by.
pub fn backend_v4(source: [u8; 4], destination: [u8; 4], counter: u32) -> Backend {
    let mut backend =
        Backend { checksum: abi::presum(source.into(), destination.into()), ..backend(counter) };
    backend.source[..4].copy_from_slice(&source);
    backend.destination[..4].copy_from_slice(&destination);
    backend
}

/// The same over IPv6.
pub fn backend_v6(source: [u8; 16], destination: [u8; 16], counter: u32) -> Backend {
    Backend { source, destination, ..backend(counter) }
}

fn backend(counter: u32) -> Backend {
    Backend {
        destination_mac: NEXT_HOP_MAC,
        source_mac: BALANCER_MAC,
        mtu: 1500,
        flags: READY | IN_USE,
        ifindex: INGRESS,
        counter,
        ..Backend::default()
    }
}

/// `count` backends whose outer destination says which they are.
pub fn numbered_v4(count: u32) -> Vec<Backend> {
    let destination = |k: u32| [10, 0x80 | (k >> 16) as u8, (k >> 8) as u8, k as u8];
    (0..count).map(|k| backend_v4([10, 0, 0, 11], destination(k), k)).collect()
}

/// The same over IPv6.
pub fn numbered_v6(count: u32) -> Vec<Backend> {
    let source = "2001:db8::11".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let destination = |k: u32| {
        let mut address = [0xfd; 16];
        address[12..].copy_from_slice(&k.to_be_bytes());
        address
    };
    (0..count).map(|k| backend_v6(source, destination(k), k)).collect()
}

/// The number of the backend that an encapsulated frame goes to.
pub fn number_of(frame: &[u8]) -> u32 {
    if frame[12] == 0x08 {
        u32::from_be_bytes([0, frame[31] & 0x7f, frame[32], frame[33]])
    } else {
        u32::from_be_bytes(frame[50..54].try_into().unwrap())
    }
}

/// Four-tuple of a packet of either family.
#[derive(Clone, Copy)]
pub struct Tuple<'a>(pub &'a str, pub u16, pub &'a str, pub u16);

impl Tuple<'_> {
    fn builder(self) -> etherparse::PacketBuilderStep<IpHeaders> {
        let ethernet = PacketBuilder::ethernet2(CLIENT_MAC, BALANCER_MAC);
        match (self.0.parse().unwrap(), self.2.parse().unwrap()) {
            (std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)) => {
                ethernet.ipv4(from.octets(), to.octets(), 61)
            }
            (std::net::IpAddr::V6(from), std::net::IpAddr::V6(to)) => {
                ethernet.ipv6(from.octets(), to.octets(), 61)
            }
            _ => panic!("addresses of two families"),
        }
    }

    pub fn tcp(self, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        self.builder().tcp(self.1, self.3, 1000, 8192).ack(7).write(&mut frame, payload).unwrap();
        frame
    }

    pub fn syn(self) -> Vec<u8> {
        let mut frame = Vec::new();
        self.builder().tcp(self.1, self.3, 1000, 8192).syn().write(&mut frame, &[]).unwrap();
        frame
    }

    pub fn udp(self, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        self.builder().udp(self.1, self.3).write(&mut frame, payload).unwrap();
        frame
    }
}

/// Writes the IPv4 header's checksum anew, after a test has changed the header.
pub fn fix_ipv4(frame: &mut [u8]) {
    let end = 14 + usize::from(frame[14] & 15) * 4;
    frame[24..26].fill(0);
    let checksum = checksum(&[&frame[14..end]]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}
