//! Egress policies as `netd egress` shows them: plain values, made of the file, the facts and what was observed.

use super::{Decided, Rule, in_force, is_shared, watched};
use crate::facts::Facts;
use crate::failover::{Seen, Standing};
use crate::kinds::address::{self, AddressSpec};
use crate::report::FormatVersion;
use ipnetwork::IpNetwork;
use netd_core::{Observed, Reading};
use netd_schema::{Config, Egress, EgressGateway, Family, PoolChoice};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The policies of the file in force, as they stand on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressReport {
    /// The version of this form.
    pub version: FormatVersion,
    /// By which name the node finds itself in the file.
    pub node: String,
    /// The policies, by name.
    pub policies: Vec<PolicyReport>,
    /// What this node's programs have; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translation: Option<TranslationReport>,
}

/// One policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// Its name.
    pub name: String,
    /// Whose packets, as prefixes.
    pub sources: Vec<String>,
    /// Where to.
    pub destinations: Vec<String>,
    /// Where not.
    pub exclude: Vec<String>,
    /// The pool that its addresses come from, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The node that is its gateway now; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Whether that is this node.
    pub is_here: bool,
    /// Why that one.
    pub why: String,
    /// All that may be, by name.
    pub gateways: Vec<EgressGatewayReport>,
    /// Its egress addresses.
    pub addresses: Vec<EgressAddressReport>,
    /// What this node does with its packets, by family.
    pub here: BTreeMap<String, String>,
    /// Why its packets are dropped, or leave as they are; absent if they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// The policy that has a packet.
#[derive(Clone, Debug)]
pub struct OwnerReport {
    /// How it stands.
    pub policy: PolicyReport,
    /// Its longest prefix with the packet's source.
    pub source: IpNetwork,
    /// Its longest prefix with the packet's destination.
    pub destination: IpNetwork,
    /// What this node is to do with the packet.
    pub rule: Rule,
}

/// A node that may be the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressGatewayReport {
    /// The node.
    pub node: String,
    /// Higher is preferred.
    pub priority: u16,
}

/// An egress address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressAddressReport {
    /// The address.
    pub address: IpAddr,
    /// Where it is, in words.
    pub state: String,
    /// Whether it is on this node, by netd.
    pub is_here: bool,
    /// How many ports may be given away for one remote.
    pub ports: u32,
    /// How it is used; absent where this node is not its gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageReport>,
}

/// How an address is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReport {
    /// Flows that have it.
    pub flows: u32,
    /// Ports in use for the remote for which most are.
    pub ports: u32,
    /// The same in thousandths of what may be given away.
    pub permille: u32,
    /// That remote: `tcp 192.168.33.13:443`; absent without flows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
}

/// The programs that translate, of all policies and of masquerading together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranslationReport {
    /// Flows that are alive.
    pub flows: u32,
    /// That there is room for.
    pub flows_max: u32,
    /// Packets that were sent to gateways.
    pub steered: u64,
    /// Packets that were dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
}

impl EgressReport {
    /// What the policies of a file, with the addresses that they have, come to.
    ///
    /// # Errors
    ///
    /// When the file lists nodes and this one is not among them, or when the policies come to too much.
    pub fn of(config: &Config, facts: &Facts, observed: &Observed) -> Result<Self, String> {
        let decided = super::decide(config, facts)?;
        let seen = watched(config, facts);
        // What is watched by nobody here is as it would be if all lived.
        let is_watched = config.egress_failover.is_some();
        let view = View { facts, decided: &decided, observed, seen, is_watched };
        let policy = |policy: &Egress| PolicyReport::of(policy, &view);
        let policies = config.egress.iter().map(policy).collect();
        Ok(Self { node: facts.node.clone(), policies, ..Self::default() })
    }
}

impl OwnerReport {
    /// The policy of a file, with the addresses that it has, that a packet belongs to; `None`: no policy has it.
    ///
    /// # Errors
    ///
    /// As for [`EgressReport::of`].
    pub fn of(
        config: &Config,
        facts: &Facts,
        observed: &Observed,
        from: IpAddr,
        to: IpAddr,
    ) -> Result<Option<Self>, String> {
        let Some(owner) = super::owner(&config.egress, &super::cluster(config), from, to) else {
            return Ok(None);
        };
        let decided = super::decide(config, facts)?;
        let is_watched = config.egress_failover.is_some();
        let view = View { facts, decided: &decided, observed, seen: watched(config, facts), is_watched };
        let rules = decided.rules.get(&owner.policy.name);
        let rule = rules.map_or(Rule::Pass, |[v4, v6]| if to.is_ipv4() { *v4 } else { *v6 });
        let policy = PolicyReport::of(owner.policy, &view);
        Ok(Some(Self { policy, source: owner.source, destination: owner.destination, rule }))
    }
}

/// What a node knows that is not the policies'.
struct View<'v> {
    facts: &'v Facts,
    decided: &'v Decided,
    observed: &'v Observed,
    /// Which gateways live; `None` also where they are watched, and not by who looks.
    seen: Option<&'v Seen>,
    is_watched: bool,
}

impl PolicyReport {
    fn of(policy: &Egress, view: &View<'_>) -> Self {
        let View { facts, decided, observed, .. } = *view;
        let texts = |prefixes: &[ipnetwork::IpNetwork]| prefixes.iter().map(ToString::to_string).collect();
        let gateway = in_force(policy, view.seen);
        let name = gateway.map(|gateway| gateway.node.clone());
        let ports = u32::from(policy.ports.last.saturating_sub(policy.ports.first)) + 1;
        let of_address = |address: &IpAddr| {
            let (state, is_here) = place(*address, name.as_deref(), &facts.node, observed);
            EgressAddressReport { address: *address, state, is_here, ports, usage: None }
        };
        let rules = decided.rules.get(&policy.name);
        let here = Family::BOTH.into_iter().zip(rules.into_iter().flatten());
        let here = here.filter(|(family, _)| policy.takes(*family));
        let gateways = policy.gateways.iter();
        Self {
            name: policy.name.clone(),
            sources: texts(&policy.sources),
            destinations: texts(&policy.destinations),
            exclude: texts(&policy.exclude),
            pool: policy.pool.as_ref().map(|pool| match pool {
                PoolChoice::Auto => "auto".to_owned(),
                PoolChoice::Named(name) => name.clone(),
            }),
            is_here: name.as_deref() == Some(facts.node.as_str()),
            why: why(policy, gateway, view),
            gateways: gateways
                .map(|gateway| EgressGatewayReport { node: gateway.node.clone(), priority: gateway.priority })
                .collect(),
            addresses: policy.ips.iter().map(of_address).collect(),
            here: here.map(|(family, rule)| (family.name().to_owned(), rule.to_string())).collect(),
            trouble: decided.troubles.get(&policy.name).map(|trouble| trouble.why.clone()),
            gateway: name,
        }
    }
}

/// Why this gateway is in force, or none is.
fn why(policy: &Egress, gateway: Option<&EgressGateway>, view: &View<'_>) -> String {
    let Some(gateway) = gateway else {
        return match view.seen {
            _ if policy.gateways.is_empty() => "it has no gateway".to_owned(),
            Some(seen) if seen.standing == Standing::Starting => seen.standing.to_string(),
            _ => "none of its gateways lives".to_owned(),
        };
    };
    if !is_shared(policy) {
        return "it is the only one".to_owned();
    }
    let rank = |gateway: &EgressGateway| match view.seen {
        Some(seen) => seen.alive.get(&gateway.node).copied(),
        None => Some(0),
    };
    let living: Vec<_> = policy.gateways.iter().filter(|other| rank(other).is_some()).collect();
    let first: Vec<_> = living.iter().filter(|other| rank(other) == rank(gateway)).collect();
    let alike = first.iter().filter(|other| other.priority == gateway.priority).count();
    let said = match (first.len(), alike) {
        (1, _) if living.len() == 1 => "it is the only one that lives".to_owned(),
        (1, _) => "it came before the others that live".to_owned(),
        (_, 1) => format!("it has the highest priority, {}", gateway.priority),
        (_, alike) => format!("a hash of the names chose it of {alike} with priority {}", gateway.priority),
    };
    match view.seen {
        None if view.is_watched => format!("{said}, if all live: nobody here watches them"),
        Some(_) if living.len() > 1 && living.len() < policy.gateways.len() => {
            format!("{said}, of those that live")
        }
        _ => said,
    }
}

/// Where an address is, and whether it is here.
fn place(address: IpAddr, gateway: Option<&str>, me: &str, observed: &Observed) -> (String, bool) {
    let key = address::key(address);
    let found = match observed.0.get(address::NAME) {
        Some(Reading::Known(found)) => found,
        Some(Reading::Unknown(why)) => return (format!("it cannot be read where it is: {why}"), false),
        None => return ("nobody looked".to_owned(), false),
    };
    if let Some(spec) = found.owned.get(&key).and_then(|spec| spec.as_any().downcast_ref::<AddressSpec>()) {
        return (format!("on {}", spec.device), true);
    }
    if let Some(who) = found.foreign.get(&key) {
        return (format!("conflict: {who}"), false);
    }
    match gateway {
        Some(node) if node == me => ("not added yet".to_owned(), false),
        Some(node) => (format!("node {node} has it"), false),
        None => ("nobody has it".to_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use netd_core::Observation;
    use std::sync::Arc;

    const FILE: &str = "version = 1\n\
        [[nodes]]\nname = \"a\"\naddresses = [\"10.0.0.1\"]\n\
        [[nodes]]\nname = \"b\"\naddresses = [\"10.0.0.2\"]\n\
        [[egress]]\nname = \"one\"\nsources = [\"10.244.0.0/16\"]\nips = [\"192.168.33.100\"]\n\
        gateways = [{ node = \"a\", priority = 7 }, { node = \"b\" }]\n\
        [[egress]]\nname = \"two\"\nsources = [\"10.245.0.0/16\"]\nips = [\"192.168.33.101\"]\n\
        gateways = [{ node = \"b\" }]\n\
        [[egress]]\nname = \"none\"\nsources = [\"10.246.0.0/16\"]\nips = [\"192.168.33.102\"]\ngateways = []\n";

    #[test]
    fn a_policy_says_which_gateway_why_and_where_its_address_is() {
        let config =
            netd_schema::parse("test.toml", FILE.as_bytes()).unwrap_or_else(|found| panic!("{found}")).config;
        let facts = Facts { node: "a".into(), ..Facts::default() };
        let address: IpAddr = "192.168.33.100".parse().unwrap();
        let spec = AddressSpec {
            address,
            device: "eth0".into(),
            ifindex: 2,
            surplus: Vec::new(),
            lease: address::Lease::default(),
            is_duplicate: false,
            told: address::Told(false),
        };
        let owned = [(address::key(address), Arc::new(spec) as _)].into();
        let known = Reading::Known(Observation { owned, ..Observation::default() }.into());
        let report = EgressReport::of(&config, &facts, &Observed([(address::NAME, known)].into())).unwrap();
        let told: Vec<_> = report
            .policies
            .iter()
            .map(|policy| {
                let gateway = policy.gateway.as_deref().unwrap_or("-");
                (policy.name.as_str(), gateway, policy.why.as_str(), policy.addresses[0].state.as_str())
            })
            .collect();
        let expected = [
            ("none", "-", "it has no gateway", "nobody has it"),
            ("one", "a", "it has the highest priority, 7", "on eth0"),
            ("two", "b", "it is the only one", "node b has it"),
        ];
        assert_eq!(told, expected);
        let [none, one, _] = report.policies.as_slice() else { panic!("{report:?}") };
        assert_eq!(one.here["ipv4"], "leaves here as 192.168.33.100, ports 32768-65535");
        assert_eq!(
            (none.here["ipv4"].as_str(), none.trouble.as_deref()),
            ("dropped", Some("it has no gateway"))
        );
    }
}
