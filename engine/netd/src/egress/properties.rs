//! What is compiled says of every packet what the policies say, read one after the other.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::compile::contains;
use super::*;
use netd_schema::EgressGateway;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Of a few bits only, so that prefixes are nested and packets hit them.
fn prefixes(v4: bool) -> impl Strategy<Value = IpNetwork> {
    (0..=6_u8, any::<u8>()).prop_map(move |(length, bits)| network(v4, length, bits))
}

fn network(v4: bool, length: u8, bits: u8) -> IpNetwork {
    let network = IpNetwork::new(address(v4, bits & 0b1111_1100), length).unwrap();
    IpNetwork::new(network.network(), length).unwrap()
}

/// The bits are the first of the address, so that prefixes up to a length of 8 tell them apart.
fn address(v4: bool, bits: u8) -> IpAddr {
    match v4 {
        true => Ipv4Addr::new(bits, 1, 2, 3).into(),
        false => Ipv6Addr::from((u128::from(bits) << 120) | 7).into(),
    }
}

fn policies() -> impl Strategy<Value = Vec<Egress>> {
    let some = |least: usize, most: usize| {
        let family = any::<bool>();
        prop::collection::vec(family.prop_flat_map(prefixes), least..=most)
    };
    let policy = ("[a-e]{1,2}", some(1, 3), some(1, 3), some(0, 2), any::<bool>());
    let policy = policy.prop_map(|(name, sources, destinations, exclude, in_cluster)| Egress {
        name,
        sources,
        destinations,
        exclude,
        in_cluster,
        gateways: vec![EgressGateway { node: "one".into(), priority: 0 }],
        ..Egress::default()
    });
    prop::collection::vec(policy, 0..6).prop_map(|mut policies| {
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        policies.dedup_by(|a, b| a.name == b.name);
        policies
    })
}

/// A rule by which the policy is known again; some policies have none to offer.
fn rule(at: usize) -> Rule {
    match at {
        4 => Rule::Drop,
        5 => Rule::Pass,
        at => {
            Rule::Tunnel { remote: Ipv4Addr::LOCALHOST.into(), vni: u32::try_from(at).unwrap(), ifindex: 1 }
        }
    }
}

/// The rule of the policy that has a packet, by comparing all of them.
fn compared(policies: &[Egress], cluster: &BTreeSet<IpNetwork>, from: IpAddr, to: IpAddr) -> Rule {
    let owner = owner(policies, cluster, from, to);
    let at = owner.and_then(|owner| policies.iter().position(|policy| policy.name == owner.policy.name));
    at.map_or(Rule::Pass, rule)
}

/// The rule of a packet, as the programs find it.
fn looked_up(classes: &Classes, from: IpAddr, to: IpAddr) -> Rule {
    let sources = classes.sources.iter().filter(|(prefix, _)| contains(**prefix, from.into()));
    let Some((_, class)) = sources.max_by_key(|(prefix, _)| prefix.prefix()) else { return Rule::Pass };
    let rules = classes.rules.iter().filter(|((of, prefix), _)| of == class && contains(*prefix, to.into()));
    rules.max_by_key(|((_, prefix), _)| prefix.prefix()).map_or(Rule::Pass, |(_, rule)| *rule)
}

fn compiled(policies: &[Egress], cluster: &BTreeSet<IpNetwork>) -> Compiled {
    let taken: Vec<Taken<'_>> = policies
        .iter()
        .enumerate()
        .map(|(at, policy)| Taken { policy, v4: rule(at), v6: rule(at) })
        .collect();
    compile(&taken, cluster).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_packet_has_the_policy_that_reading_all_of_them_gives(
        policies in policies(),
        cluster in prop::collection::btree_set(any::<bool>().prop_flat_map(prefixes), 0..3),
        packets in prop::collection::vec((any::<bool>(), any::<u8>(), any::<u8>()), 40),
    ) {
        let classes = to_classes(&compiled(&policies, &cluster).tables, &Classes::default());
        for (v4, from, to) in packets {
            let (from, to) = (address(v4, from), address(v4, to));
            let (found, expected) = (looked_up(&classes, from, to), compared(&policies, &cluster, from, to));
            prop_assert_eq!(found, expected, "from {} to {}", from, to);
        }
    }

    #[test]
    fn the_order_of_policies_has_no_meaning(policies in policies(), turn in any::<prop::sample::Index>()) {
        let taken: Vec<Taken<'_>> = policies
            .iter()
            .enumerate()
            .map(|(at, policy)| Taken { policy, v4: rule(at), v6: rule(at) })
            .collect();
        let mut turned = taken.clone();
        turned.rotate_left(turn.index(taken.len().max(1)));
        let cluster = BTreeSet::new();
        prop_assert_eq!(compile(&taken, &cluster).unwrap(), compile(&turned, &cluster).unwrap());
    }

    #[test]
    fn classes_say_the_same_as_tables_whatever_there_was_before(one in policies(), two in policies()) {
        let none = BTreeSet::new();
        let (one, two) = (compiled(&one, &none).tables, compiled(&two, &none).tables);
        let before = to_classes(&one, &Classes::default());
        let after = to_classes(&two, &before);
        prop_assert_eq!(from_classes(&after), two);
        prop_assert_eq!(to_classes(&one, &before), before);
    }
}

#[test]
fn sixteen_thousand_policies_are_compiled() {
    let policy = |number: u32| {
        let source = IpNetwork::new(Ipv4Addr::from(0x0a00_0000 | (number << 8)).into(), 24).unwrap();
        let destination = IpNetwork::from(IpAddr::from(Ipv4Addr::from(0xc0a8_0000 | number)));
        let (sources, destinations) = (vec![source], vec![destination]);
        Egress { name: format!("policy-{number}"), sources, destinations, ..Egress::default() }
    };
    let policies: Vec<Egress> = (0..16_384).map(policy).collect();
    let taken: Vec<Taken<'_>> =
        policies.iter().map(|policy| Taken { policy, v4: Rule::Drop, v6: Rule::Drop }).collect();
    let compiled = compile(&taken, &BTreeSet::from(["10.0.0.0/8".parse().unwrap()])).unwrap();
    assert_eq!(compiled.tables.len(), 16_384);
    assert!(compiled.tables.values().all(|table| table.len() == 1));
}

#[test]
fn policies_that_come_to_too_much_are_refused_in_time() {
    let destination = |number: u32| IpNetwork::from(IpAddr::from(Ipv4Addr::from(number << 8)));
    let wide = Egress {
        name: "wide".into(),
        sources: vec!["10.0.0.0/8".parse().unwrap()],
        destinations: (0..1000).map(destination).collect(),
        ..Egress::default()
    };
    let narrow = |number: u32| Egress {
        name: format!("narrow-{number}"),
        sources: vec![IpNetwork::from(IpAddr::from(Ipv4Addr::from(0x0a00_0000 | number)))],
        destinations: vec![IpNetwork::from(IpAddr::from(Ipv4Addr::from(0xcb00_7100 | number)))],
        ..Egress::default()
    };
    let policies: Vec<Egress> = (0..1000).map(narrow).chain([wide]).collect();
    let rule = |number: u32| Rule::NextHop { address: Ipv4Addr::LOCALHOST.into(), ifindex: number };
    let taken: Vec<Taken<'_>> =
        policies.iter().zip(1..).map(|(policy, at)| Taken { policy, v4: rule(at), v6: rule(at) }).collect();
    let refused = compile(&taken, &BTreeSet::new()).unwrap_err();
    assert!(refused.contains("more than 262144 rules"), "{refused}");
}
