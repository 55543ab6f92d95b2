//! What the programs remember: flows, clients, and the ports of fragments.

use bytemuck::{Pod, Zeroable};

/// Key of `flows`. IPv4 addresses are IPv4-mapped. With source port 0 it is the record of a client of a service with
/// affinity.
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

/// Value of `flows`: to which backend a flow or a client goes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// The backend's [counter](super::Backend::counter).
    pub counter: u32,
    /// The backend's line within the frontend's block.
    pub index: u32,
    /// Nanoseconds since boot, without sleep, when the flow was last seen; a second late at most.
    pub seen_ns: u64,
}

/// Key of `fragments`. IPv4 addresses are IPv4-mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct FragmentKey {
    /// The client.
    pub source: [u8; 16],
    /// The VIP.
    pub destination: [u8; 16],
    /// The identification: of IPv4 two bytes in network order, of IPv6 four.
    pub id: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero: keys are compared as bytes.
    pub zero: [u8; 3],
}

/// Value of `fragments`: the ports that the first fragment had.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Fragment {
    /// Client's port, network order.
    pub source_port: [u8; 2],
    /// VIP's port, network order.
    pub destination_port: [u8; 2],
    /// Zero.
    pub zero: u32,
    /// Nanoseconds since boot, without sleep, when the first fragment came.
    pub seen_ns: u64,
}
