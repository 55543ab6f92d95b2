//! Masquerading: somebody's packets and never the node's own, and one address of a family.

use super::Once;
use super::prefixes::holds;
use crate::diagnostic::{Diagnoses, Draft};
use crate::raw::{Masquerade, Top, each};
use crate::span::At;

pub(super) fn check(masquerade: &At<Masquerade>, top: &Top, diagnoses: &mut Diagnoses) {
    let (place, masquerade) = (masquerade.span, &masquerade.value);
    each_once(masquerade, diagnoses);
    addresses(masquerade, diagnoses);
    sources(masquerade, top, diagnoses);
    let has_pods = each(&top.nodes).any(|node| node.value.pod_cidrs.is_some());
    if masquerade.source.is_none() && !has_pods {
        diagnoses.push(|| {
            Draft::error("nobody's packets are masqueraded")
                .label(place, "there is no `source` here, and no node has `pod_cidrs`")
                .help("add `source` with the prefixes of this node's pods")
        });
    }
}

fn each_once(masquerade: &Masquerade, diagnoses: &mut Diagnoses) {
    let (mut devices, mut sources, mut excluded) = (Once::new(), Once::new(), Once::new());
    for device in each(&masquerade.devices) {
        let what = || format!("the device `{}` is given twice", device.value.0);
        devices.claim(&device.value, device.span, diagnoses, what);
    }
    for prefix in each(&masquerade.source) {
        let what = || format!("`masquerade.source` has {} twice", prefix.value.0);
        sources.claim(prefix.value, prefix.span, diagnoses, what);
    }
    for prefix in each(&masquerade.exclude) {
        let what = || format!("`masquerade.exclude` has {} twice", prefix.value.0);
        excluded.claim(prefix.value, prefix.span, diagnoses, what);
    }
}

fn addresses(masquerade: &Masquerade, diagnoses: &mut Diagnoses) {
    let mut families = Once::new();
    for address in each(&masquerade.addresses) {
        let (at, ip) = (address.span, address.value.0);
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let what = || format!("there can be one address of {family} only");
        families.claim(family, at, diagnoses, what);
        if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
            diagnoses.push(|| {
                Draft::error(format!("packets cannot leave with {ip}")).label(at, "nobody could answer")
            });
        }
    }
}

/// The node's own packets are not translated: its sockets would not know their answers.
fn sources(masquerade: &Masquerade, top: &Top, diagnoses: &mut Diagnoses) {
    let nodes = each(&top.nodes).flat_map(|node| each(&node.value.addresses));
    let own: Vec<_> = nodes.chain(each(&masquerade.addresses)).collect();
    for source in each(&masquerade.source) {
        let network = source.value.0;
        if network.prefix() == 0 {
            diagnoses.push(|| {
                Draft::error(format!("`masquerade.source` cannot be {network}"))
                    .label(source.span, "the node's own packets would be among them")
            });
            continue;
        }
        if let Some(address) = own.iter().find(|address| holds(network, address.value.0)) {
            diagnoses.push(|| {
                Draft::error(format!("{} is a node, and would be masqueraded", address.value.0))
                    .label(source.span, "packets from here are pods'")
                    .label(address.span, "in that prefix")
            });
        }
    }
}
