//! `[notrack]`.

use super::List;
use super::table::raw_table;
use super::word::Prefix;
use crate::model::NotrackBackend;

raw_table! {
    /// Packets from and to pods that the kernel's connection tracking does not see, of both families. They then cost it
    /// neither time nor memory, and no rule for NAT or for the state of connections is about them. Only where packets
    /// travel directly (`network.mode`).
    pub(crate) struct Notrack {
        /// Whose packets. Without it, the `pod_cidrs` of all nodes.
        optional cidrs: List<Prefix, 1>, like ["10.244.0.0/16", "fd00:244::/32"];
        /// By which rules: `nft`, a table of its own in nftables; `iptables`, chains of its own in the table `raw`, by
        /// the programs `iptables` and `ip6tables`, two rules for each prefix.
        optional backend: NotrackBackend = "nft", like "iptables";
    }
}
