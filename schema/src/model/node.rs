//! A machine of the network.

use super::NodeWireguard;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// One `[[nodes]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Node {
    /// The name by which a node finds itself: `--node`, else its host name.
    pub name: String,
    /// The addresses at which other nodes reach it, in the order of the file; the first of a family is preferred.
    pub addresses: Vec<IpAddr>,
    /// The prefixes of its pods, masked and sorted.
    pub pod_cidrs: Vec<IpNetwork>,
    /// Its keys, and where its WireGuard listens.
    pub wireguard: NodeWireguard,
}
