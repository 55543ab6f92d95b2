//! The routes of the table that rules send packets to which are encrypted: into WireGuard's device, and behind each a
//! refusal, so that without the device nothing goes in clear.

use super::{PROTOCOL, Purpose, RouteSpec, Way, key_of};
use crate::facts::Facts;
use crate::wireguard::Mesh;
use netd_core::DesiredKind;
use netd_schema::Config;
use std::sync::Arc;

/// Adds the routes to what every other node with a key has.
pub(super) fn add(desired: &mut DesiredKind, config: &Config, facts: &Facts) -> Result<(), String> {
    let Some(mesh) = Mesh::of(config, facts)?.filter(|mesh| mesh.own_key().is_some()) else { return Ok(()) };
    let (interface, table) = (&mesh.settings.interface, mesh.settings.table);
    let device = facts.link_named(interface).filter(|link| link.up);
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
    Ok(())
}
