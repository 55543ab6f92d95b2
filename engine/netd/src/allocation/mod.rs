//! Decides which addresses services and egress policies get from their pools: a pure function of the file and of what they
//! have.
//!
//! Without anything that they have, only the file decides, so every node that reads it chooses alike. What one has it keeps, whatever becomes of its pool, unless the address has left every range that it may come from or is
//! explicitly somebody else's: it then *moves*, and the plan waits to be allowed.
//!
//! The order: addresses that the file names; then what services and then policies have, by name; then what is new, in the
//! same order: an address that a service may share, else the lowest that is free in the first pool by priority and name.

mod carried;
mod choose;
mod claim;
mod pools;
mod remarks;
mod report;
mod taken;

pub use carried::carried;
pub use choose::allocate;
pub use claim::EGRESS_PREFIX;
pub(crate) use remarks::{desired, is_move, remark};
pub use report::{AddressReport, PoolReport, PoolUse, ServiceReport, WaitingReport};

use crate::egress::is_shared;
use claim::Claim;
use netd_core::KindName;
use netd_schema::{Config, Egress, Family};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What allocations are called in plans and in the status, beside the kinds. Nothing is done for one: it follows from
/// the file, and what is done follows from it.
pub const NAME: KindName = "allocation";

/// Who has which addresses: VIPs by the service's name, egress addresses by that of the policy behind [`EGRESS_PREFIX`].
pub type Held = BTreeMap<String, BTreeSet<IpAddr>>;

/// The addresses of the services and egress policies that have a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// By the name, as in [`Held`], and family.
    pub given: BTreeMap<(String, Family), Given>,
    /// Why one has no address of a family that it is to have.
    pub waiting: BTreeMap<(String, Family), String>,
    /// What they had, and lose although they did not ask for that.
    pub moved: BTreeMap<(String, Family), Moved>,
}

/// The addresses of one family of a service or policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Sorted, and not empty.
    pub addresses: Vec<IpAddr>,
    /// Where they come from.
    pub origin: Origin,
    /// The pool that holds the first.
    pub pool: String,
}

/// Why one has the address that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The file says so.
    Requested,
    /// It had it before.
    Kept,
    /// It is the first one that was free.
    Chosen,
    /// Other services with the same `share` have it.
    Shared,
}

impl Origin {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Kept => "kept",
            Self::Chosen => "chosen",
            Self::Shared => "shared",
        }
    }
}

/// An address that cannot stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// What it had of the family.
    pub from: Vec<IpAddr>,
    /// What it gets; `None` is nothing.
    pub to: Option<IpAddr>,
    /// Why it cannot keep it.
    pub why: String,
}

impl Allocation {
    /// What all with a pool have by it: what is to be remembered, and given to the next [`allocate`].
    #[must_use]
    pub fn held(&self) -> Held {
        let mut held = Held::new();
        for ((service, _), given) in &self.given {
            held.entry(service.clone()).or_default().extend(&given.addresses);
        }
        held
    }

    /// The file with all addresses in it; itself, if nothing has a pool.
    #[must_use]
    pub fn resolve<'c>(&self, config: &'c Config) -> Cow<'c, Config> {
        if !uses_pools(config) {
            return Cow::Borrowed(config);
        }
        let mut config = config.clone();
        for service in config.services.iter_mut().filter(|service| service.pool.is_some()) {
            let mut vips: Vec<IpAddr> =
                self.of(&service.name).flat_map(|(_, given)| given.addresses.iter().copied()).collect();
            vips.sort();
            service.vips = vips;
        }
        for policy in config.egress.iter_mut().filter(|policy| policy.pool.is_some()) {
            let named = std::mem::take(&mut policy.ips);
            let owner = claim::owner_of(policy);
            let given = self.of(&owner).flat_map(|(_, given)| given.addresses.iter().copied());
            let has_to_be_named = needs_names(config.egress_failover.is_some(), policy);
            policy.ips = given.filter(|address| !has_to_be_named || named.contains(address)).collect();
        }
        Cow::Owned(config)
    }

    /// What one is given, IPv4 first.
    pub fn of<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = (Family, &'a Given)> {
        let of = |family| Some((family, self.given.get(&(owner.to_owned(), family))?));
        Family::BOTH.into_iter().filter_map(of)
    }
}

/// The file as it is without anything that anybody has: what a node that begins with it does.
#[must_use]
pub fn from_the_file_alone(config: &Config) -> Cow<'_, Config> {
    allocate(config, &Held::new()).resolve(config)
}

/// Whether a policy has those addresses of its pool only that the file names: nodes with different histories give different
/// ones, and two gateways would have one address for two policies.
#[must_use]
pub fn needs_names(is_watched: bool, policy: &Egress) -> bool {
    is_watched && policy.pool.is_some() && is_shared(policy)
}

/// Whether anything gets addresses from a pool.
#[must_use]
pub fn uses_pools(config: &Config) -> bool {
    config.services.iter().any(|service| service.pool.is_some())
        || config.egress.iter().any(|policy| policy.pool.is_some())
}

/// What the services and policies of a file have: what it names itself, and for those with a pool what they were given.
#[must_use]
pub fn in_force(config: &Config, given: &Held) -> Held {
    let of = |claim: Claim<'_>| {
        let mut addresses: BTreeSet<IpAddr> = claim.named.iter().copied().collect();
        addresses.extend(given.get(&claim.owner).filter(|_| claim.pool.is_some()).into_iter().flatten());
        (claim.owner, addresses)
    };
    Claim::all(config).into_iter().map(of).collect()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
