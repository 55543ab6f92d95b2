//! Families of an egress policy: every packet that it takes can have an address, and every word says something.

use super::{Groups, called};
use crate::check::family;
use crate::check::requests::Pools;
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::Family;
use crate::raw::{Egress, EgressSource, Top, each};
use crate::span::Span;
use std::net::IpAddr;

/// For each family, IPv4 first, where something of it is written.
type Places = [Option<Span>; 2];

fn place(places: &mut Places, address: IpAddr, span: Span) {
    let [v4, v6] = places;
    let place = if address.is_ipv4() { v4 } else { v6 };
    place.get_or_insert(span);
}

pub(super) fn check(
    policy: &Egress,
    (groups, pools): (&Groups<'_>, &Pools<'_>),
    top: &Top,
    diagnoses: &mut Diagnoses,
) {
    if !is_whole(policy, groups, top) {
        return;
    }
    let (mut sources, mut destinations, mut ips) = (Places::default(), Places::default(), Places::default());
    groups.sources(policy).for_each(|(prefix, span)| place(&mut sources, prefix.ip(), span));
    each(&policy.destinations).for_each(|at| place(&mut destinations, at.value.0.ip(), at.span));
    each(&policy.ips).for_each(|at| place(&mut ips, at.value.0, at.span));
    let goes_everywhere = policy.destinations.is_none();
    for (at, of) in Family::BOTH.into_iter().enumerate() {
        let word = of.word();
        let place = |places: &Places| places.get(at).copied().flatten();
        match (place(&sources), place(&destinations), place(&ips)) {
            (Some(source), destination, None)
                if policy.pool.is_some() && (goes_everywhere || destination.is_some()) =>
            {
                given(policy, of, (source, pools), diagnoses);
            }
            // Where no destination is named, an address says for which families the policy is.
            (Some(_), None, None) if goes_everywhere => {}
            (Some(source), Some(destination), None) => diagnoses.push(|| {
                Draft::error(format!("{} takes {word} packets, and has no {word} address", called(policy)))
                    .label(destination, format!("{word} packets go here"))
                    .label(source, "and come from here")
                    .help(format!("add an {word} address to `ips`"))
            }),
            (None, Some(destination), _) => diagnoses.push(|| {
                Draft::error(format!("nothing of {} goes here", called(policy)))
                    .label(destination, format!("of {word}; `sources` has no {word} prefix"))
            }),
            (source, destination, Some(ip))
                if source.is_none() || (destination.is_none() && !goes_everywhere) =>
            {
                let missing = if source.is_none() { "sources" } else { "destinations" };
                diagnoses.push(|| {
                    Draft::error(format!("nothing of {} leaves with this address", called(policy)))
                        .label(ip, format!("of {word}; `{missing}` has no {word} prefix"))
                });
            }
            _ => {}
        }
    }
    let own = if policy.pool.is_some() { sources } else { ips };
    for excluded in each(&policy.exclude).filter(|_| goes_everywhere) {
        let ip = excluded.value.0.ip();
        let [v4, v6] = own;
        let place = if ip.is_ipv4() { v4 } else { v6 };
        if place.is_none() {
            diagnoses.push(|| {
                Draft::warning(format!("leaving {} out changes nothing", excluded.value.0))
                    .label(excluded.span, format!("the policy is not for {}", family(ip)))
            });
        }
    }
}

/// The pool of a policy has an address for its packets of a family.
fn given(policy: &Egress, of: Family, (source, pools): (Span, &Pools<'_>), diagnoses: &mut Diagnoses) {
    let Some((pool, has_no)) = pools.lacking(policy, of) else { return };
    let word = of.word();
    diagnoses.push(|| {
        Draft::error(format!("{} takes {word} packets, and {has_no} {word} addresses", called(policy)))
            .label(pool, "an address is to come from here")
            .label(source, format!("{word} packets come from here"))
            .help(match policy.destinations.is_none() {
                true => "say with `destinations` which are meant: without them all are, of every family"
                    .to_owned(),
                false => format!("give the pool an {word} range"),
            })
    });
}

/// Whether everything that says something about families could be read.
fn is_whole(policy: &Egress, groups: &Groups<'_>, top: &Top) -> bool {
    let is_known = |source: &EgressSource| match source {
        EgressSource::Prefix(_) => true,
        EgressSource::Group(name) => groups.0.contains_key(name.0.as_str()),
    };
    top.egress_groups.as_ref().is_none_or(|at| at.value.complete)
        && policy.sources.as_ref().is_some_and(|at| at.value.complete)
        && each(&policy.sources).all(|at| is_known(&at.value))
        && groups.sources(policy).next().is_some()
        && policy.destinations.as_ref().is_none_or(|at| at.value.complete)
        && policy.ips.as_ref().is_none_or(|at| at.value.complete)
        && (policy.ips.is_some() || policy.pool.is_some())
}
