//! Named conversations; each is held over IPv4 and over IPv6. The program and the model both have to say what the case
//! says; a case asks neither.

mod direct;
mod egress;
mod errors;
mod flows;
mod fragments;
mod lifetimes;
mod ports;
mod reading;

use std::collections::BTreeSet;

use super::bed::Bed;
use super::talk::{Case, hold};
use crate::bed::in_own_world;

/// As many as the conversations have to be, at least, of both families.
const CASES_MIN: usize = 100;

fn groups() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("flows", flows::cases()),
        ("ports", ports::cases()),
        ("lifetimes", lifetimes::cases()),
        ("direct", direct::cases()),
        ("errors", errors::cases()),
        ("fragments", fragments::cases()),
        ("reading", reading::cases()),
        ("egress", egress::cases()),
    ]
}

#[test]
fn every_conversation_goes_as_it_should() {
    let groups = groups();
    assert!(groups.iter().map(|(_, cases)| cases.len() * 2).sum::<usize>() >= CASES_MIN);
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut failures = Vec::new();
        for (group, cases) in &groups {
            failures.extend(hold(&mut bed, cases).into_iter().map(|failure| format!("{group}: {failure}")));
        }
        assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    });
}

/// A failure says which one it is.
#[test]
fn no_two_conversations_have_the_same_sentence() {
    let groups = groups();
    let sentences = || groups.iter().flat_map(|(_, cases)| cases.iter().map(|case| case.sentence));
    assert_eq!(sentences().collect::<BTreeSet<_>>().len(), sentences().count());
}
