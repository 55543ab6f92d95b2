//! Traffic that leaves through a gateway, with an address of its own.

use super::{Family, PoolChoice, PortRange};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// Sources times destinations and exclusions, of all policies together: what fits the maps of the kernel programs, with room
/// for what policies take from each other.
pub const EGRESS_PAIRS_MAX: usize = 131_072;

/// One `[[egress]]` policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Unique among the policies.
    pub name: String,
    /// Whose packets, groups resolved, sorted; no prefix twice. Of families without an address in `ips` none match.
    pub sources: Vec<IpNetwork>,
    /// Where to, sorted; where the file says nothing, everywhere in each family of `ips`, or of `sources` with a `pool`.
    pub destinations: Vec<IpNetwork>,
    /// Where not, sorted.
    pub exclude: Vec<IpNetwork>,
    /// The egress addresses, at most one of a family, sorted. Every family that sources and destinations have in common
    /// has one, unless it is a `pool`'s to give.
    pub ips: Vec<IpAddr>,
    /// Where addresses come from that `ips` does not have.
    pub pool: Option<PoolChoice>,
    /// The nodes that may be the gateway, sorted by their names.
    pub gateways: Vec<EgressGateway>,
    /// What becomes of packets without a gateway.
    pub on_no_gateway: OnNoGateway,
    /// How the network learns of the addresses, sorted.
    pub announce: Vec<EgressAnnounce>,
    /// The ports that are given away.
    pub ports: PortRange,
    /// Whether packets to nodes and pods are taken, too.
    pub in_cluster: bool,
}

impl Egress {
    /// The ports that are given away where the file says nothing: the addresses are nobody else's, and half of the ports
    /// is left to what listens on all addresses of the gateway.
    pub const PORTS_DEFAULT: PortRange = PortRange { first: 32_768, last: 65_535 };

    /// The egress address of a family.
    #[must_use]
    pub fn ip(&self, family: Family) -> Option<IpAddr> {
        self.ips.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    /// Whether it is for packets of a family: sources and destinations both have it.
    #[must_use]
    pub fn takes(&self, family: Family) -> bool {
        let has = |prefixes: &[IpNetwork]| prefixes.iter().any(|prefix| Family::of(prefix.ip()) == family);
        has(&self.sources) && has(&self.destinations)
    }
}

impl Default for Egress {
    /// What a policy has that says nothing more than it has to.
    fn default() -> Self {
        Self {
            name: String::new(),
            sources: Vec::new(),
            destinations: Vec::new(),
            exclude: Vec::new(),
            ips: Vec::new(),
            pool: None,
            gateways: Vec::new(),
            on_no_gateway: OnNoGateway::default(),
            announce: vec![EgressAnnounce::Arp],
            ports: Self::PORTS_DEFAULT,
            in_cluster: false,
        }
    }
}

/// A node that may be the gateway of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EgressGateway {
    /// The node's name.
    pub node: String,
    /// Higher is preferred.
    pub priority: u16,
}

/// What becomes of packets of a policy while there is no gateway for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnNoGateway {
    /// They are dropped.
    #[default]
    Drop,
    /// They leave as if there were no policy.
    Pass,
}

/// How the network learns where an egress address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EgressAnnounce {
    /// Gratuitous ARP, or unsolicited neighbour advertisements.
    Arp,
    /// A route of BGP.
    Bgp,
}
