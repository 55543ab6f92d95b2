//! Which policy has a packet, and by which of its prefixes: all policies are compared, as it is said in words.

use ipnetwork::IpNetwork;
use netd_schema::Egress;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The policy that has a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'c> {
    /// The policy.
    pub policy: &'c Egress,
    /// Its longest prefix with the packet's source.
    pub source: IpNetwork,
    /// Its longest prefix with the packet's destination.
    pub destination: IpNetwork,
}

/// The policy that has a packet; `None`: no policy has it. `cluster` are the prefixes that those without `in_cluster` do not
/// take.
#[must_use]
pub fn owner<'c>(
    policies: &'c [Egress],
    cluster: &BTreeSet<IpNetwork>,
    from: IpAddr,
    to: IpAddr,
) -> Option<Owner<'c>> {
    let is_in_cluster = cluster.iter().any(|prefix| prefix.contains(to));
    let matching = policies.iter().filter_map(|policy| {
        let is_out = longest(&policy.exclude, to).is_some() || (is_in_cluster && !policy.in_cluster);
        let (source, destination) = (longest(&policy.sources, from)?, longest(&policy.destinations, to)?);
        (!is_out).then_some(Owner { policy, source, destination })
    });
    matching.max_by_key(|it| (it.destination.prefix(), it.source.prefix(), Reverse(&it.policy.name)))
}

fn longest(prefixes: &[IpNetwork], address: IpAddr) -> Option<IpNetwork> {
    prefixes.iter().filter(|prefix| prefix.contains(address)).max_by_key(|prefix| prefix.prefix()).copied()
}
