//! How packets travel between the nodes.

use super::Mtu;

/// The `[network]` table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Network {
    /// How this node sends to the pods of other nodes.
    pub mode: NetworkMode,
    /// The tunnel that stands ready, to send and to receive; always there unless the mode is direct.
    pub tunnel: Option<Tunnel>,
    /// The largest packet between pods.
    pub mtu: Mtu,
    /// Patterns of the devices towards this node's pods whose packets do not go through the network stack, sorted.
    pub pod_devices: Vec<DevicePattern>,
}

/// How a node sends to the pods of other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NetworkMode {
    /// By the address of the node that has them, which is on link.
    #[default]
    Direct,
    /// In the tunnel.
    Tunnel,
    /// Directly where that node is on link, else in the tunnel.
    CrossSubnet,
}

/// A tunnel from every node to every other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// What its packets look like.
    pub kind: TunnelKind,
    /// The UDP port of all nodes; not 0.
    pub port: u16,
    /// The virtual network identifier; 1 to [`VNI_MAX`].
    pub vni: u32,
    /// The family of the outer header.
    pub underlay: Underlay,
}

/// The largest number that the field of 24 bits holds.
pub const VNI_MAX: u32 = 0xff_ffff;

/// What the packets of a tunnel look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TunnelKind {
    /// RFC 7348.
    #[default]
    Vxlan,
    /// RFC 8926.
    Geneve,
}

impl TunnelKind {
    /// The UDP port where the file has none: for VXLAN that of Linux and of Cilium, for Geneve IANA's.
    #[must_use]
    pub fn port_default(self) -> u16 {
        match self {
            Self::Vxlan => 8472,
            Self::Geneve => 6081,
        }
    }

    /// As the file and the kernel call it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
        }
    }
}

/// The family of a tunnel's outer header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Underlay {
    /// IPv4 where both nodes have an address of it, else IPv6.
    #[default]
    Auto,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Some devices: one by its name, or all whose names begin alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevicePattern {
    /// The name, or what it begins with; not empty.
    pub start: String,
    /// Whether anything may follow.
    pub open: bool,
}

impl DevicePattern {
    /// Whether the device is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if self.open { name.starts_with(&self.start) } else { name == self.start }
    }
}
