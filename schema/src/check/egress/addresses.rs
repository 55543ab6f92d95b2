//! Egress addresses: each is one policy's, and nobody else's in the file.

use crate::check::{Once, family};
use crate::diagnostic::{Diagnoses, Draft};
use crate::raw::{Top, each};
use crate::span::Span;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

pub(super) fn check(top: &Top, diagnoses: &mut Diagnoses) {
    let others = others(top);
    let given = Given::of(top);
    let mut all = Once::new();
    for policy in each(&top.egress).map(|at| &at.value) {
        let mut families = Once::new();
        for ip in each(&policy.ips) {
            let (address, span) = (ip.value.0, ip.span);
            let what = || format!("the egress address {address} is given twice");
            if !all.claim(address, span, diagnoses, what) {
                continue;
            }
            let what = || format!("a policy can have one address of {} only", family(address));
            families.claim(address.is_ipv4(), span, diagnoses, what);
            if let Some((what, place)) = others.get(&address) {
                diagnoses.push(|| {
                    Draft::error(format!("the egress address {address} is {what}, too"))
                        .label(span, "packets leave with it")
                        .label(*place, format!("{what} here"))
                        .help("take an address that nothing else has")
                });
            }
            // With a pool, it has to be in one.
            if policy.pool.is_none() {
                given.refuse(address, span, diagnoses);
            }
        }
    }
}

/// Whose an address is already.
fn others(top: &Top) -> HashMap<IpAddr, (&'static str, Span)> {
    let nodes = each(&top.nodes).flat_map(|node| each(&node.value.addresses));
    let nodes = nodes.map(|address| (address.value.0, ("the address of a node", address.span)));
    let vips = each(&top.services).flat_map(|service| each(&service.value.vips));
    let vips = vips.map(|vip| (vip.value.0, ("a VIP", vip.span)));
    let masquerade = top.masquerade.iter().flat_map(|at| each(&at.value.addresses));
    let masquerade =
        masquerade.map(|address| (address.value.0, ("an address for masquerading", address.span)));
    // A node's own is what it is first.
    masquerade.chain(vips).chain(nodes).collect()
}

/// What begins the name of a pool's range.
const RANGE: &str = "the pool range";

/// What is given to pods and to services: by its lowest address the highest, what it is called, and its place.
struct Given(BTreeMap<IpAddr, (IpAddr, String, Span)>);

impl Given {
    fn of(top: &Top) -> Self {
        let pods = each(&top.nodes).flat_map(|node| each(&node.value.pod_cidrs));
        let pods = pods.map(|at| {
            let prefix = at.value.0;
            (prefix.network(), (prefix.broadcast(), format!("the pod prefix {prefix}"), at.span))
        });
        let pools = each(&top.ip_pools).flat_map(|pool| each(&pool.value.ranges));
        let pools =
            pools.map(|at| (at.value.first, (at.value.last, format!("{RANGE} {}", at.value), at.span)));
        Self(pods.chain(pools).collect())
    }

    /// Prefixes and ranges are apart, so only the last that begins before the address can hold it.
    fn refuse(&self, address: IpAddr, span: Span, diagnoses: &mut Diagnoses) {
        let before = self.0.range(..=address).next_back();
        let Some((_, (_, what, place))) = before.filter(|(_, (last, _, _))| address <= *last) else { return };
        diagnoses.push(|| {
            let draft = Draft::error(format!("the egress address {address} is in {what}"))
                .label(span, "packets leave with it")
                .label(*place, "others have addresses from here");
            match what.starts_with(RANGE) {
                true => draft.help("with that `pool` the policy may ask for it"),
                false => draft,
            }
        });
    }
}
