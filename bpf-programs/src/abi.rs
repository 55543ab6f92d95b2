//! The layouts that the kernel programs and user space share, and the arithmetic that prepares them.
//!
//! Every struct here has its twin in `include/netd_abi.h`. The sizes are asserted on both sides, and a test compares
//! member names, offsets and sizes with the type information of the built object. Whatever is marked *network order*
//! is an array of bytes here, so that it cannot be mistaken for a number.

mod counts;
mod frontends;
mod prefixes;
mod records;

use bytemuck::{Pod, Zeroable};

pub use counts::{Counter, Limit, ServiceCounter};
pub use frontends::{EntryV4, EntryV6, Frontend, FrontendKey};
pub use prefixes::{Pool, PoolKey, Source, SourceKey};
pub use records::{Flow, FlowKey, Fragment, FragmentKey};

pub use crate::arithmetic::{
    first_counter, magic, presum, ring_bytes, ring_digest, ring_lines, ring_slots, slot,
};

/// The version of everything in this file; kept in [`Meta`], so that a netd finds out whether it can work with the
/// maps that another version has left pinned.
pub const ABI_VERSION: u32 = 2;

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
/// [`Frontend::flags`]: with [`KEEP_FLOWS`], flows of any slot may have records, also where the rings agree.
pub const RECORDS_ANYWHERE: u32 = 8192;
/// [`Frontend::flags`]: set with [`RANDOM`], [`AFFINITY`] or [`SOURCES`], so that a packet of a service that has none of
/// them is asked once.
pub const CAREFUL: u32 = 16;
/// [`Frontend::flags`]: a new flow takes a slot at random, and is recorded.
pub const RANDOM: u32 = 32;
/// [`Frontend::flags`]: a client's address keeps its backend for [`Frontend::affinity_seconds`].
pub const AFFINITY: u32 = 64;
/// [`Frontend::flags`]: the client is looked up in `sources`.
pub const SOURCES: u32 = 128;
/// [`Frontend::flags`]: a client that is not in `sources` is denied.
pub const SOURCES_LISTED: u32 = 256;
/// [`Frontend::flags`]: where the service has no backend, packets are rejected and not only dropped.
pub const REJECT_NO_BACKEND: u32 = 512;
/// [`Frontend::flags`] of a VIP entry: the programs answer ping.
pub const PING: u32 = 1024;
/// [`Frontend::flags`] of a VIP entry, and [`Pool::flags`]: what is for no service is dropped. Without this and
/// [`UNKNOWN_REJECT`] it passes.
pub const UNKNOWN_DROP: u32 = 2048;
/// [`Frontend::flags`] of a VIP entry, and [`Pool::flags`]: what is for no service is rejected.
pub const UNKNOWN_REJECT: u32 = 4096;

/// [`Backend::flags`]: the path is known; packets can be sent.
pub const READY: u16 = 1;
/// [`Backend::flags`]: the line belongs to a backend.
pub const IN_USE: u16 = 2;
/// [`Backend::flags`]: the outer header is of the other family than the VIP.
pub const OTHER_FAMILY: u16 = 4;
/// [`Backend::flags`]: the tunnel is UDP with GUE variant 1.
pub const GUE: u16 = 8;

/// [`Backend::state`]: new and old flows.
pub const ACTIVE: u8 = 0;
/// [`Backend::state`]: keeps the flows that it has.
pub const TERMINATING: u8 = 1;
/// [`Backend::state`]: gets nothing, may return.
pub const QUARANTINED: u8 = 2;
/// [`Backend::state`]: gets nothing.
pub const MAINTENANCE: u8 = 3;

/// [`Source::verdict`]: the client is let in.
pub const SOURCE_ALLOWED: u32 = 1;
/// [`Source::verdict`]: the client's packets are dropped.
pub const SOURCE_DENIED: u32 = 2;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

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
    /// [`READY`], [`IN_USE`], [`OTHER_FAMILY`], [`GUE`].
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

/// What is decided for the whole load balancer: constants of a generation's program.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// Errors and RSTs that are made in a second, and as many ICMP errors that are relayed; shared out equally among
    /// the CPUs. Zero: none.
    pub icmp_errors_per_second: u32,
    /// Destination port of tunnels with [`GUE`], network order.
    pub gue_port: [u8; 2],
    /// TTL or hop limit of outer headers, 1 to 255.
    pub hop_limit: u8,
    /// DSCP of outer headers, 0 to 63, or [`COPY`]: that of the inner one.
    pub outer_dscp: u8,
    /// 1: the ECN bits of outer headers are those of the inner one (RFC 6040, normal mode); 0: they are zero
    /// (compatibility mode).
    pub copies_ecn: u8,
    /// 1: addresses without an entry are looked up in `pools`; 0: `pools` is empty.
    pub has_pools: u8,
    /// Zero.
    pub zero: [u8; 6],
}

/// [`Settings::outer_dscp`]: that of the inner header.
pub const COPY: u8 = 255;

impl Default for Settings {
    fn default() -> Self {
        Self {
            icmp_errors_per_second: 1000,
            gue_port: 6080_u16.to_be_bytes(),
            hop_limit: 64,
            outer_dscp: COPY,
            copies_ecn: 1,
            has_pools: 0,
            zero: [0; 6],
        }
    }
}

/// The only element of `meta`: what has to be known to read the other maps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Meta {
    /// [`ABI_VERSION`] of the netd that made the maps.
    pub abi_version: u32,
    /// Rows of counters that belong to CPUs; one more follows.
    pub ncpu: u32,
    /// Elements of a row of `counters` and of `new_flows`.
    pub counter_stride: u32,
    /// Elements of a row of `service_counters`.
    pub service_stride: u32,
    /// Digest of the object that the program was loaded from.
    pub program_digest: u64,
    /// What the program was loaded with.
    pub settings: Settings,
    /// Zero.
    pub reserved: [u64; 3],
}

/// The longest service name, in bytes.
pub const NAME_BYTES: usize = LINE_BYTES;

const _: () = {
    assert!(size_of::<EntryV4>() * EntryV4::PER_BUCKET as usize == LINE_BYTES);
    assert!(size_of::<EntryV6>() * EntryV6::PER_BUCKET as usize == LINE_BYTES);
    assert!(size_of::<Frontend>() == 2 * LINE_BYTES && size_of::<Backend>() == LINE_BYTES);
    assert!(size_of::<Counter>() == 16 && size_of::<ServiceCounter>() == 2 * LINE_BYTES);
    assert!(size_of::<FlowKey>() == 40 && size_of::<Flow>() == 16);
    assert!(size_of::<FragmentKey>() == 40 && size_of::<Fragment>() == 16);
    assert!(size_of::<SourceKey>() == 24 && size_of::<Source>() == 8);
    assert!(size_of::<PoolKey>() == 20 && size_of::<Pool>() == 8);
    assert!(size_of::<Limit>() == LINE_BYTES && size_of::<Settings>() == 16);
    assert!(size_of::<Meta>() == LINE_BYTES);
};
