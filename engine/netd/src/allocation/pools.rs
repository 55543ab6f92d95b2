//! The pools as a source of addresses: which one may be given from, and the lowest that is free.

use super::claim::Claim;
use super::taken::Taken;
use ipnetwork::IpNetwork;
use netd_schema::{Avoid, Config, Family, IpPool, PoolChoice};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The pools in the order in which they are asked, and how far each has been searched.
pub(super) struct Pools<'a> {
    ordered: Vec<&'a IpPool>,
    /// By the pool's name and family: below this, nothing is free. Addresses are only ever taken.
    searched: BTreeMap<(&'a str, Family), u128>,
}

impl<'a> Pools<'a> {
    pub(super) fn of(config: &'a Config) -> Self {
        let mut ordered: Vec<&IpPool> = config.ip_pools.iter().collect();
        ordered.sort_by(|one, other| (one.priority, &one.name).cmp(&(other.priority, &other.name)));
        Self { ordered, searched: BTreeMap::new() }
    }

    /// The pools that something new may come from, whether or not they are being emptied.
    pub(super) fn candidates(&self, claim: &Claim<'_>) -> Vec<&'a IpPool> {
        let is_one = |pool: &&&IpPool| match claim.pool {
            Some(PoolChoice::Auto) => pool.auto_assign,
            Some(PoolChoice::Named(name)) => pool.name == *name,
            None => false,
        };
        self.ordered.iter().filter(is_one).copied().collect()
    }

    /// The pool that holds the address, if one may keep an address of it: of any pool, if the choice is left
    /// open, since `auto_assign` and `drain` say what is given and not what stays.
    pub(super) fn keeping(&self, claim: &Claim<'_>, address: IpAddr) -> Option<&'a IpPool> {
        let holder = self.holding(address)?;
        match claim.pool {
            Some(PoolChoice::Auto) => Some(holder),
            Some(PoolChoice::Named(name)) => Some(holder).filter(|pool| pool.name == *name),
            None => None,
        }
    }

    /// The pool that has the address in its ranges.
    pub(super) fn holding(&self, address: IpAddr) -> Option<&'a IpPool> {
        self.ordered.iter().find(|pool| pool.contains(address)).copied()
    }

    /// The lowest address of the pool that nobody has.
    pub(super) fn lowest(&mut self, pool: &'a IpPool, family: Family, taken: &Taken<'_>) -> Option<IpAddr> {
        let from = self.searched.entry((&pool.name, family)).or_default();
        for range in pool.ranges.iter().filter(|range| Family::of(range.ip()) == family) {
            let (first, last) = ends(*range);
            let mut bits = first.max(*from);
            while bits <= last {
                let address = address(bits, family);
                if !is_avoided(pool, address) && !taken.is_taken(address) {
                    *from = bits;
                    return Some(address);
                }
                let Some(next) = bits.checked_add(1) else { break };
                bits = next;
            }
        }
        *from = u128::MAX;
        None
    }
}

/// How many addresses of the family a pool can give unasked.
pub(super) fn size(pool: &IpPool, family: Family) -> u128 {
    let of = |range: &IpNetwork| {
        let (first, last) = ends(*range);
        (last - first).saturating_add(1).saturating_sub(avoided(pool, *range))
    };
    let all = pool.ranges.iter().filter(|range| Family::of(range.ip()) == family);
    all.map(of).fold(0, u128::saturating_add)
}

/// Whether an address is only given to who asks for it.
pub(super) fn is_avoided(pool: &IpPool, address: IpAddr) -> bool {
    match (pool.avoid, address) {
        // Nobody can have it, whatever the pool says.
        (_, IpAddr::V4(Ipv4Addr::BROADCAST)) => true,
        (Avoid::FirstLast, IpAddr::V4(v4)) => matches!(v4.octets()[3], 0 | 255),
        (Avoid::FirstLast, IpAddr::V6(_)) | (Avoid::None, _) => false,
    }
}

/// How many addresses of a range are avoided.
fn avoided(pool: &IpPool, range: IpNetwork) -> u128 {
    let (first, last) = ends(range);
    match range {
        // Two in each block of 256; a shorter range is looked at address by address.
        IpNetwork::V4(v4) if v4.prefix() <= 24 && pool.avoid == Avoid::FirstLast => {
            (last - first).div_ceil(256) * 2
        }
        IpNetwork::V4(v4) if v4.prefix() <= 24 => u128::from(last == u128::from(u32::MAX)),
        IpNetwork::V4(_) => {
            let all = (first..=last).filter(|bits| is_avoided(pool, address(*bits, Family::Ipv4)));
            all.count() as u128
        }
        IpNetwork::V6(_) => 0,
    }
}

fn ends(range: IpNetwork) -> (u128, u128) {
    (bits(range.network()), bits(range.broadcast()))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn address(bits: u128, family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(bits).unwrap_or(u32::MAX))),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::from(bits)),
    }
}
