//! gobgpd as a BGP speaker: its autonomous system, its identifier, where it listens.
//!
//! Key: which gobgpd, as the file names it. Mark of ownership: the gobgpd that the file names is the file's to start; one
//! that somebody else started as another speaker is a conflict. An update ends every session for a moment: the protocol
//! has no other way to change one of these.

mod target;

pub use target::InstanceTarget;

use super::this_node;
use crate::facts::Facts;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::{Bgp, BgpTls, Config, Gobgpd, Node, TlsIdentity};
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "bgp_instance";

/// A BGP speaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceSpec {
    /// Which gobgpd, and how it is reached.
    #[serde(serialize_with = "as_name")]
    pub gobgpd: Gobgpd,
    /// The own autonomous system.
    pub asn: u32,
    /// The router identifier.
    pub router_id: Ipv4Addr,
    /// Whether the file says so; one that netd derived stays once it is in use.
    pub is_router_id_given: bool,
    /// Where peers may open sessions.
    pub listen_port: Option<u16>,
}

impl InstanceSpec {
    /// The key of the resource.
    #[must_use]
    pub fn key(&self) -> Key {
        key(&self.gobgpd)
    }
}

/// The key of the speaker that a gobgpd is.
#[must_use]
pub fn key(gobgpd: &Gobgpd) -> Key {
    Key::new(name(gobgpd))
}

/// Which gobgpd, as the file names it.
#[must_use]
pub fn name(gobgpd: &Gobgpd) -> String {
    match gobgpd {
        Gobgpd::Managed => "managed".to_owned(),
        Gobgpd::Unix(path) => format!("unix://{}", path.display()),
        Gobgpd::Http(address) => format!("http://{address}"),
        Gobgpd::Https { authority, tls: _ } => format!("https://{authority}"),
    }
}

fn as_name<S: Serializer>(gobgpd: &Gobgpd, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&name(gobgpd))
}

/// By which certificates it is spoken to.
fn tls(gobgpd: &Gobgpd) -> String {
    match gobgpd {
        Gobgpd::Managed | Gobgpd::Unix(_) | Gobgpd::Http(_) => "none".to_owned(),
        Gobgpd::Https { authority: _, tls: BgpTls { ca, identity } } => {
            let own = identity.as_ref().map(|TlsIdentity { certificate, key }| {
                format!(", {} with {}", certificate.display(), key.display())
            });
            format!("{}{}", ca.display(), own.unwrap_or_default())
        }
    }
}

fn port_text(port: Option<u16>) -> String {
    port.map_or_else(|| "none".to_owned(), |port| port.to_string())
}

impl Described for InstanceSpec {
    fn summary(&self) -> String {
        let listens = self.listen_port.map(|port| format!(", port {port}")).unwrap_or_default();
        format!("AS {}, router identifier {}{listens}", self.asn, self.router_id)
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let tls = FieldChange::between("TLS", tls(&observed.gobgpd), tls(&self.gobgpd));
        if observed.asn == 0 {
            // One that cannot be asked: what is known is by which files it was.
            return tls.into_iter().collect();
        }
        let has_to_be_this = self.is_router_id_given || observed.router_id.is_unspecified();
        let router_id = if has_to_be_this { self.router_id } else { observed.router_id };
        let compared = [
            FieldChange::between("gobgpd", name(&observed.gobgpd), name(&self.gobgpd)),
            FieldChange::between("AS", observed.asn, self.asn),
            FieldChange::between("router identifier", observed.router_id, router_id),
            FieldChange::between("port", port_text(observed.listen_port), port_text(self.listen_port)),
        ];
        let mut changes: Vec<_> = compared.into_iter().flatten().collect();
        if !changes.is_empty() {
            changes.push(FieldChange::changed("sessions", "up", "opened anew, all of them"));
        }
        changes.extend(tls);
        changes
    }

    fn satisfied_by(&self, observed: &Self) -> bool {
        self.changes(observed).is_empty()
    }
}

/// The speaker that the file asks for.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them: what it is to announce is not known then.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    if let Some(bgp) = &config.bgp {
        let spec = InstanceSpec {
            gobgpd: bgp.gobgpd.clone(),
            asn: bgp.asn,
            router_id: router_id(bgp, this_node(config, facts)?, facts),
            is_router_id_given: bgp.router_id.is_some(),
            listen_port: bgp.listen_port,
        };
        desired.table.insert(spec.key(), Arc::new(spec));
    }
    Ok(desired)
}

/// The file's, else the node's first IPv4 address, else a number made from its name.
fn router_id(bgp: &Bgp, node: Option<&Node>, facts: &Facts) -> Ipv4Addr {
    let v4 = |address: IpAddr| match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    };
    let listed = || node?.addresses.iter().copied().find_map(v4);
    let own = || own_address(facts, v4);
    bgp.router_id.or_else(listed).or_else(own).unwrap_or_else(|| of_name(&facts.node))
}

/// The lowest of the node's addresses that others can use, and that `pick` takes.
pub fn own_address<A: Ord>(facts: &Facts, pick: impl Fn(IpAddr) -> Option<A>) -> Option<A> {
    let usable = facts.addresses.iter().filter(|own| own.usable && own.global && !own.address.is_loopback());
    usable.filter_map(|own| pick(own.address)).min()
}

/// Not zero, and the same for ever.
fn of_name(name: &str) -> Ipv4Addr {
    let digest = Sha256::digest(name);
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&digest[..4]);
    Ipv4Addr::from(u32::from_be_bytes(bytes).max(1))
}

#[cfg(test)]
mod tests;
