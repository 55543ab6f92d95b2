//! Decides from the file whom this node asks, and by which rules it goes.

use netd_schema::{Config, EgressFailover, Node, Quorum};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Whom this node asks, and by which rules it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    /// This node's name.
    pub me: String,
    /// Whether it is a gateway itself.
    pub is_gateway: bool,
    /// Where it listens: at most one address of a family.
    pub listens: Vec<SocketAddr>,
    /// Whom it asks, and who may ask it, by name: all gateways, and all nodes if it is one.
    pub others: BTreeMap<String, SocketAddr>,
    /// The gateways, sorted: the order of what messages say of them.
    pub gateways: Vec<String>,
    /// From one question to the next.
    pub interval: Duration,
    /// After this time without a proof, a node counts as not heard by this one.
    pub patience: Duration,
    /// After this time without a proof by anybody, a gateway counts as dead.
    pub detection: Duration,
    /// Whether a gateway that comes takes what others have.
    pub preempt: bool,
    /// So many nodes a gateway has to hear to have addresses, itself included.
    pub needs: usize,
    /// The file with the common secret.
    pub key_file: Option<PathBuf>,
}

impl Orders {
    /// What the file gives to a node; `None` where nobody is watched, or the node is not in the file.
    #[must_use]
    pub fn of(config: &Config, me: &str) -> Option<Self> {
        let failover = config.egress_failover.as_ref()?;
        let node = config.node_of_host(me)?;
        let me = node.name.as_str();
        let gateways = watched(config);
        if gateways.is_empty() {
            return None;
        }
        let is_gateway = gateways.contains(me);
        let is_asked = |other: &&Node| other.name != me && (is_gateway || gateways.contains(&other.name));
        let place = |other: &Node| Some((other.name.clone(), meeting(node, other, failover)?));
        let others = config.nodes.iter().filter(is_asked).filter_map(place).collect();
        let of_family = |is_v4| node.addresses.iter().find(|address| address.is_ipv4() == is_v4);
        let listens = [of_family(true), of_family(false)].into_iter().flatten();
        let needs = match failover.quorum {
            Quorum::Majority => config.nodes.len() / 2 + 1,
            Quorum::None => 1,
        };
        Some(Self {
            me: me.to_owned(),
            is_gateway,
            listens: listens.map(|address| SocketAddr::new(*address, failover.port)).collect(),
            others,
            gateways: gateways.into_iter().collect(),
            interval: failover.interval,
            patience: failover.patience(),
            detection: failover.detection(),
            preempt: failover.preempt,
            needs,
            key_file: failover.key_file.clone(),
        })
    }

    /// A print of the list of gateways: nodes whose files differ in it do not take each other's word about them.
    #[must_use]
    pub fn print(&self) -> u64 {
        let names: Vec<&[u8]> = self.gateways.iter().map(String::as_bytes).collect();
        xxhash_rust::xxh3::xxh3_64(&names.join(&0))
    }
}

/// The gateways of policies that have several; one that is the only one has nobody to leave its addresses to.
fn watched(config: &Config) -> BTreeSet<String> {
    let policies = config.egress.iter().filter(|policy| policy.gateways.len() > 1);
    policies.flat_map(|policy| &policy.gateways).map(|gateway| gateway.node.clone()).collect()
}

/// Where another node is asked: by IPv4 if both have it, else by IPv6.
fn meeting(me: &Node, other: &Node, failover: &EgressFailover) -> Option<SocketAddr> {
    let first =
        |node: &Node, is_v4| node.addresses.iter().copied().find(|address| address.is_ipv4() == is_v4);
    let common = |is_v4| -> Option<IpAddr> { first(me, is_v4).and(first(other, is_v4)) };
    common(true).or_else(|| common(false)).map(|address| SocketAddr::new(address, failover.port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use netd_schema::{Egress, EgressGateway};

    fn config(quorum: Quorum) -> Config {
        let node = |name: &str, addresses: &[&str]| Node {
            name: name.into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ..Node::default()
        };
        let policy = |name: &str, gateways: &[&str]| Egress {
            name: name.into(),
            gateways: gateways
                .iter()
                .map(|node| EgressGateway { node: (*node).into(), priority: 0 })
                .collect(),
            ..Egress::default()
        };
        Config {
            nodes: vec![
                node("gw-1", &["2001:db8::1", "10.0.0.1", "10.0.1.1"]),
                node("gw-2", &["10.0.0.2", "2001:db8::2"]),
                node("gw-3", &["10.0.0.3"]),
                node("pods-4", &["10.0.0.4"]),
                node("pods-6", &["2001:db8::6"]),
            ],
            egress: vec![policy("one", &["gw-1", "gw-2"]), policy("two", &["gw-3"])],
            egress_failover: Some(EgressFailover { quorum, ..EgressFailover::default() }),
            ..Config::default()
        }
    }

    fn asked(orders: &Orders) -> Vec<String> {
        orders.others.iter().map(|(name, at)| format!("{name} {at}")).collect()
    }

    #[test]
    fn a_gateway_asks_everybody_and_others_ask_the_gateways_that_share_a_policy() {
        let config = config(Quorum::Majority);
        let gateway = Orders::of(&config, "gw-1").unwrap();
        assert_eq!(
            asked(&gateway),
            ["gw-2 10.0.0.2:9473", "gw-3 10.0.0.3:9473", "pods-4 10.0.0.4:9473", "pods-6 [2001:db8::6]:9473"]
        );
        assert!(gateway.is_gateway && gateway.gateways == ["gw-1", "gw-2"]);
        assert_eq!(gateway.listens.len(), 2);
        let other = Orders::of(&config, "pods-6").unwrap();
        assert_eq!(asked(&other), ["gw-1 [2001:db8::1]:9473", "gw-2 [2001:db8::2]:9473"]);
        assert!(!other.is_gateway && other.listens.len() == 1);
        assert_eq!(gateway.print(), other.print());
        assert!(!Orders::of(&config, "gw-3").unwrap().is_gateway);
    }

    #[test]
    fn a_majority_is_more_than_half_of_the_nodes_in_the_file() {
        assert_eq!(Orders::of(&config(Quorum::Majority), "gw-1").unwrap().needs, 3);
        assert_eq!(Orders::of(&config(Quorum::None), "gw-1").unwrap().needs, 1);
    }

    #[test]
    fn nobody_is_watched_where_no_policy_has_a_choice_or_the_file_does_not_say_so() {
        let mut config = config(Quorum::Majority);
        assert_eq!(Orders::of(&config, "elsewhere"), None);
        config.egress.remove(0);
        assert_eq!(Orders::of(&config, "gw-3"), None);
        let still = Config { egress_failover: None, ..self::config(Quorum::Majority) };
        assert_eq!(Orders::of(&still, "gw-1"), None);
    }
}
