//! What `[wireguard]` and `nodes.wireguard` mean.

use crate::model::{NodeWireguard, Strict, StrictEgress, Wireguard};
use crate::raw;
use std::collections::BTreeSet;

pub(super) fn lower(raw: &raw::Wireguard) -> Wireguard {
    let standard = Wireguard::default();
    Wireguard {
        mode: raw.mode.map_or(standard.mode, |at| at.value),
        interface: raw.interface.as_ref().map_or(standard.interface, |at| at.value.0.clone()),
        port: raw.port.map_or(standard.port, |at| at.value.get()),
        key_file: raw.key_file.as_ref().map(|at| at.value.0.clone()),
        mtu: raw.mtu.map_or(standard.mtu, |at| at.value),
        keepalive: raw.keepalive.map(|at| at.value.0),
        mark: raw.mark.map_or(standard.mark, |at| at.value.wide()),
        table: raw.table.map_or(standard.table, |at| at.value.0),
        rule_priority: raw.rule_priority.map_or(standard.rule_priority, |at| at.value.wide()),
        device: raw.device.map_or(standard.device, |at| at.value),
        generation: raw.generation.map_or(standard.generation, |at| at.value.wide()),
        strict: raw.strict.as_ref().map_or(standard.strict, |at| strict(&at.value)),
    }
}

fn strict(raw: &raw::Strict) -> Strict {
    let egress = match raw.egress.as_ref().map(|at| &at.value) {
        None | Some(raw::StrictEgress::Off) => StrictEgress::Off,
        Some(raw::StrictEgress::Pods) => StrictEgress::Pods,
        Some(raw::StrictEgress::Listed(listed)) => {
            let sorted: BTreeSet<_> = listed.items.iter().map(|at| at.value.0).collect();
            StrictEgress::Listed(sorted.into_iter().collect())
        }
    };
    Strict { egress, ingress: raw.ingress.is_some_and(|at| at.value) }
}

pub(super) fn node(raw: &raw::NodeWireguard) -> NodeWireguard {
    NodeWireguard {
        public_key: raw.public_key.map(|at| at.value),
        next_public_key: raw.next_public_key.map(|at| at.value),
        endpoint: raw.endpoint.map(|at| at.value.0),
        preshared_key_file: raw.preshared_key_file.as_ref().map(|at| at.value.0.clone()),
    }
}
