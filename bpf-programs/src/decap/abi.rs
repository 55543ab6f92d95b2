//! The layouts that the decapsulating program and user space share; the twin of `include/decap_abi.h`.
//!
//! Keys of its prefixes are [`PoolKey`](crate::abi::PoolKey)s.

use bytemuck::{Pod, Zeroable};

/// The version of everything in this file; kept in [`Settings`].
pub const ABI_VERSION: u32 = 1;

/// Value of a prefix of IPv4.
pub const IPV4: u32 = 4;
/// Value of a prefix of IPv6. One that is shorter than 96 bits may contain the IPv4-mapped addresses; the value says
/// that it is not meant for them.
pub const IPV6: u32 = 6;

/// The only element of `settings`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// [`ABI_VERSION`] of the netd that made the maps.
    pub abi_version: u32,
    /// Destination port of tunnels with GUE, network order.
    pub gue_port: [u8; 2],
    /// Zero.
    pub zero: [u8; 2],
    /// Digest of the object that the program was loaded from.
    pub program_digest: u64,
}

/// What was counted on one CPU, or on all.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counts {
    /// Packets taken out of the tunnel.
    pub packets: u64,
    /// Their bytes, from the inner IP header on.
    pub bytes: u64,
    /// Packets dropped because their tunnel came from somebody else than a known balancer.
    pub strangers: u64,
    /// Packets of known balancers that were left to the kernel because they were for nobody known.
    pub not_taken: u64,
    /// Packets dropped because their lengths or versions were not as they have to be.
    pub malformed: u64,
    /// Packets dropped because they met congestion, and their transport cannot be told (RFC 6040).
    pub congested: u64,
    /// Zero.
    pub reserved: [u64; 2],
}

impl Counts {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets.wrapping_add(other.packets),
            bytes: self.bytes.wrapping_add(other.bytes),
            strangers: self.strangers.wrapping_add(other.strangers),
            not_taken: self.not_taken.wrapping_add(other.not_taken),
            malformed: self.malformed.wrapping_add(other.malformed),
            congested: self.congested.wrapping_add(other.congested),
            reserved: [0; 2],
        }
    }
}

const _: () = {
    assert!(size_of::<Settings>() == 16);
    assert!(size_of::<Counts>() == 64);
};
