//! Which received routes are not taken, and in what words that is said.

use super::aggregates;
use crate::facts::Facts;
use ipnetwork::IpNetwork;
use netd_schema::{Config, Import};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What no router has a route to (RFC 6890): this network, loopback, links, groups, what was never given out. The
/// prefixes for documentation are not among them, nor is the one for discarding, which is what it is routed for.
const MARTIANS: [&str; 10] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "fe80::/10",
    "ff00::/8",
];

/// Why a route is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Everywhere,
    Martian,
    Vip,
    Pool,
    Pods,
    Egress,
    Aggregate,
}

/// What is not anybody else's to have a route to.
pub(super) struct Refused {
    spans: Vec<(Reason, Spans)>,
    aggregates: BTreeSet<IpNetwork>,
}

/// What becomes of what a peer sent.
pub(super) struct Choice<'r> {
    pub(super) taken: Vec<(IpNetwork, IpAddr)>,
    /// How many there are for each reason, and the first of them.
    left: BTreeMap<Reason, (usize, &'r IpNetwork)>,
    beyond: usize,
}

impl Refused {
    pub(super) fn of(config: &Config, facts: &Facts) -> Self {
        let vips = config.services.iter().flat_map(|service| &service.vips).map(|vip| IpNetwork::from(*vip));
        let egress = config.egress.iter().flat_map(|policy| &policy.ips).map(|ip| IpNetwork::from(*ip));
        let pools = config.ip_pools.iter().flat_map(|pool| &pool.ranges).copied();
        let pods = config.nodes.iter().flat_map(|node| &node.pod_cidrs).copied();
        let martians = MARTIANS.iter().filter_map(|text| text.parse().ok());
        let spans = vec![
            (Reason::Martian, Spans::of(martians)),
            (Reason::Vip, Spans::of(vips)),
            (Reason::Pool, Spans::of(pools)),
            (Reason::Pods, Spans::of(pods)),
            (Reason::Egress, Spans::of(egress)),
        ];
        // Refused by a route that any other would win against: two nodes would hand packets to each other.
        Self { spans, aggregates: aggregates(config, facts) }
    }

    fn reason(&self, prefix: &IpNetwork, import: Import) -> Option<Reason> {
        if prefix.prefix() == 0 {
            return (!import.default_route).then_some(Reason::Everywhere);
        }
        if self.aggregates.contains(prefix) {
            return Some(Reason::Aggregate);
        }
        self.spans.iter().find(|(_, spans)| spans.hold(prefix)).map(|(reason, _)| *reason)
    }

    pub(super) fn choose<'r>(&self, import: Import, routes: &'r BTreeMap<IpNetwork, IpAddr>) -> Choice<'r> {
        let mut choice = Choice { taken: Vec::new(), left: BTreeMap::new(), beyond: 0 };
        let max = usize::try_from(import.max).unwrap_or(usize::MAX);
        for (prefix, next_hop) in routes {
            match self.reason(prefix, import) {
                Some(reason) => choice.left.entry(reason).or_insert((0, prefix)).0 += 1,
                None if choice.taken.len() >= max => choice.beyond += 1,
                None => choice.taken.push((*prefix, *next_hop)),
            }
        }
        choice
    }
}

impl Choice<'_> {
    /// What is not taken, in words; `None` if everything is.
    pub(super) fn remark(&self, import: Import, left_out: u64, unreadable: u64) -> Option<String> {
        let mut parts: Vec<String> = Vec::new();
        for (reason, (count, first)) in &self.left {
            let example = if *count == 1 { format!("{first}") } else { format!("{first} …") };
            parts.push(match reason {
                Reason::Everywhere => format!("{count} to everywhere (`import.default_route` takes it)"),
                Reason::Martian => format!("{count} to where nothing is routed ({example})"),
                Reason::Vip => format!("{count} to VIPs of the file ({example})"),
                Reason::Pool => format!("{count} inside pools of the file ({example})"),
                Reason::Pods => format!("{count} to pods of the file ({example})"),
                Reason::Egress => format!("{count} to egress addresses of the file ({example})"),
                Reason::Aggregate => format!("{count} that this node announces itself ({example})"),
            });
        }
        if self.beyond > 0 {
            parts.push(format!("{} more than `import.max`, {}", self.beyond, import.max));
        }
        if left_out > 0 {
            parts.push(format!("{left_out} of a family of which it sent more than netd looks at"));
        }
        if unreadable > 0 {
            parts.push(format!("{unreadable} that make no sense"));
        }
        (!parts.is_empty()).then(|| format!("of the routes that it sent are not taken: {}", parts.join(", ")))
    }
}

/// Prefixes, as the first and the last address of each; none is inside another.
struct Spans(Vec<(IpAddr, IpAddr)>);

impl Spans {
    fn of(prefixes: impl Iterator<Item = IpNetwork>) -> Self {
        let mut all: Vec<IpNetwork> = prefixes.collect();
        all.sort_by_key(|prefix| (prefix.network(), prefix.prefix()));
        let mut spans: Vec<(IpAddr, IpAddr)> = Vec::new();
        for prefix in all {
            if spans.last().is_none_or(|(_, last)| *last < prefix.network()) {
                spans.push((prefix.network(), prefix.broadcast()));
            }
        }
        Self(spans)
    }

    /// Whether all of a prefix is inside one of these.
    fn hold(&self, prefix: &IpNetwork) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= prefix.network());
        let before = after.checked_sub(1).and_then(|place| self.0.get(place));
        before.is_some_and(|(_, last)| *last >= prefix.broadcast())
    }
}
