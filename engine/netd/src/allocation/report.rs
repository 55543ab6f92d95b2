//! Allocations as `netd allocate` shows them: plain values.

use super::claim::Claim;
use super::pools::{is_avoided, size};
use super::taken::Taken;
use super::{Allocation, Origin};
use crate::report::FormatVersion;
use netd_schema::{Config, Family, IpPool};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// How the pools of a file are used, and who has which address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressReport {
    /// The version of this form.
    pub version: FormatVersion,
    /// The SHA-256 of the file that it is about.
    pub config_sha256: String,
    /// The pools, by name.
    pub pools: Vec<PoolReport>,
    /// The addresses that services and egress policies have from pools, by who has them and address.
    pub services: Vec<ServiceReport>,
    /// Those that have no address of a family, by name.
    pub waiting: Vec<WaitingReport>,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    /// Its name.
    pub name: String,
    /// Its ranges, as prefixes.
    pub ranges: Vec<String>,
    /// Whether `pool = "auto"` takes from it.
    pub auto_assign: bool,
    /// The lowest is asked first.
    pub priority: u16,
    /// Whether nothing new is given from it.
    pub drain: bool,
    /// How it is used; absent if it has no addresses of the family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<PoolUse>,
    /// As `ipv4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<PoolUse>,
}

/// How a pool is used, in addresses; as many as fit 64 bits, where there are more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolUse {
    /// That can be given to who does not ask for one.
    pub total: u64,
    /// That services and egress policies have, and machines.
    pub used: u64,
    /// That can be given still.
    pub free: u64,
}

/// An address of a service or egress policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// The service; an egress policy is `egress/NAME`.
    pub service: String,
    /// The address.
    pub address: IpAddr,
    /// The pool that holds it.
    pub pool: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What it had before and cannot keep; absent where nothing moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instead_of: Vec<IpAddr>,
    /// What the file alone would give it; absent where that is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_alone: Option<Vec<IpAddr>>,
}

/// A service or egress policy without an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingReport {
    /// The service; an egress policy is `egress/NAME`.
    pub service: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Why it has none.
    pub reason: String,
    /// What it had before and cannot keep; absent where nothing moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instead_of: Vec<IpAddr>,
}

impl AddressReport {
    /// What `allocation` makes of the pools of `config`; `alone` is what the file does by itself.
    #[must_use]
    pub fn of(config: &Config, sha256: String, allocation: &Allocation, alone: &Allocation) -> Self {
        let resolved = allocation.resolve(config);
        let mut taken: BTreeSet<IpAddr> =
            Claim::all(&resolved).iter().flat_map(|claim| claim.named.iter().copied()).collect();
        taken.extend(Taken::by_machines(config).addresses());
        let moved = |key: &(String, Family)| {
            allocation.moved.get(key).map(|moved| moved.from.clone()).unwrap_or_default()
        };
        let mut services = Vec::new();
        for (key, given) in &allocation.given {
            let others = alone.given.get(key).map(|other| other.addresses.clone()).unwrap_or_default();
            let file_alone = (others != given.addresses).then_some(others);
            services.extend(given.addresses.iter().map(|address| ServiceReport {
                service: key.0.clone(),
                address: *address,
                pool: given.pool.clone(),
                origin: given.origin,
                instead_of: moved(key),
                file_alone: file_alone.clone(),
            }));
        }
        let waiting = |(key, reason): (&(String, Family), &String)| WaitingReport {
            service: key.0.clone(),
            family: key.1.name().to_owned(),
            reason: reason.clone(),
            instead_of: moved(key),
        };
        Self {
            version: FormatVersion::default(),
            config_sha256: sha256,
            pools: config.ip_pools.iter().map(|pool| PoolReport::of(pool, &taken)).collect(),
            services,
            waiting: allocation.waiting.iter().map(waiting).collect(),
        }
    }
}

impl PoolReport {
    fn of(pool: &IpPool, taken: &BTreeSet<IpAddr>) -> Self {
        let in_use = |family| {
            let total = size(pool, family);
            let used: Vec<IpAddr> = pool
                .ranges
                .iter()
                .filter(|range| Family::of(range.ip()) == family)
                .flat_map(|range| taken.range(range.network()..=range.broadcast()).copied())
                .collect();
            let unasked = used.iter().filter(|address| !is_avoided(pool, **address)).count() as u128;
            let count = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
            let (total, free) = (count(total), count(total.saturating_sub(unasked)));
            pool.has(family).then_some(PoolUse { total, used: used.len() as u64, free })
        };
        Self {
            name: pool.name.clone(),
            ranges: pool.ranges.iter().map(ToString::to_string).collect(),
            auto_assign: pool.auto_assign,
            priority: pool.priority,
            drain: pool.drain,
            ipv4: in_use(Family::Ipv4),
            ipv6: in_use(Family::Ipv6),
        }
    }
}
