//! Nodes: unique names, addresses and pod prefixes.

use super::network::carries_both_families;
use super::prefixes::Ranges;
use super::{Once, family};
use crate::diagnostic::{Diagnoses, Draft};
use crate::raw::{Node, Top, each};
use crate::span::Span;
use ipnetwork::IpNetwork;

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
        if !carries_both_families(top) {
            unreachable_pods(node, diagnoses);
        }
    }
    Ranges::new(prefixes).refuse_overlaps("pod prefix", diagnoses);
}

/// Without a tunnel other nodes reach pods via the node's address of the same family.
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
