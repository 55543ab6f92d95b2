//! Who is told of a prefix, and what is said about it: `bgp.announce` and the rules of `bgp.announcements`.

use netd_schema::{Aggregate, Announced, Announcement, Bgp, BgpPeer, Community, Family, LargeCommunity};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

/// What rules match.
#[derive(Clone, Debug)]
pub(super) struct Subject<'c> {
    pub(super) class: Announced,
    /// The services of a VIP.
    pub(super) services: Vec<&'c str>,
    /// The pool that a VIP or an egress address is in.
    pub(super) pool: Option<&'c str>,
    /// Whether the file has every peer told of it, whatever is said of its class.
    pub(super) is_for_all: bool,
}

/// What is said about a prefix, and how VIPs become prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) communities: BTreeSet<Community>,
    pub(super) large_communities: BTreeSet<LargeCommunity>,
    pub(super) local_preference: Option<u32>,
    pub(super) med: Option<u32>,
    pub(super) prepend: Option<u8>,
    pub(super) aggregate: Aggregate,
}

impl Attributes {
    /// The length of the aggregates of a family.
    pub(super) fn aggregate_of(&self, family: Family) -> Option<u8> {
        match family {
            Family::Ipv4 => self.aggregate.ipv4,
            Family::Ipv6 => self.aggregate.ipv6,
        }
    }

    /// Adds what another VIP of the same aggregate has: all communities; what only one can have is the first's.
    pub(super) fn merge(&mut self, other: &Self) {
        let Self { communities, large_communities, local_preference, med, prepend, aggregate } = other;
        self.communities.extend(communities);
        self.large_communities.extend(large_communities);
        self.local_preference = self.local_preference.or(*local_preference);
        self.med = self.med.or(*med);
        self.prepend = self.prepend.or(*prepend);
        self.aggregate.ipv4 = self.aggregate.ipv4.or(aggregate.ipv4);
        self.aggregate.ipv6 = self.aggregate.ipv6.or(aggregate.ipv6);
    }
}

/// The peers that are told, each with what it is told.
pub(super) type Told = Rc<Vec<(IpAddr, Attributes)>>;

/// The rules of a file for the peers of a node.
pub(super) struct Rules<'c> {
    bgp: &'c Bgp,
    peers: &'c [&'c BgpPeer],
    /// What is told, by whether all are, and the rules that match: most prefixes have the same.
    known: HashMap<(bool, Vec<usize>), Told>,
}

impl<'c> Rules<'c> {
    pub(super) fn new(bgp: &'c Bgp, peers: &'c [&'c BgpPeer]) -> Self {
        Self { bgp, peers, known: HashMap::new() }
    }

    /// Who is told of a prefix, and what.
    pub(super) fn told(&mut self, subject: &Subject<'_>) -> Told {
        let rules = self.bgp.announcements.iter().enumerate();
        let matching: Vec<usize> =
            rules.filter(|(_, rule)| matches(rule, subject)).map(|(place, _)| place).collect();
        let key = (subject.is_for_all || self.bgp.announce.contains(&subject.class), matching);
        if let Some(told) = self.known.get(&key) {
            return Rc::clone(told);
        }
        let told = Rc::new(self.ask(key.0, &key.1));
        self.known.insert(key, Rc::clone(&told));
        told
    }

    fn ask(&self, is_for_all: bool, matching: &[usize]) -> Vec<(IpAddr, Attributes)> {
        let mut told = Vec::new();
        for peer in self.peers {
            let mut rules: Vec<(usize, &Announcement)> = matching
                .iter()
                .filter_map(|&place| Some((place, self.bgp.announcements.get(place)?)))
                .filter(|(_, rule)| rule.peers.is_empty() || rule.peers.contains(&peer.name))
                .collect();
            if is_for_all || !rules.is_empty() {
                rules.sort_by_key(|(place, rule)| (rank(rule), *place));
                told.push((peer.address, united(rules.into_iter().map(|(_, rule)| rule))));
            }
        }
        told
    }
}

fn matches(rule: &Announcement, subject: &Subject<'_>) -> bool {
    let names = |list: &[String], name: &str| list.iter().any(|own| own == name);
    rule.what.contains(&subject.class)
        && (rule.services.is_empty() || subject.services.iter().any(|name| names(&rule.services, name)))
        && (rule.pools.is_empty() || subject.pool.is_some_and(|name| names(&rule.pools, name)))
}

/// The more specific a rule, the lower.
fn rank(rule: &Announcement) -> (u8, u8) {
    let by_subject = match (rule.services.is_empty(), rule.pools.is_empty()) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    (by_subject, u8::from(rule.peers.is_empty()))
}

/// The most specific rule first.
fn united<'r>(rules: impl Iterator<Item = &'r Announcement>) -> Attributes {
    let mut attributes = Attributes::default();
    for rule in rules {
        attributes.merge(&Attributes {
            communities: rule.communities.iter().copied().collect(),
            large_communities: rule.large_communities.iter().copied().collect(),
            local_preference: rule.local_preference,
            med: rule.med,
            prepend: rule.prepend,
            aggregate: rule.aggregate,
        });
    }
    attributes
}
