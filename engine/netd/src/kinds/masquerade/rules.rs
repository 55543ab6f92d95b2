//! Decides whose packets get another address, where to, and which one.

use crate::facts::{Facts, Link};
use crate::kinds::this_node;
use ipnetwork::IpNetwork;
use netd_bpf::decap::Prefix;
use netd_bpf::nat;
use netd_core::FieldChange;
use netd_schema::{Config, FLOWS_DEFAULT, Masquerade, NetworkMode};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Packets for many go as they are: nobody of them could be told an answer.
const FOR_MANY: [&str; 2] = ["224.0.0.0/4", "ff00::/8"];

/// What the programs go by, on whatever device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// Whose packets are translated.
    #[serde(serialize_with = "as_texts")]
    pub source: BTreeSet<IpNetwork>,
    /// Where they go as they are.
    #[serde(serialize_with = "as_texts")]
    pub exclude: BTreeSet<IpNetwork>,
    /// Room for flows.
    pub flows: u32,
    /// Whether packets are asked for rules of egress policies.
    pub has_egress: bool,
}

/// What packets get that leave by a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Given {
    /// The address for IPv4.
    pub v4: Option<Ipv4Addr>,
    /// The address for IPv6.
    pub v6: Option<Ipv6Addr>,
    /// The first port.
    pub first_port: u16,
    /// The last port.
    pub last_port: u16,
}

impl Rules {
    /// Nobody's packets are masqueraded; flows are those of egress policies.
    pub(super) fn none() -> Self {
        Self { flows: FLOWS_DEFAULT, ..Self::default() }
    }

    /// What the file asks for on this node.
    pub(super) fn wanted(config: &Config, masquerade: &Masquerade, facts: &Facts) -> Result<Self, String> {
        let me = this_node(config, facts)?;
        let source = match masquerade.source.as_slice() {
            [] => me.map(|node| node.pod_cidrs.clone()).unwrap_or_default(),
            listed => listed.to_vec(),
        };
        let pods = config.nodes.iter().flat_map(|node| &node.pod_cidrs).copied();
        // In a tunnel only pods are reached; other nodes are outside, like everybody.
        let is_outside = config.network.mode == NetworkMode::Tunnel;
        let nodes = config.nodes.iter().filter(|_| !is_outside).flat_map(|node| &node.addresses);
        let many = FOR_MANY.iter().filter_map(|text| text.parse().ok());
        let exclude = masquerade.exclude.iter().copied().chain(pods).chain(source.iter().copied());
        let exclude = exclude.chain(nodes.copied().map(IpNetwork::from)).chain(many);
        let exclude = exclude.collect();
        Ok(Self { source: source.into_iter().collect(), exclude, flows: masquerade.flows, has_egress: false })
    }

    /// What programs are found to go by.
    pub(super) fn held(rules: &nat::Rules, size: nat::Size) -> Self {
        let networks = |prefixes: &BTreeSet<Prefix>| {
            prefixes.iter().filter_map(|&(address, bits)| IpNetwork::new(address, bits).ok()).collect()
        };
        Self {
            source: networks(&rules.sources),
            exclude: networks(&rules.exclude),
            flows: size.flows,
            has_egress: size.has_egress,
        }
    }

    pub(super) fn sources(&self) -> BTreeSet<Prefix> {
        prefixes(&self.source)
    }

    pub(super) fn excluded(&self) -> BTreeSet<Prefix> {
        prefixes(&self.exclude)
    }

    pub(super) fn summary(&self) -> String {
        let sources: Vec<String> = self.source.iter().map(ToString::to_string).collect();
        format!("from {}, but to {} prefixes", sources.join(", "), self.exclude.len())
    }

    pub(super) fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        for (name, now, before) in
            [("source", &self.source, &observed.source), ("exclude", &self.exclude, &observed.exclude)]
        {
            changes.extend(before.difference(now).map(|gone| FieldChange::removed(name, gone)));
            changes.extend(now.difference(before).map(|new| FieldChange::added(name, new)));
        }
        if self.has_egress != observed.has_egress {
            let word = |has: bool| if has { "asked for" } else { "not asked for" };
            changes.push(FieldChange::changed(
                "egress rules",
                word(observed.has_egress),
                word(self.has_egress),
            ));
        }
        if self.flows != observed.flows {
            changes.push(FieldChange::changed("room for flows", observed.flows, self.flows));
        }
        changes
    }
}

impl Given {
    /// Packets are not masqueraded.
    pub const NOTHING: Self = Self { v4: None, v6: None, first_port: 0, last_port: 0 };

    /// Packets are masqueraded, but there is no address for them: they are dropped.
    pub(super) fn no_address(masquerade: &Masquerade) -> Self {
        let (first_port, last_port) = (masquerade.ports.first, masquerade.ports.last);
        Self { first_port, last_port, ..Self::NOTHING }
    }

    /// The file's addresses, and of a family without one the device's own.
    pub(super) fn wanted(masquerade: &Masquerade, facts: &Facts, link: &Link) -> Result<Self, String> {
        if let Some(missing) = masquerade.addresses.iter().find(|address| !facts.is_own_address(**address)) {
            return Err(format!("{missing} is no address of this node: nothing would come back"));
        }
        let named = masquerade.addresses.iter().copied();
        let mut own: Vec<_> =
            facts.addresses.iter().filter(|at| at.link == link.index && at.usable && at.global).collect();
        // With an address that goes, the flows that have it end.
        own.sort_by_key(|at| at.temporary);
        let all: Vec<IpAddr> = named.chain(own.into_iter().map(|at| at.address)).collect();
        let v4 = all.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        let v6 = all.iter().find_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        if v4.is_none() && v6.is_none() {
            return Err(format!("{} has no address that packets could get", link.name));
        }
        let (first_port, last_port) = (masquerade.ports.first, masquerade.ports.last);
        Ok(Self { v4, v6, first_port, last_port })
    }

    pub(super) fn held(outer: Option<&nat::Outer>) -> Self {
        outer.map_or(Self::NOTHING, |outer| Self {
            v4: outer.v4,
            v6: outer.v6,
            first_port: outer.ports.first,
            last_port: outer.ports.last,
        })
    }

    pub(super) fn for_program(&self) -> nat::Outer {
        let ports = nat::Ports { first: self.first_port, last: self.last_port };
        nat::Outer { v4: self.v4, v6: self.v6, ports }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = [self.v4.map(IpAddr::from), self.v6.map(IpAddr::from)];
        let addresses: Vec<String> = addresses.iter().flatten().map(ToString::to_string).collect();
        match addresses.as_slice() {
            [] if *self == Self::NOTHING => f.write_str("nothing"),
            [] => write!(f, "no address, ports {}-{}", self.first_port, self.last_port),
            found => write!(f, "{}, ports {}-{}", found.join(" and "), self.first_port, self.last_port),
        }
    }
}

fn prefixes(networks: &BTreeSet<IpNetwork>) -> BTreeSet<Prefix> {
    networks.iter().map(|network| (network.network(), network.prefix())).collect()
}

fn as_texts<S: serde::Serializer>(networks: &BTreeSet<IpNetwork>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(networks.iter().map(ToString::to_string))
}
