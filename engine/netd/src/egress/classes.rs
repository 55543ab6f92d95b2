//! Tables as the maps of the programs have them: a source leads to a class, a class and a destination to a rule.

use super::{Rule, Table};
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};

/// Tables by source.
pub type Tables = BTreeMap<IpNetwork, Table>;

/// Classes by source, and the rules of the classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// The class of each source.
    pub sources: BTreeMap<IpNetwork, u32>,
    /// Which rule a packet of a class has, by destination.
    pub rules: BTreeMap<(u32, IpNetwork), Rule>,
}

/// Gives tables their classes; sources with the same table share one. A table that is there already keeps its class, and
/// of one that changes the class stays where it can, so that only what differs has to be written.
#[must_use]
pub fn to_classes(tables: &Tables, before: &Classes) -> Classes {
    let mut sources: BTreeMap<&Table, Vec<IpNetwork>> = BTreeMap::new();
    for (source, table) in tables {
        sources.entry(table).or_default().push(*source);
    }
    let held = by_class(before);
    let mut there: BTreeMap<&Table, u32> = BTreeMap::new();
    for (class, table) in &held {
        there.entry(table).or_insert(*class);
    }
    let mut taken: BTreeSet<u32> = sources.keys().filter_map(|table| there.get(table)).copied().collect();
    let mut classes = Classes::default();
    for (table, sources) in sources {
        let class = there.get(table).copied().unwrap_or_else(|| {
            let own = sources.iter().filter_map(|source| before.sources.get(source)).copied();
            let class = own.chain(1..).find(|class| !taken.contains(class)).unwrap_or(u32::MAX);
            taken.insert(class);
            class
        });
        classes.sources.extend(sources.into_iter().map(|source| (source, class)));
        classes.rules.extend(table.iter().map(|(destination, rule)| ((class, *destination), *rule)));
    }
    classes
}

/// What the maps say, by source.
#[must_use]
pub fn from_classes(classes: &Classes) -> Tables {
    let tables = by_class(classes);
    let table = |class: &u32| tables.get(class).cloned().unwrap_or_default();
    classes.sources.iter().map(|(source, class)| (*source, table(class))).collect()
}

fn by_class(classes: &Classes) -> BTreeMap<u32, Table> {
    let mut tables: BTreeMap<u32, Table> = BTreeMap::new();
    for ((class, destination), rule) in &classes.rules {
        tables.entry(*class).or_default().insert(*destination, *rule);
    }
    tables
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn prefix(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn tables(all: &[(&str, &[(&str, Rule)])]) -> Tables {
        let table = |rules: &[(&str, Rule)]| rules.iter().map(|(to, rule)| (prefix(to), *rule)).collect();
        all.iter().map(|(source, rules)| (prefix(source), table(rules))).collect()
    }

    #[test]
    fn sources_with_the_same_table_share_a_class() {
        let tables = tables(&[
            ("10.1.0.0/16", &[("0.0.0.0/0", Rule::Drop)]),
            ("10.2.0.0/16", &[("0.0.0.0/0", Rule::Drop)]),
            ("10.3.0.0/16", &[]),
        ]);
        let classes = to_classes(&tables, &Classes::default());
        let numbers: BTreeSet<u32> = classes.sources.values().copied().collect();
        assert_eq!((numbers.len(), classes.rules.len()), (2, 1));
        assert_eq!(from_classes(&classes), tables);
    }

    #[test]
    fn a_rule_more_is_one_entry_more() {
        let one = tables(&[("10.1.0.0/16", &[("192.0.2.0/24", Rule::Drop)])]);
        let two =
            tables(&[("10.1.0.0/16", &[("192.0.2.0/24", Rule::Drop), ("198.51.100.0/24", Rule::Drop)])]);
        let before = to_classes(&one, &Classes::default());
        let after = to_classes(&two, &before);
        assert_eq!(after.sources, before.sources);
        assert!(before.rules.iter().all(|(key, rule)| after.rules.get(key) == Some(rule)));
    }

    #[test]
    fn a_source_that_leaves_its_class_takes_nothing_from_those_that_stay() {
        let (stays, leaves) = ("10.1.0.0/16", "10.0.0.0/16");
        let drop: &[(&str, Rule)] = &[("192.0.2.0/24", Rule::Drop)];
        let before = to_classes(&tables(&[(leaves, drop), (stays, drop)]), &Classes::default());
        let after = to_classes(&tables(&[(leaves, &[("0.0.0.0/0", Rule::Drop)]), (stays, drop)]), &before);
        assert_eq!(after.sources.get(&prefix(stays)), before.sources.get(&prefix(stays)));
        assert_ne!(after.sources.get(&prefix(leaves)), before.sources.get(&prefix(leaves)));
    }
}
