//! `[[nodes]]`.

use super::List;
use super::table::raw_table;
use super::unsupported::Unsupported;
use super::wireguard::NodeWireguard;
use super::word::{Address, NodeName, Prefix};

raw_table! {
    /// A machine of the network. The same file can be given to every node: each finds itself by its name.
    pub(crate) struct Node {
        /// How the node finds itself: what `--node` says, else its host name. Must be unique.
        required name: NodeName, like "lb-1";
        /// The addresses at which other nodes reach it; the first of each family is preferred.
        optional addresses: List<Address> = [""; 0], like ["10.0.0.11", "2001:db8::11"];
        /// The prefixes of the node's pods. Every other node gets a route to them, as `network.mode` says; directly that
        /// is via the node's address of the same family.
        optional pod_cidrs: List<Prefix> = [""; 0], like ["10.244.1.0/24", "fd00:244:1::/64"];
        /// The node's WireGuard key and endpoint.
        optional wireguard: NodeWireguard;
        /// Words to select nodes by.
        optional labels: Unsupported;
    }
}
