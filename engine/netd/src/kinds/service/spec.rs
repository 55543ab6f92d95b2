//! What a frontend is: its service, its backends with the way to each, and how its ring is made.

use super::maglev::{self, Member, Request};
use super::policy::Policy;
use super::shift;
use crate::facts::Mac;
use base64::Engine;
use netd_core::{Described, FieldChange};
use netd_schema::{BackendState, HashSeed, Protocol};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One frontend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceSpec {
    /// The service that it belongs to.
    pub service: String,
    /// The address that clients use.
    pub vip: IpAddr,
    /// The port that clients use.
    pub port: u16,
    /// The transport protocol.
    #[serde(serialize_with = "protocol_name")]
    pub protocol: Protocol,
    /// The slots of its ring; 0 where there is none, because no backend can be used.
    pub table_size: u32,
    /// Seeds the hash functions.
    #[serde(serialize_with = "base64_seed")]
    pub hash_seed: HashSeed,
    /// What it does besides choosing by its ring.
    pub policy: Arc<Policy>,
    /// Sorted by address and port.
    pub backends: Vec<BackendSpec>,
    /// Whether what the kernel holds is whole: the ring is the one that was written. Always wanted.
    #[serde(skip_serializing_if = "is_true")]
    pub intact: bool,
}

/// One backend of a frontend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendSpec {
    /// The destination of the outer header.
    pub address: IpAddr,
    /// The destination port that the inner packet has when it leaves.
    pub port: u16,
    /// Its share; 0 takes it out.
    pub weight: u16,
    /// Whether it is given traffic.
    #[serde(serialize_with = "state_name")]
    pub state: BackendState,
    /// The way to it; `None` as long as it is not known. One that was known is used until there is a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Arc<BackendPath>>,
}

/// The way to a backend, as its packets' headers need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendPath {
    /// The link that packets leave by.
    pub device: String,
    /// That link's interface index; 0 as found, when another link has the index by now.
    pub ifindex: u32,
    /// The largest packet of the path, in bytes.
    pub mtu: u16,
    /// The next hop's Ethernet address.
    pub destination_mac: Mac,
    /// The link's Ethernet address.
    pub source_mac: Mac,
    /// The outer source address, or the prefix that it is picked from.
    pub source: IpAddr,
    /// How many low bits of the outer source are a hash of the flow.
    pub source_bits: u8,
}

fn is_true(value: &bool) -> bool {
    *value
}

fn protocol_name<S: serde::Serializer>(protocol: &Protocol, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(protocol.name())
}

fn base64_seed<S: serde::Serializer>(seed: &HashSeed, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(seed.0))
}

fn state_name<S: serde::Serializer>(state: &BackendState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state_word(*state))
}

/// The word of the file for a state.
#[must_use]
pub fn state_word(state: BackendState) -> &'static str {
    match state {
        BackendState::Active => "active",
        BackendState::Terminating => "terminating",
        BackendState::Quarantined => "quarantined",
        BackendState::Maintenance => "maintenance",
    }
}

impl BackendSpec {
    /// Whether new flows may be given to it, as far as the file decides.
    #[must_use]
    pub fn is_selectable(&self) -> bool {
        self.state == BackendState::Active && self.weight > 0
    }

    /// Where packets arrive.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Whether its path, as it was found, leaves by a device that is not the one it was made for.
    #[must_use]
    pub fn is_astray(&self) -> bool {
        self.path.as_ref().is_some_and(|path| path.ifindex == 0)
    }

    fn describe(&self) -> String {
        let mut text = format!("weight {}", self.weight);
        if self.state != BackendState::Active {
            text.push_str(", ");
            text.push_str(state_word(self.state));
        }
        match &self.path {
            Some(path) => text.push_str(&format!(", {}", path.describe())),
            None => text.push_str(", no path yet"),
        }
        text
    }

    /// A path that is not known now leaves a known one in force, unless that leads astray.
    fn satisfied_by(&self, observed: &Self) -> bool {
        let path = match &self.path {
            None => !observed.is_astray(),
            Some(_) => same_path(&self.path, &observed.path),
        };
        path && self.address == observed.address
            && self.port == observed.port
            && self.weight == observed.weight
            && self.state == observed.state
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        let field = |what: &str| format!("backend {} {what}", self.socket());
        if self.weight != observed.weight {
            changes.push(FieldChange::changed(field("weight"), observed.weight, self.weight));
        }
        if self.state != observed.state {
            changes.push(FieldChange::changed(
                field("state"),
                state_word(observed.state),
                state_word(self.state),
            ));
        }
        if let Some(path) = &self.path
            && self.path != observed.path
        {
            let before = observed.path.as_ref().map_or_else(|| "none".into(), |path| path.describe());
            changes.push(FieldChange::changed(field("path"), before, path.describe()));
        }
        changes
    }
}

/// Backends share their ways, so most are told equal without looking at them.
fn same_path(one: &Option<Arc<BackendPath>>, other: &Option<Arc<BackendPath>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

impl BackendPath {
    fn describe(&self) -> String {
        let source = match self.source_bits {
            0 => self.source.to_string(),
            bits => format!("{}/{}", self.source, if self.source.is_ipv4() { 32 } else { 128 } - bits),
        };
        format!("via {} dev {} src {source} mtu {}", self.destination_mac, self.device, self.mtu)
    }
}

impl ServiceSpec {
    /// The backends that the ring is made of, given which of them have a path, by position in `backends`.
    ///
    /// Those that are active; if there are none, those that terminate, which is better than dropping.
    pub(crate) fn members(&self, has_path: impl Fn(usize) -> bool) -> Vec<(usize, Member)> {
        let of_state = |state: BackendState| -> Vec<(usize, Member)> {
            let usable = |(position, backend): &(usize, &BackendSpec)| {
                backend.state == state && backend.weight > 0 && has_path(*position)
            };
            let member = |(position, backend): (usize, &BackendSpec)| {
                let name = maglev::name(backend.socket(), self.protocol, self.policy.hash_names);
                (position, Member { name, weight: backend.weight })
            };
            self.backends.iter().enumerate().filter(usable).map(member).collect()
        };
        let active = of_state(BackendState::Active);
        if active.is_empty() { of_state(BackendState::Terminating) } else { active }
    }

    /// All that the ring depends on, and which of `backends` its members are, by position; `has_path` as for
    /// [`ServiceSpec::members`].
    pub(super) fn request(&self, has_path: impl Fn(usize) -> bool) -> (Vec<usize>, Request) {
        let (positions, members) = self.members(has_path).into_iter().unzip();
        (positions, Request { members, slots: self.table_size, seed: self.hash_seed.names() })
    }

    /// Whether both have the same ring: they differ at most in the ways to their backends.
    pub(super) fn has_ring_of(&self, other: &Self) -> bool {
        self.same_ring_terms(other)
            && self.backends.len() == other.backends.len()
            && self.backends.iter().zip(&other.backends).all(|(one, other)| {
                one.socket() == other.socket()
                    && (one.weight, one.state, one.path.is_some())
                        == (other.weight, other.state, other.path.is_some())
            })
    }

    /// Whether there is nothing to make a ring of, as far as is known here.
    fn has_no_members(&self) -> bool {
        let known =
            |position: usize| self.backends.get(position).is_some_and(|backend| backend.path.is_some());
        self.members(known).is_empty()
    }

    fn by_socket(&self) -> BTreeMap<SocketAddr, &BackendSpec> {
        self.backends.iter().map(|backend| (backend.socket(), backend)).collect()
    }

    fn same_but_backends(&self, observed: &Self) -> bool {
        self.same_ring_terms(observed) && self.policy == observed.policy
    }

    fn same_ring_terms(&self, observed: &Self) -> bool {
        self.service == observed.service
            && self.vip == observed.vip
            && self.port == observed.port
            && self.protocol == observed.protocol
            && (self.table_size == observed.table_size
                || observed.table_size == 0 && observed.has_no_members())
            && self.hash_seed == observed.hash_seed
            && self.policy.hash_names == observed.policy.hash_names
            && self.intact == observed.intact
    }
}

impl Described for ServiceSpec {
    fn summary(&self) -> String {
        let usable = self.backends.iter().filter(|backend| backend.is_selectable()).count();
        match self.backends.len() {
            0 => format!("{}: no backends, {} slots", self.service, self.table_size),
            all if all == usable => format!("{}: {all} backends, {} slots", self.service, self.table_size),
            all => format!("{}: {usable} of {all} backends active, {} slots", self.service, self.table_size),
        }
    }

    fn parts(&self) -> Vec<FieldChange> {
        let backend = |backend: &BackendSpec| {
            FieldChange::added(format!("backend {}", backend.socket()), backend.describe())
        };
        self.policy.parts().into_iter().chain(self.backends.iter().map(backend)).collect()
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        if self.service != observed.service {
            changes.push(FieldChange::changed("service", &observed.service, &self.service));
        }
        if self.table_size != observed.table_size && observed.table_size != 0 {
            changes.push(FieldChange::changed("table size", observed.table_size, self.table_size));
        }
        if self.hash_seed != observed.hash_seed {
            changes.push(FieldChange::changed("hash seed", "another", "the file's"));
        }
        changes.extend(self.policy.changes(&observed.policy));
        if self.intact != observed.intact {
            changes.push(FieldChange::changed("maps", "not as they were written", "written anew"));
        }
        changes.extend(shift::change(self, observed));
        let (wanted, found) = (self.by_socket(), observed.by_socket());
        for (socket, backend) in &wanted {
            match found.get(socket) {
                Some(found) => changes.extend(backend.changes(found)),
                None => changes.push(FieldChange::added(format!("backend {socket}"), backend.describe())),
            }
        }
        for socket in found.keys().filter(|socket| !wanted.contains_key(socket)) {
            changes.push(FieldChange::removed(format!("backend {socket}"), ""));
        }
        changes
    }

    fn identity(&self) -> String {
        let mut file_only = self.clone();
        file_only.backends.iter_mut().for_each(|backend| backend.path = None);
        serde_json::to_string(&file_only).unwrap_or_default()
    }

    fn satisfied_by(&self, observed: &Self) -> bool {
        self.same_but_backends(observed)
            && self.backends.len() == observed.backends.len()
            && self.backends.iter().zip(&observed.backends).all(|(wanted, found)| wanted.satisfied_by(found))
    }
}
