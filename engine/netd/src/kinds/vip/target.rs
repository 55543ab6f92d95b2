//! The entries of VIPs and pools in the load balancer's maps.

use super::{NAME, VipSpec};
use crate::balancer::Balancer;
use crate::facts::Facts;
use crate::kinds::service::{Names, sentence, smallest_capacity, with_room_for};
use crate::seen::{News, Seen};
use crate::target::Target;
use async_trait::async_trait;
use ipnetwork::IpNetwork;
use netd_bpf::Maps;
use netd_bpf::abi::{Frontend, FrontendKey, PING, Pool, PoolKey, UNKNOWN_DROP, UNKNOWN_REJECT};
use netd_core::{Action, Observation, Outcome, Spec, Step};
use netd_schema::UnknownPort;
use std::net::IpAddr;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The target of VIPs: entries beside those of the frontends, and the prefixes of pools.
pub struct VipTarget {
    balancer: Arc<Balancer>,
    seen: Seen<Place>,
}

/// Where a resource is: an entry beside those of the frontends, or a pool's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Vip(IpAddr),
    Pool(IpAddr, u8),
}

impl VipTarget {
    /// The target that writes to this load balancer's maps.
    #[must_use]
    pub fn new(balancer: Arc<Balancer>) -> Self {
        Self { balancer, seen: Seen::default() }
    }
}

#[async_trait]
impl Target for VipTarget {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        self.observe_again(facts).await.map(Arc::unwrap_or_clone)
    }

    async fn observe_again(&mut self, _facts: &Facts) -> Result<Arc<Observation>, String> {
        let seen = &mut self.seen;
        self.balancer.with_maps(|maps| match maps {
            Some(maps) => look(seen, maps).map_err(|error| sentence(&error)),
            None => Ok(Arc::default()),
        })?
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let done = self.make_room(steps).and_then(|()| {
            self.balancer.with_maps(|maps| match maps {
                Some(maps) => apply(maps, steps),
                None => Ok(vec![Outcome::Applied; steps.len()]),
            })?
        });
        done.unwrap_or_else(|why| vec![Outcome::Failed(why); steps.len()])
    }
}

impl VipTarget {
    /// Makes maps if there are none, and larger ones if these are too small.
    fn make_room(&self, steps: &[Step]) -> Result<(), String> {
        let capacity = self.balancer.with_maps(|maps| match maps {
            Some(maps) => Some(with_room_for(maps, steps.len())),
            None => Some(Ok(Some(smallest_capacity()))),
        })?;
        match capacity.transpose().map_err(|error| sentence(&error))?.flatten() {
            Some(capacity) => self.balancer.grow(&capacity),
            None => Ok(()),
        }
    }
}

/// Which names have numbers is found out once: ten thousand steps would ask ten thousand entries each.
fn apply(maps: &mut dyn Maps, steps: &[Step]) -> Result<Vec<Outcome>, String> {
    let mut names = Names::of(maps).map_err(|error| sentence(&error))?;
    let mut outcome = |step| apply_one(maps, &mut names, step).unwrap_or_else(Outcome::Failed);
    Ok(steps.iter().map(&mut outcome).collect())
}

fn apply_one(maps: &mut dyn Maps, names: &mut Names, step: &Step) -> Result<Outcome, String> {
    let spec =
        step.action.spec().as_any().downcast_ref::<VipSpec>().ok_or_else(|| format!("not a {NAME}"))?;
    let done = match step.action {
        Action::Delete { .. } => delete(maps, spec),
        Action::Create { .. } | Action::Update { .. } => put(maps, names, spec),
    };
    done.map_err(|error| sentence(&error))?;
    Ok(Outcome::Applied)
}

fn put(maps: &mut dyn Maps, names: &mut Names, spec: &VipSpec) -> netd_bpf::Result<()> {
    let service = names.number(maps, &spec.counted_for)?;
    let mut flags = if spec.ping { PING } else { 0 };
    flags |= match spec.unknown_port {
        UnknownPort::Drop => UNKNOWN_DROP,
        UnknownPort::Reject => UNKNOWN_REJECT,
        UnknownPort::Pass => 0,
    };
    if spec.is_pool() {
        return maps.put_pools(&[(pool_key(spec), Pool { flags, service })]);
    }
    let entry = Frontend { flags, service, ..Frontend::default() };
    maps.put_frontends(&[(FrontendKey::vip_entry(spec.prefix.ip()), entry)]).into_iter().collect()
}

fn delete(maps: &mut dyn Maps, spec: &VipSpec) -> netd_bpf::Result<()> {
    if spec.is_pool() {
        return maps.delete_pools(&[pool_key(spec)]);
    }
    maps.delete_frontends(&[FrontendKey::vip_entry(spec.prefix.ip())]).into_iter().collect()
}

fn pool_key(spec: &VipSpec) -> PoolKey {
    PoolKey::new(spec.prefix.ip(), spec.prefix.prefix())
}

/// Reads everything; only what differs from the last look is taken apart.
fn look(seen: &mut Seen<Place>, maps: &dyn Maps) -> netd_bpf::Result<Arc<Observation>> {
    let mut found = Vec::new();
    maps.each_frontend(&mut |key, entry| {
        if *key == FrontendKey::vip_entry(key.address) {
            found.push((Place::Vip(key.address), entry.flags, entry.service));
        }
    })?;
    for (key, pool) in maps.pools()? {
        let (address, bits) = key.prefix();
        found.push((Place::Pool(address, bits), pool.flags, pool.service));
    }
    seen.begin();
    let (mut news, mut name) = (Vec::new(), Vec::new());
    for (entry, flags, service) in found {
        name.clear();
        maps.read_service_name(service, &mut name);
        let print = xxh3_64_with_seed(&name, u64::from(flags) << 32 | u64::from(service));
        if !seen.is_known(&entry, print) {
            let spec = meaning(entry, flags, maps.service_name(service)?);
            let meaning = spec.map(|spec| (spec.key(), Arc::new(spec) as Arc<dyn Spec>));
            news.push(News { entry, print, meaning });
        }
    }
    Ok(seen.end(news))
}

/// What an entry means; `None` for a prefix that is none.
fn meaning(place: Place, flags: u32, counted_for: String) -> Option<VipSpec> {
    let (prefix, ping) = match place {
        Place::Vip(address) => (IpNetwork::from(address), flags & PING != 0),
        Place::Pool(address, bits) => (IpNetwork::new(address, bits).ok()?, false),
    };
    Some(VipSpec { prefix, counted_for, ping, unknown_port: policy(flags) })
}

fn policy(flags: u32) -> UnknownPort {
    match (flags & UNKNOWN_REJECT != 0, flags & UNKNOWN_DROP != 0) {
        (true, _) => UnknownPort::Reject,
        (false, true) => UnknownPort::Drop,
        (false, false) => UnknownPort::Pass,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use netd_bpf::{Capacity, FakeMaps};

    fn vip(prefix: &str, counted_for: &str) -> VipSpec {
        let unknown_port = UnknownPort::Reject;
        VipSpec {
            prefix: prefix.parse().unwrap(),
            counted_for: counted_for.into(),
            ping: false,
            unknown_port,
        }
    }

    #[test]
    fn what_is_put_is_found_and_what_is_deleted_is_not() {
        let mut maps = FakeMaps::new(smallest_capacity());
        let specs = [
            VipSpec { ping: true, unknown_port: UnknownPort::Pass, ..vip("192.0.2.10/32", "web") },
            vip("2001:db8::10/128", "web"),
            vip("192.0.2.0/24", "pool/public"),
            vip("2001:db8:1::/64", "pool/public"),
        ];
        let mut names = Names::of(&maps).unwrap();
        for spec in &specs {
            put(&mut maps, &mut names, spec).unwrap();
        }
        let mut seen = Seen::default();
        let found = look(&mut seen, &maps).unwrap();
        let is_found = |spec: &VipSpec| found.owned[&spec.key()].as_any().downcast_ref() == Some(spec);
        assert!(found.owned.len() == specs.len() && specs.iter().all(is_found));
        let numbers: std::collections::BTreeSet<u32> =
            maps.frontends().unwrap().iter().map(|(_, entry)| entry.service).collect();
        assert_eq!(numbers.len(), 1);
        for spec in &specs {
            delete(&mut maps, spec).unwrap();
        }
        assert!(look(&mut seen, &maps).unwrap().owned.is_empty());
    }

    #[test]
    fn k1_without_room_for_the_vips_larger_maps_are_asked_for() {
        let capacity = Capacity { frontends_v4: 2, ..smallest_capacity() };
        let mut maps = FakeMaps::new(capacity);
        let mut names = Names::of(&maps).unwrap();
        assert_eq!(with_room_for(&maps, 2).unwrap(), None);
        put(&mut maps, &mut names, &vip("192.0.2.10/32", "web")).unwrap();
        assert!(with_room_for(&maps, 2).unwrap().is_some_and(|larger| larger.frontends_v4 >= 3));
    }
}
