//! Packets of pods that the kernel's connection tracking does not see.
//!
//! Key: `nft`, `iptables ipv4` or `iptables ipv6`. Mark of ownership: the table `inet netd` of nftables with the comment
//! `netd:INSTANCE`, or the chains `NETD_PRE_raw` and `NETD_OUTPUT_raw` of iptables. An update costs no packet: what is
//! changed, be it one prefix or everything, comes about at once. Another kind of rules is another resource, made before
//! the old one goes.

mod chains;
mod expression;
mod intervals;
mod programs;
mod table;
mod target;

pub use target::NotrackTarget;

use crate::facts::Facts;
use ipnetwork::IpNetwork;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::{Config, Family, NotrackBackend};
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "notrack";

/// Rules of iptables are asked one after the other, for every packet.
const IPTABLES_PREFIXES_MANY: usize = 64;

/// What carries the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// A table of nftables, for both families.
    Nft,
    /// Chains of iptables, of one family.
    Iptables(Family),
}

impl Carrier {
    fn key(self) -> Key {
        match self {
            Self::Nft => Key::new(NotrackBackend::Nft.word()),
            Self::Iptables(family) => {
                Key::new(format!("{} {}", NotrackBackend::Iptables.word(), family.name()))
            }
        }
    }
}

/// Rules that take packets out of tracking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotrackSpec {
    /// What carries them.
    #[serde(serialize_with = "as_key")]
    pub carrier: Carrier,
    /// Whose packets.
    #[serde(serialize_with = "as_texts")]
    pub prefixes: BTreeSet<IpNetwork>,
    /// In what they are otherwise than netd makes them; always nothing in what is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub altered: Option<String>,
}

fn as_key<S: Serializer>(carrier: &Carrier, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(carrier.key().as_str())
}

fn as_texts<S: Serializer>(prefixes: &BTreeSet<IpNetwork>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(prefixes.iter().map(ToString::to_string))
}

impl Described for NotrackSpec {
    fn summary(&self) -> String {
        let count = self.prefixes.len();
        let prefixes = match self.prefixes.first() {
            Some(only) if count == 1 => only.to_string(),
            Some(_) | None => format!("{count} prefixes"),
        };
        let carrier = match self.carrier {
            Carrier::Nft => "by nftables",
            Carrier::Iptables(_) => "by iptables",
        };
        format!("packets from and to {prefixes} are not tracked, {carrier}")
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let gone = observed.prefixes.difference(&self.prefixes);
        let new = self.prefixes.difference(&observed.prefixes);
        let mut changes: Vec<FieldChange> = gone.map(|gone| FieldChange::removed("prefix", gone)).collect();
        changes.extend(new.map(|new| FieldChange::added("prefix", new)));
        let state = |spec: &Self| spec.altered.clone().unwrap_or_else(|| "as netd makes them".to_owned());
        changes.extend(FieldChange::between("rules", state(observed), state(self)));
        changes
    }
}

/// The rules that the file asks for.
///
/// # Errors
///
/// None: what contradicts them is refused with the file.
pub fn desired(config: &Config, _facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let Some(notrack) = &config.notrack else { return Ok(desired) };
    let prefixes: BTreeSet<IpNetwork> = match notrack.cidrs.as_slice() {
        [] => config.nodes.iter().flat_map(|node| &node.pod_cidrs).copied().collect(),
        listed => listed.iter().copied().collect(),
    };
    let mut want = |carrier: Carrier, prefixes: BTreeSet<IpNetwork>| {
        if prefixes.is_empty() {
            return;
        }
        if matches!(carrier, Carrier::Iptables(_)) && prefixes.len() > IPTABLES_PREFIXES_MANY {
            let note = format!(
                "every packet is compared with {} rules: a `cidrs` with fewer prefixes costs less",
                2 * prefixes.len()
            );
            desired.notes.insert(carrier.key(), note);
        }
        desired.table.insert(carrier.key(), Arc::new(NotrackSpec { carrier, prefixes, altered: None }));
    };
    match notrack.backend {
        NotrackBackend::Nft => want(Carrier::Nft, prefixes),
        NotrackBackend::Iptables => {
            let (v4, v6) = prefixes.into_iter().partition(IpNetwork::is_ipv4);
            want(Carrier::Iptables(Family::Ipv4), v4);
            want(Carrier::Iptables(Family::Ipv6), v6);
        }
    }
    Ok(desired)
}

#[cfg(test)]
mod tests;
