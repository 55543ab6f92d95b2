//! Programs of the overlay on devices: what comes out of the tunnel is taken from nodes only, and packets between pods go
//! past the network stack where the file says so.
//!
//! Key: the device's name. Mark of ownership: a link pinned under netd's own directory. An update costs no packet: what
//! the programs go by changes entry by entry, and other programs are filled before the links are turned over to them.

mod rules;
mod target;

pub use rules::Rules;
pub use target::OverlayTarget;

use crate::facts::{Facts, Link};
use crate::kinds::attachment::{Program, index_word};
use crate::kinds::link::hold_what_carries;
use crate::reach::Reach;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::Config;
use serde::Serialize;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "overlay";

/// A program on one device, and what it goes by.
#[derive(Clone, Debug, Serialize)]
pub struct OverlaySpec {
    /// The device's name.
    pub device: String,
    /// The device's interface index; 0 for a link whose device is gone.
    pub ifindex: u32,
    /// What the program is for.
    pub role: Role,
    /// Whether it is the one that this netd carries.
    pub program: Program,
    /// The same for all devices; a device is as it should be if what concerns its program is.
    pub rules: Arc<Rules>,
}

impl PartialEq for OverlaySpec {
    fn eq(&self, other: &Self) -> bool {
        let Self { device, ifindex, role, program, rules } = self;
        (device, ifindex, role, program) == (&other.device, &other.ifindex, &other.role, &other.program)
            && rules.changes(*role, &other.rules).is_empty()
    }
}

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Packets that come in by the tunnel device.
    Receive,
    /// Packets that come from a pod.
    Send,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Receive => "from the tunnel",
            Self::Send => "from a pod",
        }
    }
}

/// The tunnel device, and the devices of pods that the file names.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let Some(reach) = Reach::new(config, facts)? else { return Ok(desired) };
    hold_what_carries(&mut desired, config, facts);
    let rules = Arc::new(Rules::wanted(config, facts, &reach));
    let mut add = |link: &Link, role| {
        let (device, program) = (link.name.clone(), Program::Current);
        let spec = OverlaySpec { device, ifindex: link.index, role, program, rules: Arc::clone(&rules) };
        desired.table.insert(Key::new(&link.name), Arc::new(spec));
    };
    for link in facts.links.values().filter(|link| is_of_pods(config, link)) {
        add(link, Role::Send);
    }
    let Some((tunnel, device)) = reach.tunnel_device() else { return Ok(desired) };
    match facts.link_named(&device) {
        Some(link) if link.kind == tunnel.kind.word() => add(link, Role::Receive),
        Some(_) => {
            desired.held.insert(Key::new(&device), format!("it is no {} device", tunnel.kind.word()));
        }
        None => {
            desired.held.insert(Key::new(&device), "the device is not there yet".to_owned());
        }
    }
    Ok(desired)
}

/// Whether a device leads to pods whose packets go past the stack.
fn is_of_pods(config: &Config, link: &Link) -> bool {
    config.network.pod_devices.iter().any(|pattern| pattern.matches(&link.name))
}

impl Described for OverlaySpec {
    fn summary(&self) -> String {
        format!("packets {}: {}", self.role.word(), self.rules.summary(self.role))
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let compared = [
            FieldChange::between("interface index", index_word(observed.ifindex), index_word(self.ifindex)),
            FieldChange::between("role", observed.role.word(), self.role.word()),
            FieldChange::between("program", observed.program.word(), self.program.word()),
        ];
        compared.into_iter().flatten().chain(self.rules.changes(self.role, &observed.rules)).collect()
    }

    /// Without the pods, which come and go while an operator looks.
    fn identity(&self) -> String {
        let rules = Arc::new(Rules { pods: Default::default(), ..Rules::clone(&self.rules) });
        serde_json::to_string(&Self { rules, ..self.clone() }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
