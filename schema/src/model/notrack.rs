//! Packets that connection tracking does not see.

use ipnetwork::IpNetwork;

/// The `[notrack]` table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Notrack {
    /// Packets from and to these are not tracked, sorted, apart from each other; empty: the pod prefixes of all nodes.
    pub cidrs: Vec<IpNetwork>,
    /// By which rules.
    pub backend: NotrackBackend,
}

/// What carries the rules that take packets out of tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum NotrackBackend {
    /// A table of nftables, set up through netlink.
    #[default]
    Nft,
    /// Chains in the table `raw`, set up by `iptables-restore` and `ip6tables-restore`.
    Iptables,
}

impl NotrackBackend {
    /// As the file calls it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Iptables => "iptables",
        }
    }
}
