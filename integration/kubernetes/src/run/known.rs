//! What is known of the cluster: the index, which object is how new, and which kinds have been listed.

use super::watch::Event;
use crate::Index;
use crate::note::{Note, ObjectRef};
use crate::objects::{Key, Kind, Object};
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
    /// Kinds that the cluster does not have.
    absent: BTreeSet<Kind>,
}

impl Known {
    /// Nothing, yet: these kinds have to be listed.
    pub(super) fn new(kinds: Vec<Kind>) -> Self {
        let missing = kinds.into_iter().collect();
        Self { index: Index::default(), versions: BTreeMap::new(), missing, absent: BTreeSet::new() }
    }

    /// The objects.
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Whether every kind has been listed.
    pub(super) fn is_synced(&self) -> bool {
        self.missing.is_empty()
    }

    /// What is said about the cluster as a whole.
    pub(super) fn notes(&self) -> impl Iterator<Item = Note> {
        self.absent.iter().map(|kind| Note {
            object: ObjectRef {
                kind: "CustomResourceDefinition",
                namespace: String::new(),
                name: kind.resource(),
            },
            text: "the cluster does not have it, and so no such policies; it is looked for again".to_owned(),
        })
    }

    /// Takes an event; whether anything has changed by it.
    pub(super) fn take(&mut self, event: Event) -> bool {
        match event {
            Event::All(kind, objects) => {
                self.replace(kind, objects);
                self.absent.remove(&kind);
                true
            }
            Event::Absent(kind) => {
                let is_news = self.absent.insert(kind);
                if is_news {
                    self.replace(kind, Vec::new());
                }
                is_news
            }
            Event::Put(kind, key, version, object) => {
                // Most of what changes of an object, such as its conditions, says nothing here.
                self.is_newer(kind, &key, version) && self.index.put(key, *object)
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

    /// These are all objects of the kind.
    fn replace(&mut self, kind: Kind, objects: Vec<(Key, u64, Object)>) {
        self.index.clear(kind);
        self.versions.retain(|(of, _), _| *of != kind);
        for (key, version, object) in objects {
            self.versions.insert((kind, key.clone()), version);
            self.index.put(key, object);
        }
        self.missing.remove(&kind);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use k8s_openapi::api::core::v1::Node;
    use serde_json::json;

    fn node(version: u64, address: &str, ready: &str) -> Event {
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": "node-1", "resourceVersion": version.to_string() },
            "status": {
                "addresses": [{ "type": "InternalIP", "address": address }],
                "conditions": [{ "type": "Ready", "status": ready }],
            },
        }))
        .unwrap();
        let key = Key::of(Kind::Node, &node.metadata);
        Event::Put(Kind::Node, key, version, Box::new(node.into()))
    }

    #[test]
    fn a_change_that_says_nothing_here_is_none_and_an_old_one_is_none() {
        let mut known = Known::new(vec![Kind::Node]);
        assert!(known.take(node(1, "10.0.0.1", "True")));
        assert!(!known.take(node(2, "10.0.0.1", "False")));
        assert!(known.take(node(4, "10.0.0.2", "False")));
        assert!(!known.take(node(3, "10.0.0.1", "False")), "a4: it is older");
    }
}
