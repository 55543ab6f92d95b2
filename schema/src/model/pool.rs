//! Ranges of addresses that VIPs and egress addresses come from.

use super::{Config, Family, UnknownPort};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// One `[[ip_pools]]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpPool {
    /// Unique among the pools, and not `auto`.
    pub name: String,
    /// Masked and sorted; no two of any pools overlap. A range from one address to another is the fewest prefixes that
    /// hold the same addresses.
    pub ranges: Vec<IpNetwork>,
    /// What happens to packets for addresses that no service has.
    pub unassigned: UnknownPort,
    /// Whether services that leave the choice of the pool get addresses from it.
    pub auto_assign: bool,
    /// Among the pools that a service may be given an address from, the lowest is asked first; then the name decides.
    pub priority: u16,
    /// Whether nothing new is given from it; what was given stays.
    pub drain: bool,
    /// Which addresses are only given to services that ask for them.
    pub avoid: Avoid,
}

/// The priority of a pool that says nothing about it.
pub const POOL_PRIORITY_DEFAULT: u16 = 100;

impl Default for IpPool {
    /// A pool without name and ranges, in which everything else is as if the file did not say.
    fn default() -> Self {
        Self {
            name: String::new(),
            ranges: Vec::new(),
            unassigned: UnknownPort::default(),
            auto_assign: true,
            priority: POOL_PRIORITY_DEFAULT,
            drain: false,
            avoid: Avoid::default(),
        }
    }
}

impl IpPool {
    /// Whether the address is in one of its ranges.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// Whether it has addresses of the family.
    #[must_use]
    pub fn has(&self, family: Family) -> bool {
        self.ranges.iter().any(|range| Family::of(range.ip()) == family)
    }
}

impl Config {
    /// The pools with which the load balancer has to do: all but those from which only egress policies take.
    pub fn balanced_pools(&self) -> impl Iterator<Item = &IpPool> {
        let gives = |pool: &IpPool, choice: &Option<PoolChoice>| match choice {
            Some(PoolChoice::Named(name)) => *name == pool.name,
            Some(PoolChoice::Auto) => pool.auto_assign,
            None => false,
        };
        let only_egress = move |pool: &IpPool| {
            self.egress.iter().any(|policy| gives(pool, &policy.pool))
                && !self.services.iter().any(|service| gives(pool, &service.pool))
        };
        self.ip_pools.iter().filter(move |pool| !only_egress(pool))
    }
}

/// Addresses of a pool that are left out unless a service asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub enum Avoid {
    /// None.
    #[default]
    None,
    /// The IPv4 addresses that end with `.0` or `.255`, which some old devices take for a network or its broadcast.
    FirstLast,
}

/// Where the VIPs of a service come from that it does not name itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolChoice {
    /// Any pool that lets itself be chosen.
    Auto,
    /// The pool of this name.
    Named(String),
}
