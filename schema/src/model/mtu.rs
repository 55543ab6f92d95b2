//! The size of packets.

/// The smallest MTU over which IPv6 works (RFC 8200, section 5).
pub const MTU_MIN: u32 = 1280;

/// The largest packet that the length field of an IPv4 header can say.
pub const MTU_MAX: u32 = 65_535;

/// The MTU of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mtu {
    /// That of the device below, less what is added to a packet.
    #[default]
    Auto,
    /// So many bytes; [`MTU_MIN`] to [`MTU_MAX`].
    Fixed(u32),
}
