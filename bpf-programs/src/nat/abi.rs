//! The layouts that the translating programs and user space share; the twin of `include/nat_abi.h`.
//!
//! Keys of prefixes are [`PoolKey`](crate::abi::PoolKey)s. Addresses are of IPv6, IPv4 ones mapped; ports of packets are in
//! network order.

use std::net::IpAddr;

use bytemuck::{Pod, Zeroable};

/// The version of everything in this file; kept in [`Settings`].
pub const ABI_VERSION: u32 = 2;

/// State of a mapping: a packet has come in.
pub const ANSWERED: u8 = 1;
/// State of a mapping: the pod has sent FIN.
pub const FIN_OUT: u8 = 2;
/// State of a mapping: the remote has sent FIN.
pub const FIN_IN: u8 = 4;
/// State of a mapping: the last segment was a RST.
pub const RESET: u8 = 8;

/// Times of mappings that are over whatever the clock says: the host took their ports back, or they are being removed.
pub const IS_OVER: u64 = 1;

/// Key of `direct`, and in that of `moved`: a pod's flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Flow {
    /// The pod's address.
    pub inner: [u8; 16],
    /// The other end's.
    pub remote: [u8; 16],
    /// The pod's port, or the identifier of its ping.
    pub inner_port: [u8; 2],
    /// The other end's port; zero for pings.
    pub remote_port: [u8; 2],
    /// As in the IP header.
    pub protocol: u8,
    /// Zero.
    pub zero: [u8; 3],
}

/// Key of `moved`: a flow at an outer address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Given {
    /// The flow.
    pub flow: Flow,
    /// The outer address.
    pub outer: [u8; 16],
}

/// Key of `mappings`: what an answer is known by.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Key {
    /// The other end's address.
    pub remote: [u8; 16],
    /// The node's.
    pub outer: [u8; 16],
    /// The other end's port; zero for pings.
    pub remote_port: [u8; 2],
    /// The node's port, or the ping's identifier as the other end sees it.
    pub outer_port: [u8; 2],
    /// As in the IP header.
    pub protocol: u8,
    /// Zero.
    pub zero: [u8; 3],
}

/// Value of `mappings`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Mapping {
    /// The pod's address.
    pub inner: [u8; 16],
    /// When its last packet was seen: nanoseconds since boot, at most a second too early. [`IS_OVER`] and less: it is over.
    pub seen_ns: u64,
    /// The pod's port, or the identifier of its ping.
    pub inner_port: [u8; 2],
    /// [`ANSWERED`], [`FIN_OUT`], [`FIN_IN`], [`RESET`].
    pub state: u8,
    /// Zero.
    pub zero: [u8; 5],
}

/// Value of `moved`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Port {
    /// The node's port.
    pub port: [u8; 2],
    /// Zero.
    pub zero: [u8; 6],
}

/// Key of `nat_fragments`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct FragmentKey {
    /// Source of the fragment as it is seen.
    pub source: [u8; 16],
    /// Its destination.
    pub destination: [u8; 16],
    /// Its identification, as it is in the packet.
    pub id: [u8; 4],
    /// As in the IP header; zero for IPv6.
    pub protocol: u8,
    /// Zero.
    pub zero: [u8; 3],
}

/// Value of `nat_fragments`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Fragment {
    /// What later fragments' source (leaving) or destination (coming in) becomes.
    pub address: [u8; 16],
    /// When the first one was seen: nanoseconds since boot.
    pub seen_ns: u64,
}

/// Value of `devices`: what packets that leave by a device get.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Device {
    /// The outer address for IPv4, if `has_v4`.
    pub outer_v4: [u8; 16],
    /// The outer address for IPv6, if `has_v6`.
    pub outer_v6: [u8; 16],
    /// The range's first port, host order.
    pub first_port: u16,
    /// The range's last port, host order.
    pub last_port: u16,
    /// Zero or one.
    pub has_v4: u8,
    /// Zero or one.
    pub has_v6: u8,
    /// Zero.
    pub zero: [u8; 2],
}

/// Value of `egress_sources`, whose keys are prefixes: what packets of the source go by.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Class {
    /// The family of the prefix.
    pub family: u32,
    /// The first part of the keys of its rules.
    pub class: u32,
}

/// Key of `egress_rules`: a prefix of a class and a destination.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct EgressKey {
    /// How many bits count: 32 of the class, and those of the destination.
    pub bits: u32,
    /// The class.
    pub class: u32,
    /// The destination.
    pub address: [u8; 16],
}

/// What [`EgressRule::what`] says: the packet leaves with `address` and a port of the range.
pub const TRANSLATE: u8 = 1;
/// It goes to `address` in the tunnel `vni` of the device `ifindex`.
pub const TUNNEL: u8 = 2;
/// It goes to `address` by the device `ifindex`.
pub const NEXT_HOP: u8 = 3;
/// It is dropped.
pub const DROP: u8 = 4;
/// It leaves as if there were no policy.
pub const PASS: u8 = 5;

/// Value of `egress_rules`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct EgressRule {
    /// The egress address, the tunnel's other end, or the next hop.
    pub address: [u8; 16],
    /// The device.
    pub ifindex: u32,
    /// The virtual network.
    pub vni: u32,
    /// The range's first port, host order.
    pub first_port: u16,
    /// The range's last port, host order.
    pub last_port: u16,
    /// [`TRANSLATE`] to [`PASS`].
    pub what: u8,
    /// The destination's family.
    pub family: u8,
    /// Zero or one: the family of `address`.
    pub is_v6: u8,
    /// Zero.
    pub zero: u8,
}

/// The only element of `settings`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// [`ABI_VERSION`] of the netd that made the maps.
    pub abi_version: u32,
    /// Zero or one: whether the programs look for rules of egress policies.
    pub has_egress: u32,
    /// What the hash that ports are chosen by begins with: a secret.
    pub seed: u64,
    /// Digest of the object that the programs were loaded from.
    pub program_digest: u64,
    /// When the full table was swept: nanoseconds since boot. Programs write it.
    pub swept_ns: u64,
}

macro_rules! counts {
    ($($(#[$doc:meta])+ $name:ident),+ $(,)?) => {
        /// What was counted on one CPU, or on all.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
        pub struct Counts {
            $($(#[$doc])+ pub $name: u64,)+
            /// Zero.
            pub zero: [u64; 5],
        }

        impl Counts {
            /// The sum.
            #[must_use]
            pub fn plus(self, other: Self) -> Self {
                Self { $($name: self.$name.wrapping_add(other.$name),)+ zero: [0; 5] }
            }

            /// Every count with its name, in the order of the specification.
            #[must_use]
            pub fn named(&self) -> [(&'static str, u64); COUNTS] {
                [$((stringify!($name), self.$name),)+]
            }
        }
    };
}

counts! {
    /// Packets of pods that left with an outer address.
    out_packets,
    /// Packets that came in and were turned around.
    in_packets,
    /// ICMP errors that were translated on their way out.
    errors_out,
    /// ICMP errors that were translated on their way in.
    errors_in,
    /// Mappings that were made.
    created,
    /// Mappings of closing connections whose port was given to another flow before its time.
    reused,
    /// Mappings whose port the host took back.
    yielded,
    /// Flows to pods' own addresses that were recorded.
    direct,
    /// Times that a port was not given away because a socket of the host has it.
    ports_in_use,
    /// Packets dropped because all ports that were tried are taken for their remote.
    exhausted,
    /// Packets dropped because the table of mappings is full.
    table_full,
    /// Packets dropped that belong to no flow and begin none.
    no_mapping,
    /// Packets dropped because the device has no outer address of their family.
    no_address,
    /// Packets dropped because they could not be read.
    malformed,
    /// Packets dropped because their protocol has nothing like a port.
    unsupported,
    /// Fragments dropped whose first one was not seen.
    fragment_lost,
    /// Packets that were sent to the gateway of their egress policy.
    steered,
    /// Packets dropped because their egress policy has no gateway.
    no_gateway,
    /// Packets dropped because they came from the gateway that they would be sent to.
    looped,
}

/// How many counts there are.
pub const COUNTS: usize = 19;

/// An address as it is in maps.
#[must_use]
pub fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

const _: () = {
    assert!(size_of::<Flow>() == 40);
    assert!(size_of::<Given>() == 56);
    assert!(size_of::<Key>() == 40);
    assert!(size_of::<Mapping>() == 32);
    assert!(size_of::<Port>() == 8);
    assert!(size_of::<FragmentKey>() == 40);
    assert!(size_of::<Fragment>() == 24);
    assert!(size_of::<Device>() == 40);
    assert!(size_of::<Class>() == 8);
    assert!(size_of::<EgressKey>() == 24);
    assert!(size_of::<EgressRule>() == 32);
    assert!(size_of::<Settings>() == 32);
    assert!(size_of::<Counts>() == 192);
};
