//! Addresses of egress policies, on the node that is the gateway in force: on the device by which their network is reached.
//!
//! Key: the address. Mark of ownership: protocol 177 (`IFA_PROTO`, Linux 5.18), on whatever device. An address that somebody
//! else has put on a device of the node is a conflict, and stays. An update, to another device, costs the packets of the
//! time in between: it is added there first, then removed here. One of IPv6 that another machine has, too, is removed and added
//! again, so that the kernel asks anew; what changes back so often waits longer and longer. One is added only after what it translates is in the
//! datapath, and removed before that goes.
//!
//! Where gateways are watched, an address that may move to another one has a lease: the kernel removes it by itself when
//! netd does not say again that it is to stay.
//!
//! The address is on the device itself, not on one of its own: IPv6 answers for an address only where it is.

mod announce;
mod lease;
mod target;

pub use lease::{Kept, keep};
pub use target::{AddressTarget, present};

use super::{egress as policies, masquerade};
use crate::egress::{self, Decided, Rule};
use crate::facts::Facts;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName, Need, ResourceId};
use netd_schema::{Config, EgressAnnounce, EgressFailover};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The kind's name.
pub const NAME: KindName = "address";

/// An address on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressSpec {
    /// The address, alone (/32, /128).
    pub address: IpAddr,
    /// The device's name.
    pub device: String,
    /// The device's interface index.
    pub ifindex: u32,
    /// Other devices that have it, too, by an update that was interrupted; never wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub surplus: Vec<String>,
    /// Whether it goes by itself when netd does not say again that it is to stay.
    #[serde(skip_serializing_if = "Lease::is_none")]
    pub lease: Lease,
    /// Whether the kernel has found another machine on the segment that has it; never wanted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_duplicate: bool,
    /// Whether its segment is told when it is added. What was told cannot be seen afterwards.
    #[serde(skip)]
    pub told: Told,
}

/// Whether a segment is told of an address; no difference between two that are otherwise the same.
#[derive(Clone, Copy, Debug, Eq, Default)]
pub struct Told(pub bool);

impl PartialEq for Told {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// For how long an address stays without netd; `None`: until it is removed. How much of it is left does not matter to
/// whether two are the same.
#[derive(Clone, Copy, Debug, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Lease(pub Option<Duration>);

impl Lease {
    fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl PartialEq for Lease {
    fn eq(&self, other: &Self) -> bool {
        self.is_none() == other.is_none()
    }
}

/// The key of an address.
#[must_use]
pub fn key(address: IpAddr) -> Key {
    Key::new(address.to_string())
}

/// The addresses of the policies whose gateway in force is this node.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them, or when the policies come to too much.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let undecided: BTreeSet<IpAddr> =
        egress::undecided(config, facts)?.into_iter().flat_map(|policy| &policy.ips).copied().collect();
    let why =
        if facts.gateways.is_some() { "it is not known yet" } else { "nobody here watches them, to know" };
    let waits = |address: &IpAddr| (key(*address), format!("{why} which gateways live"));
    desired.held.extend(undecided.iter().map(waits));
    let gated = egress::gated(config, facts)?;
    if gated.is_empty() {
        return Ok(desired);
    }
    let decided = egress::decide(config, facts)?;
    for policy in gated {
        let failover = config.egress_failover.as_ref().filter(|_| egress::is_shared(policy));
        let lease = Lease(failover.map(EgressFailover::lease));
        let told = Told(policy.announce.contains(&EgressAnnounce::Arp));
        for &address in policy.ips.iter().filter(|address| !undecided.contains(address)) {
            let key = key(address);
            let Some(link) = egress::uplink(facts, address) else {
                let reason = "no route says which device its network is reached by";
                desired.held.insert(key, reason.into());
                continue;
            };
            let (device, ifindex, surplus) = (link.name.clone(), link.index, Vec::new());
            desired.needs.insert(key.clone(), needs(address, &decided));
            let spec = AddressSpec { address, device, ifindex, surplus, lease, is_duplicate: false, told };
            desired.table.insert(key, Arc::new(spec));
        }
    }
    Ok(desired)
}

/// Programs that translate, and the rules by which packets get the address: whoever sends to it would otherwise be answered
/// by nobody who knows.
fn needs(address: IpAddr, decided: &Decided) -> Arc<[Need]> {
    let gives = |rule: &Rule| matches!(rule, Rule::Translate { address: own, .. } if *own == address);
    let tables = decided.compiled.tables.iter().filter(|(_, table)| table.values().any(gives));
    let rules = tables.map(|(source, _)| {
        Need::AsWanted(ResourceId { kind: policies::NAME, key: Key::new(source.to_string()) })
    });
    rules.chain([Need::AnyOf(masquerade::NAME)]).collect()
}

impl Described for AddressSpec {
    fn summary(&self) -> String {
        format!("on {}", self.device)
    }

    fn goes_by_itself(&self) -> bool {
        !self.lease.is_none()
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let Self { address: _, device, ifindex, surplus: _, lease, is_duplicate: _, told: _ } = self;
        let word = |lease: &Lease| if lease.is_none() { "stays" } else { "goes" };
        let holder = |is_duplicate| if is_duplicate { "another machine on the segment" } else { "this one" };
        let compared = [
            FieldChange::between("device", &observed.device, device),
            FieldChange::between("interface index", observed.ifindex, *ifindex),
            FieldChange::between("without netd", word(&observed.lease), word(lease)),
            FieldChange::between("held by", holder(observed.is_duplicate), holder(self.is_duplicate)),
        ];
        let surplus = observed.surplus.iter().map(|device| FieldChange::removed("also on", device));
        compared.into_iter().flatten().chain(surplus).collect()
    }
}

#[cfg(test)]
mod tests;
