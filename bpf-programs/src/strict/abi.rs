//! The layouts that the programs of strict mode and user space share; the twin of `include/strict_abi.h`.
//!
//! Keys of prefixes are [`PoolKey`](crate::abi::PoolKey)s; addresses are of IPv6, IPv4 ones mapped.

use bytemuck::{Pod, Zeroable};

/// The version of everything in this file; kept in [`Settings`].
pub const ABI_VERSION: u32 = 1;

/// [`Settings::tunnel`]: VXLAN.
pub const VXLAN: u8 = 1;
/// [`Settings::tunnel`]: Geneve.
pub const GENEVE: u8 = 2;

/// The only element of `settings`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// [`ABI_VERSION`] of the netd that made the maps.
    pub abi_version: u32,
    /// The firewall mark of WireGuard's own packets; 0: nobody's are.
    pub mark: u32,
    /// Digest of the object that the programs were loaded from.
    pub program_digest: u64,
    /// The UDP port of the nodes' tunnel.
    pub tunnel_port: u16,
    /// [`VXLAN`], [`GENEVE`], or 0 without a tunnel.
    pub tunnel: u8,
    /// Zero.
    pub zero: [u8; 5],
}

/// A packet that goes in fragments.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Fragments {
    /// Whose.
    pub source: [u8; 16],
    /// Where to.
    pub destination: [u8; 16],
    /// What its sender calls it, in network order.
    pub id: u32,
    /// Whether it is one of IPv6.
    pub is_v6: u32,
}

/// What was counted on one CPU, or on all: packets that were dropped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counts {
    /// Leaving, for a listed destination.
    pub out_plain: u64,
    /// Leaving in the nodes' tunnel, for a listed destination.
    pub out_tunnel: u64,
    /// Leaving: later fragments of one of the latter.
    pub out_fragment: u64,
    /// Coming in, from a listed source.
    pub in_plain: u64,
    /// Coming in by the nodes' tunnel, from a listed source.
    pub in_tunnel: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

impl Counts {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            out_plain: self.out_plain.wrapping_add(other.out_plain),
            out_tunnel: self.out_tunnel.wrapping_add(other.out_tunnel),
            out_fragment: self.out_fragment.wrapping_add(other.out_fragment),
            in_plain: self.in_plain.wrapping_add(other.in_plain),
            in_tunnel: self.in_tunnel.wrapping_add(other.in_tunnel),
            reserved: [0; 3],
        }
    }
}

const _: () = {
    assert!(size_of::<Settings>() == 24);
    assert!(size_of::<Fragments>() == 40);
    assert!(size_of::<Counts>() == 64);
};
