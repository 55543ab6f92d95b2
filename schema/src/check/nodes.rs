//! Nodes: unique names, addresses and pod prefixes.

use super::{Once, family};
use crate::diagnostic::{Diagnoses, Draft};
use crate::raw::{Node, Top, each};
use crate::span::Span;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

pub(super) fn check(top: &Top, diagnoses: &mut Diagnoses) {
    let mut names = Once::new();
    let mut addresses = Once::new();
    let mut prefixes: Vec<(IpNetwork, Span)> = Vec::new();
    for node in each(&top.nodes).map(|at| &at.value) {
        if let Some(name) = &node.name {
            names.claim(&name.value, name.span, diagnoses, || {
                format!("two nodes are called `{}`", name.value.0)
            });
        }
        for address in each(&node.addresses) {
            let what = || format!("the node address {} is given twice", address.value.0);
            addresses.claim(address.value, address.span, diagnoses, what);
        }
        prefixes.extend(each(&node.pod_cidrs).map(|prefix| (prefix.value.0, prefix.span)));
        unreachable_pods(node, diagnoses);
    }
    overlaps(prefixes, diagnoses);
}

/// Prefixes are nested or apart, so in sorted order one that overlaps another comes right after a prefix that holds it.
fn overlaps(mut prefixes: Vec<(IpNetwork, Span)>, diagnoses: &mut Diagnoses) {
    prefixes.sort();
    let mut outer: Option<(IpNetwork, Span)> = None;
    for (prefix, span) in prefixes {
        match outer {
            Some((holds, place)) if contains(holds, prefix.ip()) => {
                let (first, again) = if place < span { (place, span) } else { (span, place) };
                diagnoses.push(|| {
                    let message = if holds == prefix {
                        format!("the pod prefix {prefix} is given twice")
                    } else {
                        format!("the pod prefixes {holds} and {prefix} overlap")
                    };
                    Draft::error(message).label(again, "here").label(first, "and here")
                });
            }
            _ => outer = Some((prefix, span)),
        }
    }
}

fn contains(prefix: IpNetwork, address: IpAddr) -> bool {
    prefix.is_ipv4() == address.is_ipv4() && prefix.contains(address)
}

/// Other nodes reach pods via the node's address of the same family.
fn unreachable_pods(node: &Node, diagnoses: &mut Diagnoses) {
    if node.addresses.as_ref().is_some_and(|addresses| !addresses.value.complete) {
        return;
    }
    for prefix in each(&node.pod_cidrs) {
        let ip = prefix.value.0.ip();
        if each(&node.addresses).all(|address| address.value.0.is_ipv4() != ip.is_ipv4()) {
            diagnoses.push(|| {
                Draft::warning(format!("no other node can reach the pods in {}", prefix.value.0))
                    .label(prefix.span, format!("the node has no {} address", family(ip)))
                    .help(format!("add an {} address to `nodes.addresses`", family(ip)))
            });
        }
    }
}
