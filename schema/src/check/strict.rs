//! Strict mode: nodes that it would cut off from each other.

use super::prefixes::holds;
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::WireguardMode;
use crate::raw::{Strict, StrictEgress, Top, Wireguard, each};

pub(super) fn check(top: &Top, diagnoses: &mut Diagnoses) {
    let Some(wireguard) = &top.wireguard else { return };
    let Some(strict) = &wireguard.value.strict else { return };
    encrypted_from_pods(&strict.value, top, diagnoses);
    nodes_in_clear(&wireguard.value, &strict.value, top, diagnoses);
}

/// WireGuard's packets come from addresses of nodes; one among pods' is taken for a pod's.
fn encrypted_from_pods(strict: &Strict, top: &Top, diagnoses: &mut Diagnoses) {
    let Some(place) = strict.ingress.filter(|at| at.value) else { return };
    let prefixes = || each(&top.nodes).flat_map(|node| each(&node.value.pod_cidrs));
    for address in each(&top.nodes).flat_map(|node| each(&node.value.addresses)) {
        let Some(prefix) = prefixes().find(|prefix| holds(prefix.value.0, address.value.0)) else { continue };
        diagnoses.push(|| {
            Draft::error(format!("what comes in from {} would be dropped, encrypted or not", address.value.0))
                .label(address.span, "an address of a node")
                .label(prefix.span, "which is among these of pods")
                .label(place.span, "drops what comes in from pods")
        });
    }
}

/// Only the modes `nodes` and `overlay` encrypt anything to addresses of nodes, and the latter only the tunnel.
fn nodes_in_clear(wireguard: &Wireguard, strict: &Strict, top: &Top, diagnoses: &mut Diagnoses) {
    let Some(StrictEgress::Listed(listed)) = strict.egress.as_ref().map(|at| &at.value) else { return };
    if wireguard.mode.is_some_and(|mode| mode.value == WireguardMode::Nodes) {
        return;
    }
    for address in each(&top.nodes).flat_map(|node| each(&node.value.addresses)) {
        let Some(prefix) = listed.items.iter().find(|prefix| holds(prefix.value.0, address.value.0)) else {
            continue;
        };
        diagnoses.push(|| {
            Draft::warning(format!("everything for {} but WireGuard's packets is dropped", address.value.0))
                .label(prefix.span, "nothing leaves for these in clear")
                .label(address.span, "an address of a node")
                .help("`wireguard.mode = \"nodes\"` encrypts what is for nodes, too")
        });
    }
}
