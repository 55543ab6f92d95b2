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
/// of one that changes the class stays where it can, so that only what differs has to be written. No class is given to others
/// while sources lead to it: its rules are written before those are led away.
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
    let mut users: BTreeMap<u32, Vec<IpNetwork>> = BTreeMap::new();
    for (source, class) in &before.sources {
        users.entry(*class).or_default().push(*source);
    }
    let mut classes = Classes::default();
    for (table, sources) in sources {
        let class = there.get(table).copied().unwrap_or_else(|| {
            let own = sources.iter().filter_map(|source| before.sources.get(source)).copied();
            let is_free = |class: &u32| {
                let mut users = users.get(class).into_iter().flatten();
                !taken.contains(class) && users.all(|source| sources.contains(source))
            };
            let class = own.chain(1..).find(is_free).unwrap_or(u32::MAX);
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
    fn a_class_that_sources_still_lead_to_is_given_to_no_other() {
        let (changes, comes) = ("10.1.0.0/16", "10.0.0.0/16");
        let before =
            to_classes(&tables(&[(changes, &[("198.51.100.0/24", Rule::Drop)])]), &Classes::default());
        let both: [(&str, &[(&str, Rule)]); 2] =
            [(comes, &[("0.0.0.0/0", Rule::Drop)]), (changes, &[("203.0.113.0/24", Rule::Drop)])];
        let after = to_classes(&tables(&both), &before);
        assert_eq!(after.sources.get(&prefix(changes)), before.sources.get(&prefix(changes)));
        assert_eq!(from_classes(&after), tables(&both));
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
