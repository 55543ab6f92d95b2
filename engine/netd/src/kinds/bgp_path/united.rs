//! What one path says to all who are told of a prefix, and what single peers are told besides.
//!
//! What all have in common is on the path itself. The local preference reaches iBGP peers only, and only eBGP peers may
//! find the own AS prepended: another takes such a path for a loop.

use super::Besides;
use super::rules::Attributes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The local preference of a path that says nothing of it (as every implementation has it).
const LOCAL_PREFERENCE_DEFAULT: u32 = 100;

/// A peer that is told of a prefix.
pub(super) struct Told<'a> {
    pub(super) peer: IpAddr,
    /// Whether it is of the own AS.
    pub(super) is_internal: bool,
    pub(super) attributes: &'a Attributes,
}

/// What the path says, and what single peers are told besides.
pub(super) fn united(told: &[Told<'_>], asn: u32) -> (Besides, BTreeMap<IpAddr, Besides>) {
    let wanted: Vec<(&Told<'_>, Besides)> = told.iter().map(|told| (told, told.said(asn))).collect();
    let internal = || wanted.iter().filter(|(told, _)| told.is_internal).map(|(_, said)| said);
    let preferences: BTreeSet<Option<u32>> = internal().map(|said| said.local_preference).collect();
    let all = Besides {
        communities: common(wanted.iter().map(|(_, said)| &said.communities)),
        large_communities: common(wanted.iter().map(|(_, said)| &said.large_communities)),
        // gobgpd can put any number in the place of another, except 0.
        local_preference: match preferences.contains(&Some(0)) {
            true => Some(0),
            false => agreed(preferences.iter().copied()).flatten(),
        },
        med: agreed(wanted.iter().map(|(_, said)| said.med)).flatten(),
        prepend: agreed(wanted.iter().map(|(_, said)| &said.prepend)).cloned().unwrap_or_default(),
    };
    let besides = wanted.iter().map(|(told, said)| (told.peer, said.beyond(&all, told.is_internal)));
    let besides = besides.filter(|(_, besides)| *besides != Besides::default()).collect();
    (all, besides)
}

impl Told<'_> {
    fn said(&self, asn: u32) -> Besides {
        let Attributes { communities, large_communities, local_preference, med, prepend, aggregate: _ } =
            self.attributes.clone();
        let times = prepend.filter(|_| !self.is_internal).unwrap_or_default();
        Besides {
            communities,
            large_communities,
            local_preference: local_preference.filter(|_| self.is_internal),
            med,
            prepend: vec![asn; usize::from(times)],
        }
    }
}

impl Besides {
    /// What is left to say when all are told so much.
    fn beyond(&self, all: &Self, is_internal: bool) -> Self {
        let is_other_preference = is_internal && self.local_preference != all.local_preference;
        Self {
            communities: self.communities.difference(&all.communities).copied().collect(),
            large_communities: self.large_communities.difference(&all.large_communities).copied().collect(),
            local_preference: is_other_preference
                .then(|| self.local_preference.unwrap_or(LOCAL_PREFERENCE_DEFAULT)),
            med: self.med.filter(|_| all.med.is_none()),
            prepend: if all.prepend.is_empty() { self.prepend.clone() } else { Vec::new() },
        }
    }
}

/// What is in every set.
fn common<'s, T: Ord + Copy + 's>(mut sets: impl Iterator<Item = &'s BTreeSet<T>>) -> BTreeSet<T> {
    let first = sets.next().cloned().unwrap_or_default();
    sets.fold(first, |common, set| common.intersection(set).copied().collect())
}

/// What all say, if they say the same.
fn agreed<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netd_schema::{Community, LargeCommunity};

    /// What peers are told in the end, as gobgpd puts it together.
    fn heard(all: &Besides, besides: Option<&Besides>, is_internal: bool) -> Besides {
        let more = besides.cloned().unwrap_or_default();
        let preference = more.local_preference.or(all.local_preference);
        Besides {
            communities: all.communities.union(&more.communities).copied().collect(),
            large_communities: all.large_communities.union(&more.large_communities).copied().collect(),
            local_preference: is_internal.then(|| preference.unwrap_or(LOCAL_PREFERENCE_DEFAULT)),
            med: more.med.or(all.med),
            prepend: [more.prepend, all.prepend.clone()].concat(),
        }
    }

    #[test]
    fn every_peer_hears_what_the_rules_ask_for_it_whatever_they_ask_for_others() {
        let numbers = [None, Some(0), Some(7)];
        let mut all_attributes = Vec::new();
        for local_preference in numbers {
            for med in numbers {
                for prepend in [None, Some(2)] {
                    let count = u32::try_from(all_attributes.len()).unwrap_or_default();
                    all_attributes.push(Attributes {
                        communities: [Community(1), Community(count)].into(),
                        large_communities: [LargeCommunity { administrator: count % 2, data: [0, 0] }].into(),
                        local_preference,
                        med,
                        prepend,
                        aggregate: netd_schema::Aggregate::default(),
                    });
                }
            }
        }
        for first in &all_attributes {
            for second in &all_attributes {
                for sides in [[false, false], [true, false], [true, true]] {
                    let told = [(1, sides[0], first), (2, sides[1], second), (3, false, first)];
                    let told = told.map(|(last, is_internal, attributes)| Told {
                        peer: IpAddr::from([10, 0, 0, last]),
                        is_internal,
                        attributes,
                    });
                    let (all, besides) = united(&told, 64_512);
                    for one in &told {
                        let mut expected = one.said(64_512);
                        let preference = expected.local_preference.unwrap_or(LOCAL_PREFERENCE_DEFAULT);
                        expected.local_preference = one.is_internal.then_some(preference);
                        assert_eq!(heard(&all, besides.get(&one.peer), one.is_internal), expected);
                        assert!(!one.is_internal || all.prepend.is_empty());
                        assert_ne!(besides.get(&one.peer).and_then(|said| said.local_preference), Some(0));
                    }
                }
            }
        }
    }
}
