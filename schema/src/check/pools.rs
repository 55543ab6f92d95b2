//! Pools: unique names, and ranges in which nothing but VIPs is.

use super::Once;
use super::prefixes::{Ranges, never_routed};
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::UnknownPort;
use crate::raw::{IpPool, Top, each};
use crate::span::Span;
use ipnetwork::IpNetwork;
use std::collections::HashSet;

/// Nobody has more, and everything would be dropped.
const LENGTH_MIN_V4: u8 = 8;

/// As much more than a network is given as a /8 of IPv4.
const LENGTH_MIN_V6: u8 = 16;

pub(super) fn check(top: &Top, diagnoses: &mut Diagnoses) {
    let mut names = Once::new();
    let mut all: Vec<(IpNetwork, Span)> = Vec::new();
    let mut guarded: Vec<(IpNetwork, Span)> = Vec::new();
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
    Ranges::new(all).refuse_overlaps("pool prefix", diagnoses);
    let guarded = Ranges::new(guarded);
    own_addresses(&guarded, top, diagnoses);
    backends(&guarded, top, diagnoses);
}

/// The ranges of a pool, after saying which cannot be one.
fn routable(pool: &IpPool, diagnoses: &mut Diagnoses) -> Vec<(IpNetwork, Span)> {
    let mut ranges = Vec::new();
    for range in each(&pool.ranges) {
        let (network, span) = (range.value.0, range.span);
        let least = if network.is_ipv4() { LENGTH_MIN_V4 } else { LENGTH_MIN_V6 };
        let why = if network.prefix() < least {
            Some(format!("the length must be at least {least}"))
        } else {
            never_routed(network).map(|kind| format!("holds {kind} addresses, which are not routed"))
        };
        match why {
            Some(why) => diagnoses
                .push(|| Draft::error(format!("`ip_pools.ranges` cannot have {network}")).label(span, why)),
            None => ranges.push((network, span)),
        }
    }
    ranges
}

/// A node would no longer be reached at its own address.
fn own_addresses(ranges: &Ranges, top: &Top, diagnoses: &mut Diagnoses) {
    for address in each(&top.nodes).flat_map(|node| each(&node.value.addresses)) {
        let ip = address.value.0;
        let Some((range, place)) = ranges.holding(ip) else { continue };
        diagnoses.push(|| {
            Draft::error(format!("the node address {ip} is in the pool prefix {range}"))
                .label(address.span, "a node is reached here")
                .label(place, "what is not for a service is not let through here")
                .help("choose prefixes without it, or set `unassigned = \"pass\"`")
        });
    }
}

/// Whether packets for a backend come through a balancer cannot be seen in the file. One is named for each range.
fn backends(ranges: &Ranges, top: &Top, diagnoses: &mut Diagnoses) {
    let mut told = HashSet::new();
    let own = each(&top.services).flat_map(|service| each(&service.value.backends));
    let sets = each(&top.backend_sets).flat_map(|set| each(&set.value.backends));
    for address in own.chain(sets).filter_map(|backend| backend.value.address) {
        let ip = address.value.0;
        let Some((range, place)) = ranges.holding(ip).filter(|(range, _)| told.insert(*range)) else {
            continue;
        };
        diagnoses.push(|| {
            Draft::warning(format!("the backend {ip} is in the pool prefix {range}"))
                .label(address.span, "cannot be reached through this node at its own address")
                .label(place, "what is not for a service is not let through here")
                .help("choose prefixes without it, or set `unassigned = \"pass\"`")
        });
    }
}
