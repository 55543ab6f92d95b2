//! What the maps hold, looked at whole each time; only entries that differ from the last look are taken apart.

use super::layout::{self, Held};
use super::paths::HeldPaths;
use super::target::held;
use crate::facts::{Facts, Mac};
use crate::seen::{News, Seen};
use netd_bpf::Maps;
use netd_bpf::abi::{Frontend, FrontendKey, SOURCES, Source, SourceKey};
use netd_core::{Observation, Spec};
use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// The last look, and what it rested on.
#[derive(Default)]
pub(super) struct Sight {
    seen: Seen<FrontendKey>,
    ground: Ground,
}

/// What entries are understood by, besides what they name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ground {
    devices: Vec<(u32, String, Option<Mac>)>,
    sources: Vec<(SourceKey, Source)>,
}

impl Sight {
    /// Reads everything that belongs to frontends.
    pub(super) fn look(&mut self, maps: &dyn Maps, facts: &Facts) -> netd_bpf::Result<Arc<Observation>> {
        let devices = facts.links.values().map(|link| (link.index, link.name.clone(), link.mac)).collect();
        let ground = Ground { devices, sources: maps.sources()? };
        if self.ground != ground {
            self.seen = Seen::default();
            self.ground = ground;
        }
        let mut bytes = Vec::new();
        let mut changed = Vec::new();
        self.seen.begin();
        maps.each_frontend(&mut |key, frontend| {
            // An entry of a VIP is another kind's.
            if *key == FrontendKey::vip_entry(key.address) {
                return;
            }
            bytes.clear();
            maps.read_whole(frontend, &mut bytes);
            let print = xxh3_64(&bytes);
            if !self.seen.is_known(key, print) {
                changed.push((*key, *frontend, print));
            }
        })?;
        let mut sources: BTreeMap<u32, Vec<&(SourceKey, Source)>> = BTreeMap::new();
        for source in self.ground.sources.iter().filter(|_| !changed.is_empty()) {
            sources.entry(source.0.service).or_default().push(source);
        }
        let mut paths = HeldPaths::new(facts);
        let mut news = Vec::new();
        for (entry, frontend, print) in changed {
            let sources = sources.get(&frontend.service).map(Vec::as_slice).unwrap_or_default();
            let meaning = meaning(maps, (&entry, &frontend), sources, &mut paths);
            news.push(News { entry, print, meaning });
        }
        Ok(self.seen.end(news))
    }
}

/// What an entry means; `None` for one of a protocol that netd does not know.
fn meaning(
    maps: &dyn Maps,
    (key, frontend): (&FrontendKey, &Frontend),
    sources: &[&(SourceKey, Source)],
    paths: &mut HeldPaths<'_>,
) -> Option<(netd_core::Key, Arc<dyn Spec>)> {
    let mut spec = match held(maps, key, frontend) {
        Some(held) => {
            let name = maps.service_name(frontend.service).unwrap_or_default();
            layout::spec(key, &held, name, paths)?
        }
        // An entry that names what is not there was not written by netd as it is; it is written anew.
        None => layout::spec(key, &damaged(), String::new(), paths)?,
    };
    if frontend.flags & SOURCES != 0 {
        Arc::make_mut(&mut spec.policy).add_sources(sources.iter().copied());
    }
    Some((spec.key(), Arc::new(spec)))
}

fn damaged() -> Held {
    Held { frontend: Frontend::default(), lines: Vec::new(), ring: Vec::new(), previous: None, intact: false }
}
