//! Egress addresses as prefixes: which this node announces, and whether a plan withdraws nothing else.

use super::rules::{Attributes, Rules, Subject};
use super::{NAME, Offer, Offers, Pools, Standing};
use crate::egress::{gated, undecided, watched};
use crate::facts::Facts;
use crate::kinds::address;
use ipnetwork::IpNetwork;
use netd_core::{Action, Need, Plan, ResourceId};
use netd_schema::{Announced, Config, EgressAnnounce};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

impl<'c> Offers<'c> {
    /// The addresses of the policies whose gateway in force this node is.
    pub(super) fn offer_egress_ips(&mut self, config: &'c Config, facts: &Facts) -> Result<(), String> {
        let undecided = undecided(config, facts)?;
        let mut policies = gated(config, facts)?;
        policies.retain(|policy| undecided.iter().all(|other| other.name != policy.name));
        // Whether this node is to have them is not known: what it announces stays as it is.
        let waits = Standing::Waits("it is not known yet which gateways live".to_owned());
        let policies = policies.into_iter().map(|policy| (policy, Standing::Up));
        let policies = policies.chain(undecided.into_iter().map(|policy| (policy, waits.clone())));
        let pools = Pools::of(config);
        let peers = self.peers.clone();
        let mut rules = Rules::new(self.bgp, &peers);
        for (policy, standing) in policies {
            for &ip in &policy.ips {
                let told = rules.told(&Subject {
                    class: Announced::EgressIps,
                    services: Vec::new(),
                    pool: pools.holding(ip).map(|(_, name)| name),
                    is_for_all: policy.announce.contains(&EgressAnnounce::Bgp),
                });
                let since = watched(config, facts).and_then(|seen| seen.since.get(&policy.name));
                let med = since.map(|since| med_since(*since));
                let with_med = |(peer, attributes): &(IpAddr, Attributes)| {
                    (*peer, Attributes { med: attributes.med.or(med), ..attributes.clone() })
                };
                let to: BTreeMap<IpAddr, Attributes> = told.iter().map(with_med).collect();
                if to.is_empty() {
                    continue;
                }
                let needs = vec![Need::One(ResourceId { kind: address::NAME, key: address::key(ip) })];
                let (class, standing) = (Announced::EgressIps, standing.clone());
                let offer = Offer { class, standing, to, needs, is_aggregate: false };
                self.by_prefix.insert(IpNetwork::from(ip), offer);
            }
        }
        Ok(())
    }
}

/// The MED of a gateway that is in force since then: lower, and so preferred, for who took over later. A netd that was killed
/// leaves its gobgpd behind, which goes on announcing its path; routers leave that one for the one of whoever took over.
fn med_since(unix_seconds: u64) -> u32 {
    u32::MAX - u32::try_from(unix_seconds).unwrap_or(u32::MAX)
}

/// Whether a plan withdraws prefixes, and none but those of egress addresses that policies of the file still have: another
/// gateway is to announce them, and nobody has to allow that.
#[must_use]
pub fn is_only_elsewhere(plan: &Plan, config: &Config) -> bool {
    let kept: BTreeSet<String> = config
        .egress
        .iter()
        .flat_map(|policy| &policy.ips)
        .map(|ip| IpNetwork::from(*ip).to_string())
        .collect();
    let withdrawn =
        plan.steps.iter().filter(|step| step.id.kind == NAME && matches!(step.action, Action::Delete { .. }));
    let mut all = withdrawn.map(|step| kept.contains(step.id.key.as_str())).peekable();
    all.peek().is_some() && all.all(|is_kept| is_kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_took_over_later_has_the_lower_med() {
        let meds = [0, 1_790_000_000, 1_790_000_001, u64::MAX].map(med_since);
        assert_eq!(meds, [u32::MAX, 2_504_967_295, 2_504_967_294, 0]);
    }
}
