//! Addresses of the node for packets of its pods.

use ipnetwork::IpNetwork;
use std::fmt;
use std::net::IpAddr;

/// Room for flows where the file says nothing: 60 MB when all of it is used, 10 of them from the beginning.
pub const FLOWS_DEFAULT: u32 = 262_144;
/// Less would be used up by one client.
pub const FLOWS_MIN: u32 = 1024;
/// More would take a gigabyte.
pub const FLOWS_MAX: u32 = 4_194_304;

/// The `[masquerade]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// Devices by which packets leave, sorted; empty: those of the default routes.
    pub devices: Vec<String>,
    /// Whose packets are translated, sorted; empty: those of this node's pod prefixes.
    pub source: Vec<IpNetwork>,
    /// Destinations to which packets go as they are, sorted.
    pub exclude: Vec<IpNetwork>,
    /// What packets get, at most one address of a family; of a family without one, that of the device.
    pub addresses: Vec<IpAddr>,
    /// The ports that are given away.
    pub ports: PortRange,
    /// Flows at the same time, from [`FLOWS_MIN`] to [`FLOWS_MAX`].
    pub flows: u32,
}

/// Ports from one to another one, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// The first; not zero.
    pub first: u16,
    /// The last; not less than the first.
    pub last: u16,
}

/// Below what Linux gives to sockets by itself, above what needs a privilege.
impl Default for PortRange {
    fn default() -> Self {
        Self { first: 1024, last: 32_767 }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Default for Masquerade {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            source: Vec::new(),
            exclude: Vec::new(),
            addresses: Vec::new(),
            ports: PortRange::default(),
            flows: FLOWS_DEFAULT,
        }
    }
}
