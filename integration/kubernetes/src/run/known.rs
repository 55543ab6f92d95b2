//! What is known of the cluster: the index, which object is how new, and which kinds have been listed.

use super::watch::Event;
use crate::Index;
use crate::objects::{Key, Kind};
use std::collections::{BTreeMap, BTreeSet};

/// So many objects that are gone are remembered; then all of them are forgotten, which matters only if an event of one of
/// them comes once more, and late.
const GONE_MAX: usize = 65_536;

/// The cluster as it was last seen.
pub(super) struct Known {
    index: Index,
    /// How new each object is, also of objects that are gone: an older event about them says nothing.
    versions: BTreeMap<(Kind, Key), u64>,
    missing: BTreeSet<Kind>,
}

impl Known {
    /// Nothing, yet: these kinds have to be listed.
    pub(super) fn new(kinds: Vec<Kind>) -> Self {
        Self { index: Index::default(), versions: BTreeMap::new(), missing: kinds.into_iter().collect() }
    }

    /// The objects.
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Whether every kind has been listed.
    pub(super) fn is_synced(&self) -> bool {
        self.missing.is_empty()
    }

    /// Takes an event; whether anything has changed by it.
    pub(super) fn take(&mut self, event: Event) -> bool {
        match event {
            Event::All(kind, objects) => {
                self.index.clear(kind);
                self.versions.retain(|(of, _), _| *of != kind);
                for (key, version, object) in objects {
                    self.versions.insert((kind, key.clone()), version);
                    self.index.put(key, object);
                }
                self.missing.remove(&kind);
                true
            }
            Event::Put(kind, key, version, object) => {
                let is_new = self.is_newer(kind, &key, version);
                if is_new {
                    self.index.put(key, *object);
                }
                is_new
            }
            Event::Gone(kind, key, version) => {
                let is_new = self.is_newer(kind, &key, version);
                if is_new {
                    self.index.remove(kind, &key);
                    self.forget();
                }
                is_new
            }
            Event::Failed { .. } => false,
        }
    }

    /// Remembers how new the object is; whether that is newer than what is known.
    fn is_newer(&mut self, kind: Kind, key: &Key, version: u64) -> bool {
        let known = self.versions.entry((kind, key.clone())).or_insert(0);
        // One that says nothing is believed.
        let is_newer = version == 0 || version > *known;
        *known = version.max(*known);
        is_newer
    }

    fn forget(&mut self) {
        if self.versions.len() > self.index.len() + GONE_MAX {
            let index = &self.index;
            self.versions.retain(|(kind, key), _| index.has(*kind, key));
        }
    }
}
