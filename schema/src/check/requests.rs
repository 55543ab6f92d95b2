//! What services and egress policies ask pools for: pools that there are, addresses and families that those have, and that
//! nobody else has.

use super::reference::Reference;
use super::{Once, family, vips};
use crate::diagnostic::{Diagnoses, Draft, quote};
use crate::model::{Family, PoolChoice};
use crate::raw::{Address, Egress, IpPool, PoolName, Range, Service, Top, each};
use crate::span::{At, Span};
use std::collections::HashMap;
use std::net::IpAddr;

/// The pools of the file.
pub(super) struct Pools<'a> {
    by_name: HashMap<&'a str, &'a IpPool>,
    /// All of them could be read, with their names and ranges.
    complete: bool,
}

/// Who asks a pool.
struct Asker<'a> {
    /// Which one.
    choice: &'a At<PoolName>,
    /// The addresses that are to be given.
    named: Vec<&'a At<Address>>,
    /// What may be anywhere without a pool: "a service may have any VIP".
    free: &'static str,
}

/// The pools that one may be given an address from, and where they are named.
struct Candidates<'a> {
    pools: Vec<&'a IpPool>,
    place: Span,
    /// The beginning of a sentence: "the pool `public` has no".
    has_no: String,
}

impl<'a> Pools<'a> {
    pub(super) fn of(top: &'a Top) -> Self {
        let mut complete = top.ip_pools.as_ref().is_none_or(|pools| pools.value.complete);
        let mut by_name = HashMap::new();
        for pool in each(&top.ip_pools).map(|at| &at.value) {
            complete &= pool.ranges.as_ref().is_some_and(|ranges| ranges.value.complete);
            match &pool.name {
                Some(name) => drop(by_name.insert(name.value.0.as_str(), pool)),
                None => complete = false,
            }
        }
        Self { by_name, complete }
    }

    /// The families of the VIPs that a service with a pool will have; `None` if that cannot be told.
    pub(super) fn families_for(&self, service: &Service) -> Option<Vec<Family>> {
        if let Some(families) = &service.families {
            let all = families.value.items.iter().map(|at| at.value).collect();
            return families.value.complete.then_some(all);
        }
        let candidates = self.candidates(service.pool.as_ref()?)?.pools;
        let asked = |family| each(&service.vips).any(|vip| Family::of(vip.value.0) == family);
        let has = |family| candidates.iter().any(|pool| first_range(pool, family).is_some());
        Some(Family::BOTH.into_iter().filter(|family| asked(*family) || has(*family)).collect())
    }

    /// `None` if the pool is not there, or not all of the pools can be read.
    fn candidates(&self, choice: &At<PoolName>) -> Option<Candidates<'a>> {
        if !self.complete {
            return None;
        }
        let (pools, has_no) = match &choice.value.0 {
            PoolChoice::Named(name) => {
                (vec![*self.by_name.get(name.as_str())?], format!("the pool {} has no", quote(name)))
            }
            PoolChoice::Auto => {
                let is_open = |pool: &&IpPool| pool.auto_assign.is_none_or(|at| at.value);
                (
                    self.by_name.values().copied().filter(is_open).collect(),
                    "no pool that may be chosen has".to_owned(),
                )
            }
        };
        Some(Candidates { pools, place: choice.span, has_no })
    }

    /// That the pools of a policy can give it no address of a family: where they are named, and the beginning of a sentence,
    /// as in [`Candidates`]. `None` if one can, or that cannot be told.
    pub(super) fn lacking(&self, policy: &Egress, family: Family) -> Option<(Span, String)> {
        let Candidates { pools, place, has_no } = self.candidates(policy.pool.as_ref()?)?;
        let lacks = !pools.is_empty() && pools.iter().all(|pool| first_range(pool, family).is_none());
        lacks.then_some((place, has_no))
    }

    /// A pool that has the address.
    fn holding(&self, address: IpAddr) -> Option<&'a IpPool> {
        let holds = |pool: &&&IpPool| each(&pool.ranges).any(|range| contains(range.value, address));
        self.by_name.values().find(holds).copied()
    }
}

fn contains(range: Range, address: IpAddr) -> bool {
    range.first.is_ipv4() == address.is_ipv4() && (range.first..=range.last).contains(&address)
}

fn first_range(pool: &IpPool, family: Family) -> Option<&At<Range>> {
    each(&pool.ranges).find(|range| Family::of(range.value.first) == family)
}

pub(super) fn check(top: &Top, diagnoses: &mut Diagnoses) {
    let pools = Pools::of(top);
    let mut sharers: HashMap<&str, &Service> = HashMap::new();
    for service in each(&top.services).map(|at| &at.value) {
        let Some(choice) = &service.pool else {
            needs_a_pool(service, diagnoses);
            continue;
        };
        let named = each(&service.vips).collect();
        let asker = Asker { choice, named, free: "a service may have any VIP" };
        known(&asker, &pools, diagnoses);
        families(service, &pools, diagnoses);
        requested(&asker, &pools, diagnoses);
        if let Some(share) = &service.share {
            let first = sharers.entry(share.value.0.as_str()).or_insert(service);
            vips::sharers_agree(service, first, top, diagnoses);
        }
    }
    taken(top, diagnoses);
    for policy in each(&top.egress).map(|at| &at.value) {
        let Some(choice) = &policy.pool else { continue };
        let named = each(&policy.ips).collect();
        let asker = Asker { choice, named, free: "a policy may have any egress address outside of pools" };
        known(&asker, &pools, diagnoses);
        requested(&asker, &pools, diagnoses);
    }
}

/// What only says something about a pool.
fn needs_a_pool(service: &Service, diagnoses: &mut Diagnoses) {
    let keys = [
        ("families", service.families.as_ref().map(|at| at.span), "the families that a pool gives"),
        ("share", service.share.as_ref().map(|at| at.span), "who may share an address that a pool gives"),
    ];
    for (key, place, what) in keys {
        let Some(place) = place else { continue };
        diagnoses.push(|| {
            Draft::error(format!("`services.{key}` without a `pool`"))
                .label(place, format!("says {what}"))
                .help("add `pool`, or remove it: the service has the VIPs that it names")
        });
    }
}

/// There is a pool of this name, or one to choose.
fn known(asker: &Asker<'_>, pools: &Pools<'_>, diagnoses: &mut Diagnoses) {
    if !pools.complete {
        return;
    }
    let choice = asker.choice;
    match &choice.value.0 {
        PoolChoice::Named(name) if !pools.by_name.contains_key(name.as_str()) => {
            Reference { what: "pool", header: "[[ip_pools]]", name, span: choice.span }
                .unknown(pools.by_name.keys().copied(), diagnoses);
        }
        PoolChoice::Auto if pools.candidates(choice).is_some_and(|of| of.pools.is_empty()) => {
            let why = match pools.by_name.is_empty() {
                true => "the file has no `[[ip_pools]]`",
                false => "every pool has `auto_assign = false`",
            };
            diagnoses.push(|| Draft::error("there is no pool to choose").label(choice.span, why));
        }
        PoolChoice::Named(_) | PoolChoice::Auto => {}
    }
}

/// The families are different ones that the pools have; the addresses that are asked for are of them.
fn families(service: &Service, pools: &Pools<'_>, diagnoses: &mut Diagnoses) {
    let Some(asked) = &service.families else { return };
    let mut once = Once::new();
    let choice = service.pool.as_ref();
    let candidates = choice.and_then(|choice| pools.candidates(choice)).filter(|of| !of.pools.is_empty());
    for at in &asked.value.items {
        let wanted = at.value;
        let what = || format!("the family `{}` is given twice", wanted.name());
        if !once.claim(wanted, at.span, diagnoses, what) {
            continue;
        }
        let Some(Candidates { pools, place, has_no }) = &candidates else { continue };
        if pools.iter().any(|pool| first_range(pool, wanted).is_some()) {
            continue;
        }
        diagnoses.push(|| {
            let draft = Draft::error(format!("{has_no} {} addresses", wanted.word()))
                .label(at.span, format!("{} is asked for here", wanted.word()));
            match pools.first().and_then(|pool| pool.ranges.as_ref()).filter(|_| pools.len() == 1) {
                Some(ranges) => draft.label(ranges.span, format!("no {} range here", wanted.word())),
                None => draft.label(*place, "among those with `auto_assign`"),
            }
        });
    }
    for vip in each(&service.vips).filter(|_| asked.value.complete) {
        let ip = vip.value.0;
        if asked.value.items.iter().all(|at| at.value != Family::of(ip)) {
            diagnoses.push(|| {
                Draft::error(format!("the VIP {ip} is of a family that the service is not to have"))
                    .label(vip.span, format!("an {} address", family(ip)))
                    .label(asked.span, format!("no {} here", family(ip)))
            });
        }
    }
}

/// Addresses that are asked for are in a pool that may give them.
fn requested(asker: &Asker<'_>, pools: &Pools<'_>, diagnoses: &mut Diagnoses) {
    let Asker { choice, named: addresses, free } = asker;
    // An address that is asked for is given from any pool: the choice is then not left to netd.
    let named = match &choice.value.0 {
        PoolChoice::Auto => None,
        PoolChoice::Named(name) => Some(name),
    };
    if !pools.complete || named.is_some_and(|name| !pools.by_name.contains_key(name.as_str())) {
        return;
    }
    for at in addresses {
        let ip = at.value.0;
        let holder = pools.holding(ip);
        let holder_name = holder.and_then(|pool| pool.name.as_ref()).map(|name| name.value.0.as_str());
        if holder_name.is_some() && (named.is_none() || named.map(String::as_str) == holder_name) {
            continue;
        }
        diagnoses.push(|| {
            let draft = match named {
                Some(name) => Draft::error(format!("{ip} is not in the pool {}", quote(name))),
                None => Draft::error(format!("{ip} is in no pool")),
            };
            let draft = draft.label(at.span, "asked for here");
            let pool = named.and_then(|name| pools.by_name.get(name.as_str()));
            let draft = match pool.and_then(|pool| pool.ranges.as_ref()) {
                Some(ranges) => draft.label(ranges.span, "in none of these"),
                None => draft.label(choice.span, "from any pool"),
            };
            match holder_name {
                Some(other) => draft.help(format!("it is in the pool `{other}`")),
                None => draft.help(format!("without `pool` {free}")),
            }
        });
    }
}

/// An address that a service asks a pool for is no other service's, unless both say that they share.
fn taken(top: &Top, diagnoses: &mut Diagnoses) {
    let mut first: HashMap<IpAddr, (&Service, &At<Address>)> = HashMap::new();
    for service in each(&top.services).map(|at| &at.value) {
        for vip in each(&service.vips) {
            let (other, other_vip) = *first.entry(vip.value.0).or_insert((service, vip));
            let is_of_a_pool = service.pool.is_some() || other.pool.is_some();
            if std::ptr::eq(other, service) || !is_of_a_pool || vips::share(service, other) {
                continue;
            }
            diagnoses.push(|| {
                Draft::error(format!("two services ask for {}", vip.value.0))
                    .label(vip.span, "asked for here")
                    .label(other_vip.span, "already taken here")
                    .help("services get the same address from a pool if both have the same `share`")
            });
        }
    }
}
