//! Which gateway of a policy is in force: the highest priority, then the highest hash of the names.

use netd_schema::{Egress, EgressGateway};

/// The gateway in force; `None` for a policy without gateways. Every node that reads the same file chooses alike.
///
/// Among gateways of the same priority each has a number that depends on its own name and the policy's alone, and the
/// highest wins (rendezvous hashing): a gateway that goes moves only the policies that it had, and one that comes takes
/// over only those that it then has.
#[must_use]
pub fn in_force(policy: &Egress) -> Option<&EgressGateway> {
    let number = |gateway: &EgressGateway| hash(&policy.name, &gateway.node);
    policy.gateways.iter().max_by_key(|gateway| (gateway.priority, number(gateway), &gateway.node))
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
        assert_eq!(in_force(&policy).unwrap().node, "b");
        assert_eq!(in_force(&Egress { gateways: Vec::new(), ..policy }), None);
    }

    #[test]
    fn policies_are_spread_over_gateways_of_the_same_priority() {
        let gateways = [("a", 0), ("b", 0), ("c", 0)];
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for number in 0..3000 {
            let policy = policy(&format!("policy-{number}"), &gateways);
            *counts.entry(in_force(&policy).unwrap().node.clone()).or_default() += 1;
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
            let had = in_force(&before).unwrap().node.clone();
            assert!(had == "c" || in_force(&after).unwrap().node == had, "{name}");
        }
    }

    /// Another hash would give policies of nodes that are not upgraded yet two gateways at once.
    #[test]
    fn the_hash_is_the_one_of_every_version() {
        assert_eq!(hash("legacy-db", "lb-1"), 0x9e07_ab9c_f643_88d5);
    }
}
