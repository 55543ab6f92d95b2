//! VIPs: what services that share one say about it, and that nobody loses a node's own address.

use crate::diagnostic::{Diagnoses, Draft};
use crate::model::{TrafficPolicy, UnknownPort};
use crate::raw::{BackendSet, Service, Top, each};
use crate::span::{At, Span};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

pub(super) fn check(top: &Top, diagnoses: &mut Diagnoses) {
    let nodes: HashMap<IpAddr, Span> = each(&top.nodes)
        .flat_map(|node| each(&node.value.addresses))
        .map(|address| (address.value.0, address.span))
        .collect();
    let mut first: HashMap<IpAddr, (&Service, Span)> = HashMap::new();
    for service in each(&top.services).map(|at| &at.value) {
        let mut told = false;
        for vip in each(&service.vips) {
            let ip = vip.value.0;
            let (other, other_vip) = *first.entry(ip).or_insert((service, vip.span));
            // Two services may share many VIPs.
            if !told && !std::ptr::eq(other, service) && !share(service, other) {
                let what = || format!("the VIP {ip}");
                told = disagree(what, (service, vip.span), (other, other_vip), top, diagnoses);
            }
            if let Some(node) = nodes.get(&ip) {
                node_address(ip, service, vip.span, *node, diagnoses);
            }
        }
    }
}

/// Whether both may get one address from their pools.
pub(super) fn share(one: &Service, other: &Service) -> bool {
    let key = |service: &Service| service.share.as_ref().map(|at| at.value.clone());
    key(one).is_some() && key(one) == key(other)
}

/// Services that may get one VIP say the same about it.
pub(super) fn sharers_agree(later: &Service, first: &Service, top: &Top, diagnoses: &mut Diagnoses) {
    if let (Some(share), Some(place)) = (&later.share, &first.share)
        && !std::ptr::eq(later, first)
    {
        let what = || format!("`share = \"{}\"`", share.value.0);
        disagree(what, (later, share.span), (first, place.span), top, diagnoses);
    }
}

/// What a VIP does with packets of no port is one answer, whichever service says so.
fn disagree(
    what: impl Fn() -> String,
    later: (&Service, Span),
    first: (&Service, Span),
    top: &Top,
    diagnoses: &mut Diagnoses,
) -> bool {
    let unknown_port = |service: &Service| place(service.unknown_port, UnknownPort::default());
    let ping = |service: &Service| place(service.ping, true);
    let (one, other) = (unknown_port(later.0), unknown_port(first.0));
    let mut told = false;
    if one.0 != other.0 {
        let (says, said) = (says(one.0.name(), one.1), says(other.0.name(), other.1));
        let places = [(one.1.unwrap_or(later.1), says), (other.1.unwrap_or(first.1), said)];
        report(&what, "unknown_port", places, diagnoses);
        told = true;
    }
    let (one, other) = (ping(later.0), ping(first.0));
    if one.0 != other.0 {
        let (says, said) = (says(&one.0.to_string(), one.1), says(&other.0.to_string(), other.1));
        let places = [(one.1.unwrap_or(later.1), says), (other.1.unwrap_or(first.1), said)];
        report(&what, "ping", places, diagnoses);
        told = true;
    }
    let policy = |service: &Service| place(service.traffic_policy, TrafficPolicy::default());
    let (one, other) = (policy(later.0), policy(first.0));
    if one.0 != other.0 {
        let (says, said) = (says(one.0.name(), one.1), says(other.0.name(), other.1));
        let places = [(one.1.unwrap_or(later.1), says), (other.1.unwrap_or(first.1), said)];
        report(&what, "traffic_policy", places, diagnoses);
        told = true;
    } else if one.0 == TrafficPolicy::Local {
        told |= elsewhere(&what, later, first, top, diagnoses);
    }
    told
}

/// With `traffic_policy = "local"` a VIP is announced where its backends are: to all of its services packets come there.
fn elsewhere(
    what: impl Fn() -> String,
    later: (&Service, Span),
    first: (&Service, Span),
    top: &Top,
    diagnoses: &mut Diagnoses,
) -> bool {
    let (Some(one), Some(other)) = (backends(later.0, top), backends(first.0, top)) else { return false };
    if one.0 == other.0 {
        return false;
    }
    diagnoses.push(|| {
        let what = what();
        Draft::error(format!("two services with {what} and `traffic_policy = \"local\"` have other backends"))
            .label(one.1.unwrap_or(later.1), "these backends here")
            .label(other.1.unwrap_or(first.1), "others here")
            .help("a node that has backends of one of them gets the packets of both: give both the same backends")
    });
    true
}

/// The addresses of a service's backends, and where they are listed; `None` if not all of them could be read.
fn backends(service: &Service, top: &Top) -> Option<(BTreeSet<IpAddr>, Option<Span>)> {
    let (list, place) = match (&service.backend_set, &service.backends) {
        (Some(name), _) => {
            let named = |set: &&BackendSet| set.name.as_ref().is_some_and(|own| own.value == name.value);
            let set = each(&top.backend_sets).map(|at| &at.value).find(named)?;
            (set.backends.as_ref()?, name.span)
        }
        (None, Some(list)) => (list, list.span),
        (None, None) => return Some((BTreeSet::new(), None)),
    };
    let addresses = list.value.items.iter().map(|backend| Some(backend.value.address?.value.0));
    let all: Option<BTreeSet<IpAddr>> = addresses.collect();
    Some((all.filter(|_| list.value.complete)?, Some(place)))
}

/// The value in force, and where it was written.
fn place<T: Copy>(written: Option<At<T>>, default: T) -> (T, Option<Span>) {
    (written.map_or(default, |at| at.value), written.map(|at| at.span))
}

fn says(value: &str, place: Option<Span>) -> String {
    match place {
        Some(_) => format!("`{value}` here"),
        None => format!("`{value}` here, because nothing else is said"),
    }
}

fn report(what: impl Fn() -> String, key: &str, places: [(Span, String); 2], diagnoses: &mut Diagnoses) {
    diagnoses.push(|| {
        let draft = Draft::error(format!("two services with {} disagree about `{key}`", what()));
        places
            .into_iter()
            .fold(draft, |draft, (span, says)| draft.label(span, says))
            .help("a VIP has one answer: say the same in both")
    });
}

/// A node whose address becomes a VIP loses everything that is not a port of the service: SSH, BGP, other services.
fn node_address(ip: IpAddr, service: &Service, vip: Span, node: Span, diagnoses: &mut Diagnoses) {
    let said = service.unknown_port;
    if said.is_some_and(|said| said.value == UnknownPort::Pass) {
        return;
    }
    diagnoses.push(|| {
        let draft = Draft::error(format!("{ip} is a VIP and the address of a node"))
            .label(vip, "everything for it that is no port of a service is not let through")
            .label(node, "the node is reached here");
        let draft = match said {
            Some(said) => draft.label(said.span, "because of this"),
            None => draft,
        };
        draft.help("take another VIP, or leave the rest to the node with `unknown_port = \"pass\"`")
    });
}
