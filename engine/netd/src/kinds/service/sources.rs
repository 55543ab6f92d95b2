//! Which clients services let in: what `sources` holds, and what a round of changes makes of it.

use super::policy::Policy;
use netd_bpf::Maps;
use netd_bpf::abi::{Source, SourceKey};
use std::collections::{BTreeMap, BTreeSet};

/// The prefixes in `sources`, by service.
///
/// What is new is written before the entries that look for it; what is over is removed after them.
pub struct Sources {
    held: BTreeMap<u32, BTreeMap<SourceKey, Source>>,
    wanted: BTreeMap<u32, BTreeSet<SourceKey>>,
}

impl Sources {
    /// Reads what there is.
    pub fn of(maps: &dyn Maps) -> netd_bpf::Result<Self> {
        let mut held: BTreeMap<u32, BTreeMap<SourceKey, Source>> = BTreeMap::new();
        for (key, source) in maps.sources()? {
            held.entry(key.service).or_default().insert(key, source);
        }
        Ok(Self { held, wanted: BTreeMap::new() })
    }

    /// How many prefixes there are.
    pub fn count(&self) -> usize {
        self.held.values().map(BTreeMap::len).sum()
    }

    /// Writes what a service's policy asks for, once in a round.
    pub fn put(&mut self, maps: &mut dyn Maps, service: u32, policy: &Policy) -> netd_bpf::Result<()> {
        if self.wanted.contains_key(&service) {
            return Ok(());
        }
        let held = self.held.entry(service).or_default();
        let sources = policy.sources(service);
        let new: Vec<_> =
            sources.iter().filter(|(key, source)| held.get(key) != Some(source)).copied().collect();
        maps.put_sources(&new)?;
        held.extend(new);
        self.wanted.insert(service, sources.into_iter().map(|(key, _)| key).collect());
        Ok(())
    }

    /// Removes what a service had that had this number before.
    pub fn forget(&mut self, maps: &mut dyn Maps, service: u32) -> netd_bpf::Result<()> {
        let keys: Vec<_> = self.held.remove(&service).unwrap_or_default().into_keys().collect();
        maps.delete_sources(&keys)
    }

    /// Removes what the services of the round do not ask for any more, and what belongs to none of `services`.
    pub fn end(&mut self, maps: &mut dyn Maps, services: &BTreeSet<u32>) -> netd_bpf::Result<()> {
        let is_over = |key: &&SourceKey| match self.wanted.get(&key.service) {
            Some(wanted) => !wanted.contains(key),
            None => !services.contains(&key.service),
        };
        let over: Vec<_> = self.held.values().flat_map(BTreeMap::keys).filter(is_over).copied().collect();
        maps.delete_sources(&over)
    }
}
