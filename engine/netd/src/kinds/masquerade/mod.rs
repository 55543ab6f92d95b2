//! Addresses of the node for packets of its pods: programs on the devices by which packets leave the network.
//!
//! The same programs go by the rules of egress policies, which the kind `egress` gives them; for these alone they are on
//! devices, too, and give nothing themselves.
//!
//! Key: the device's name. Mark of ownership: links pinned under netd's own directory. An update costs no packet and no
//! flow: what the programs go by changes entry by entry, flows keep their ports when the range changes, and other programs
//! take the flows over before the links are turned to them. Only another address begins flows anew.

mod rules;
mod target;

pub use rules::{Given, Rules};
pub use target::{MasqueradeTarget, counted, outwards, programs};

use crate::egress;
use crate::facts::{Facts, Link, RouteAction};
use crate::kinds::attachment::{Program, default_devices, index_word};
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::{Config, Masquerade};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "masquerade";

/// The key under which the lack of a default route is reported.
const DEFAULT_DEVICES: &str = "default-route-devices";

/// The programs on one device, and what they go by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MasqueradeSpec {
    /// The device's name.
    pub device: String,
    /// The device's interface index; 0 for links whose device is gone.
    pub ifindex: u32,
    /// Which programs they are; those of a device that lacks one of them are earlier ones.
    pub program: Program,
    /// What packets get that leave by this device.
    pub given: Given,
    /// The same for all devices.
    pub rules: Arc<Rules>,
}

/// The devices of the file, or those of the default routes.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let rules = match &config.masquerade {
        Some(masquerade) => Rules::wanted(config, masquerade, facts)?,
        None => Rules::none(),
    };
    let masquerade = config.masquerade.as_ref().filter(|_| !rules.source.is_empty());
    if masquerade.is_none() && config.egress.is_empty() {
        return Ok(desired);
    }
    let rules = Arc::new(Rules { has_egress: !config.egress.is_empty(), ..rules });
    let masqueraded = masquerade.map(|masquerade| devices(masquerade, facts)).unwrap_or_default();
    let for_egress = egress::devices(config, facts).looked_at;
    let names: BTreeSet<String> = for_egress.iter().cloned().chain(masqueraded.clone()).collect();
    desired.kept = kept(masquerade, facts, !config.egress.is_empty());
    if names.is_empty() {
        let reason = match masquerade {
            Some(_) => "there is no default route whose device could be taken; list [masquerade] devices",
            None => "no route leads to a destination of egress policies",
        };
        desired.held.insert(Key::new(DEFAULT_DEVICES), reason.into());
    }
    for device in names {
        let key = Key::new(&device);
        let Some(link) = facts.link_named(&device) else {
            desired.held.insert(key, format!("there is no device {device}"));
            continue;
        };
        // The programs read behind an Ethernet header; without one they would find no packet, and let all pass.
        if link.mac.is_none() {
            desired
                .held
                .insert(key, format!("{device} is no Ethernet device: nothing could be translated there"));
            continue;
        }
        let masquerade = masquerade.filter(|_| masqueraded.contains(&device));
        let given = match masquerade.map(|masquerade| (masquerade, Given::wanted(masquerade, facts, link))) {
            None => Given::NOTHING,
            Some((_, Ok(given))) => given,
            // Packets of policies need the program all the same.
            Some((masquerade, Err(why))) if for_egress.contains(&device) => {
                desired.notes.insert(key.clone(), format!("{why}; what is masqueraded is dropped"));
                Given::no_address(masquerade)
            }
            Some((_, Err(why))) => {
                desired.held.insert(key, why);
                continue;
            }
        };
        let (ifindex, program, rules) = (link.index, Program::Current, Arc::clone(&rules));
        let spec = MasqueradeSpec { device, ifindex, program, given, rules };
        desired.table.insert(key, Arc::new(spec));
    }
    Ok(desired)
}

/// Devices that keep the programs that they have. A route that comes and goes must not take them off a device that flows
/// leave by. One that the file lists no more loses them, unless it is down or without routes: policies may need it again.
fn kept(masquerade: Option<&Masquerade>, facts: &Facts, has_egress: bool) -> BTreeSet<Key> {
    let follows_routes = masquerade.is_none_or(|masquerade| masquerade.devices.is_empty());
    let hops = facts.routes.iter().filter_map(|route| match &route.action {
        RouteAction::Forward(hops) => Some(hops.iter().map(|hop| hop.link)),
        RouteAction::Tunnel(..) | RouteAction::Discard | RouteAction::Other => None,
    });
    let routed: BTreeSet<u32> = hops.flatten().collect();
    let is_kept = |link: &&Link| follows_routes || (has_egress && !(link.up && routed.contains(&link.index)));
    facts.links.values().filter(is_kept).map(|link| Key::new(&link.name)).collect()
}

fn devices(masquerade: &Masquerade, facts: &Facts) -> BTreeSet<String> {
    match masquerade.devices.as_slice() {
        [] => default_devices(facts),
        listed => listed.iter().cloned().collect(),
    }
}

impl Described for MasqueradeSpec {
    fn summary(&self) -> String {
        match self.given == Given::NOTHING {
            true => "for egress policies only".to_owned(),
            false => format!("{}; {}", self.given, self.rules.summary()),
        }
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let compared = [
            FieldChange::between("interface index", index_word(observed.ifindex), index_word(self.ifindex)),
            FieldChange::between("programs", observed.program.word(), self.program.word()),
            FieldChange::between("packets get", observed.given.to_string(), self.given.to_string()),
        ];
        compared.into_iter().flatten().chain(self.rules.changes(&observed.rules)).collect()
    }
}

#[cfg(test)]
mod tests;
