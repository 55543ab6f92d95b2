//! The other nodes, as peers of this node's WireGuard device.
//!
//! Key: the device and the fingerprint of the peer's public key, `netd_wg0 Ab3dE9xZ`. Mark of ownership: all peers of a
//! device of netd's are netd's. An update costs no packet; nothing is said of peers that stay as they are.

mod target;

pub use target::PeerTarget;

use super::wireguard_device;
use crate::facts::{Facts, PathResolver};
use crate::wireguard::{Lane, Mesh, Other};
use ipnetwork::IpNetwork;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName, Need, ResourceId};
use netd_schema::Config;
use netd_wireguard::PublicKey;
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "wireguard_peer";

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSpec {
    /// The device whose peer it is.
    pub interface: String,
    /// Its key.
    pub public_key: PublicKey,
    /// What the file calls the node; empty where that is not known.
    pub node: String,
    /// Where its packets go; `None`: nowhere yet. One that it told itself is not seen as another.
    pub endpoint: Option<SocketAddr>,
    /// The addresses that are its.
    pub allowed_ips: BTreeSet<IpNetwork>,
    /// Seconds; 0: off.
    pub keepalive: u16,
    /// The secret that both share besides: never the secret, but which.
    pub secret: Secret,
}

/// Which secret a peer shares with this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// None.
    None,
    /// That of a file.
    Of(PathBuf),
    /// Another one.
    Unknown,
}

impl PeerSpec {
    /// The key of the resource.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(format!("{} {}", self.interface, self.public_key.fingerprint()))
    }

    fn words(&self) -> [(&'static str, String); 3] {
        let secret = match &self.secret {
            Secret::None => "none".to_owned(),
            Secret::Of(file) => format!("that of {}", file.display()),
            Secret::Unknown => "another".to_owned(),
        };
        [
            ("endpoint", self.endpoint.map_or("none".to_owned(), |endpoint| endpoint.to_string())),
            (
                "keepalive",
                if self.keepalive == 0 { "off".to_owned() } else { format!("{}s", self.keepalive) },
            ),
            ("preshared key", secret),
        ]
    }
}

impl Serialize for PeerSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let allowed: Vec<String> = self.allowed_ips.iter().map(ToString::to_string).collect();
        let own = [
            ("interface", self.interface.clone()),
            ("fingerprint", self.public_key.fingerprint().to_string()),
            ("allowed_ips", allowed.join(", ")),
        ];
        serializer.collect_map(own.into_iter().chain(self.words()))
    }
}

impl Described for PeerSpec {
    fn summary(&self) -> String {
        let name = if self.node.is_empty() { "a peer" } else { &self.node };
        let at = self.endpoint.map_or(String::new(), |endpoint| format!(" at {endpoint}"));
        let allowed: Vec<String> = self.allowed_ips.iter().map(ToString::to_string).collect();
        match allowed.as_slice() {
            [] => format!("{name}{at}, nothing yet"),
            some => format!("{name}{at}: {}", some.join(", ")),
        }
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let added = self.allowed_ips.difference(&observed.allowed_ips);
        let removed = observed.allowed_ips.difference(&self.allowed_ips);
        let mut changes = FieldChange::among(observed.words(), self.words());
        changes.extend(added.map(|prefix| FieldChange::added("allowed", prefix)));
        changes.extend(removed.map(|prefix| FieldChange::removed("allowed", prefix)));
        changes
    }

    fn satisfied_by(&self, observed: &Self) -> bool {
        self.changes(observed).is_empty()
    }
}

/// The peers that the file asks for, of both devices while keys change: the one that does not send has them, too, with
/// their addresses, so that what other nodes send there is taken.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let Some(mesh) = Mesh::of(config, facts)? else { return Ok(desired) };
    let resolver = PathResolver::new(facts);
    desired.stays = mesh.retiring(facts).map(|_| wireguard_device::STAYS.to_owned());
    for lane in mesh.lanes() {
        let device = ResourceId { kind: wireguard_device::NAME, key: Key::new(&lane.interface) };
        let needs: Arc<[Need]> = Arc::from([Need::One(device)]);
        for other in &mesh.others {
            let endpoint = mesh.endpoint(other, &resolver);
            let spec = spec(&mesh, &lane, other, endpoint.as_ref().ok().map(|(endpoint, _)| *endpoint));
            let key = spec.key();
            match endpoint {
                Ok(_) => {
                    desired.needs.insert(key.clone(), Arc::clone(&needs));
                    desired.table.insert(key, Arc::new(spec));
                }
                Err(reason) => {
                    desired.held.insert(key, reason);
                }
            }
        }
    }
    Ok(desired)
}

/// The peer that a node is to one of this node's devices; `first` is where its first device is.
pub(crate) fn spec(mesh: &Mesh<'_>, lane: &Lane, other: &Other<'_>, first: Option<SocketAddr>) -> PeerSpec {
    PeerSpec {
        interface: lane.interface.clone(),
        public_key: other.key_of_lane(lane),
        node: other.node.name.clone(),
        endpoint: first.map(|first| SocketAddr::new(first.ip(), lane.port(first.port()))),
        allowed_ips: mesh.prefixes(other),
        keepalive: mesh.settings.keepalive.unwrap_or_default(),
        secret: mesh.preshared_key_file(other).map_or(Secret::None, |file| Secret::Of(file.to_owned())),
    }
}
