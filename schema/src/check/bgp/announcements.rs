//! Rules of announcements: what they name is there, and their attributes reach somebody.

use super::families;
use crate::check::Once;
use crate::check::reference::Reference;
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::{Announced, Family};
use crate::raw::{Announcement, Bgp, BgpPeer, List, Top, each};
use crate::span::{At, Span};
use std::collections::HashMap;
use std::hash::Hash;

/// What rules may name, each with all of its names; `None` where not all could be read.
struct Names<'a> {
    services: Option<Vec<&'a str>>,
    pools: Option<Vec<&'a str>>,
    /// By name and by address.
    peers: Option<HashMap<String, &'a At<BgpPeer>>>,
}

pub(super) fn check(bgp: &Bgp, top: &Top, diagnoses: &mut Diagnoses) {
    once(&bgp.announce, |class| class_name(*class), "bgp.announce", diagnoses);
    let names = names(bgp, top);
    for at in each(&bgp.announcements) {
        let rule = &at.value;
        once(&rule.what, |class| class_name(*class), "what", diagnoses);
        once(&rule.services, |name| &name.0, "services", diagnoses);
        once(&rule.pools, |name| &name.0, "pools", diagnoses);
        once(&rule.peers, |name| &name.0, "peers", diagnoses);
        once(&rule.communities, |it| it.0, "communities", diagnoses);
        once(&rule.large_communities, |it| it.0, "large_communities", diagnoses);
        references(rule, &names, diagnoses);
        without_vips(rule, diagnoses);
        let peers = peers_of(rule, bgp, &names);
        sides(rule, bgp, &peers, diagnoses);
        rule_families(rule, top, &peers, diagnoses);
    }
}

fn class_name(class: Announced) -> &'static str {
    match class {
        Announced::Vips => "vips",
        Announced::PodCidrs => "pod-cidrs",
        Announced::EgressIps => "egress-ips",
    }
}

/// No element of a list is there twice.
fn once<'a, T, K: Hash + Eq + std::fmt::Display, const MIN: usize, const MAX: usize>(
    list: &'a Option<At<List<T, MIN, MAX>>>,
    key: impl Fn(&'a T) -> K,
    of: &str,
    diagnoses: &mut Diagnoses,
) {
    let mut own = Once::new();
    for item in each(list) {
        let what = || format!("`{of}` has `{}` twice", key(&item.value));
        own.claim(key(&item.value), item.span, diagnoses, what);
    }
}

fn names<'a>(bgp: &'a Bgp, top: &'a Top) -> Names<'a> {
    let services: Option<Vec<&str>> =
        each(&top.services).map(|at| at.value.name.as_ref().map(|name| name.value.0.as_str())).collect();
    let pools: Option<Vec<&str>> =
        each(&top.ip_pools).map(|at| at.value.name.as_ref().map(|name| name.value.0.as_str())).collect();
    let mut peers = HashMap::new();
    let mut is_whole = bgp.peers.as_ref().is_none_or(|list| list.value.complete);
    for at in each(&bgp.peers) {
        is_whole &= at.value.address.is_some();
        let name = at.value.name.as_ref().map(|name| name.value.0.clone());
        let address = at.value.address.map(|address| address.value.0.to_string());
        for name in name.into_iter().chain(address) {
            peers.entry(name).or_insert(at);
        }
    }
    Names {
        services: services.filter(|_| top.services.as_ref().is_none_or(|list| list.value.complete)),
        pools: pools.filter(|_| top.ip_pools.as_ref().is_none_or(|list| list.value.complete)),
        peers: is_whole.then_some(peers),
    }
}

fn references(rule: &Announcement, names: &Names<'_>, diagnoses: &mut Diagnoses) {
    if let Some(known) = &names.services {
        for name in each(&rule.services).filter(|name| !known.contains(&name.value.0.as_str())) {
            let (name, span) = (name.value.0.as_str(), name.span);
            Reference { what: "service", header: "[[services]]", name, span }
                .unknown(known.iter().copied(), diagnoses);
        }
    }
    if let Some(known) = &names.pools {
        for name in each(&rule.pools).filter(|name| !known.contains(&name.value.0.as_str())) {
            let (name, span) = (name.value.0.as_str(), name.span);
            Reference { what: "pool", header: "[[ip_pools]]", name, span }
                .unknown(known.iter().copied(), diagnoses);
        }
    }
    if let Some(known) = &names.peers {
        let mut all: Vec<&str> = known.keys().map(String::as_str).collect();
        all.sort_unstable();
        for name in each(&rule.peers).filter(|name| !known.contains_key(&name.value.0)) {
            let (name, span) = (name.value.0.as_str(), name.span);
            Reference { what: "peer", header: "[[bgp.peers]]", name, span }
                .unknown(all.iter().copied(), diagnoses);
        }
    }
}

/// Keys that speak of VIPs, in a rule that does not.
fn without_vips(rule: &Announcement, diagnoses: &mut Diagnoses) {
    let Some(what) = &rule.what else { return };
    let speaks_of = |class: Announced| each(&rule.what).any(|at| at.value == class);
    if !what.value.complete || speaks_of(Announced::Vips) {
        return;
    }
    let pools = rule.pools.as_ref().filter(|_| !speaks_of(Announced::EgressIps));
    let keys = [
        ("services", rule.services.as_ref().map(|at| at.span)),
        ("pools", pools.map(|at| at.span)),
        ("aggregate", rule.aggregate.as_ref().map(|at| at.span)),
    ];
    for (key, span) in keys.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        diagnoses.push(|| {
            Draft::error(format!("`{key}` has no meaning in a rule that does not speak of VIPs"))
                .label(span, "is about VIPs")
                .label(what.span, "no `\"vips\"` here")
        });
    }
}

/// The peers of a rule; empty where they are not known.
fn peers_of<'a>(rule: &Announcement, bgp: &'a Bgp, names: &Names<'a>) -> Vec<&'a BgpPeer> {
    let Some(known) = &names.peers else { return Vec::new() };
    if rule.peers.is_none() {
        return each(&bgp.peers).map(|at| &at.value).collect();
    }
    each(&rule.peers).filter_map(|name| known.get(&name.value.0)).map(|at| &at.value).collect()
}

/// Attributes that are only sent inside the own autonomous system, or only out of it.
fn sides(rule: &Announcement, bgp: &Bgp, peers: &[&BgpPeer], diagnoses: &mut Diagnoses) {
    let Some(own) = bgp.asn else { return };
    let asns: Option<Vec<_>> = peers.iter().map(|peer| peer.asn).collect();
    let Some(asns) = asns.filter(|asns| !asns.is_empty()) else { return };
    let is_ibgp = |asn: &&At<crate::raw::Asn>| asn.value == own.value;
    let mut report = |key: &str, at: Span, towards: &str, asn: Span, says: &str| {
        diagnoses.push(|| {
            Draft::warning(format!("`{key}` reaches nobody: it is for {towards} peers"))
                .label(at, "sent to none of the peers of this rule")
                .label(asn, says.to_owned())
        });
    };
    let first = asns.first().map(|asn| asn.span).unwrap_or_default();
    if let Some(preference) = rule.local_preference
        && !asns.iter().any(|asn| is_ibgp(&asn))
    {
        report("local_preference", preference.span, "iBGP", first, "another ASN than the own: an eBGP peer");
    }
    if let Some(prepend) = rule.prepend
        && asns.iter().all(|asn| is_ibgp(&asn))
    {
        report("prepend", prepend.span, "eBGP", first, "the own ASN: an iBGP peer");
    }
}

/// What the rule speaks of has a family that one of its peers takes.
fn rule_families(rule: &Announcement, top: &Top, peers: &[&BgpPeer], diagnoses: &mut Diagnoses) {
    let taken: Vec<Family> = peers.iter().flat_map(|peer| families(peer)).collect();
    let place = peers.iter().find_map(|peer| {
        peer.families.as_ref().map(|at| at.span).or(peer.address.as_ref().map(|address| address.span))
    });
    let Some(place) = place else { return };
    let lacks = |family: Family| format!("no peer of this rule has the family `{}`", family.name());
    if let Some(aggregate) = &rule.aggregate {
        let lengths = [
            (Family::Ipv4, aggregate.value.ipv4.map(|at| at.span)),
            (Family::Ipv6, aggregate.value.ipv6.map(|at| at.span)),
        ];
        for (family, span) in lengths.into_iter().filter_map(|(family, span)| Some((family, span?))) {
            if !taken.contains(&family) {
                let name = family.name();
                diagnoses.push(|| {
                    Draft::error(format!("`aggregate.{name}` reaches nobody"))
                        .label(span, "for prefixes of this family")
                        .label(place, lacks(family))
                });
            }
        }
    }
    for name in each(&rule.services) {
        let service = each(&top.services)
            .map(|at| &at.value)
            .find(|service| service.name.as_ref().is_some_and(|own| own.value == name.value));
        let Some(service) = service else { continue };
        let missing =
            each(&service.vips).map(|vip| Family::of(vip.value.0)).find(|family| !taken.contains(family));
        let Some(family) = missing else { continue };
        diagnoses.push(|| {
            let (name_of, called) = (&name.value.0, family.word());
            Draft::warning(format!("no peer of this rule is told of the {called} VIPs of `{name_of}`"))
                .label(name.span, format!("has {called} VIPs"))
                .label(place, lacks(family))
        });
    }
}
