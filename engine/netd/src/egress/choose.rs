//! Which gateway of a policy is in force: of those that live, the highest priority, then the highest hash of the names.

use crate::facts::Facts;
use crate::failover::Seen;
use netd_schema::{Config, Egress, EgressGateway};
use std::cmp::Reverse;

/// What is known of the gateways, where the file has them watched.
#[must_use]
pub fn watched<'f>(config: &Config, facts: &'f Facts) -> Option<&'f Seen> {
    config.egress_failover.as_ref()?;
    facts.gateways.as_deref()
}

/// The gateway in force; `None` for a policy without gateways, or with none that lives. Every node that reads the same
/// file, and sees the same, chooses alike. One that is the only gateway of its policy is in force whether it is heard or not:
/// what is in its kernel works without its netd, and there is nobody else.
///
/// Of those that live, the ones that came first are preferred, where gateways do not take back what others have.
/// Among gateways of the same priority each has a number that depends on its own name and the policy's alone, and the
/// highest wins (rendezvous hashing): a gateway that goes moves only the policies that it had, and one that comes takes
/// over only those that it then has.
#[must_use]
pub fn in_force<'p>(policy: &'p Egress, seen: Option<&Seen>) -> Option<&'p EgressGateway> {
    let number = |gateway: &EgressGateway| hash(&policy.name, &gateway.node);
    let rank = |gateway: &EgressGateway| match seen.filter(|_| super::is_shared(policy)) {
        Some(seen) => seen.alive.get(&gateway.node).copied(),
        None => Some(0),
    };
    let live = policy.gateways.iter().filter_map(|gateway| Some((rank(gateway)?, gateway)));
    let best =
        live.max_by_key(|(rank, gateway)| (Reverse(*rank), gateway.priority, number(gateway), &gateway.node));
    best.map(|(_, gateway)| gateway)
}

/// FNV-1a of both names with a byte between them that no name has, then the last steps of SplitMix64, without which names
/// that differ in their last letter only have numbers that are close together. Nodes of different versions have to agree:
/// it may never change.
fn hash(policy: &str, node: &str) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = policy.bytes().chain([0]).chain(node.bytes());
    let folded = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    let mixed = (folded ^ (folded >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::collections::BTreeMap;

    fn policy(name: &str, gateways: &[(&str, u16)]) -> Egress {
        let gateway =
            |(node, priority): &(&str, u16)| EgressGateway { node: (*node).into(), priority: *priority };
        Egress { name: name.into(), gateways: gateways.iter().map(gateway).collect(), ..Egress::default() }
    }

    #[test]
    fn the_highest_priority_is_in_force() {
        let policy = policy("legacy", &[("a", 0), ("b", 10), ("c", 9)]);
        assert_eq!(in_force(&policy, None).unwrap().node, "b");
        assert_eq!(in_force(&Egress { gateways: Vec::new(), ..policy }, None), None);
    }

    #[test]
    fn of_those_that_live_the_first_come_are_preferred_and_then_the_priority() {
        let policy = policy("legacy", &[("a", 0), ("b", 10), ("c", 9)]);
        let chosen = |alive: &[(&str, u32)]| {
            let alive = alive.iter().map(|(name, rank)| ((*name).to_owned(), *rank)).collect();
            let seen = Seen { alive, ..Seen::default() };
            in_force(&policy, Some(&seen)).map(|gateway| gateway.node.clone())
        };
        assert_eq!(chosen(&[("a", 0), ("b", 0), ("c", 0)]).unwrap(), "b");
        assert_eq!(chosen(&[("a", 0), ("c", 0)]).unwrap(), "c");
        assert_eq!(chosen(&[("a", 0), ("b", 1), ("c", 1)]).unwrap(), "a");
        assert_eq!(chosen(&[("other", 0)]), None);
    }

    #[test]
    fn the_only_gateway_is_in_force_whether_it_is_heard_or_not() {
        let policy = policy("legacy", &[("a", 0)]);
        assert_eq!(in_force(&policy, Some(&Seen::default())).unwrap().node, "a");
    }

    #[test]
    fn policies_are_spread_over_gateways_of_the_same_priority() {
        let gateways = [("a", 0), ("b", 0), ("c", 0)];
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for number in 0..3000 {
            let policy = policy(&format!("policy-{number}"), &gateways);
            *counts.entry(in_force(&policy, None).unwrap().node.clone()).or_default() += 1;
        }
        // The names are fixed, and so is the hash: these are always the same three numbers.
        assert!(counts.values().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_gateway_that_goes_moves_only_its_own_policies() {
        for number in 0..300 {
            let name = format!("policy-{number}");
            let before = policy(&name, &[("a", 0), ("b", 0), ("c", 0)]);
            let after = policy(&name, &[("a", 0), ("b", 0)]);
            let had = in_force(&before, None).unwrap().node.clone();
            assert!(had == "c" || in_force(&after, None).unwrap().node == had, "{name}");
        }
    }

    /// Another hash would give policies of nodes that are not upgraded yet two gateways at once.
    #[test]
    fn the_hash_is_the_one_of_every_version() {
        assert_eq!(hash("legacy-db", "lb-1"), 0x9e07_ab9c_f643_88d5);
    }
}
