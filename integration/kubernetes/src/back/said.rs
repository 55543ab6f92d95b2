//! What was written into the file, as far as the cluster hears of it.

use crate::note::{Note, ObjectRef};
use crate::objects::{Key, Kind};
use crate::render::{Rendered, is_asked};
use crate::{Balanced, Index, Options};
use k8s_openapi::api::core::v1::Service;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// The file that is on the disk, and what was said about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// Of the file.
    pub(super) sha256: String,
    /// The services of type `LoadBalancer` that are in the file, and those that are not and have a status.
    pub(super) services: BTreeMap<Key, Wanted>,
    /// What of the objects is not in it, as far as they asked for it; with the object's UID, where it is known.
    pub(super) notes: BTreeMap<Note, Option<String>>,
}

/// A service that is to have a status.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) uid: Option<String>,
    /// None for one that is not in the file.
    pub(super) tables: Vec<Balanced>,
    /// Addresses and names that its status has.
    pub(super) has: BTreeSet<String>,
}

impl Said {
    pub(crate) fn of(index: &Index, rendered: &Rendered, options: &Options) -> Self {
        let digest = Sha256::digest(rendered.text.as_bytes());
        let mut said =
            Self { sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(), ..Self::default() };
        for table in &rendered.balanced {
            let key = key_of(&table.object);
            let Some(service) = index.services.get(&key) else { continue };
            let wanted = said.services.entry(key).or_insert_with(|| Wanted {
                uid: service.metadata.uid.clone(),
                tables: Vec::new(),
                has: status(service),
            });
            wanted.tables.push(table.clone());
        }
        // What was given to one that is not in the file any more may be another's now.
        for (key, service) in index.services.iter().filter(|(_, service)| is_asked(service, options)) {
            let has = status(service);
            if !said.services.contains_key(key) && !has.is_empty() {
                let uid = service.metadata.uid.clone();
                said.services.insert(key.clone(), Wanted { uid, tables: Vec::new(), has });
            }
        }
        let told = rendered.notes.iter().filter(|note| is_told(index, &note.object, options));
        said.notes = told.map(|note| (note.clone(), uid(index, &note.object))).collect();
        said
    }
}

fn key_of(object: &ObjectRef) -> Key {
    Key { namespace: object.namespace.clone(), name: object.name.clone() }
}

fn status(service: &Service) -> BTreeSet<String> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    ingress.filter_map(|ingress| ingress.ip.clone().or_else(|| ingress.hostname.clone())).collect()
}

/// Most services ask netd for nothing, and need not hear that they get nothing.
fn is_told(index: &Index, object: &ObjectRef, options: &Options) -> bool {
    match object.kind {
        kind if kind == Kind::Service.name() => {
            let service = index.services.get(&key_of(object));
            service.is_some_and(|service| is_asked(service, options))
        }
        _ => true,
    }
}

fn uid(index: &Index, object: &ObjectRef) -> Option<String> {
    let key = key_of(object);
    let policy = |kind| index.policies.get(&(kind, key.clone())).and_then(|policy| policy.uid.clone());
    match Kind::named(object.kind)? {
        Kind::Service => index.services.get(&key).and_then(|service| service.metadata.uid.clone()),
        // By its name, as the kubelet does.
        Kind::Node => Some(object.name.clone()),
        kind @ (Kind::GatewayPolicy | Kind::NatPolicy) => policy(kind),
        Kind::Slice | Kind::Namespace | Kind::Pod => None,
    }
}
