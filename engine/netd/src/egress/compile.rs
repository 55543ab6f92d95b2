//! Decides for every source and destination which policy has the packet: tables by source, without what says nothing new.
//!
//! Prefixes are nested or apart. So for all addresses with the same longest source prefix the same policies come into
//! question, each with the same own source prefix; and for all of these with the same longest prefix among the
//! destinations, the exclusions and what is in the cluster, the same policy has the packet.

use super::Rule;
use ipnetwork::IpNetwork;
use netd_schema::Egress;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// So many rules fit the maps of the programs.
pub const RULES_MAX: usize = 262_144;

/// So many comparisons a compilation may take: what is refused behind it takes a second to find out.
const STEPS_MAX: usize = 200_000_000;

/// What becomes of packets of one source, by destination; longest prefix first. What is not there leaves as it is.
pub type Table = BTreeMap<IpNetwork, Rule>;

/// A policy, and what this node does with its packets.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'c> {
    /// The policy.
    pub policy: &'c Egress,
    /// What becomes of its IPv4 packets.
    pub v4: Rule,
    /// What becomes of its IPv6 packets.
    pub v6: Rule,
}

/// Two policies that match the same packets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overlap {
    /// The one that has them.
    pub winner: String,
    /// The other one.
    pub loser: String,
    /// Why.
    pub by: Preference,
}

/// Why one policy is preferred to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preference {
    /// Its destination is more specific.
    Destination,
    /// Its source is.
    Source,
    /// Its name comes first.
    Name,
}

/// What policies come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// What becomes of packets, by the longest prefix of their source. A source without a table of its own, inside
    /// another one, has that one's.
    pub tables: BTreeMap<IpNetwork, Table>,
    /// What matches the same packets, by source.
    pub overlaps: BTreeMap<IpNetwork, BTreeSet<Overlap>>,
}

/// Compiles policies. `cluster` are the prefixes that those without `in_cluster` do not take.
///
/// # Errors
///
/// A sentence, when they come to more than [`RULES_MAX`] rules, or take too long.
pub fn compile(policies: &[Taken<'_>], cluster: &BTreeSet<IpNetwork>) -> Result<Compiled, String> {
    let mut by_source: BTreeMap<IpNetwork, Vec<usize>> = BTreeMap::new();
    for (at, taken) in policies.iter().enumerate() {
        for source in &taken.policy.sources {
            by_source.entry(*source).or_default().push(at);
        }
    }
    let mut compiled = Compiled::default();
    let mut budget = Budget { rules: RULES_MAX, steps: STEPS_MAX };
    // Sorted, a prefix comes right after those that hold it.
    let mut around: Vec<(IpNetwork, Table)> = Vec::new();
    for source in by_source.keys() {
        while around.last().is_some_and(|(outer, _)| !contains(*outer, *source)) {
            around.pop();
        }
        let mut lengths: BTreeMap<usize, u8> = BTreeMap::new();
        for outer in around.iter().map(|(outer, _)| outer).chain([source]) {
            for at in by_source.get(outer).into_iter().flatten() {
                lengths.insert(*at, outer.prefix());
            }
        }
        budget.spend_steps(lengths.len())?;
        let candidates: Vec<Candidate<'_>> = lengths
            .into_iter()
            .filter_map(|(at, length)| Some(Candidate { taken: policies.get(at)?, source_len: length }))
            .collect();
        let (table, overlaps) = Class { candidates, cluster, is_v4: source.is_ipv4() }.table(&mut budget)?;
        if !overlaps.is_empty() {
            compiled.overlaps.insert(*source, overlaps);
        }
        let inherited = around.last().map(|(_, table)| table);
        if inherited.map_or(!table.is_empty(), |inherited| *inherited != table) {
            budget.spend_rules(table.len().max(1))?;
            compiled.tables.insert(*source, table.clone());
        }
        around.push((*source, table));
    }
    Ok(compiled)
}

/// What a compilation may still take.
struct Budget {
    rules: usize,
    steps: usize,
}

impl Budget {
    fn spend_rules(&mut self, rules: usize) -> Result<(), String> {
        self.rules = self.rules.checked_sub(rules).ok_or_else(|| {
            format!("the egress policies come to more than {RULES_MAX} rules, which is what fits the maps")
        })?;
        Ok(())
    }

    fn spend_steps(&mut self, steps: usize) -> Result<(), String> {
        self.steps = self.steps.checked_sub(steps).ok_or("the egress policies overlap in too many ways")?;
        Ok(())
    }
}

/// A policy that comes into question for a source.
#[derive(Clone, Copy)]
struct Candidate<'c> {
    taken: &'c Taken<'c>,
    /// The length of its longest prefix that holds the source.
    source_len: u8,
}

/// All policies that come into question for a source.
struct Class<'c> {
    candidates: Vec<Candidate<'c>>,
    cluster: &'c BTreeSet<IpNetwork>,
    is_v4: bool,
}

impl<'c> Class<'c> {
    fn table(&self, budget: &mut Budget) -> Result<(Table, BTreeSet<Overlap>), String> {
        let destinations = self.destinations();
        let edges = self.edges(&destinations, budget)?;
        let (mut table, mut overlaps) = (Table::new(), BTreeSet::new());
        let mut open: Vec<(IpNetwork, &Vec<Candidate<'c>>)> = Vec::new();
        let mut said: Vec<(IpNetwork, Rule)> = Vec::new();
        for edge in edges {
            while open.last().is_some_and(|(outer, _)| !contains(*outer, edge)) {
                open.pop();
            }
            while said.last().is_some_and(|(outer, _)| !contains(*outer, edge)) {
                said.pop();
            }
            let here = destinations.get(&edge);
            open.extend(here.map(|candidates| (edge, candidates)));
            let matching = self.matching(edge, &open, budget)?;
            let rule = matching.first().map_or(Rule::Pass, |(first, _)| first.rule(self.is_v4));
            if let Some((winner, others)) = matching.split_first().filter(|_| here.is_some()) {
                overlaps.extend(others.iter().filter_map(|other| overlap(*winner, *other)));
            }
            if said.last().map_or(Rule::Pass, |(_, rule)| *rule) != rule {
                table.insert(edge, rule);
            }
            said.push((edge, rule));
        }
        Ok((table, overlaps))
    }

    /// The policies by their destinations, the preferred one first.
    fn destinations(&self) -> BTreeMap<IpNetwork, Vec<Candidate<'c>>> {
        let mut destinations: BTreeMap<IpNetwork, Vec<Candidate<'c>>> = BTreeMap::new();
        for candidate in &self.candidates {
            let own = candidate.taken.policy.destinations.iter();
            for destination in own.filter(|destination| destination.is_ipv4() == self.is_v4) {
                destinations.entry(*destination).or_default().push(*candidate);
            }
        }
        for candidates in destinations.values_mut() {
            candidates.sort_by_key(|it| (Reverse(it.source_len), &it.taken.policy.name));
        }
        destinations
    }

    /// Where another policy may have the packets than around it, sorted.
    fn edges(
        &self,
        destinations: &BTreeMap<IpNetwork, Vec<Candidate<'c>>>,
        budget: &mut Budget,
    ) -> Result<BTreeSet<IpNetwork>, String> {
        let mut edges: BTreeSet<IpNetwork> = destinations.keys().copied().collect();
        for candidate in &self.candidates {
            let exclude = &candidate.taken.policy.exclude;
            budget.spend_steps(exclude.len())?;
            edges.extend(exclude.iter().filter(|prefix| prefix.is_ipv4() == self.is_v4));
        }
        // The others are inside an edge already, or where nothing is taken.
        for (destination, candidates) in destinations {
            if candidates.iter().any(|it| !it.taken.policy.in_cluster) {
                let inside = within(self.cluster, *destination);
                let before = edges.len();
                edges.extend(inside);
                budget.spend_steps(1 + edges.len() - before)?;
            }
        }
        Ok(edges)
    }

    /// The policies that match there, the preferred one first, each with the length of its destination.
    fn matching(
        &self,
        edge: IpNetwork,
        open: &[(IpNetwork, &Vec<Candidate<'c>>)],
        budget: &mut Budget,
    ) -> Result<Vec<(Candidate<'c>, u8)>, String> {
        let is_in_cluster = holds_any(self.cluster, edge);
        let mut matching = Vec::new();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for (destination, candidates) in open.iter().rev() {
            for candidate in *candidates {
                let policy = candidate.taken.policy;
                budget.spend_steps(1 + policy.exclude.len())?;
                let is_out = (is_in_cluster && !policy.in_cluster)
                    || policy.exclude.iter().any(|exclude| contains(*exclude, edge));
                if !is_out && seen.insert(&policy.name) {
                    matching.push((*candidate, destination.prefix()));
                }
            }
        }
        Ok(matching)
    }
}

impl Candidate<'_> {
    fn rule(&self, is_v4: bool) -> Rule {
        if is_v4 { self.taken.v4 } else { self.taken.v6 }
    }
}

fn overlap(winner: (Candidate<'_>, u8), other: (Candidate<'_>, u8)) -> Option<Overlap> {
    let by = match (winner.1 > other.1, winner.0.source_len > other.0.source_len) {
        (true, _) => Preference::Destination,
        (false, true) => Preference::Source,
        (false, false) => Preference::Name,
    };
    let (winner, loser) = (winner.0.taken.policy.name.clone(), other.0.taken.policy.name.clone());
    (winner != loser).then_some(Overlap { winner, loser, by })
}

/// Whether the outer prefix holds all of the inner one.
pub(super) fn contains(outer: IpNetwork, inner: IpNetwork) -> bool {
    outer.is_ipv4() == inner.is_ipv4() && outer.prefix() <= inner.prefix() && outer.contains(inner.network())
}

/// Those of the prefixes that are inside another one.
fn within(prefixes: &BTreeSet<IpNetwork>, outer: IpNetwork) -> impl Iterator<Item = IpNetwork> {
    prefixes.range(outer..).copied().take_while(move |prefix| contains(outer, *prefix))
}

/// Whether one of the prefixes holds all of another one.
fn holds_any(prefixes: &BTreeSet<IpNetwork>, inner: IpNetwork) -> bool {
    (0..=inner.prefix()).any(|length| {
        let outer = IpNetwork::new(inner.network(), length);
        let outer = outer.and_then(|outer| IpNetwork::new(outer.network(), length));
        outer.is_ok_and(|outer| prefixes.contains(&outer))
    })
}
