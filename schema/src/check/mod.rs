//! Rules that hold between keys, and between sections: what contradicts itself, what refers to nothing.

mod backends;
mod bgp;
mod captures;
mod clients;
mod decap;
mod egress;
mod families;
mod health;
mod load_balancer;
mod masquerade;
mod network;
mod nodes;
mod notrack;
mod pools;
mod prefixes;
mod reference;
mod requests;
mod ring;
mod rss_source;
mod services;
mod strict;
mod vips;
mod wireguard;

use crate::diagnostic::{Diagnoses, Draft};
use crate::raw::Top;
use crate::span::Span;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// Reports everything that is wrong; values that could not be read are skipped, and rules about what is absent are
/// asked only where all of a list could be read.
pub(crate) fn check(top: &Top, diagnoses: &mut Diagnoses) {
    nodes::check(top, diagnoses);
    if let Some(at) = &top.load_balancer {
        load_balancer::check(&at.value, top, diagnoses);
    }
    services::check(top, diagnoses);
    vips::check(top, diagnoses);
    pools::check(top, diagnoses);
    requests::check(top, diagnoses);
    if let Some(at) = &top.decap {
        decap::check(at, top, diagnoses);
    }
    if let Some(at) = &top.bgp {
        bgp::check(at, top, diagnoses);
    }
    if let Some(at) = &top.network {
        network::check(&at.value, top, diagnoses);
    }
    wireguard::check(top, diagnoses);
    strict::check(top, diagnoses);
    if let Some(at) = &top.masquerade {
        masquerade::check(at, top, diagnoses);
    }
    if let Some(at) = &top.notrack {
        notrack::check(at, top, diagnoses);
    }
    egress::check(top, diagnoses);
    captures::check(top, diagnoses);
}

/// The first place of each thing that must be there once.
struct Once<K>(HashMap<K, Span>);

impl<K: Hash + Eq> Once<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// Where `key` was first.
    fn place(&self, key: &K) -> Option<Span> {
        self.0.get(key).copied()
    }

    /// Remembers `key`, or says that it was there before: `what` is the sentence.
    fn claim(
        &mut self,
        key: K,
        span: Span,
        diagnoses: &mut Diagnoses,
        what: impl FnOnce() -> String,
    ) -> bool {
        match self.0.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(span);
                true
            }
            Entry::Occupied(first) => {
                let first = *first.get();
                diagnoses.push(|| Draft::error(what()).label(span, "here again").label(first, "first here"));
                false
            }
        }
    }
}

/// `IPv4` or `IPv6`.
fn family(address: std::net::IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
