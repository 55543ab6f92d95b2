//! Allocations as plans and the status show them.

use super::claim::Claim;
use super::{Allocation, Given, Held, NAME};
use netd_core::{Described, DesiredKind, FieldChange, Key, Plan, Remark, ResourceId};
use netd_schema::{Config, Family};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// How a person recognises a move.
const RENUMBER: &str = "RENUMBER";

/// The addresses of one family of a service or policy, as they are shown and recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressSpec {
    /// Sorted.
    pub addresses: Vec<IpAddr>,
    /// The pool that holds the first.
    pub pool: String,
}

impl Described for AddressSpec {
    fn summary(&self) -> String {
        format!("{} of pool {}", listed(&self.addresses), self.pool)
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        match self == observed {
            true => Vec::new(),
            false => vec![FieldChange::changed("address", observed.summary(), self.summary())],
        }
    }
}

/// The allocations as resources: nothing is to be done for one, but each stands somehow.
///
/// `alone` is what the file says by itself: where that differs, nodes may differ.
pub(crate) fn desired(allocation: &Allocation, alone: &Allocation) -> DesiredKind {
    let mut desired = DesiredKind::default();
    for ((owner, family), given) in &allocation.given {
        let Given { addresses, origin: _, pool } = given;
        let key = key(owner, *family);
        let others = alone.given.get(&(owner.clone(), *family)).map(|other| &other.addresses);
        if others != Some(addresses) {
            desired.notes.insert(key.clone(), differs(others));
        }
        let spec = AddressSpec { addresses: addresses.clone(), pool: pool.clone() };
        desired.table.insert(key, Arc::new(spec));
    }
    for ((owner, family), why) in &allocation.waiting {
        desired.held.insert(key(owner, *family), why.clone());
    }
    desired
}

fn differs(others: Option<&Vec<IpAddr>>) -> String {
    let others = match others {
        Some(others) => format!("would give it {}", listed(others)),
        None => "would give it none".to_owned(),
    };
    format!(
        "kept; a node that begins with this file {others}: `netd allocate --write` settles it for all nodes"
    )
}

/// Adds to a plan what is given, moved and given up, and what waits.
pub(crate) fn remark(allocation: &Allocation, held: &Held, config: &Config, plan: &mut Plan) {
    for ((owner, family), given) in &allocation.given {
        let before = held_of(held, owner, *family);
        if given.addresses == before || allocation.moved.contains_key(&(owner.clone(), *family)) {
            continue;
        }
        let Given { addresses, origin, pool } = given;
        let text = format!("{} of pool {pool}, {}", listed(addresses), origin.word());
        let from = (!before.is_empty()).then(|| listed(&before));
        let id = ResourceId { kind: NAME, key: key(owner, *family) };
        plan.remarks.push(Remark { id, from, to: Some(listed(addresses)), text });
    }
    for ((owner, family), moved) in &allocation.moved {
        let (from, to) = (listed(&moved.from), moved.to.map(|to| to.to_string()));
        let gets = match &to {
            Some(to) => format!("{to} takes its place"),
            None => "nothing takes its place".to_owned(),
        };
        let text = format!("{RENUMBER}: {from} cannot stay, because {}; {gets}", moved.why);
        let id = ResourceId { kind: NAME, key: key(owner, *family) };
        plan.remarks.push(Remark { id, from: Some(from), to, text });
    }
    let known: BTreeSet<String> = Claim::all(config).into_iter().map(|claim| claim.owner).collect();
    for (owner, addresses) in held.iter().filter(|(owner, _)| !known.contains(*owner)) {
        for family in Family::BOTH {
            let of_pools = |address: &&IpAddr| {
                Family::of(**address) == family && config.ip_pools.iter().any(|pool| pool.contains(**address))
            };
            let freed: Vec<IpAddr> = addresses.iter().filter(of_pools).copied().collect();
            if !freed.is_empty() {
                let id = ResourceId { kind: NAME, key: key(owner, family) };
                let from = listed(&freed);
                let text = format!("{from} is free again");
                plan.remarks.push(Remark { id, from: Some(from), to: None, text });
            }
        }
    }
    plan.remarks.sort_by(|one, other| one.id.cmp(&other.id));
    for ((owner, family), reason) in &allocation.waiting {
        let id = ResourceId { kind: NAME, key: key(owner, *family) };
        plan.held.push(netd_core::Held { id, reason: reason.clone() });
    }
}

/// Whether the remark says that one loses what it did not give up.
pub(crate) fn is_move(remark: &Remark) -> bool {
    remark.id.kind == NAME && remark.text.starts_with(RENUMBER)
}

fn held_of(held: &Held, owner: &str, family: Family) -> Vec<IpAddr> {
    let all = held.get(owner).into_iter().flatten();
    all.copied().filter(|address| Family::of(*address) == family).collect()
}

/// `web/ipv4`, `egress/legacy-db/ipv4`.
fn key(owner: &str, family: Family) -> Key {
    Key::new(format!("{owner}/{}", family.name()))
}

/// The addresses in a sentence.
pub(super) fn listed(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
