//! Pools: unique names, and ranges in which nothing but VIPs is.

use super::Once;
use super::prefixes::never_routed;
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::UnknownPort;
use crate::raw::{IpPool, Range, Top, each};
use crate::span::Span;
use ipnetwork::IpNetwork;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Nobody has more, and everything would be dropped.
const LENGTH_MIN_V4: u8 = 8;

/// As much more than a network is given as a /8 of IPv4.
const LENGTH_MIN_V6: u8 = 16;

pub(super) fn check(top: &Top, diagnoses: &mut Diagnoses) {
    let mut names = Once::new();
    let mut all: Vec<(Range, Span)> = Vec::new();
    let mut guarded: Vec<(Range, Span)> = Vec::new();
    for pool in each(&top.ip_pools).map(|at| &at.value) {
        if let Some(name) = &pool.name {
            let what = || format!("two pools are called `{}`", name.value.0);
            names.claim(&name.value, name.span, diagnoses, what);
        }
        let ranges = routable(pool, diagnoses);
        if pool.unassigned.is_none_or(|at| at.value != UnknownPort::Pass) {
            guarded.extend_from_slice(&ranges);
        }
        all.extend(ranges);
    }
    let all = Ranges::new(all);
    all.refuse_overlaps(diagnoses);
    pods(&all, top, diagnoses);
    let guarded = Ranges::new(guarded);
    own_addresses(&guarded, top, diagnoses);
    backends(&guarded, top, diagnoses);
}

/// The ranges of a pool, after saying which cannot be one.
fn routable(pool: &IpPool, diagnoses: &mut Diagnoses) -> Vec<(Range, Span)> {
    let mut ranges = Vec::new();
    for at in each(&pool.ranges) {
        let (range, span) = (at.value, at.span);
        match unusable(range) {
            Some(why) => diagnoses
                .push(|| Draft::error(format!("`ip_pools.ranges` cannot have {range}")).label(span, why)),
            None => ranges.push((range, span)),
        }
    }
    ranges
}

fn unusable(range: Range) -> Option<String> {
    let prefixes = range.prefixes();
    let least = if range.first.is_ipv4() { LENGTH_MIN_V4 } else { LENGTH_MIN_V6 };
    if range.length().is_some_and(|length| length < least) {
        return Some(format!("the length must be at least {least}"));
    }
    let whole = if range.first.is_ipv4() { 32 } else { 128 };
    let size = |length: u8| 1_u128.checked_shl(u32::from(whole - length)).unwrap_or(u128::MAX);
    let addresses = prefixes.iter().fold(0_u128, |sum, one| sum.saturating_add(size(one.prefix())));
    if addresses > size(least) {
        return Some(format!("holds more addresses than a prefix of length {least}"));
    }
    let kind = prefixes.into_iter().find_map(never_routed);
    kind.map(|kind| format!("holds {kind} addresses, which are not routed"))
}

/// Ranges in the order of their addresses, and their places.
struct Ranges(Vec<(Range, Span)>);

impl Ranges {
    fn new(mut ranges: Vec<(Range, Span)>) -> Self {
        ranges.sort_by_key(|(range, span)| (range.first, range.last, *span));
        Self(ranges)
    }

    fn refuse_overlaps(&self, diagnoses: &mut Diagnoses) {
        let mut before: Option<(Range, Span)> = None;
        for &(range, span) in &self.0 {
            let overlapped = before.filter(|(other, _)| range.first <= other.last);
            if let Some((other, place)) = overlapped {
                let (first, again) = if place < span { (place, span) } else { (span, place) };
                diagnoses.push(|| {
                    let message = match (other.first, other.last) == (range.first, range.last) {
                        true => format!("the pool range {range} is given twice"),
                        false => format!("the pool ranges {other} and {range} overlap"),
                    };
                    Draft::error(message).label(again, "here").label(first, "and here")
                });
            }
            if before.is_none_or(|(other, _)| other.last < range.last) {
                before = Some((range, span));
            }
        }
    }

    /// A range that has an address of the prefix, if they are apart.
    fn meeting(&self, prefix: IpNetwork) -> Option<(Range, Span)> {
        let (first, last) = (prefix.network(), prefix.broadcast());
        let after = self.0.partition_point(|(range, _)| range.first <= last);
        let before = self.0.get(after.checked_sub(1)?)?;
        Some(*before).filter(|(range, _)| first <= range.last && first.is_ipv4() == range.last.is_ipv4())
    }

    /// The range that holds the address, if they are apart.
    fn holding(&self, address: IpAddr) -> Option<(Range, Span)> {
        let after = self.0.partition_point(|(range, _)| range.first <= address);
        let before = self.0.get(after.checked_sub(1)?)?;
        Some(*before).filter(|(range, _)| address <= range.last)
    }
}

/// An address would be a pod's and a service's. One prefix is named for each range.
fn pods(ranges: &Ranges, top: &Top, diagnoses: &mut Diagnoses) {
    let mut told = BTreeSet::new();
    for pods in each(&top.nodes).flat_map(|node| each(&node.value.pod_cidrs)) {
        let prefix = pods.value.0;
        let Some((range, place)) = ranges.meeting(prefix).filter(|(_, place)| told.insert(*place)) else {
            continue;
        };
        diagnoses.push(|| {
            Draft::error(format!("the pool range {range} overlaps the pod prefix {prefix}"))
                .label(place, "services get addresses from here")
                .label(pods.span, "pods have addresses from here")
                .help("choose ranges that nothing else has addresses of")
        });
    }
}

/// A node would no longer be reached at its own address.
fn own_addresses(ranges: &Ranges, top: &Top, diagnoses: &mut Diagnoses) {
    for address in each(&top.nodes).flat_map(|node| each(&node.value.addresses)) {
        let ip = address.value.0;
        let Some((range, place)) = ranges.holding(ip) else { continue };
        diagnoses.push(|| {
            Draft::error(format!("the node address {ip} is in the pool range {range}"))
                .label(address.span, "a node is reached here")
                .label(place, "what is not for a service is not let through here")
                .help("choose ranges without it, or set `unassigned = \"pass\"`")
        });
    }
}

/// Whether packets for a backend come through a balancer cannot be seen in the file. One is named for each range.
fn backends(ranges: &Ranges, top: &Top, diagnoses: &mut Diagnoses) {
    let mut told = BTreeSet::new();
    let own = each(&top.services).flat_map(|service| each(&service.value.backends));
    let sets = each(&top.backend_sets).flat_map(|set| each(&set.value.backends));
    for address in own.chain(sets).filter_map(|backend| backend.value.address) {
        let ip = address.value.0;
        let Some((range, place)) = ranges.holding(ip).filter(|(_, place)| told.insert(*place)) else {
            continue;
        };
        diagnoses.push(|| {
            Draft::warning(format!("the backend {ip} is in the pool range {range}"))
                .label(address.span, "cannot be reached through this node at its own address")
                .label(place, "what is not for a service is not let through here")
                .help("choose ranges without it, or set `unassigned = \"pass\"`")
        });
    }
}
