//! Egress policies: what they name is there, each is said once, and no two are told apart by their names alone.

mod addresses;
mod failover;
mod families;

use super::Once;
use super::prefixes::holds;
use super::reference::Reference;
use super::requests::Pools;
use crate::diagnostic::{Diagnoses, Draft, quote};
use crate::explain::nearest;
use crate::model::{EGRESS_PAIRS_MAX, EgressAnnounce};
use crate::raw::{Egress, EgressGroups, EgressSource, Prefix, Top, each};
use crate::span::{At, Span};
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The groups of the file, by name.
struct Groups<'a>(HashMap<&'a str, &'a [At<Prefix>]>);

pub(super) fn check(top: &Top, diagnoses: &mut Diagnoses) {
    let groups = groups(top, diagnoses);
    let (nodes, pools) = (nodes(top), Pools::of(top));
    let mut names = Once::new();
    let policies = || each(&top.egress).map(|at| &at.value);
    for policy in policies() {
        if let Some(name) = &policy.name {
            let what = || format!("two egress policies are called `{}`", name.value.0);
            names.claim(&name.value, name.span, diagnoses, what);
        }
        each_once(policy, diagnoses);
        has_peers(policy, top, diagnoses);
        known_groups(policy, &groups, top, diagnoses);
        known_gateways(policy, nodes.as_ref(), diagnoses);
    }
    addresses::check(top, diagnoses);
    failover::check(top, diagnoses);
    // What compares prefixes with prefixes takes long where there are too many.
    if room(top, &groups, diagnoses) {
        for policy in policies() {
            excluded(policy, diagnoses);
            families::check(policy, (&groups, &pools), top, diagnoses);
        }
        equals(top, &groups, diagnoses);
    }
}

impl Groups<'_> {
    /// The prefixes that a policy has as sources, each with the place where the policy says so.
    fn sources<'p>(&'p self, policy: &'p Egress) -> impl Iterator<Item = (IpNetwork, Span)> + 'p {
        each(&policy.sources).flat_map(|source| {
            let (own, named) = match &source.value {
                EgressSource::Prefix(prefix) => (Some(prefix.0), None),
                EgressSource::Group(name) => (None, self.0.get(name.0.as_str())),
            };
            let named = named.into_iter().flat_map(|prefixes| prefixes.iter()).map(|prefix| prefix.value.0);
            own.into_iter().chain(named).map(|prefix| (prefix, source.span))
        })
    }
}

fn groups<'a>(top: &'a Top, diagnoses: &mut Diagnoses) -> Groups<'a> {
    let mut found = HashMap::new();
    for group in top.egress_groups.iter().flat_map(|at| &at.value.groups) {
        let Some(prefixes) = &group.prefixes else { continue };
        let mut once = Once::new();
        for prefix in &prefixes.value.items {
            let what = || format!("the group `{}` has {} twice", group.name.value.0, prefix.value.0);
            once.claim(prefix.value, prefix.span, diagnoses, what);
        }
        found.insert(group.name.value.0.as_str(), prefixes.value.items.as_slice());
    }
    Groups(found)
}

fn each_once(policy: &Egress, diagnoses: &mut Diagnoses) {
    let (mut sources, mut destinations, mut exclude, mut gateways, mut announce) =
        (Once::new(), Once::new(), Once::new(), Once::new(), Once::new());
    for source in each(&policy.sources) {
        let what = || match &source.value {
            EgressSource::Prefix(prefix) => format!("`egress.sources` has {} twice", prefix.0),
            EgressSource::Group(name) => format!("`egress.sources` has the group `{}` twice", name.0),
        };
        sources.claim(&source.value, source.span, diagnoses, what);
    }
    for prefix in each(&policy.destinations) {
        let what = || format!("`egress.destinations` has {} twice", prefix.value.0);
        destinations.claim(prefix.value, prefix.span, diagnoses, what);
    }
    for prefix in each(&policy.exclude) {
        let what = || format!("`egress.exclude` has {} twice", prefix.value.0);
        exclude.claim(prefix.value, prefix.span, diagnoses, what);
    }
    for node in each(&policy.gateways).filter_map(|gateway| gateway.value.node.as_ref()) {
        let what = || format!("node `{}` is a gateway twice", node.value.0);
        gateways.claim(&node.value, node.span, diagnoses, what);
    }
    for way in each(&policy.announce) {
        announce.claim(way.value, way.span, diagnoses, || "`egress.announce` says it twice".to_owned());
    }
}

/// Who announces by BGP has somebody to tell.
fn has_peers(policy: &Egress, top: &Top, diagnoses: &mut Diagnoses) {
    let Some(way) = each(&policy.announce).find(|way| way.value == EgressAnnounce::Bgp) else { return };
    if top.bgp.is_none() {
        diagnoses.push(|| {
            Draft::error(format!("{} is to be announced by BGP, and nobody speaks it", called(policy)))
                .label(way.span, "by routes of BGP")
                .help("add `[bgp]` and its `peers`, or leave `\"bgp\"` out")
        });
    }
}

fn known_groups(policy: &Egress, groups: &Groups<'_>, top: &Top, diagnoses: &mut Diagnoses) {
    let is_whole = |at: &At<EgressGroups>| at.value.complete;
    if !top.egress_groups.as_ref().is_none_or(is_whole) {
        return;
    }
    for source in each(&policy.sources) {
        let EgressSource::Group(name) = &source.value else { continue };
        if groups.0.contains_key(name.0.as_str()) {
            continue;
        }
        Reference { what: "group", header: "[egress_groups]", name: &name.0, span: source.span }
            .unknown_unless_meant(
                groups.0.keys().copied(),
                Some("a prefix has a length, such as `10.244.0.0/16`"),
                diagnoses,
            );
    }
}

/// The names of the nodes; `None` where not all could be read.
fn nodes(top: &Top) -> Option<BTreeSet<&str>> {
    let is_whole = top.nodes.as_ref().is_none_or(|nodes| nodes.value.complete);
    let names = each(&top.nodes).map(|node| Some(node.value.name.as_ref()?.value.0.as_str()));
    names.collect::<Option<_>>().filter(|_| is_whole)
}

fn known_gateways(policy: &Egress, nodes: Option<&BTreeSet<&str>>, diagnoses: &mut Diagnoses) {
    for node in each(&policy.gateways).filter_map(|gateway| gateway.value.node.as_ref()) {
        let name = node.value.0.as_str();
        let Some(nodes) = nodes.filter(|nodes| !nodes.contains(name)) else { continue };
        diagnoses.push(|| {
            let draft = Draft::error(format!("the gateway {} is not a node", quote(name)))
                .label(node.span, "names one of the `[[nodes]]`");
            match nearest(name, nodes.iter().copied()) {
                Some(near) => draft.help(format!("did you mean `\"{near}\"`?")),
                None => draft,
            }
        });
    }
    if let Some(gateways) =
        policy.gateways.as_ref().filter(|at| at.value.complete && at.value.items.is_empty())
    {
        diagnoses.push(|| {
            Draft::warning(format!("{} has no gateway", called(policy)))
                .label(gateways.span, "its packets get what `on_no_gateway` says: `drop`, unless it is given")
        });
    }
}

/// What is not taken anyway need not be left out.
fn excluded(policy: &Egress, diagnoses: &mut Diagnoses) {
    let Some(destinations) = policy.destinations.as_ref().filter(|at| at.value.complete) else { return };
    for prefix in each(&policy.exclude) {
        let network = prefix.value.0;
        let is_inside = |outer: IpNetwork| holds(outer, network.ip()) && outer.prefix() <= network.prefix();
        let is_all = |inner: IpNetwork| holds(network, inner.ip()) && network.prefix() <= inner.prefix();
        if destinations.value.items.iter().all(|at| !is_inside(at.value.0) && !is_all(at.value.0)) {
            diagnoses.push(|| {
                Draft::warning(format!("leaving {network} out changes nothing"))
                    .label(prefix.span, "excluded here")
                    .label(destinations.span, "in none of these")
            });
        }
        if let Some(inner) = destinations.value.items.iter().find(|at| is_all(at.value.0)) {
            diagnoses.push(|| {
                Draft::error(format!("nothing of {} is left", inner.value.0))
                    .label(prefix.span, "all of it is excluded here")
                    .label(inner.span, "a destination")
            });
        }
    }
}

/// Whether the policies are few enough to be put into maps; says so if not.
fn room(top: &Top, groups: &Groups<'_>, diagnoses: &mut Diagnoses) -> bool {
    let mut pairs = 0_usize;
    for at in each(&top.egress) {
        let places = each(&at.value.destinations).count().max(1) + each(&at.value.exclude).count();
        pairs = pairs.saturating_add(groups.sources(&at.value).count().saturating_mul(places));
        if pairs > EGRESS_PAIRS_MAX {
            diagnoses.push(|| {
                Draft::error("the egress policies are too many for the maps of the kernel programs")
                    .label(at.span, "does not fit any more")
                    .help(format!(
                        "all policies together may have {EGRESS_PAIRS_MAX} pairs of a source and a destination"
                    ))
            });
            return false;
        }
    }
    true
}

/// Two policies with the same prefixes on both sides are told apart by their names only, which is hardly meant.
fn equals(top: &Top, groups: &Groups<'_>, diagnoses: &mut Diagnoses) {
    let mut first: BTreeMap<(IpNetwork, Option<IpNetwork>), (usize, Span)> = BTreeMap::new();
    let policies: Vec<&Egress> = each(&top.egress).map(|at| &at.value).collect();
    for (at, policy) in policies.iter().enumerate() {
        let mut is_told = false;
        for (source, span) in groups.sources(policy) {
            let all = policy.destinations.is_none().then_some(None);
            let destinations = each(&policy.destinations).map(|prefix| Some(prefix.value.0)).chain(all);
            for destination in destinations {
                let (other, place) = *first.entry((source, destination)).or_insert((at, span));
                let Some(before) = policies.get(other).filter(|_| other != at && !is_told) else { continue };
                is_told = true;
                let to = destination.map_or("everywhere".to_owned(), |prefix| prefix.to_string());
                let winner = if called(before) <= called(policy) { before } else { policy };
                diagnoses.push(|| {
                    Draft::warning(format!("two egress policies are for {source} to {to}"))
                        .label(span, called(policy))
                        .label(place, called(before))
                        .help(format!("{} has the packets, by its name alone", called(winner)))
                });
            }
        }
    }
}

fn called(policy: &Egress) -> String {
    policy.name.as_ref().map_or("a policy".to_owned(), |name| format!("policy `{}`", name.value.0))
}
