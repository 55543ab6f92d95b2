//! Frontends: their keys, their entries in the hash tables, and their values.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};

use crate::abi::{TCP, UDP};

/// A VIP, port and protocol of either family: what the two kinds of entries say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendKey {
    /// Destination address of the packets. An IPv4-mapped IPv6 address is IPv6 here.
    pub address: IpAddr,
    /// Destination port, as a number. Zero in the entry of the VIP itself.
    pub port: u16,
    /// IP protocol number: [`TCP`] or [`UDP`]. Zero in the entry of the VIP itself.
    pub protocol: u8,
}

impl FrontendKey {
    /// The key of a VIP's own entry, which says what becomes of packets that are for none of its services.
    #[must_use]
    pub const fn vip_entry(address: IpAddr) -> Self {
        Self { address, port: 0, protocol: 0 }
    }

    /// Whether it is the key of a VIP's own entry.
    #[must_use]
    pub const fn is_vip_entry(&self) -> bool {
        self.port == 0 && self.protocol == 0
    }
}

impl fmt::Display for FrontendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_vip_entry() {
            return write!(f, "{}", self.address);
        }
        match self.protocol {
            TCP => f.write_str("tcp ")?,
            UDP => f.write_str("udp ")?,
            other => write!(f, "protocol {other} ")?,
        }
        write!(f, "{}", std::net::SocketAddr::new(self.address, self.port))
    }
}

/// An entry of `buckets_v4`, where a bucket is a line of four.
///
/// The last eight bytes are written at once. [`frontend`](Self::frontend) is written last and cleared first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct EntryV4 {
    /// Destination address of the packet, network order.
    pub address: [u8; 4],
    /// Destination port of the packet, network order.
    pub port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero: keys are compared as words.
    pub zero: u8,
    /// Number of a line of `frontends` plus one; zero in an entry that is free.
    pub frontend: u32,
    /// In the first entry of a bucket: whether keys of this bucket may lie in the next one.
    pub overflow: u32,
}

/// An entry of `buckets_v6`, where a bucket is a line of two.
///
/// Port, protocol and [`frontend`](Self::frontend) are eight bytes that are written at once, last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct EntryV6 {
    /// Destination address of the packet, network order.
    pub address: [u8; 16],
    /// Destination port of the packet, network order.
    pub port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero: keys are compared as words.
    pub zero: u8,
    /// Number of a line of `frontends` plus one; zero in an entry that is free.
    pub frontend: u32,
    /// In the first entry of a bucket: whether keys of this bucket may lie in the next one.
    pub overflow: u32,
    /// Zero.
    pub zeros: u32,
}

impl EntryV4 {
    /// Entries in a bucket.
    pub const PER_BUCKET: u32 = 4;

    /// The key that the entry has, or had when it was in use.
    #[must_use]
    pub fn key(&self) -> FrontendKey {
        let address = Ipv4Addr::from(self.address).into();
        FrontendKey { address, port: u16::from_be_bytes(self.port), protocol: self.protocol }
    }
}

impl EntryV6 {
    /// Entries in a bucket.
    pub const PER_BUCKET: u32 = 2;

    /// The key that the entry has, or had when it was in use.
    #[must_use]
    pub fn key(&self) -> FrontendKey {
        let address = Ipv6Addr::from(self.address).into();
        FrontendKey { address, port: u16::from_be_bytes(self.port), protocol: self.protocol }
    }
}

/// A line of `frontends`: all that a packet for one VIP, port and protocol needs to find its backend. It never changes
/// while an entry names it. The programs read the first half only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Frontend {
    /// First line of the ring in `rings`.
    pub ring: u32,
    /// Number of slots of the ring. Zero: no usable backend.
    pub slots: u32,
    /// [`magic`](crate::abi::magic) of `slots`.
    pub slots_magic: u32,
    /// Seed of the flow hash.
    pub flow_seed: u32,
    /// First line of the block in `backends`.
    pub backends: u32,
    /// Lines of the block. Slots name lines within it; a slot beyond it is treated as no backend.
    pub backend_count: u32,
    /// [`WIDE_SLOTS`](crate::abi::WIDE_SLOTS) to [`UNKNOWN_REJECT`](crate::abi::UNKNOWN_REJECT).
    pub flags: u32,
    /// Index in `service_names` and of the service's counters.
    pub service: u32,
    /// First line of the previous ring; it names lines of the same block of backends.
    pub previous_ring: u32,
    /// Number of slots of the previous ring; zero is the same as no previous ring.
    pub previous_slots: u32,
    /// [`magic`](crate::abi::magic) of `previous_slots`.
    pub previous_magic: u32,
    /// How long a client keeps its backend after its last packet, with [`AFFINITY`](crate::abi::AFFINITY).
    pub affinity_seconds: u32,
    /// [`first_counter`](crate::abi::first_counter) of the block: what a packet's CPU guesses the counter by. A wrong one
    /// costs time, and nothing else.
    pub first_counter: u32,
    /// Zero.
    pub reserved: [u32; 3],

    /// Seed with which user space hashed the backends' names.
    pub name_seed: u32,
    /// Flow seed of the service's other family.
    pub other_flow_seed: u32,
    /// Seconds since boot at which the previous ring was set.
    pub previous_since: u32,
    /// The shape of the names that user space hashed.
    pub hash_names: u32,
    /// [`ring_digest`](crate::abi::ring_digest) of the ring's bytes.
    pub ring_digest: u64,
    /// What user space wants to find again.
    pub notes: [u64; 5],
}
