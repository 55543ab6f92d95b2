//! Encryption between the nodes.

use super::Mtu;
use ipnetwork::IpNetwork;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The UDP port that Cilium takes, too.
pub const WIREGUARD_PORT_DEFAULT: u16 = 51_871;

/// The device's name where the file has none.
pub const WIREGUARD_INTERFACE_DEFAULT: &str = "netd_wg0";

/// The `[wireguard]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wireguard {
    /// What is encrypted.
    pub mode: WireguardMode,
    /// The name of the device.
    pub interface: String,
    /// The UDP port at which every node listens; not 0.
    pub port: u16,
    /// The file of the private key; absolute. `None`: `wireguard.key` in the folder of what netd remembers.
    pub key_file: Option<PathBuf>,
    /// The MTU of the device.
    pub mtu: Mtu,
    /// Whole seconds between two packets that say nothing, towards every peer; 1 to 65,535. `None`: none are sent.
    pub keepalive: Option<u16>,
    /// The firewall mark of the device's own packets; not 0.
    pub mark: u32,
    /// The routing table of what is encrypted; none of the kernel's own.
    pub table: u32,
    /// The priority of the rules that lead there; 1 to 32,000.
    pub rule_priority: u32,
    /// Whose device it is.
    pub device: WireguardDevice,
    /// Which of two devices sends: an even number stands for the first, an odd one for the second.
    pub generation: u32,
    /// What is dropped because it is to be encrypted and is not.
    pub strict: Strict,
}

impl Default for Wireguard {
    fn default() -> Self {
        Self {
            mode: WireguardMode::default(),
            interface: WIREGUARD_INTERFACE_DEFAULT.to_owned(),
            port: WIREGUARD_PORT_DEFAULT,
            key_file: None,
            mtu: Mtu::Auto,
            keepalive: None,
            mark: 0xe00,
            table: 201,
            rule_priority: 1,
            device: WireguardDevice::default(),
            generation: 0,
            strict: Strict::default(),
        }
    }
}

/// What is dropped because it is to be encrypted and is not.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Strict {
    /// Destinations for which nothing leaves in clear.
    pub egress: StrictEgress,
    /// Whether nothing comes in in clear from pods of any node.
    pub ingress: bool,
}

/// Destinations for which nothing leaves in clear.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum StrictEgress {
    /// None.
    #[default]
    Off,
    /// The pods of all nodes.
    Pods,
    /// These, sorted.
    Listed(Vec<IpNetwork>),
}

/// What is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WireguardMode {
    /// Packets of this node's pods to the pods of other nodes.
    #[default]
    Pods,
    /// These, and every packet from one node to another.
    Nodes,
    /// The packets of the tunnel between the nodes, in which those of pods are.
    Overlay,
}

/// Whose device encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WireguardDevice {
    /// The kernel's, else a program's.
    #[default]
    Auto,
    /// The kernel's, or none.
    Kernel,
    /// That of the program wireguard-go.
    Userspace,
}

/// What a `[[nodes]]` table says about WireGuard.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NodeWireguard {
    /// By which other nodes know it; without one nothing to it or from it is encrypted.
    pub public_key: Option<PublicKey>,
    /// Another key by which it is known: the one that comes next, or, once that has taken its place, the one before it.
    pub next_public_key: Option<PublicKey>,
    /// Where it listens, if not at its preferred address and `wireguard.port`.
    pub endpoint: Option<SocketAddr>,
    /// The file of the secret that every other node shares with it; absolute.
    pub preshared_key_file: Option<PathBuf>,
}

/// A public key: a point of Curve25519 (RFC 7748) that is none of low order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Debug for PublicKey {
    /// A private key may have been written in its place, so it is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(…)")
    }
}
