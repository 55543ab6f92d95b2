//! The objects of the cluster as they were last seen, by name.

use crate::note::{Note, ObjectRef};
use crate::objects::{Key, Kind, Labels, Object, Pod, Policy, Read, Slice, read};
use k8s_openapi::api::core::v1::{Node, Service};
use serde_json::Value;
use std::collections::BTreeMap;

/// What is known of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Index {
    pub(crate) services: BTreeMap<Key, Service>,
    pub(crate) slices: BTreeMap<Key, Slice>,
    pub(crate) nodes: BTreeMap<Key, Node>,
    /// The labels of namespaces.
    pub(crate) namespaces: BTreeMap<Key, Labels>,
    pub(crate) pods: BTreeMap<Key, Pod>,
    pub(crate) policies: BTreeMap<(Kind, Key), Policy>,
    /// Objects that could not be read.
    pub(crate) refused: BTreeMap<ObjectRef, String>,
}

impl Index {
    /// Takes what was exported: an object, or a list of them. Objects of other kinds are left aside; one that cannot be
    /// read is remembered, so that [`crate::render()`] says so.
    pub fn add(&mut self, mut value: Value) {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        let item_kind = kind.strip_suffix("List").map(str::to_owned);
        if let (Some(item_kind), Some(Value::Array(items))) =
            (item_kind, value.get_mut("items").map(Value::take))
        {
            let version = value.get("apiVersion").cloned().unwrap_or_default();
            for item in items {
                self.add_item(item, &item_kind, &version);
            }
            return;
        }
        match read(value) {
            Read::Object(key, object) => drop(self.put(key, object)),
            Read::Refused(Note { object, text }) => {
                self.refused.insert(object, text);
            }
            Read::Other => {}
        }
    }

    /// An item of a list of one kind need not repeat which; `List` itself says nothing about its items.
    fn add_item(&mut self, mut item: Value, kind: &str, version: &Value) {
        if let Value::Object(fields) = &mut item
            && !kind.is_empty()
            && !fields.contains_key("kind")
        {
            fields.insert("kind".to_owned(), kind.into());
            fields.insert("apiVersion".to_owned(), version.clone());
        }
        // Lists are not in lists; one that is would be read as deep as somebody wrote it.
        if item.get("items").is_none() {
            self.add(item);
        }
    }

    /// The object as it is now; whether that is news.
    pub(crate) fn put(&mut self, key: Key, object: Object) -> bool {
        match object {
            Object::Service(service) => set(&mut self.services, key, *service),
            Object::Slice(slice) => set(&mut self.slices, key, slice),
            Object::Node(node) => set(&mut self.nodes, key, *node),
            Object::Namespace(labels) => set(&mut self.namespaces, key, labels),
            Object::Pod(pod) => set(&mut self.pods, key, pod),
            Object::Policy(kind, policy) => {
                self.refused.remove(&kind.object(&key));
                set(&mut self.policies, (kind, key), *policy)
            }
            Object::Refused(kind, why) => {
                self.remove(kind, &key);
                set(&mut self.refused, kind.object(&key), why)
            }
        }
    }

    /// The object is gone.
    pub(crate) fn remove(&mut self, kind: Kind, key: &Key) {
        match kind {
            Kind::Service => drop(self.services.remove(key)),
            Kind::Slice => drop(self.slices.remove(key)),
            Kind::Node => drop(self.nodes.remove(key)),
            Kind::Namespace => drop(self.namespaces.remove(key)),
            Kind::Pod => drop(self.pods.remove(key)),
            Kind::GatewayPolicy | Kind::NatPolicy => {
                self.policies.remove(&(kind, key.clone()));
                self.refused.remove(&kind.object(key));
            }
        }
    }

    /// All objects of the kind are gone.
    pub(crate) fn clear(&mut self, kind: Kind) {
        match kind {
            Kind::Service => self.services.clear(),
            Kind::Slice => self.slices.clear(),
            Kind::Node => self.nodes.clear(),
            Kind::Namespace => self.namespaces.clear(),
            Kind::Pod => self.pods.clear(),
            Kind::GatewayPolicy | Kind::NatPolicy => {
                self.policies.retain(|(of, _), _| *of != kind);
                self.refused.retain(|object, _| object.kind != kind.name());
            }
        }
    }

    /// Whether there is such an object.
    pub(crate) fn has(&self, kind: Kind, key: &Key) -> bool {
        match kind {
            Kind::Service => self.services.contains_key(key),
            Kind::Slice => self.slices.contains_key(key),
            Kind::Node => self.nodes.contains_key(key),
            Kind::Namespace => self.namespaces.contains_key(key),
            Kind::Pod => self.pods.contains_key(key),
            Kind::GatewayPolicy | Kind::NatPolicy => {
                self.policies.contains_key(&(kind, key.clone()))
                    || self.refused.contains_key(&kind.object(key))
            }
        }
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let egress = self.namespaces.len() + self.pods.len() + self.policies.len() + self.refused.len();
        self.services.len() + self.slices.len() + self.nodes.len() + egress
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slices of each service, by the service's name.
    pub(crate) fn slices_by_service(&self) -> BTreeMap<(&str, &str), Vec<(&Key, &Slice)>> {
        let mut by_service: BTreeMap<(&str, &str), Vec<(&Key, &Slice)>> = BTreeMap::new();
        for (key, slice) in &self.slices {
            if let Some(service) = &slice.service {
                by_service.entry((&key.namespace, service)).or_default().push((key, slice));
            }
        }
        by_service
    }
}

/// Gives the key the value; whether it had another one, or none.
fn set<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    let is_news = map.get(&key) != Some(&value);
    if is_news {
        map.insert(key, value);
    }
    is_news
}
