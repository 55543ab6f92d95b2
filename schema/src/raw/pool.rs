//! `[[ip_pools]]`.

use super::List;
use super::table::raw_table;
use super::word::{Name, Prefix};
use crate::model::UnknownPort;

raw_table! {
    /// Ranges of addresses that are routed to the load balancers: what arrives for an address that no service has is
    /// dealt with, instead of being sent back to where it came from.
    pub(crate) struct IpPool {
        /// Unique among the pools.
        required name: Name, like "public";
        /// The prefixes, at least /8 for IPv4 and /16 for IPv6. No two of any pools may overlap. The services' VIPs
        /// need not be in a pool.
        required ranges: List<Prefix, 1>, like ["192.0.2.0/24", "2001:db8:100::/64"];
        /// What is done with packets for addresses that no service has: `drop`, nothing is said; `reject`, the client
        /// gets a TCP reset or an ICMP error; `pass`, they are left to the network stack of the node.
        optional unassigned: UnknownPort = "drop", like "reject";
    }
}
