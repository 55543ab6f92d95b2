//! Decides which links a prefix may be reached by, whoever made the routes.

use crate::facts::{Facts, RouteAction};
use ipnetwork::IpNetwork;
use netd_schema::Node;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The links of the main table's routes that cover one of the prefixes, or are part of one.
pub(super) fn carrying<'p>(facts: &Facts, prefixes: impl Iterator<Item = &'p IpNetwork>) -> BTreeSet<u32> {
    let watched = Watched::new(prefixes);
    links(facts, |destination| watched.overlaps(destination))
}

/// The links that lead to this node's own pods: by a route to some, or an address among them.
pub(super) fn to_pods(facts: &Facts, me: Option<&Node>) -> BTreeSet<u32> {
    let own = Watched::new(me.into_iter().flat_map(|me| &me.pod_cidrs));
    let held = facts.addresses.iter().filter(|held| own.covers(IpNetwork::from(held.address)));
    let mut found = links(facts, |destination| own.covers(destination));
    found.extend(held.map(|held| held.link));
    found
}

fn links(facts: &Facts, is_meant: impl Fn(IpNetwork) -> bool) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for route in facts.routes.iter().filter(|route| is_meant(route.destination)) {
        match &route.action {
            RouteAction::Forward(hops) => found.extend(hops.iter().map(|hop| hop.link)),
            RouteAction::Tunnel(hop, _) => {
                found.insert(hop.link);
            }
            RouteAction::Discard | RouteAction::Other => {}
        }
    }
    found
}

/// Prefixes, and how long they are: few lengths, among which a route's has to be looked for.
struct Watched {
    prefixes: BTreeSet<(IpAddr, u8)>,
    lengths: BTreeSet<u8>,
}

impl Watched {
    fn new<'p>(prefixes: impl Iterator<Item = &'p IpNetwork>) -> Self {
        let prefixes: BTreeSet<(IpAddr, u8)> =
            prefixes.map(|prefix| (prefix.network(), prefix.prefix())).collect();
        let lengths = prefixes.iter().map(|(_, length)| *length).collect();
        Self { prefixes, lengths }
    }

    fn overlaps(&self, route: IpNetwork) -> bool {
        // What the route covers begins inside of it.
        let inside = (route.network(), 0)..=(route.broadcast(), u8::MAX);
        self.prefixes.range(inside).next().is_some() || self.covers(route)
    }

    /// Whether one of the prefixes has all of it.
    fn covers(&self, route: IpNetwork) -> bool {
        self.lengths.range(..=route.prefix()).any(|&length| {
            let cut = IpNetwork::new(route.network(), length);
            cut.is_ok_and(|cut| self.prefixes.contains(&(cut.network(), length)))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn prefixes_overlap_when_one_has_the_other() {
        let prefixes: Vec<IpNetwork> =
            ["10.244.2.0/24", "10.245.0.0/16", "fd00:244:2::/64"].map(|text| text.parse().unwrap()).into();
        let watched = Watched::new(prefixes.iter());
        for (route, overlaps, covers) in [
            ("10.244.2.0/24", true, true),
            ("10.244.2.128/25", true, true),
            ("10.244.0.0/16", true, false),
            ("10.244.3.0/24", false, false),
            ("10.245.7.1/32", true, true),
            ("0.0.0.0/0", true, false),
            ("fd00:244:2::7/128", true, true),
            ("fd00:244::/32", true, false),
            ("fd00:245::/32", false, false),
            ("::/0", true, false),
        ] {
            let found = (watched.overlaps(route.parse().unwrap()), watched.covers(route.parse().unwrap()));
            assert_eq!(found, (overlaps, covers), "{route}");
        }
    }
}
