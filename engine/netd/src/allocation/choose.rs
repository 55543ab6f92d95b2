//! The choice itself: what is named, what is kept, what is new.

use super::pools::{Pools, size};
use super::taken::Taken;
use super::{Allocation, Given, Held, Moved, Origin};
use netd_schema::{Config, Family, IpPool, PoolChoice, Service};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Gives the services of a file their VIPs. `held` is what services have, of any file; a service that the file does not
/// have any more has given its addresses up.
#[must_use]
pub fn allocate(config: &Config, held: &Held) -> Allocation {
    if !super::uses_pools(config) {
        return Allocation::default();
    }
    let mut services: Vec<&Service> = config.services.iter().collect();
    services.sort_by(|one, other| one.name.cmp(&other.name));
    let mut work = Work {
        held,
        pools: Pools::of(config),
        taken: Taken::by_machines(config),
        lost: BTreeMap::new(),
        allocation: Allocation::default(),
    };
    for service in &services {
        work.take_what_is_named(service);
    }
    let of_pools: Vec<(&Service, Vec<Family>)> = services
        .into_iter()
        .filter(|service| service.pool.is_some())
        .map(|service| (service, work.families(service)))
        .collect();
    for (service, families) in &of_pools {
        for &family in families {
            work.keep(service, family);
        }
    }
    for (service, families) in &of_pools {
        for &family in families {
            work.choose(service, family);
        }
        work.note_moves(service);
    }
    work.allocation
}

struct Work<'a> {
    held: &'a Held,
    pools: Pools<'a>,
    taken: Taken<'a>,
    /// Why an address of a service could not stay.
    lost: BTreeMap<(String, Family), String>,
    allocation: Allocation,
}

impl<'a> Work<'a> {
    fn take_what_is_named(&mut self, service: &'a Service) {
        for &vip in &service.vips {
            self.taken.take(service, vip);
            if service.pool.is_some() {
                self.give(service, vip, Origin::Requested);
            }
        }
    }

    /// The families of which a service with a pool is to have a VIP.
    fn families(&self, service: &Service) -> Vec<Family> {
        if let Some(families) = &service.families {
            return families.clone();
        }
        let candidates = self.pools.candidates(service);
        let is_open = candidates.iter().any(|pool| !pool.drain);
        let of_pools = |family| candidates.iter().any(|pool| pool.has(family) && !(is_open && pool.drain));
        let has = |family| {
            self.held_of(service, family).iter().any(|one| self.pools.keeping(service, *one).is_some())
        };
        let is_named = |family| service.vips.iter().any(|vip| Family::of(*vip) == family);
        let is_wanted = |family: &Family| of_pools(*family) || has(*family) || is_named(*family);
        Family::BOTH.into_iter().filter(is_wanted).collect()
    }

    /// What the service has of the family, from the lowest up.
    fn held_of(&self, service: &Service, family: Family) -> BTreeSet<IpAddr> {
        let held = self.held.get(&service.name).into_iter().flatten();
        held.copied().filter(|address| Family::of(*address) == family).collect()
    }

    fn keep(&mut self, service: &'a Service, family: Family) {
        if self.is_given(service, family) {
            return;
        }
        for address in self.held_of(service, family) {
            let why = match self.pools.keeping(service, address) {
                Some(_) => self.taken.refuses(service, address),
                None => Some("it is in no pool that the service may use".to_owned()),
            };
            let Some(why) = why else {
                self.taken.take(service, address);
                return self.give(service, address, Origin::Kept);
            };
            self.lost.entry((service.name.clone(), family)).or_insert(why);
        }
    }

    fn choose(&mut self, service: &'a Service, family: Family) {
        if self.is_given(service, family) {
            return;
        }
        let all = self.pools.candidates(service);
        let open: Vec<&'a IpPool> =
            all.iter().copied().filter(|pool| !pool.drain && pool.has(family)).collect();
        let found = match self.shareable(service, family, &open) {
            Some(address) => Some((address, Origin::Shared)),
            None => open
                .iter()
                .find_map(|pool| self.pools.lowest(pool, family, &self.taken))
                .map(|address| (address, Origin::Chosen)),
        };
        match found {
            Some((address, origin)) => {
                self.taken.take(service, address);
                self.give(service, address, origin);
            }
            None => {
                let why = nothing_free(service, family, &all);
                self.allocation.waiting.insert((service.name.clone(), family), why);
            }
        }
    }

    /// The first address that the service may have together with others: by the order of the pools, then the lowest.
    fn shareable(&self, service: &Service, family: Family, open: &[&IpPool]) -> Option<IpAddr> {
        let place = |address: IpAddr| open.iter().position(|pool| pool.contains(address));
        let all = self.taken.shareable(service).filter(|address| Family::of(*address) == family);
        let placed = all.filter_map(|address| Some((place(address)?, address)));
        placed.min().map(|(_, address)| address)
    }

    fn is_given(&self, service: &Service, family: Family) -> bool {
        self.allocation.given.contains_key(&(service.name.clone(), family))
    }

    fn give(&mut self, service: &Service, address: IpAddr, origin: Origin) {
        let pool = self.pools.holding(address).map(|pool| pool.name.clone()).unwrap_or_default();
        let key = (service.name.clone(), Family::of(address));
        let given = self.allocation.given.entry(key).or_insert(Given { addresses: Vec::new(), origin, pool });
        given.addresses.push(address);
        given.addresses.sort();
    }

    /// Says which addresses the service loses that it did not give up itself.
    fn note_moves(&mut self, service: &Service) {
        for family in Family::BOTH {
            let from: Vec<IpAddr> = self.held_of(service, family).into_iter().collect();
            let gave_up = service.families.as_ref().is_some_and(|families| !families.contains(&family));
            let key = (service.name.clone(), family);
            let given = self.allocation.given.get(&key);
            let is_named = given.is_some_and(|given| given.origin == Origin::Requested);
            let stays = given.is_some_and(|given| given.addresses.iter().any(|one| from.contains(one)));
            if from.is_empty() || gave_up || is_named || stays {
                continue;
            }
            let to = given.and_then(|given| given.addresses.first().copied());
            let unknown = || "it is in no pool that the service may use".to_owned();
            let why = self.lost.remove(&key).unwrap_or_else(unknown);
            self.allocation.moved.insert(key, Moved { from, to, why });
        }
    }
}

/// Why none of the pools gives anything.
fn nothing_free(service: &Service, family: Family, pools: &[&IpPool]) -> String {
    let word = family.word();
    let of = |pool: &&IpPool| match (pool.has(family), pool.drain) {
        (false, _) => format!("pool {} has no {word} addresses", pool.name),
        (true, true) => format!("pool {} is being drained", pool.name),
        (true, false) => {
            let all = size(pool, family);
            format!("pool {} is exhausted: {all} of {all} {word} addresses are taken", pool.name)
        }
    };
    let reasons: Vec<String> = pools.iter().map(of).collect();
    match (&service.pool, reasons.is_empty()) {
        (Some(PoolChoice::Named(name)), true) => format!("there is no pool {name}"),
        (_, true) => "there is no pool to choose".to_owned(),
        (_, false) => reasons.join("; "),
    }
}
