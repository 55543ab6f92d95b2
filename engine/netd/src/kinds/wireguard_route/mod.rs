//! The routes of the table that rules send packets to which are encrypted: into WireGuard's device, and behind each a
//! refusal, so that without the device nothing goes in clear.
//!
//! Key: that of a route, `10.244.2.0/24 table 201`, and `unreachable 10.244.2.0/24 table 201` for the refusal. Mark of
//! ownership: the protocol number 177, in every table but the main one. They come before the rules that lead to them and
//! before the main table's routes to the same prefixes, and the refusals stand on nothing: a prefix that is to be encrypted
//! is refused from the beginning, until the device takes it.

use super::route::{PROTOCOL, Purpose, RouteSpec, Way, key_of};
use super::rule;
use crate::facts::Facts;
use crate::wireguard::Mesh;
use netd_core::{DesiredKind, Key, KindName, Need, ResourceId};
use netd_schema::Config;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "wireguard_route";

/// The routes to what every other node with a key has.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let Some(mesh) = encrypting(config, facts)? else { return Ok(desired) };
    let (interface, table) = (mesh.sending().interface, mesh.settings.table);
    let device = facts.link_named(&interface).filter(|link| link.up);
    for other in &mesh.others {
        for prefix in mesh.prefixes(other) {
            let spec =
                |way| Arc::new(RouteSpec { prefix, way, table, protocol: PROTOCOL, surplus: Vec::new() });
            desired.table.insert(key_of(prefix, table, Purpose::Refuse), spec(Way::refusal()));
            let key = key_of(prefix, table, Purpose::Forward);
            match device {
                Some(link) => {
                    // Packets of pods have their own.
                    let source = mesh.source(facts, prefix.ip());
                    let way = Way { source, ..Way::into_device(link, prefix) };
                    desired.table.insert(key, spec(way));
                }
                None => {
                    desired.held.insert(key, format!("{interface} is not there yet, or not up"));
                }
            }
        }
    }
    Ok(desired)
}

/// What has to be there before packets are led to the pods of a node: the refusals of what is to be encrypted on the way
/// there, and the rules that ask them first. By the names of nodes; nothing for those whose packets go in clear.
///
/// # Errors
///
/// As [`desired`].
pub(super) fn guards(config: &Config, facts: &Facts) -> Result<BTreeMap<String, Vec<Need>>, String> {
    let Some(mesh) = encrypting(config, facts)? else { return Ok(BTreeMap::new()) };
    let one = |kind, key| Need::One(ResourceId { kind, key });
    let rules: Vec<Key> = rule::desired(config, facts)?.table.into_keys().collect();
    let of_node = |other: &crate::wireguard::Other<'_>| {
        let refusal = |prefix| one(NAME, key_of(prefix, mesh.settings.table, Purpose::Refuse));
        let refusals = mesh.prefixes(other).into_iter().map(refusal);
        let needs = refusals.chain(rules.iter().map(|key| one(rule::NAME, key.clone()))).collect();
        (other.node.name.clone(), needs)
    };
    Ok(mesh.others.iter().map(of_node).collect())
}

/// The nodes that encrypt, if this one does.
fn encrypting<'c>(config: &'c Config, facts: &Facts) -> Result<Option<Mesh<'c>>, String> {
    Ok(Mesh::of(config, facts)?.filter(|mesh| mesh.own_key().is_some()))
}
