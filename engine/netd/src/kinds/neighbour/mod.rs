//! The next hops towards backends, which the kernel is asked to keep resolved.
//!
//! Key: `10.0.0.2 dev eth0`. Mark of ownership: `NDA_PROTOCOL` with netd's number. An update costs no packet: an entry
//! that the kernel resolved by itself keeps its MAC when it becomes managed. Entries that somebody fixed, manages or
//! marked as theirs do what is needed already; they are not asked for.

mod again;
mod target;

pub use again::again;
pub use target::NeighbourTarget;

use crate::egress;
use crate::facts::{AttachedMode, Facts, Link, Neighbour, PathResolver};
use crate::kinds::attachment;
use crate::kinds::route::PROTOCOL;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::{Config, XdpMode};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "neighbour";

/// A next hop whose MAC the kernel keeps up to date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeighbourSpec {
    /// The next hop's address.
    pub address: IpAddr,
    /// The device on which it is asked for.
    pub device: String,
    /// The device's interface index.
    pub ifindex: u32,
    /// Whether the kernel is at it.
    ///
    /// Before Linux 5.16 it manages no entry: there one counts as kept while its MAC is known, and is asked for once
    /// more when it was lost.
    pub kept: bool,
}

impl NeighbourSpec {
    /// The key of the resource.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(format!("{} dev {}", self.address, self.device))
    }
}

impl Described for NeighbourSpec {
    fn summary(&self) -> String {
        String::new()
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let Self { address, device, ifindex, kept } = self;
        let compared = [
            FieldChange::between("address", observed.address, address),
            FieldChange::between("device", &observed.device, device),
            FieldChange::between("interface index", observed.ifindex, ifindex),
            FieldChange::between("kept resolved", observed.kept, kept),
        ];
        compared.into_iter().flatten().collect()
    }
}

/// The next hops that the file asks for: those towards every backend of every service, active or not, and gateways of egress
/// policies that packets are sent to directly.
///
/// # Errors
///
/// When the file has egress policies and lists nodes, and this one is not among them. A backend without a route has no next
/// hop, which the service says.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let backends =
        || config.services.iter().flat_map(|service| &service.backends).map(|backend| backend.address);
    let gateways = egress::next_hops(config, facts)?;
    if backends().next().is_none() && gateways.is_empty() {
        return Ok(desired);
    }
    let resolver = PathResolver::new(facts);
    let balancing = balancing(config, facts);
    let mut seen = BTreeSet::new();
    for hop in backends().chain(gateways).filter_map(|address| resolver.hop(address).ok()) {
        let (address, link) = (hop.next_hop, hop.link);
        if link.mac.is_none() || !seen.insert((link.index, address)) {
            continue;
        }
        if facts.neighbours.get(&(link.index, address)).is_some_and(is_anothers) {
            continue;
        }
        let (device, ifindex) = (link.name.clone(), link.index);
        let spec = NeighbourSpec { address, device, ifindex, kept: true };
        if let Some(note) = not_redirected(link, &balancing, facts) {
            desired.notes.insert(spec.key(), note);
        }
        desired.table.insert(spec.key(), Arc::new(spec));
    }
    Ok(desired)
}

/// The devices whose packets are balanced in the driver.
fn balancing<'f>(config: &Config, facts: &'f Facts) -> Vec<&'f Link> {
    if config.load_balancer.mode == XdpMode::Generic {
        return Vec::new();
    }
    let is_generic = |link: &Link| link.xdp.is_some_and(|xdp| xdp.mode == AttachedMode::Generic);
    let names = attachment::devices(config, facts);
    facts.links.values().filter(|link| names.contains(&link.name) && !is_generic(link)).collect()
}

/// Why packets that come in by another device do not leave by this one. Behind the driver they would.
fn not_redirected(link: &Link, balancing: &[&Link], facts: &Facts) -> Option<String> {
    if !facts.no_redirects.contains(&link.index) {
        return None;
    }
    let others: Vec<&str> =
        balancing.iter().filter(|other| other.index != link.index).map(|other| other.name.as_str()).collect();
    let why = match link.kind.as_str() {
        "veth" => "the other end of this veth has neither an XDP program nor GRO",
        _ => "its driver cannot",
    };
    (!others.is_empty()).then(|| {
        format!(
            "{} does not take packets that a program redirects to it from {}, so they are lost: {why}; with \
             load_balancer.mode = \"generic\" they get through",
            link.name,
            others.join(", ")
        )
    })
}

/// Whether somebody else looks after the entry: fixed it, manages it, or put their own mark on it.
fn is_anothers(neighbour: &Neighbour) -> bool {
    let Neighbour { mac: _, valid: _, managed, permanent, protocol } = *neighbour;
    match protocol {
        PROTOCOL => permanent,
        0 => permanent || managed,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
