//! `load_balancer.rss_source`: prefixes that are the tier's alone.

use super::prefixes::{holds, never_routed, overlap};
use super::{Once, family};
use crate::diagnostic::{Diagnoses, Draft};
use crate::raw::{LoadBalancer, Range, Top, each};
use crate::span::Span;
use ipnetwork::IpNetwork;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// A length of 0 would name all addresses, and 32 leaves no bits to spread.
const LENGTHS_V4: RangeInclusive<u8> = 1..=31;

/// Networks are not given more than a /32 (RFC 6177 and the registries' practice), so a shorter one would pretend to be
/// other networks; 128 leaves no bits to spread.
const LENGTHS_V6: RangeInclusive<u8> = 32..=127;

pub(super) fn check(settings: &LoadBalancer, top: &Top, diagnoses: &mut Diagnoses) {
    let mut families = Once::new();
    for prefix in each(&settings.rss_source) {
        let (network, span) = (prefix.value.0, prefix.span);
        let lengths = if network.is_ipv4() { LENGTHS_V4 } else { LENGTHS_V6 };
        if !lengths.contains(&network.prefix()) {
            let (from, to) = (lengths.start(), lengths.end());
            diagnoses
                .push(|| refused(network).label(span, format!("the length must be from {from} to {to}")));
        } else if let Some(kind) = never_routed(network) {
            let why = format!("holds {kind} addresses, which cannot be the source of a packet");
            diagnoses.push(|| refused(network).label(span, why));
        } else {
            owned_by_others(network, span, top, diagnoses);
        }
        families.claim(network.is_ipv4(), span, diagnoses, || {
            format!(
                "`load_balancer.rss_source` has two {} prefixes; one per family is allowed",
                family(network.ip())
            )
        });
    }
}

fn refused(network: IpNetwork) -> Draft {
    Draft::error(format!("`load_balancer.rss_source` cannot be {network}"))
}

/// One place for each kind of thing that already has an address of the prefix.
fn owned_by_others(network: IpNetwork, span: Span, top: &Top, diagnoses: &mut Diagnoses) {
    let mut report = |what: &str, found: Option<(String, Span)>| {
        let Some((name, place)) = found else { return };
        diagnoses.push(|| {
            Draft::error(format!("`load_balancer.rss_source` holds {what} {name}"))
                .label(span, "outer sources are picked from here")
                .label(place, "taken here")
                .help("take a prefix that is routed to the load balancers and that nothing else has an address of")
        });
    };
    let address = |ip: IpAddr, place: Span| holds(network, ip).then(|| (ip.to_string(), place));
    let prefix = |other: IpNetwork, place: Span| overlap(network, other).then(|| (other.to_string(), place));
    let services = || each(&top.services).map(|at| &at.value);
    report(
        "the VIP",
        services().flat_map(|it| each(&it.vips)).find_map(|vip| address(vip.value.0, vip.span)),
    );
    let own = services().flat_map(|it| each(&it.backends));
    let sets = each(&top.backend_sets).flat_map(|set| each(&set.value.backends));
    let mut backends = own.chain(sets).filter_map(|backend| backend.value.address);
    report("the backend", backends.find_map(|backend| address(backend.value.0, backend.span)));
    let nodes = || each(&top.nodes).map(|at| &at.value);
    // The only node of a file is the one that reads it, and may send from what is its own.
    if nodes().count() > 1 {
        let mut addresses = nodes().flat_map(|node| each(&node.addresses));
        report("the node address", addresses.find_map(|node| address(node.value.0, node.span)));
    }
    let mut pods = nodes().flat_map(|node| each(&node.pod_cidrs));
    report("pods of", pods.find_map(|pods| prefix(pods.value.0, pods.span)));
    let mut pools = each(&top.ip_pools).flat_map(|pool| each(&pool.value.ranges));
    let held = |range: Range, place: Span| {
        let is_held = range.prefixes().into_iter().any(|part| overlap(network, part));
        is_held.then(|| (range.to_string(), place))
    };
    report("addresses of the pool range", pools.find_map(|range| held(range.value, range.span)));
}
