//! What `[[egress]]` means.

use super::prefixes;
use crate::model::{Egress, EgressFailover, EgressGateway};
use crate::raw::{self, EgressSource, Top, each};
use ipnetwork::IpNetwork;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) fn lower(top: &Top) -> Vec<Egress> {
    let named = top.egress_groups.iter().flat_map(|at| &at.value.groups);
    let groups: HashMap<&str, Vec<IpNetwork>> =
        named.map(|group| (group.name.value.0.as_str(), prefixes(&group.prefixes))).collect();
    let mut policies: Vec<Egress> = each(&top.egress).filter_map(|at| policy(&at.value, &groups)).collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    policies
}

fn policy(raw: &raw::Egress, groups: &HashMap<&str, Vec<IpNetwork>>) -> Option<Egress> {
    let standard = Egress::default();
    let mut sources = BTreeSet::new();
    for source in each(&raw.sources) {
        match &source.value {
            EgressSource::Prefix(prefix) => drop(sources.insert(prefix.0)),
            EgressSource::Group(name) => sources.extend(groups.get(name.0.as_str()).into_iter().flatten()),
        }
    }
    let mut ips: Vec<IpAddr> = each(&raw.ips).map(|ip| ip.value.0).collect();
    ips.sort();
    let destinations: BTreeSet<IpNetwork> = match &raw.destinations {
        Some(_) => prefixes(&raw.destinations).into_iter().collect(),
        None if raw.pool.is_some() => sources.iter().filter_map(|source| everywhere(source.ip())).collect(),
        None => ips.iter().filter_map(|ip| everywhere(*ip)).collect(),
    };
    let mut gateways: Vec<EgressGateway> = each(&raw.gateways).filter_map(|at| gateway(&at.value)).collect();
    gateways.sort();
    let mut announce = match &raw.announce {
        Some(_) => each(&raw.announce).map(|at| at.value).collect(),
        None => standard.announce,
    };
    announce.sort();
    Some(Egress {
        name: raw.name.as_ref()?.value.0.clone(),
        sources: sources.into_iter().collect(),
        destinations: destinations.into_iter().collect(),
        exclude: prefixes(&raw.exclude),
        ips,
        pool: raw.pool.as_ref().map(|pool| pool.value.0.clone()),
        gateways,
        on_no_gateway: raw.on_no_gateway.map_or(standard.on_no_gateway, |at| at.value),
        announce,
        ports: raw.port_range.map_or(standard.ports, |at| at.value),
        in_cluster: raw.in_cluster.map_or(standard.in_cluster, |at| at.value),
    })
}

fn gateway(raw: &raw::EgressGateway) -> Option<EgressGateway> {
    let priority = raw.priority.map_or(0, |at| at.value.get());
    Some(EgressGateway { node: raw.node.as_ref()?.value.0.clone(), priority })
}

pub(super) fn failover(raw: &raw::Failover) -> EgressFailover {
    let standard = EgressFailover::default();
    EgressFailover {
        interval: raw.interval.map_or(standard.interval, |at| at.value.0),
        misses: raw.misses.map_or(standard.misses, |at| at.value.wide()),
        port: raw.port.map_or(standard.port, |at| at.value.get()),
        preempt: raw.preempt.map_or(standard.preempt, |at| at.value),
        quorum: raw.quorum.map_or(standard.quorum, |at| at.value),
        key_file: raw.key_file.as_ref().map(|at| at.value.0.clone()),
    }
}

/// The prefix of all addresses of a family.
fn everywhere(one: IpAddr) -> Option<IpNetwork> {
    let first = if one.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    IpNetwork::new(first, 0).ok()
}
