//! The choice itself: what is named, what is kept, what is new.

use super::claim::Claim;
use super::pools::{Pools, size};
use super::taken::Taken;
use super::{Allocation, Given, Held, Moved, Origin};
use netd_schema::{Config, Family, IpPool, PoolChoice};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Gives the services of a file their VIPs, and its egress policies their addresses. `held` is what they have, of any file;
/// one that the file does not have any more has given its addresses up.
#[must_use]
pub fn allocate(config: &Config, held: &Held) -> Allocation {
    if !super::uses_pools(config) {
        return Allocation::default();
    }
    let claims = Claim::all(config);
    let mut work = Work {
        held,
        pools: Pools::of(config),
        taken: Taken::by_machines(config),
        lost: BTreeMap::new(),
        allocation: Allocation::default(),
    };
    for claim in &claims {
        work.take_what_is_named(claim);
    }
    let of_pools: Vec<(&Claim<'_>, Vec<Family>)> = claims
        .iter()
        .filter(|claim| claim.pool.is_some())
        .map(|claim| (claim, work.families(claim)))
        .collect();
    for (claim, families) in &of_pools {
        for &family in families {
            work.keep(claim, family);
        }
    }
    for (claim, families) in &of_pools {
        for &family in families {
            work.choose(claim, family);
        }
        work.note_moves(claim);
    }
    work.allocation
}

struct Work<'a> {
    held: &'a Held,
    pools: Pools<'a>,
    taken: Taken<'a>,
    /// Why an address of somebody could not stay.
    lost: BTreeMap<(String, Family), String>,
    allocation: Allocation,
}

impl<'a> Work<'a> {
    fn take_what_is_named(&mut self, claim: &'a Claim<'a>) {
        for &address in claim.named {
            self.taken.take(claim, address);
            if claim.pool.is_some() {
                self.give(claim, address, Origin::Requested);
            }
        }
    }

    /// The families of which one with a pool is to have an address.
    fn families(&self, claim: &Claim<'_>) -> Vec<Family> {
        if let Some(families) = &claim.families {
            return families.clone();
        }
        let candidates = self.pools.candidates(claim);
        let is_open = candidates.iter().any(|pool| !pool.drain);
        let of_pools = |family| candidates.iter().any(|pool| pool.has(family) && !(is_open && pool.drain));
        let has =
            |family| self.held_of(claim, family).iter().any(|one| self.pools.keeping(claim, *one).is_some());
        let is_named = |family| claim.named.iter().any(|named| Family::of(*named) == family);
        let is_wanted = |family: &Family| of_pools(*family) || has(*family) || is_named(*family);
        Family::BOTH.into_iter().filter(is_wanted).collect()
    }

    /// What it has of the family, from the lowest up.
    fn held_of(&self, claim: &Claim<'_>, family: Family) -> BTreeSet<IpAddr> {
        let held = self.held.get(&claim.owner).into_iter().flatten();
        held.copied().filter(|address| Family::of(*address) == family).collect()
    }

    fn keep(&mut self, claim: &'a Claim<'a>, family: Family) {
        if self.is_given(claim, family) {
            return;
        }
        for address in self.held_of(claim, family) {
            let why = match self.pools.keeping(claim, address) {
                Some(_) => self.taken.refuses(claim, address),
                None => Some(nowhere(claim)),
            };
            let Some(why) = why else {
                self.taken.take(claim, address);
                return self.give(claim, address, Origin::Kept);
            };
            self.lost.entry((claim.owner.clone(), family)).or_insert(why);
        }
    }

    fn choose(&mut self, claim: &'a Claim<'a>, family: Family) {
        if self.is_given(claim, family) {
            return;
        }
        let all = self.pools.candidates(claim);
        let open: Vec<&'a IpPool> =
            all.iter().copied().filter(|pool| !pool.drain && pool.has(family)).collect();
        let found = match self.shareable(claim, family, &open) {
            Some(address) => Some((address, Origin::Shared)),
            None => open
                .iter()
                .find_map(|pool| self.pools.lowest(pool, family, &self.taken))
                .map(|address| (address, Origin::Chosen)),
        };
        match found {
            Some((address, origin)) => {
                self.taken.take(claim, address);
                self.give(claim, address, origin);
            }
            None => {
                let why = nothing_free(claim, family, &all);
                self.allocation.waiting.insert((claim.owner.clone(), family), why);
            }
        }
    }

    /// The first address that it may have together with others: by the order of the pools, then the lowest.
    fn shareable(&self, claim: &Claim<'_>, family: Family, open: &[&IpPool]) -> Option<IpAddr> {
        let place = |address: IpAddr| open.iter().position(|pool| pool.contains(address));
        let all = self.taken.shareable(claim).filter(|address| Family::of(*address) == family);
        let placed = all.filter_map(|address| Some((place(address)?, address)));
        placed.min().map(|(_, address)| address)
    }

    fn is_given(&self, claim: &Claim<'_>, family: Family) -> bool {
        self.allocation.given.contains_key(&(claim.owner.clone(), family))
    }

    fn give(&mut self, claim: &Claim<'_>, address: IpAddr, origin: Origin) {
        let pool = self.pools.holding(address).map(|pool| pool.name.clone()).unwrap_or_default();
        let key = (claim.owner.clone(), Family::of(address));
        let given = self.allocation.given.entry(key).or_insert(Given { addresses: Vec::new(), origin, pool });
        given.addresses.push(address);
        given.addresses.sort();
    }

    /// Says which addresses it loses that it did not give up itself.
    fn note_moves(&mut self, claim: &Claim<'_>) {
        for family in Family::BOTH {
            let from: Vec<IpAddr> = self.held_of(claim, family).into_iter().collect();
            let gave_up = claim.families.as_ref().is_some_and(|families| !families.contains(&family));
            let key = (claim.owner.clone(), family);
            let given = self.allocation.given.get(&key);
            let is_named = given.is_some_and(|given| given.origin == Origin::Requested);
            let stays = given.is_some_and(|given| given.addresses.iter().any(|one| from.contains(one)));
            if from.is_empty() || gave_up || is_named || stays {
                continue;
            }
            let to = given.and_then(|given| given.addresses.first().copied());
            let why = self.lost.remove(&key).unwrap_or_else(|| nowhere(claim));
            self.allocation.moved.insert(key, Moved { from, to, why });
        }
    }
}

fn nowhere(claim: &Claim<'_>) -> String {
    format!("it is in no pool that the {} may use", claim.what)
}

/// Why none of the pools gives anything.
fn nothing_free(claim: &Claim<'_>, family: Family, pools: &[&IpPool]) -> String {
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
    match (claim.pool, reasons.is_empty()) {
        (Some(PoolChoice::Named(name)), true) => format!("there is no pool {name}"),
        (_, true) => "there is no pool to choose".to_owned(),
        (_, false) => reasons.join("; "),
    }
}
