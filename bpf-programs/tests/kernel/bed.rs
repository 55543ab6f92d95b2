//! A world for one test: namespaces, a BPF file system, services in the maps, frames.
#![allow(unsafe_code, reason = "namespaces of a thread, and packet sockets")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use etherparse::{IpHeaders, PacketBuilder};
use netd_bpf::abi::{
    self, Backend, Frontend, FrontendKey, IN_USE, KEEP_FLOWS, READY, Settings, WIDE_PREVIOUS, WIDE_SLOTS,
    WINDOW_OPEN,
};
use netd_bpf::{Capacity, Datapath, Maps, Verdict};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::reference::{Model, Service};

pub const CAPACITY: Capacity = Capacity {
    frontends_v4: 64,
    frontends_v6: 64,
    ring_lines: 4096,
    backend_lines: 20_000,
    counters: 20_000,
    services: 64,
    flows: 65_536,
    fragments: 8192,
    sources: 1024,
    pools: 64,
};

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
        let datapath =
            Datapath::create(root, &CAPACITY, &Settings::default()).unwrap_or_else(|error| panic!("{error}"));
        Self { datapath, model: Model::default(), next_ring: 3, next_backend: 5 }
    }

    pub fn maps(&mut self) -> &mut dyn Maps {
        self.datapath.maps()
    }

    /// Puts a service into the maps and into the model; its number is its place in the model.
    pub fn add(&mut self, service: Service) -> Frontend {
        let ring = self.next_ring;
        let previous_ring = ring + self.write_ring(&service.slots, service.wide);
        let previous = service.previous.clone().unwrap_or_default();
        let lines = self.write_ring(&previous, service.wide_previous);
        assert_eq!(self.next_ring, previous_ring + lines);
        let backends = self.next_backend;
        self.next_backend += service.backends.len() as u32;
        self.maps().set_backend_lines(backends, &service.backends).unwrap();
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let frontend = Frontend {
            ring,
            slots: service.slots.len() as u32,
            slots_magic: abi::magic(service.slots.len() as u32),
            flow_seed: service.seed,
            backends,
            backend_count: service.backends.len() as u32,
            flags: flag(service.wide, WIDE_SLOTS)
                | flag(service.previous.is_some(), KEEP_FLOWS)
                | flag(service.window_open, WINDOW_OPEN)
                | flag(service.wide_previous, WIDE_PREVIOUS),
            service: self.model.services.len() as u32,
            previous_ring,
            previous_slots: previous.len() as u32,
            previous_magic: abi::magic(previous.len() as u32),
            ..Frontend::default()
        };
        for result in self.maps().put_frontends(&[(service.key, frontend)]) {
            result.unwrap();
        }
        self.model.services.push(service);
        frontend
    }

    /// Runs the program and the model on a frame; they have to agree. What they say.
    pub fn run(&mut self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let ran = self.datapath.run(frame).unwrap();
        let expected = self.model.run(frame);
        assert_eq!(ran.0, expected.0, "verdict on {frame:02x?}");
        assert_eq!(ran.1, expected.1, "bytes out of {frame:02x?}");
        ran
    }

    /// As [`Bed::run`], for a frame that has to pass untouched.
    pub fn passes(&mut self, frame: &[u8]) {
        assert_eq!(self.run(frame), (Verdict::Pass, frame.to_vec()));
    }

    fn write_ring(&mut self, slots: &[u16], wide: bool) -> u32 {
        let at = self.next_ring;
        self.maps().set_ring(at, &abi::ring_bytes(slots, wide)).unwrap();
        let lines = abi::ring_lines(slots.len() as u32, wide);
        self.next_ring += lines;
        lines
    }
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
    let checksum = crate::reference::checksum(&[&frame[14..end]]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

/// A packet socket on a device of the calling thread's namespace.
pub struct RawSocket(OwnedFd);

impl RawSocket {
    pub fn new(ifindex: u32) -> Self {
        let every = u16::to_be(libc::ETH_P_ALL as u16);
        // SAFETY: no addresses; the descriptor is new.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(every)) };
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: an address of zeros is one.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = every;
        address.sll_ifindex = ifindex as i32;
        let length = size_of_val(&address) as u32;
        // SAFETY: the address is as long as said.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(std::time::Duration::from_secs(5)),
        )
        .unwrap();
        Self(socket)
    }

    pub fn send(&self, frame: &[u8]) {
        rustix::net::send(&self.0, frame, rustix::net::SendFlags::empty()).unwrap();
    }

    /// The first frame that is wanted; whatever else the kernel sends or gets is passed over.
    pub fn receive_until(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        loop {
            let mut buffer = [0; 4096];
            let (_, length) =
                rustix::net::recv(&self.0, &mut buffer, rustix::net::RecvFlags::empty()).unwrap();
            if wanted(&buffer[..length]) {
                return buffer[..length].to_vec();
            }
        }
    }
}
