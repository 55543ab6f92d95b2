//! What the programs on the node's devices do with the packets of egress policies, by source.
//!
//! Key: the prefix of the source, `10.244.0.0/16`. Mark of ownership: entries of maps pinned in netd's folder `nat`, beside
//! those for masquerading. An update writes the entries that differ: what is added comes before what is removed, so that
//! no packet of a source leaves as if it had no policy. Flows keep their ports as long as they keep their egress address.

mod target;

pub use target::{EgressTarget, tables};

use super::masquerade;
use crate::egress::{Overlap, Preference, Rule, Table, Trouble, decide, devices};
use crate::facts::Facts;
use ipnetwork::IpNetwork;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName, Need};
use netd_schema::Config;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "egress";

/// So much is said of one source in one line.
const SHOWN_MAX: usize = 3;

/// What becomes of the packets of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EgressSpec {
    /// The source.
    #[serde(serialize_with = "as_text")]
    pub source: IpNetwork,
    /// What becomes of them by destination, the longest prefix first. Elsewhere they leave as they are.
    #[serde(serialize_with = "as_texts")]
    pub rules: Table,
}

/// The key of a source.
#[must_use]
pub fn key(source: IpNetwork) -> Key {
    Key::new(source.to_string())
}

/// The tables of the file's policies on this node.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them, or when the policies come to too much.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let decided = decide(config, facts)?;
    let needs: Arc<[Need]> = [Need::AnyOf(masquerade::NAME)].into();
    let mut notes: BTreeMap<IpNetwork, Vec<String>> = BTreeMap::new();
    for device in devices(config, facts).passed_over {
        let note = format!("what leaves by {device} is not covered: it has no Ethernet headers");
        for source in config.egress.iter().flat_map(|policy| &policy.sources).collect::<BTreeSet<_>>() {
            notes.entry(*source).or_default().push(note.clone());
        }
    }
    for policy in &config.egress {
        let Some(Trouble { why, passes }) = decided.troubles.get(&policy.name) else { continue };
        for source in &policy.sources {
            if *passes {
                desired.coming.insert(key(*source));
            }
            notes.entry(*source).or_default().push(format!("policy {}: {why}", policy.name));
        }
    }
    for (source, overlaps) in &decided.compiled.overlaps {
        notes.entry(*source).or_default().extend(overlaps.iter().map(said));
    }
    for (source, rules) in decided.compiled.tables {
        let notes = notes.remove(&source).map(|notes| few(&notes));
        desired.notes.extend(notes.map(|note| (key(source), note)));
        desired.needs.insert(key(source), Arc::clone(&needs));
        desired.table.insert(key(source), Arc::new(EgressSpec { source, rules }));
    }
    Ok(desired)
}

fn said(overlap: &Overlap) -> String {
    let Overlap { winner, loser, by } = overlap;
    let why = match by {
        Preference::Destination => "by its destination",
        Preference::Source => "by its source",
        Preference::Name => "by its name alone",
    };
    format!("policy {winner} goes before {loser}, {why}")
}

/// The first of many.
fn few(all: &[String]) -> String {
    let mut text = all.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join("; ");
    if let Some(more) = all.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        text += &format!("; and {more} more");
    }
    text
}

impl Described for EgressSpec {
    fn summary(&self) -> String {
        let rules: Vec<String> = self.rules.iter().map(|(to, rule)| format!("to {to}: {rule}")).collect();
        if rules.is_empty() { "leaves as it is".to_owned() } else { few(&rules) }
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let destinations: BTreeSet<&IpNetwork> = self.rules.keys().chain(observed.rules.keys()).collect();
        let text = |rule: &Rule| rule.to_string();
        let change = |to: &IpNetwork| {
            let field = format!("to {to}");
            match (observed.rules.get(to), self.rules.get(to)) {
                (Some(before), Some(now)) if before != now => {
                    Some(FieldChange::changed(field, text(before), text(now)))
                }
                (Some(before), None) => Some(FieldChange::removed(field, text(before))),
                (None, Some(now)) => Some(FieldChange::added(field, text(now))),
                (Some(_), Some(_)) | (None, None) => None,
            }
        };
        destinations.into_iter().filter_map(change).collect()
    }
}

fn as_text<S: serde::Serializer>(prefix: &IpNetwork, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(prefix)
}

fn as_texts<S: serde::Serializer>(rules: &Table, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(rules.iter().map(|(prefix, rule)| (prefix.to_string(), rule)))
}

#[cfg(test)]
mod tests;
