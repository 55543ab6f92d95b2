//! What this node announces by BGP: VIPs that it can serve, its pod prefixes, egress addresses that it has, and aggregates of
//! VIPs.
//!
//! Key: the prefix. Mark of ownership: what the crate `netd-gobgp` marks paths with; others of the same gobgpd are
//! foreign, and a prefix that somebody else announces through it is a conflict. An update sends one UPDATE message to
//! the peers that are told, and ends no session.
//!
//! A VIP is announced once its services, its own entry and a program are in the datapath, and withdrawn before any of
//! them goes. It is withdrawn when the file leaves it without a backend, or none is in reach; when its last backend is
//! found unhealthy, after `hold_down`, and only as long as the `floor` is kept. Before the first verdict, and while no
//! way to a backend is resolved, it stays as it is.
//!
//! An egress address is announced once it is on the node, by the gateway in force alone, and withdrawn before it is removed.
//! Where gateways take over from each other the MED says since when, so that whoever came last is preferred.

mod egress_ips;
mod rules;
mod spec;
mod standing;
mod target;
mod united;

pub use egress_ips::is_only_elsewhere;
pub use spec::{Besides, PathSpec, Recipients};
pub use target::PathTarget;

use super::bgp_instance::{self, own_address};
use super::bgp_peer::peers_of;
use super::this_node;
use super::{attachment, route, service, vip};
use crate::facts::Facts;
use ipnetwork::IpNetwork;
use netd_core::{DesiredKind, Key, KindName, Need, ResourceId};
use netd_schema::{Announced, Bgp, BgpPeer, Config, Family, Node, Service, TrafficPolicy};
use rules::{Attributes, Rules, Subject};
use standing::{Judge, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "bgp_path";

/// What is announced of a node, before it is asked whom it can be told.
struct Offers<'c> {
    bgp: &'c Bgp,
    node: Option<&'c Node>,
    peers: Vec<&'c BgpPeer>,
    by_prefix: BTreeMap<IpNetwork, Offer>,
    /// What an operator should know of all VIPs.
    note: Option<String>,
}

/// One prefix that could be announced.
struct Offer {
    class: Announced,
    standing: Standing,
    to: BTreeMap<IpAddr, Attributes>,
    needs: Vec<Need>,
    is_aggregate: bool,
}

/// The announcements that the file and the node's state ask for.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let Some(bgp) = &config.bgp else { return Ok(desired) };
    let mut offers = Offers::of(config, bgp, facts)?;
    if offers.peers.is_empty() {
        return Ok(desired);
    }
    let vips = vips(config);
    let standings = Judge::new(facts, offers.node).standings(&vips, bgp);
    offers.offer_vips(config, |vip| standings.of.get(&vip).cloned().unwrap_or(Standing::Down));
    offers.note = standings.note;
    offers.offer_pods();
    offers.offer_egress_ips(config, facts)?;
    let speaker = Need::One(ResourceId { kind: bgp_instance::NAME, key: bgp_instance::key(&bgp.gobgpd) });
    for (&prefix, offer) in offers.by_prefix.iter().filter(|(_, offer)| offer.standing != Standing::Down) {
        match offers.announcement(prefix, offer, facts) {
            None => {}
            Some(Ok(spec)) => offers.place(spec, offer, &speaker, &mut desired),
            Some(Err(why)) => {
                desired.held.insert(Key::new(prefix.to_string()), why);
            }
        }
    }
    Ok(desired)
}

/// The aggregates that may be announced: packets for addresses of them that nothing has must not go back to where they
/// came from.
#[must_use]
pub fn aggregates(config: &Config, facts: &Facts) -> BTreeSet<IpNetwork> {
    let Some(bgp) = &config.bgp else { return BTreeSet::new() };
    let is_any =
        |bgp: &Bgp| bgp.announcements.iter().any(|rule| rule.aggregate != netd_schema::Aggregate::default());
    if !is_any(bgp) {
        return BTreeSet::new();
    }
    let Ok(mut offers) = Offers::of(config, bgp, facts) else { return BTreeSet::new() };
    offers.offer_vips(config, |_| Standing::Up);
    offers.by_prefix.iter().filter(|(_, offer)| offer.is_aggregate).map(|(&prefix, _)| prefix).collect()
}

impl<'c> Offers<'c> {
    fn of(config: &'c Config, bgp: &'c Bgp, facts: &Facts) -> Result<Self, String> {
        let node = this_node(config, facts)?;
        let own = |peer: &&BgpPeer| !facts.is_own_address(peer.address);
        let peers: Vec<&BgpPeer> = peers_of(config, facts).into_iter().filter(own).collect();
        Ok(Self { bgp, node, peers, by_prefix: BTreeMap::new(), note: None })
    }

    fn offer_vips(&mut self, config: &'c Config, standing: impl Fn(IpAddr) -> Standing) {
        let pools = Pools::of(config);
        let peers = self.peers.clone();
        let mut rules = Rules::new(self.bgp, &peers);
        for (vip, services) in &vips(config) {
            let vip = *vip;
            let pool = pools.holding(vip);
            let subject = Subject {
                class: Announced::Vips,
                services: services.iter().map(|service| service.name.as_str()).collect(),
                pool: pool.map(|(_, name)| name),
                is_for_all: false,
            };
            let told = rules.told(&subject);
            let standing = standing(vip);
            let needs = needs(vip, services);
            let may_aggregate =
                services.iter().all(|service| service.traffic_policy == TrafficPolicy::Cluster);
            for (peer, attributes) in told.iter() {
                let length = attributes.aggregate_of(Family::of(vip)).filter(|_| may_aggregate);
                let aggregate =
                    length.and_then(|length| aggregate(vip, length, pool.map(|(range, _)| range)));
                self.add(aggregate, vip, *peer, attributes, (&standing, &needs));
            }
        }
    }

    fn add(
        &mut self,
        aggregate: Option<IpNetwork>,
        vip: IpAddr,
        peer: IpAddr,
        attributes: &Attributes,
        (standing, needs): (&Standing, &[Need]),
    ) {
        let prefix = aggregate.unwrap_or_else(|| IpNetwork::from(vip));
        let offer = self.by_prefix.entry(prefix).or_insert_with(|| Offer {
            class: Announced::Vips,
            standing: Standing::Down,
            to: BTreeMap::new(),
            needs: Vec::new(),
            is_aggregate: aggregate.is_some(),
        });
        offer.to.entry(peer).or_default().merge(attributes);
        // Of an aggregate one VIP has to be in the datapath: the first that can be announced.
        if offer.standing < *standing {
            offer.standing = standing.clone();
            offer.needs = needs.to_vec();
            let refuses = aggregate
                .map(|prefix| Need::One(ResourceId { kind: route::NAME, key: Key::new(prefix.to_string()) }));
            offer.needs.extend(refuses);
        }
    }

    fn offer_pods(&mut self) {
        let peers = self.peers.clone();
        let mut rules = Rules::new(self.bgp, &peers);
        let class = Announced::PodCidrs;
        let told = rules.told(&Subject { class, services: Vec::new(), pool: None, is_for_all: false });
        for &prefix in self.node.iter().flat_map(|node| &node.pod_cidrs) {
            let to: BTreeMap<IpAddr, Attributes> = told.iter().cloned().collect();
            if to.is_empty() {
                continue;
            }
            let offer = Offer { class, standing: Standing::Up, to, needs: Vec::new(), is_aggregate: false };
            self.by_prefix.insert(prefix, offer);
        }
    }

    /// What is said of a prefix; `None` when no peer has its family.
    fn announcement(
        &self,
        prefix: IpNetwork,
        offer: &Offer,
        facts: &Facts,
    ) -> Option<Result<PathSpec, String>> {
        let family = Family::of(prefix.ip());
        let able: Vec<&BgpPeer> =
            self.peers.iter().copied().filter(|peer| peer.families.contains(&family)).collect();
        let told: Vec<(&BgpPeer, &Attributes)> =
            able.iter().filter_map(|peer| Some((*peer, offer.to.get(&peer.address)?))).collect();
        told.first()?;
        let is_foreign = |peer: &BgpPeer| {
            Family::of(peer.address) != family && !(family == Family::Ipv4 && peer.extended_next_hop)
        };
        let mut next_hop = None;
        if let Some((peer, _)) = told.iter().find(|(peer, _)| is_foreign(peer)) {
            next_hop = self.own_address(family, facts);
            if next_hop.is_none() {
                return Some(Err(format!(
                    "this node has no {} address that could be the next hop for {}",
                    family.word(),
                    peer.name
                )));
            }
        }
        let each = told.iter().map(|(peer, attributes)| united::Told {
            peer: peer.address,
            is_internal: peer.asn == self.bgp.asn,
            attributes,
        });
        let (all, besides) = united::united(&each.collect::<Vec<_>>(), self.bgp.asn);
        let addresses: BTreeSet<IpAddr> = told.iter().map(|(peer, _)| peer.address).collect();
        let to = match told.len() == able.len() {
            true => Recipients::All(addresses),
            false => Recipients::Only(addresses),
        };
        let Besides { communities, large_communities, local_preference, med, prepend } = all;
        Some(Ok(PathSpec {
            prefix,
            next_hop,
            communities,
            large_communities,
            local_preference,
            med,
            prepend,
            to,
            besides,
        }))
    }

    /// Wants it, or leaves it as it is.
    fn place(&self, spec: PathSpec, offer: &Offer, speaker: &Need, desired: &mut DesiredKind) {
        let key = spec.key();
        match &offer.standing {
            Standing::Down => {}
            Standing::Waits(why) => {
                desired.held.insert(key, why.clone());
            }
            &Standing::Fading(rest) => {
                let why = "its last backend was found unhealthy: it is withdrawn unless one recovers in time";
                desired.held.insert(key, why.into());
                desired.turns_in = Some(desired.turns_in.map_or(rest, |other| other.min(rest)));
            }
            Standing::Up => {
                let needs: Vec<Need> = offer.needs.iter().chain([speaker]).cloned().collect();
                desired.needs.insert(key.clone(), needs.into());
                if let Some(note) = self.note.as_ref().filter(|_| offer.class == Announced::Vips) {
                    desired.notes.insert(key.clone(), note.clone());
                }
                desired.table.insert(key, Arc::new(spec));
            }
        }
    }

    /// The node's address of a family that its peers know it by.
    fn own_address(&self, family: Family, facts: &Facts) -> Option<IpAddr> {
        let is_of = |address: IpAddr| (Family::of(address) == family).then_some(address);
        let listed = self.node.and_then(|node| node.addresses.iter().copied().find_map(is_of));
        listed.or_else(|| own_address(facts, is_of))
    }
}

/// The VIPs of the file, each with its services.
fn vips(config: &Config) -> BTreeMap<IpAddr, Vec<&Service>> {
    let mut vips: BTreeMap<IpAddr, Vec<&Service>> = BTreeMap::new();
    for service in &config.services {
        for &vip in &service.vips {
            vips.entry(vip).or_default().push(service);
        }
    }
    vips
}

/// What has to be in the datapath before a VIP is announced.
fn needs(address: IpAddr, services: &[&Service]) -> Vec<Need> {
    let frontends = services.iter().flat_map(|service| {
        service.ports.iter().map(move |port| ResourceId {
            kind: service::NAME,
            key: service::frontend_key(address, port.port, port.protocol),
        })
    });
    let own = ResourceId { kind: vip::NAME, key: Key::new(address.to_string()) };
    let mut needs: Vec<Need> = frontends.chain([own]).map(Need::One).collect();
    needs.push(Need::AnyOf(attachment::NAME));
    needs
}

/// The prefix of this length that holds the VIP, no shorter than the range of its pool; `None` if that is the VIP.
fn aggregate(vip: IpAddr, length: u8, range: Option<IpNetwork>) -> Option<IpNetwork> {
    let full = IpNetwork::from(vip).prefix();
    let length = range.map_or(length, |range| length.max(range.prefix()));
    let around = IpNetwork::new(vip, length).ok().filter(|_| length < full)?;
    IpNetwork::new(around.network(), length).ok()
}

/// The ranges of the pools, sorted; no two overlap.
struct Pools<'c>(Vec<(IpNetwork, &'c str)>);

impl<'c> Pools<'c> {
    fn of(config: &'c Config) -> Self {
        let ranges =
            |pool: &'c netd_schema::IpPool| pool.ranges.iter().map(move |range| (*range, pool.name.as_str()));
        let mut all: Vec<(IpNetwork, &str)> = config.ip_pools.iter().flat_map(ranges).collect();
        all.sort();
        Self(all)
    }

    fn holding(&self, address: IpAddr) -> Option<(IpNetwork, &'c str)> {
        let after = self.0.partition_point(|(range, _)| range.ip() <= address);
        let before = self.0.get(after.checked_sub(1)?)?;
        Some(*before).filter(|(range, _)| range.is_ipv4() == address.is_ipv4() && range.contains(address))
    }
}

#[cfg(test)]
mod tests;
