//! The routes of the table that rules send packets to which are encrypted: into WireGuard's device, and behind each a
//! refusal, so that without the device nothing goes in clear. Where it is a tunnel that is encrypted, the main table has
//! refusals, too: without the tunnel's device pods' packets would go where any other route leads.
//!
//! Key: that of a route, `10.244.2.0/24 table 201`, and `unreachable 10.244.2.0/24 table 201` for the refusal, or
//! `unreachable 10.244.2.0/24` in the main table. Mark of ownership: the protocol number 177 in every table but the main
//! one, there with the metric 4000000001. They come before all else of WireGuard, and the refusals stand on nothing: a
//! prefix that is to be encrypted is refused from the beginning, until the device takes it. None goes before all are made.

use super::route::{PROTOCOL, Purpose, RouteSpec, Way, key_of};
use super::rule;
use crate::facts::{Facts, TABLE_MAIN};
use crate::wireguard::{Mesh, Other};
use ipnetwork::IpNetwork;
use netd_core::{DesiredKind, Key, KindName, Need, ResourceId};
use netd_schema::{Config, WireguardMode};
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
    // Somebody else's device of this name takes nothing.
    let device = facts.own_link(&interface).filter(|link| link.up);
    desired.stays = rule::in_use(&mesh, config, facts);
    for other in &mesh.others {
        for &prefix in guarded(&mesh, other) {
            let spec = spec(prefix, TABLE_MAIN, Way::guard());
            desired.table.insert(key_of(prefix, TABLE_MAIN, Purpose::Guard), spec);
        }
        for prefix in mesh.prefixes(other) {
            let refusal = spec(prefix, table, Way::refusal());
            desired.table.insert(key_of(prefix, table, Purpose::Refuse), refusal);
            let key = key_of(prefix, table, Purpose::Forward);
            match device {
                Some(link) => {
                    // Packets of pods have their own.
                    let source = mesh.source(facts, prefix.ip());
                    let way = Way { source, ..Way::into_device(link, prefix) };
                    desired.table.insert(key, spec(prefix, table, way));
                }
                None => {
                    desired.held.insert(key, format!("{interface} is not there yet, or not up"));
                }
            }
        }
    }
    Ok(desired)
}

fn spec(prefix: IpNetwork, table: u32, way: Way) -> Arc<RouteSpec> {
    Arc::new(RouteSpec { prefix, way, table, protocol: PROTOCOL, surplus: Vec::new() })
}

/// What the main table refuses of another node's: its pods', where their packets go in a tunnel that is encrypted.
fn guarded<'m>(mesh: &Mesh<'m>, other: &Other<'m>) -> &'m [IpNetwork] {
    match mesh.settings.mode {
        WireguardMode::Overlay => &other.node.pod_cidrs,
        WireguardMode::Pods | WireguardMode::Nodes => &[],
    }
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
    let of_node = |other: &Other<'_>| {
        let refusal = |prefix| one(NAME, key_of(prefix, mesh.settings.table, Purpose::Refuse));
        let guard = |prefix: &IpNetwork| one(NAME, key_of(*prefix, TABLE_MAIN, Purpose::Guard));
        let refusals = mesh.prefixes(other).into_iter().map(refusal);
        let guards = guarded(&mesh, other).iter().map(guard);
        let needs =
            refusals.chain(guards).chain(rules.iter().map(|key| one(rule::NAME, key.clone()))).collect();
        (other.node.name.clone(), needs)
    };
    Ok(mesh.others.iter().map(of_node).collect())
}

/// The nodes that encrypt, if this one does.
fn encrypting<'c>(config: &'c Config, facts: &Facts) -> Result<Option<Mesh<'c>>, String> {
    Ok(Mesh::of(config, facts)?.filter(|mesh| mesh.own_key().is_some()))
}
