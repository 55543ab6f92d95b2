//! Decides whose tunnels are opened, and for whom the packets in them may be.

use crate::facts::Facts;
use ipnetwork::IpNetwork;
use netd_bpf::decap;
use netd_core::FieldChange;
use netd_schema::{Config, Decap};
use serde::Serialize;
use std::collections::BTreeSet;

/// What the program goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// Outer sources that are believed.
    #[serde(serialize_with = "as_texts")]
    pub from: BTreeSet<IpNetwork>,
    /// Inner destinations that are taken.
    #[serde(serialize_with = "as_texts")]
    pub to: BTreeSet<IpNetwork>,
    /// Outer destinations: the node's addresses.
    #[serde(serialize_with = "as_texts")]
    pub own: BTreeSet<IpNetwork>,
    /// The UDP port at which GUE arrives.
    pub gue_port: u16,
}

impl Rules {
    /// What the file asks for on this node.
    pub(super) fn wanted(config: &Config, decap: &Decap, facts: &Facts) -> Self {
        let vips = config.services.iter().flat_map(|service| &service.vips).copied().map(IpNetwork::from);
        let pools = config.ip_pools.iter().flat_map(|pool| &pool.ranges).copied();
        let own = facts.addresses.iter().map(|own| own.address).filter(|own| !own.is_loopback());
        Self {
            from: decap.from.iter().copied().collect(),
            to: decap.to.iter().copied().chain(vips).chain(pools).collect(),
            own: own.map(IpNetwork::from).collect(),
            gue_port: decap.gue_port,
        }
    }

    /// What a program is found to go by.
    pub(super) fn held(rules: &decap::Rules) -> Self {
        let networks = |prefixes: &BTreeSet<decap::Prefix>| {
            prefixes.iter().filter_map(|&(address, bits)| IpNetwork::new(address, bits).ok()).collect()
        };
        let decap::Rules { from, own, to, gue_port } = rules;
        Self { from: networks(from), to: networks(to), own: networks(own), gue_port: *gue_port }
    }

    pub(super) fn for_program(&self) -> decap::Rules {
        let prefixes = |networks: &BTreeSet<IpNetwork>| {
            networks.iter().map(|network| (network.network(), network.prefix())).collect()
        };
        decap::Rules {
            from: prefixes(&self.from),
            own: prefixes(&self.own),
            to: prefixes(&self.to),
            gue_port: self.gue_port,
        }
    }

    pub(super) fn summary(&self) -> String {
        let Self { from, to, own: _, gue_port } = self;
        format!("XDP, from {}, to {}, GUE port {gue_port}", few(from), few(to))
    }

    pub(super) fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        for (name, now, before) in [
            ("from", &self.from, &observed.from),
            ("to", &self.to, &observed.to),
            ("address", &self.own, &observed.own),
        ] {
            changes.extend(before.difference(now).map(|gone| FieldChange::removed(name, gone)));
            changes.extend(now.difference(before).map(|new| FieldChange::added(name, new)));
        }
        if self.gue_port != observed.gue_port {
            changes.push(FieldChange::changed("GUE port", observed.gue_port, self.gue_port));
        }
        changes
    }
}

fn as_texts<S: serde::Serializer>(networks: &BTreeSet<IpNetwork>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(networks.iter().map(ToString::to_string))
}

/// So many prefixes are named where there are more.
const NAMED_MAX: usize = 3;

fn few(networks: &BTreeSet<IpNetwork>) -> String {
    let named: Vec<String> = networks.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    match networks.len().saturating_sub(NAMED_MAX) {
        0 if named.is_empty() => "nobody".into(),
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
