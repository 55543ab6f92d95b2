//! Decides by which way each check reaches its backend: directly, or through the tunnel of the clients' packets.

use super::check::{Check, Target};
use crate::facts::{Facts, Path, PathError, PathResolver};
use netd_bpf::probe_tunnel::Outer;
use netd_schema::Config;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How a check reaches its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the node's own routes to the backend's address, as asked for, or instead of the tunnel: why.
    Direct(Option<String>),
    /// Through the tunnel to the VIP.
    Tunnel(TunnelWay),
    /// There is none: why. Clients' packets find none, either.
    None(String),
}

/// How a probe's packet gets into the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelWay {
    /// The device by which the node's route to the VIP leaves: there the packet is caught.
    pub device: String,
    /// That device's interface index, now.
    pub ifindex: u32,
    /// The source address of the probe: that of the tunnel, which the backend can answer; `None` where it is of the
    /// other family, and the kernel chooses.
    pub from: Option<IpAddr>,
    /// What the packet is put into.
    pub outer: Outer,
}

/// The way of each check.
#[must_use]
pub fn ways(config: &Config, facts: &Facts, checks: &BTreeSet<Check>) -> BTreeMap<Check, Way> {
    if checks.is_empty() {
        return BTreeMap::new();
    }
    let resolver = PathResolver::new(facts);
    checks.iter().map(|check| (check.clone(), way(config, &resolver, &check.target))).collect()
}

fn way(config: &Config, resolver: &PathResolver<'_>, target: &Target) -> Way {
    let Some(vip) = target.vip else { return Way::Direct(None) };
    let instead = |why: String| Way::Direct(Some(format!("is checked directly: {why}")));
    let entry = match resolver.hop(vip) {
        Ok(entry) => entry,
        Err(PathError::Local(_)) => return instead(format!("the VIP {vip} is an address of this node")),
        Err(error) => return instead(format!("its probes do not find the tunnel: {error}")),
    };
    let device = &entry.link.name;
    if entry.via.is_none() {
        return instead(format!("its probes do not find the tunnel: {vip} is a neighbour on {device}"));
    }
    if entry.link.mac.is_none() {
        return instead(format!("its probes do not find the tunnel: {device} is not Ethernet"));
    }
    match resolver.resolve(target.backend) {
        Ok(path) => Way::Tunnel(TunnelWay {
            device: device.clone(),
            ifindex: entry.link.index,
            from: (path.source.is_ipv4() == vip.is_ipv4()).then_some(path.source),
            outer: outer(config, target, &path),
        }),
        Err(error) => Way::None(error.to_string()),
    }
}

fn outer(config: &Config, target: &Target, path: &Path) -> Outer {
    let rss = config.load_balancer.rss_source.iter();
    let prefix = rss.into_iter().find(|prefix| prefix.is_ipv4() == target.backend.is_ipv4());
    Outer {
        ifindex: path.ifindex,
        destination_mac: path.destination_mac.0,
        source_mac: path.source_mac.0,
        source: prefix.map_or(path.source, |prefix| one_of(*prefix)),
        destination: target.backend,
        gue_port: target.gue_port,
        hop_limit: config.load_balancer.hop_limit,
    }
}

/// An address that flows may get as well: the second of the prefix.
fn one_of(prefix: ipnetwork::IpNetwork) -> IpAddr {
    match prefix.network() {
        IpAddr::V4(first) if prefix.prefix() < 32 => Ipv4Addr::from_bits(first.to_bits() | 1).into(),
        IpAddr::V6(first) if prefix.prefix() < 128 => Ipv6Addr::from_bits(first.to_bits() | 1).into(),
        only => only,
    }
}

#[cfg(test)]
#[path = "way_tests.rs"]
mod tests;
