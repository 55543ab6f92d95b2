//! The layouts that the recording program and user space share; the twin of `include/recorder_abi.h`.

use bytemuck::{Pod, Zeroable};

/// Captures that there can be at once.
pub const CAPTURES_MAX: u32 = 32;
/// Distinct masks of each family that there can be at once: each costs a lookup per packet.
pub const MASKS_MAX: u32 = 16;
/// Bytes of a frame that a record can have at most.
pub const RECORD_BYTES_MAX: u32 = 16384;

/// [`Header::service`] of a packet that no service had.
pub const NO_SERVICE: u32 = u32::MAX;
/// [`Header::backend`] of a packet that went to no backend.
pub const NO_BACKEND: u32 = u32::MAX;

/// What is looked up, with a mask over it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Key {
    /// Source address; IPv4 ones mapped.
    pub source: [u8; 16],
    /// Destination address; IPv4 ones mapped.
    pub destination: [u8; 16],
    /// Source port, network order.
    pub source_port: [u8; 2],
    /// Destination port, network order.
    pub destination_port: [u8; 2],
    /// Protocol number.
    pub protocol: u8,
    /// One where the ports are known.
    pub has_ports: u8,
    /// The number of the mask.
    pub mask: u8,
    /// Zero.
    pub zero: u8,
}

/// A mask: those of IPv4 are the first [`MASKS_MAX`], those of IPv6 the others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Mask {
    /// The bits of a [`Key`] that count; none of its `mask`.
    pub bits: Key,
    /// Zero.
    pub reserved: [u64; 3],
}

/// Which masks are in force, bit by bit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Active {
    /// Of IPv4.
    pub v4: u32,
    /// Of IPv6.
    pub v6: u32,
}

/// A capture: what it wants, and what it was given.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Capture {
    /// Bytes of each frame that are wanted at most.
    pub snaplen: u32,
    /// Bytes of the ring that may be its at once.
    pub share: u32,
    /// Bytes of the ring that were taken out for it.
    pub taken: u64,
    /// Bytes of the ring that it was given.
    pub given: u64,
    /// Records of frames that it was given.
    pub packets: u64,
    /// Bytes that these frames had.
    pub bytes: u64,
    /// Records of frames that there was no room for.
    pub lost_packets: u64,
    /// Bytes that those frames had.
    pub lost_bytes: u64,
    /// Zero.
    pub reserved: u64,
}

/// What stands before the bytes of a frame in the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Header {
    /// Pairs what came in with what left; unique for as long as anything is recorded.
    pub id: u64,
    /// When, by the monotonic clock.
    pub ns: u64,
    /// The captures that it is for, bit by bit.
    pub captures: u32,
    /// Bytes of the frame.
    pub bytes: u32,
    /// Bytes of it that follow.
    pub kept: u32,
    /// Index of the device that it came in by.
    pub ifindex: u32,
    /// The service, or [`NO_SERVICE`].
    pub service: u32,
    /// The counter of the backend, or [`NO_BACKEND`].
    pub backend: u32,
    /// 0: it came in; 1: it left; 2: it stayed, and no bytes follow.
    pub point: u8,
    /// What the program said, of the last two.
    pub verdict: u8,
    /// The word of [`ServiceCounter`](crate::abi::ServiceCounter) that counted it last, or more than there are.
    pub event: u8,
    /// Zero.
    pub zero: [u8; 5],
}

const _: () = {
    assert!(size_of::<Key>() == 40);
    assert!(size_of::<Mask>() == 64);
    assert!(size_of::<Capture>() == 64);
    assert!(size_of::<Header>() == 48);
};
