//! The layouts that the kernel programs and user space share, and the arithmetic that prepares them.
//!
//! Every struct here has its twin in `include/netd_abi.h`. The sizes are asserted on both sides, and a test compares
//! member names, offsets and sizes with the type information of the built object. Whatever is marked *network order*
//! is an array of bytes here, so that it cannot be mistaken for a number.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};

pub use crate::arithmetic::{magic, presum, ring_bytes, ring_digest, ring_lines, ring_slots, slot};

/// The version of everything in this file; kept in [`Meta`], so that a netd finds out whether it can work with the
/// maps that another version has left pinned.
pub const ABI_VERSION: u32 = 1;

/// Bytes in a line of `rings` and of `backends`: a cache line, so that one packet touches one of each.
pub const LINE_BYTES: usize = 64;

/// [`Frontend::flags`]: the slots of the ring take two bytes each.
pub const WIDE_SLOTS: u32 = 1;
/// [`Frontend::flags`]: a previous ring is set; flows of slots that differ between the two keep their backend.
pub const KEEP_FLOWS: u32 = 2;
/// [`Frontend::flags`]: flows without a record still belong to the previous ring's backend.
pub const WINDOW_OPEN: u32 = 4;
/// [`Frontend::flags`]: the slots of the previous ring take two bytes each.
pub const WIDE_PREVIOUS: u32 = 8;

/// [`Backend::flags`]: the path is known; packets can be sent.
pub const READY: u16 = 1;
/// [`Backend::flags`]: the line belongs to a backend.
pub const IN_USE: u16 = 2;

/// [`Backend::state`]: new and old flows.
pub const ACTIVE: u8 = 0;
/// [`Backend::state`]: keeps the flows that it has.
pub const TERMINATING: u8 = 1;
/// [`Backend::state`]: gets nothing, may return.
pub const QUARANTINED: u8 = 2;
/// [`Backend::state`]: gets nothing.
pub const MAINTENANCE: u8 = 3;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// Key of `frontends_v4`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct FrontendKeyV4 {
    /// Destination address of the packet, network order.
    pub address: [u8; 4],
    /// Destination port of the packet, network order.
    pub port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero: keys are compared as bytes.
    pub zero: u8,
}

/// Key of `frontends_v6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct FrontendKeyV6 {
    /// Destination address of the packet, network order.
    pub address: [u8; 16],
    /// Destination port of the packet, network order.
    pub port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero: keys are compared as bytes.
    pub zero: u8,
}

/// A VIP, port and protocol of either family: what the two kinds of keys say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendKey {
    /// Destination address of the packets. An IPv4-mapped IPv6 address is IPv6 here.
    pub address: IpAddr,
    /// Destination port, as a number.
    pub port: u16,
    /// IP protocol number: [`TCP`] or [`UDP`].
    pub protocol: u8,
}

impl From<FrontendKeyV4> for FrontendKey {
    fn from(key: FrontendKeyV4) -> Self {
        let address = Ipv4Addr::from(key.address).into();
        Self { address, port: u16::from_be_bytes(key.port), protocol: key.protocol }
    }
}

impl From<FrontendKeyV6> for FrontendKey {
    fn from(key: FrontendKeyV6) -> Self {
        let address = Ipv6Addr::from(key.address).into();
        Self { address, port: u16::from_be_bytes(key.port), protocol: key.protocol }
    }
}

impl fmt::Display for FrontendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            TCP => f.write_str("tcp ")?,
            UDP => f.write_str("udp ")?,
            other => write!(f, "protocol {other} ")?,
        }
        write!(f, "{}", std::net::SocketAddr::new(self.address, self.port))
    }
}

/// Value of `frontends_v4` and `frontends_v6`: all that a packet for one VIP, port and protocol needs to find its
/// backend. The kernel replaces it as a whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Frontend {
    /// First line of the ring in `rings`.
    pub ring: u32,
    /// Number of slots of the ring. Zero: no usable backend; packets are dropped and counted.
    pub slots: u32,
    /// [`magic`] of `slots`.
    pub slots_magic: u32,
    /// Seed of the flow hash.
    pub flow_seed: u32,
    /// First line of the block in `backends`.
    pub backends: u32,
    /// Lines of the block. Slots name lines within it; a slot beyond it is treated as no backend.
    pub backend_count: u32,
    /// [`WIDE_SLOTS`], [`KEEP_FLOWS`], [`WINDOW_OPEN`], [`WIDE_PREVIOUS`].
    pub flags: u32,
    /// Index in `service_names` and of the service's counters.
    pub service: u32,
    /// First line of the previous ring; it names lines of the same block of backends.
    pub previous_ring: u32,
    /// Number of slots of the previous ring; zero is the same as no previous ring.
    pub previous_slots: u32,
    /// [`magic`] of `previous_slots`.
    pub previous_magic: u32,
    /// Seed with which user space hashed the backends' names; the programs do not read it.
    pub name_seed: u32,
    /// Flow seed of the service's other family; the programs do not read it.
    pub other_flow_seed: u32,
    /// Seconds since boot at which the previous ring was set; the programs do not read it.
    pub previous_since: u32,
    /// [`ring_digest`] of the ring's bytes; the programs do not read it.
    pub ring_digest: u64,
}

/// One line of `backends`: the headers to put before a packet, ready made.
///
/// While the line is in use, each aligned eight bytes are replaced at once; the destination's MAC address is the
/// beginning of the first eight.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Backend {
    /// MAC address of the next hop.
    pub destination_mac: [u8; 6],
    /// MAC address of the device `ifindex`.
    pub source_mac: [u8; 6],
    /// Bytes that the path takes, outer header included.
    pub mtu: u16,
    /// [`READY`], [`IN_USE`].
    pub flags: u16,
    /// Outer destination, network order; IPv4 in the first four bytes, the rest zero.
    pub destination: [u8; 16],
    /// Outer source, or its prefix with zeros behind when `source_bits` is not zero. As `destination`.
    pub source: [u8; 16],
    /// The device to send through.
    pub ifindex: u32,
    /// Index of the counters; also the identity that flow records name, so it is not given to another backend as
    /// long as records may name it.
    pub counter: u32,
    /// Destination port to write into the packet, network order; zero leaves it.
    pub port: [u8; 2],
    /// [`presum`] of the outer IPv4 header; zero for IPv6.
    pub checksum: u16,
    /// How many low bits of the outer source are a hash of the flow; zero: none.
    pub source_bits: u8,
    /// [`ACTIVE`], [`TERMINATING`], [`QUARANTINED`], [`MAINTENANCE`].
    pub state: u8,
    /// Weight in the ring; the programs do not read it.
    pub weight: u16,
}

/// One element of `counters`: of one backend on one CPU, or their sum.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counter {
    /// Packets sent to the backend.
    pub packets: u64,
    /// Bytes of these packets as the client sent them, from the IP header to the end of its payload.
    pub bytes: u64,
}

/// One element of `service_counters`: of one service on one CPU, or their sum. All in packets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceCounter {
    /// Dropped: the service has no usable backend.
    pub no_backend: u64,
    /// Dropped: the way to the backend is not known.
    pub no_next_hop: u64,
    /// Records made of flows in slots that changed.
    pub kept_flows: u64,
    /// Not encapsulated because the packet with its outer header would be longer than IP can say.
    pub malformed: u64,
}

impl Counter {
    /// The sum of two.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets.wrapping_add(other.packets),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}

impl ServiceCounter {
    /// The sum of two.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            no_backend: self.no_backend.wrapping_add(other.no_backend),
            no_next_hop: self.no_next_hop.wrapping_add(other.no_next_hop),
            kept_flows: self.kept_flows.wrapping_add(other.kept_flows),
            malformed: self.malformed.wrapping_add(other.malformed),
        }
    }
}

/// Key of `flows`. IPv4 addresses are IPv4-mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct FlowKey {
    /// The client.
    pub source: [u8; 16],
    /// The VIP.
    pub destination: [u8; 16],
    /// Client's port, network order.
    pub source_port: [u8; 2],
    /// VIP's port, network order.
    pub destination_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero: keys are compared as bytes.
    pub zero: [u8; 3],
}

/// Value of `flows`: to which backend a flow of a changed slot goes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// The backend's [`Backend::counter`].
    pub counter: u32,
    /// The backend's line within the frontend's block.
    pub index: u32,
    /// Nanoseconds since boot, without sleep, when the flow was last seen; a second late at most.
    pub seen_ns: u64,
}

/// The only element of `meta`: what has to be known to read the other maps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Meta {
    /// [`ABI_VERSION`] of the netd that made the maps.
    pub abi_version: u32,
    /// Rows of counters that belong to CPUs; one more follows.
    pub ncpu: u32,
    /// Elements of a row of `counters`.
    pub counter_stride: u32,
    /// Elements of a row of `service_counters`.
    pub service_stride: u32,
    /// Digest of the object that the program was loaded from.
    pub program_digest: u64,
    /// Zero.
    pub reserved: [u64; 5],
}

/// The longest service name, in bytes.
pub const NAME_BYTES: usize = LINE_BYTES;

const _: () = {
    assert!(size_of::<FrontendKeyV4>() == 8 && size_of::<FrontendKeyV6>() == 20);
    assert!(size_of::<Frontend>() == LINE_BYTES && size_of::<Backend>() == LINE_BYTES);
    assert!(size_of::<Counter>() == 16 && size_of::<ServiceCounter>() == 32);
    assert!(size_of::<FlowKey>() == 40 && size_of::<Flow>() == 16);
    assert!(size_of::<Meta>() == LINE_BYTES);
};
