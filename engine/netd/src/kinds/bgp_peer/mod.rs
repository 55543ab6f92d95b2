//! BGP peers of this node.
//!
//! Key: the peer's address. Mark of ownership: what the crate `netd-gobgp` marks peers with; others of the same gobgpd
//! are foreign, and a peer whose address one of them has is a conflict. An update may end the session of this peer for a
//! moment, and of no other.

mod label;
mod password;
mod target;

pub use password::{Password, PasswordError, read as read_password};
pub use target::PeerTarget;

use super::{bgp_instance, this_node};
use crate::facts::Facts;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName, Need, ResourceId};
use netd_schema::{Bfd, BgpPeer, Config, Import};
use serde::{Serialize, Serializer};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// The kind's name.
pub const NAME: KindName = "bgp_peer";

/// A peer as the file has it, whichever nodes have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSpec(BgpPeer);

impl PeerSpec {
    /// The peer without the nodes that have it. Of its routes it matters to the session that they are taken in, and not
    /// which of them go where.
    #[must_use]
    pub fn new(peer: BgpPeer) -> Self {
        Self(BgpPeer { nodes: Vec::new(), import: peer.import.map(|_| Import::default()), ..peer })
    }

    /// The key of the resource.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(self.address.to_string())
    }

    /// The fields by the words of the file.
    fn words(&self) -> [(&'static str, String); 16] {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        let seconds = |duration: Duration| format!("{}s", duration.as_secs());
        let flag = |is_set: bool| if is_set { "yes" } else { "no" }.to_owned();
        let families: Vec<&str> = self.families.iter().map(|family| family.name()).collect();
        let bfd = self.bfd.map(|Bfd { transmit, receive, multiplier }| {
            format!("{}ms/{}ms × {multiplier}", transmit.as_millis(), receive.as_millis())
        });
        [
            ("name", self.name.clone()),
            ("asn", self.asn.to_string()),
            ("port", self.port.to_string()),
            ("password_file", or_none(self.password_file.as_ref().map(|path| path.display().to_string()))),
            ("hold", seconds(self.hold)),
            ("keepalive", seconds(self.keepalive)),
            ("connect_retry", seconds(self.connect_retry)),
            ("multihop_ttl", or_none(self.multihop_ttl.map(|ttl| ttl.to_string()))),
            ("ttl_security", flag(self.ttl_security)),
            ("source", or_none(self.source.map(|source| source.to_string()))),
            ("families", families.join(", ")),
            ("extended_next_hop", flag(self.extended_next_hop)),
            ("graceful_restart", or_none(self.graceful_restart.map(seconds))),
            ("bfd", or_none(bfd)),
            ("passive", flag(self.passive)),
            ("import", flag(self.import.is_some())),
        ]
    }
}

impl Deref for PeerSpec {
    type Target = BgpPeer;

    fn deref(&self) -> &BgpPeer {
        &self.0
    }
}

impl Serialize for PeerSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let address = ("address", self.address.to_string());
        serializer.collect_map(std::iter::once(address).chain(self.words()))
    }
}

impl Described for PeerSpec {
    fn summary(&self) -> String {
        let families: Vec<&str> = self.families.iter().map(|family| family.name()).collect();
        let named = self.name != self.address.to_string();
        let name = if named { format!("{}, ", self.name) } else { String::new() };
        format!("{name}AS {}, {}", self.asn, families.join(" and "))
    }

    /// What it says besides what every peer has.
    fn parts(&self) -> Vec<FieldChange> {
        let usual = Self::new(BgpPeer::default());
        let own = FieldChange::among(usual.words(), self.words()).into_iter();
        let is_in_summary = |field: &str| matches!(field, "name" | "asn" | "families");
        own.filter(|own| !is_in_summary(&own.field)).map(FieldChange::as_new).collect()
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        FieldChange::among(observed.words(), self.words())
    }
}

/// What a peer is called, of what gobgpd keeps of it for netd.
#[must_use]
pub(crate) fn name_of(label: &str) -> String {
    label::Label::parse(label).name
}

/// The peers of this node.
#[must_use]
pub fn peers_of<'c>(config: &'c Config, facts: &Facts) -> Vec<&'c BgpPeer> {
    let all = config.bgp.iter().flat_map(|bgp| &bgp.peers);
    all.filter(|peer| peer.is_of(&facts.node)).collect()
}

/// The peers that the file asks for.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let Some(bgp) = &config.bgp else { return Ok(desired) };
    this_node(config, facts)?;
    let speaker = ResourceId { kind: bgp_instance::NAME, key: bgp_instance::key(&bgp.gobgpd) };
    let needs: Arc<[Need]> = Arc::from([Need::One(speaker)]);
    for peer in peers_of(config, facts) {
        let spec = PeerSpec::new(peer.clone());
        let key = spec.key();
        if facts.is_own_address(peer.address) {
            desired.held.insert(key, "its address is one of this node".into());
            continue;
        }
        desired.needs.insert(key.clone(), Arc::clone(&needs));
        desired.table.insert(key, Arc::new(spec));
    }
    Ok(desired)
}

#[cfg(test)]
mod tests;
