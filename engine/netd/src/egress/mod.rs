//! Egress policies, decided: which gateway is in force, what this node does with packets, and by which tables.
//!
//! Nothing here looks at the kernel or changes anything; the kinds `egress`, `address` and `bgp_path` go by it.

mod choose;
mod classes;
mod compile;
mod devices;
mod owner;
#[cfg(test)]
mod properties;
mod report;
mod rule;
mod uplink;

pub use choose::{in_force, watched};
pub use classes::{Classes, Tables, from_classes, to_classes};
pub use compile::{Compiled, Overlap, Preference, RULES_MAX, Table, Taken, compile};
pub use devices::{Devices, devices};
pub use owner::{Owner, owner};
pub use report::{
    EgressAddressReport, EgressGatewayReport, EgressReport, OwnerReport, PolicyReport, TranslationReport,
    UsageReport,
};
pub use rule::{Rule, Trouble};
pub use uplink::uplink;

use crate::allocation::needs_names;
use crate::facts::Facts;
use crate::failover::Standing;
use crate::kinds::this_node;
use crate::reach::{Leg, Reach};
use ipnetwork::IpNetwork;
use netd_schema::{Config, Egress, Family};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Packets for many, to whom nobody could tell an answer, and those that no router sends on.
const NEVER_TAKEN: [&str; 4] = ["169.254.0.0/16", "224.0.0.0/4", "fe80::/10", "ff00::/8"];

/// Why a policy with a pool has no address, where gateways take over from each other.
const NAMELESS: &str = "another gateway could have been given another address of its pool: `netd allocate --write` \
                        writes one into the file for all";

/// What the file's policies come to on this node.
#[derive(Debug, Default)]
pub struct Decided {
    /// The tables, and what overlaps.
    pub compiled: Compiled,
    /// Why packets of a policy are dropped, or leave as they are, although it is for them; by its name.
    pub troubles: BTreeMap<String, Trouble>,
    /// What becomes of packets of a policy, IPv4 first; by its name.
    pub rules: BTreeMap<String, [Rule; 2]>,
}

/// What this node does with the packets of policies.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them, or when the policies come to too much.
pub fn decide(config: &Config, facts: &Facts) -> Result<Decided, String> {
    let mut decided = Decided::default();
    if config.egress.is_empty() {
        return Ok(decided);
    }
    let Some(reach) = Reach::new(config, facts)? else { return Ok(decided) };
    let seen = watched(config, facts);
    let undecided = undecided(config, facts)?;
    let mut taken = Vec::with_capacity(config.egress.len());
    for policy in &config.egress {
        // Whether this node is to have the addresses is not known: packets do not leave here with those that it has not.
        let is_undecided = undecided.iter().any(|other| other.name == policy.name);
        let has_address = || policy.ips.iter().any(|address| facts.is_own_address(*address));
        let may_have = |node: &str| node != facts.node || !is_undecided || has_address();
        let chosen = in_force(policy, seen);
        let gateway = chosen.filter(|gateway| may_have(&gateway.node));
        if gateway != chosen {
            let (why, passes) = ("it is not known yet which of its gateways live".to_owned(), true);
            decided.troubles.insert(policy.name.clone(), Trouble { why, passes });
        }
        let gateway = gateway.and_then(|gateway| config.node(&gateway.node));
        let mut of = |family| {
            let (rule, why) = rule::of(policy, gateway, family, &reach);
            if let Some(mut why) = why {
                if needs_names(config.egress_failover.is_some(), policy) && policy.ip(family).is_none() {
                    NAMELESS.clone_into(&mut why.why);
                }
                decided.troubles.entry(policy.name.clone()).or_insert(why);
            }
            rule
        };
        let (v4, v6) = (of(Family::Ipv4), of(Family::Ipv6));
        taken.push(Taken { policy, v4, v6 });
        decided.rules.insert(policy.name.clone(), [v4, v6]);
    }
    decided.compiled = compile(&taken, &cluster(config))?;
    Ok(decided)
}

/// The addresses of gateways on this node's links, to which packets are sent directly.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn next_hops(config: &Config, facts: &Facts) -> Result<BTreeSet<IpAddr>, String> {
    let mut found = BTreeSet::new();
    if config.egress.is_empty() {
        return Ok(found);
    }
    let Some(reach) = Reach::new(config, facts)? else { return Ok(found) };
    // Where another one may be in force a moment later, its Ethernet address has to be known by then.
    let is_watched = config.egress_failover.is_some();
    for policy in &config.egress {
        let chosen = in_force(policy, None).filter(|_| !is_watched);
        let all = policy.gateways.iter().filter(|_| is_watched);
        let gateways = chosen.into_iter().chain(all).filter_map(|gateway| config.node(&gateway.node));
        for gateway in gateways.filter(|gateway| !reach.is_me(gateway)) {
            for ip in &policy.ips {
                if let Ok(Leg::Direct { via, .. }) = reach.leg(gateway, IpNetwork::from(*ip)) {
                    found.insert(via);
                }
            }
        }
    }
    Ok(found)
}

/// The policies whose gateway in force is this node.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn gated<'c>(config: &'c Config, facts: &Facts) -> Result<Vec<&'c Egress>, String> {
    let me = this_node(config, facts)?.map(|node| node.name.as_str());
    let seen = watched(config, facts);
    let is_mine = |policy: &&Egress| me.is_some() && in_force(policy, seen).map(|it| it.node.as_str()) == me;
    Ok(config.egress.iter().filter(is_mine).collect())
}

/// The policies that this node may not take the addresses of now, but has them perhaps already: those that it is a gateway
/// of, while it is not known which gateways live.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn undecided<'c>(config: &'c Config, facts: &Facts) -> Result<Vec<&'c Egress>, String> {
    let is_known = watched(config, facts).is_some_and(|seen| seen.standing != Standing::Starting);
    if config.egress_failover.is_none() || is_known {
        return Ok(Vec::new());
    }
    let me = this_node(config, facts)?.map(|node| node.name.as_str());
    let is_mine = |policy: &&Egress| policy.gateways.iter().any(|it| Some(it.node.as_str()) == me);
    Ok(config.egress.iter().filter(|policy| is_shared(policy)).filter(is_mine).collect())
}

/// Whether a policy has gateways to choose from.
#[must_use]
pub fn is_shared(policy: &Egress) -> bool {
    policy.gateways.len() > 1
}

fn never_taken() -> impl Iterator<Item = IpNetwork> {
    NEVER_TAKEN.iter().filter_map(|text| text.parse().ok())
}

/// What policies without `in_cluster` do not take: pods and nodes of the file, and what no router sends on.
#[must_use]
pub fn cluster(config: &Config) -> BTreeSet<IpNetwork> {
    let pods = config.nodes.iter().flat_map(|node| &node.pod_cidrs).copied();
    let nodes = config.nodes.iter().flat_map(|node| &node.addresses).copied().map(IpNetwork::from);
    pods.chain(nodes).chain(never_taken()).collect()
}
