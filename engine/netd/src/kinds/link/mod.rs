//! The tunnel device: one for all nodes, which is told by routes and programs where each packet goes.
//!
//! Key: the device's name. Mark of ownership: the alias `netd:INSTANCE`. An update of the MTU costs no packet; one of the
//! port makes the device anew. A device of that name without the alias is left alone, and a conflict.

mod device;
mod target;

pub use target::LinkTarget;

use crate::facts::Facts;
use crate::reach::{Reach, device_name, tunnels_in_use};
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::{Config, MTU_MIN, Mtu, TunnelKind};
use serde::Serialize;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "link";

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkSpec {
    /// The device's name.
    pub device: String,
    /// What the kernel calls its kind: `vxlan`, `geneve`.
    pub kind: String,
    /// The UDP port of the tunnel.
    pub port: u16,
    /// Whether it takes the tunnel's other end from each packet (`external`), and asks for no MAC addresses (`noarp`);
    /// always so in what is wanted.
    pub is_external: bool,
    /// The largest packet that it takes, in bytes.
    pub mtu: u32,
    /// Whether it carries the alias and is up; always so in what is wanted.
    pub is_ready: bool,
}

impl Described for LinkSpec {
    fn summary(&self) -> String {
        format!("{} at UDP port {}, MTU {}", self.kind, self.port, self.mtu)
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let word = |external| if external { "external, noarp" } else { "otherwise" };
        let state = |ready| if ready { "up" } else { "not yet up" };
        let compared = [
            FieldChange::between("kind", &observed.kind, &self.kind),
            FieldChange::between("port (makes the device anew)", observed.port, self.port),
            FieldChange::between("form", word(observed.is_external), word(self.is_external)),
            FieldChange::between("MTU", observed.mtu, self.mtu),
            FieldChange::between("state", state(observed.is_ready), state(self.is_ready)),
        ];
        compared.into_iter().flatten().collect()
    }
}

impl LinkSpec {
    /// Whether the device can become the other one without being made anew.
    fn becomes(&self, other: &Self) -> bool {
        (&self.kind, self.port, self.is_external) == (&other.kind, other.port, other.is_external)
    }
}

/// The device of the file's tunnel.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let Some(reach) = Reach::new(config, facts)? else { return Ok(desired) };
    hold_what_carries(&mut desired, config, facts);
    let Some((tunnel, device)) = reach.tunnel_device() else { return Ok(desired) };
    let key = Key::new(&device);
    let room = reach.room();
    let mtu = match (config.network.mtu, room) {
        (Mtu::Fixed(mtu), Some((most, below))) if mtu > most => {
            let below = &below.name;
            let note = format!(
                "its MTU is {mtu}, and {below} leaves {most}: larger packets come in pieces or not at all"
            );
            desired.notes.insert(key.clone(), note);
            mtu
        }
        (Mtu::Fixed(mtu), _) => mtu,
        (Mtu::Auto, Some((most, below))) if most < MTU_MIN && has_ipv6_pods(config) => {
            let reason = format!(
                "the MTU of {} leaves {most} bytes for a packet of a pod, and IPv6 needs {MTU_MIN}",
                below.name
            );
            desired.held.insert(key, reason);
            return Ok(desired);
        }
        (Mtu::Auto, Some((most, _))) => most,
        (Mtu::Auto, None) => {
            let reason = "no other node can be reached, so that its MTU is not known".to_owned();
            desired.held.insert(key, reason);
            return Ok(desired);
        }
    };
    let (kind, port) = (tunnel.kind.word().to_owned(), tunnel.port);
    let spec = LinkSpec { device, kind, port, is_external: true, mtu, is_ready: true };
    desired.table.insert(key, Arc::new(spec));
    Ok(desired)
}

/// Routes are turned over to another way once that is there; until then the tunnel that they lead into stays.
pub(super) fn hold_what_carries(desired: &mut DesiredKind, config: &Config, facts: &Facts) {
    let wanted = config.network.tunnel.map(|tunnel| device_name(facts, tunnel.kind));
    for device in tunnels_in_use(facts).into_iter().filter(|device| wanted.as_deref() != Some(device)) {
        desired.held.insert(Key::new(device), "it stays as long as routes lead into it".to_owned());
    }
}

fn has_ipv6_pods(config: &Config) -> bool {
    config.nodes.iter().flat_map(|node| &node.pod_cidrs).any(|prefix| prefix.is_ipv6())
}

/// The kernel's word for a kind, as one of netd's.
fn tunnel_kind(word: &str) -> Option<TunnelKind> {
    [TunnelKind::Vxlan, TunnelKind::Geneve].into_iter().find(|kind| kind.word() == word)
}

#[cfg(test)]
mod tests;
