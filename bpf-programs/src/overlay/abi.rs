//! The layouts that the programs of the overlay and user space share; the twin of `include/overlay_abi.h`.
//!
//! Keys of prefixes are [`PoolKey`](crate::abi::PoolKey)s; addresses are of IPv6, IPv4 ones mapped.

use bytemuck::{Pod, Zeroable};

/// The version of everything in this file; kept in [`Settings`].
pub const ABI_VERSION: u32 = 2;

/// [`Way::how`]: in the tunnel, to the end `remote`.
pub const IN_TUNNEL: u8 = 1;
/// [`Way::how`]: by the next hop `remote`.
pub const DIRECT: u8 = 2;

/// Where packets for a prefix of other nodes' pods go.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Way {
    /// The other end of the tunnel, or the next hop.
    pub remote: [u8; 16],
    /// This end of the tunnel; the unspecified address of the family: the kernel's choice.
    pub local: [u8; 16],
    /// The tunnel device, or the one that leads to the next hop.
    pub ifindex: u32,
    /// [`IN_TUNNEL`] or [`DIRECT`].
    pub how: u8,
    /// Whether `remote` and `local` are of IPv6.
    pub is_v6: u8,
    /// Whether the prefix is one of IPv6. One that is shorter than 96 bits may contain the mapped addresses.
    pub pods_are_v6: u8,
    /// Zero.
    pub zero: u8,
}

/// The only element of `settings`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// [`ABI_VERSION`] of the netd that made the maps.
    pub abi_version: u32,
    /// The virtual network of the nodes.
    pub vni: u32,
    /// Digest of the object that the programs were loaded from.
    pub program_digest: u64,
    /// The largest packet of a pod that is sent on, in bytes; 0: what the device takes.
    pub mtu: u32,
    /// Zero.
    pub zero: u32,
}

/// What was counted on one CPU, or on all.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counts {
    /// Packets of pods that were put into the tunnel.
    pub sent: u64,
    /// Packets of pods that were sent to the next hop.
    pub sent_directly: u64,
    /// Packets out of the tunnel that came from nodes.
    pub received: u64,
    /// Of these, those that were handed to pods past the stack.
    pub delivered: u64,
    /// Packets of the tunnel that were dropped: not from a node, or of another virtual network.
    pub strangers: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

impl Counts {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent.wrapping_add(other.sent),
            sent_directly: self.sent_directly.wrapping_add(other.sent_directly),
            received: self.received.wrapping_add(other.received),
            delivered: self.delivered.wrapping_add(other.delivered),
            strangers: self.strangers.wrapping_add(other.strangers),
            reserved: [0; 3],
        }
    }
}

const _: () = {
    assert!(size_of::<Way>() == 40);
    assert!(size_of::<Settings>() == 24);
    assert!(size_of::<Counts>() == 64);
};
