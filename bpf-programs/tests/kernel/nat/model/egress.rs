//! Rules of egress policies: which one a packet has, and what they mean for what comes in.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netd_bpf::nat::{EgressRule, EgressRules};

use super::mappings::Rule;
use super::packet::Packet;
use super::{Flow, Model, has};

impl Model {
    /// As for [`Model::set_rules`].
    pub fn set_egress(&mut self, egress: EgressRules) {
        let before = self.ranges();
        self.left.extend(self.egress_addresses());
        self.egress = egress;
        self.keep_ports(before);
    }

    pub(super) fn egress_addresses(&self) -> BTreeSet<IpAddr> {
        let addresses = self.egress.rules.values().filter_map(|rule| match rule {
            EgressRule::Translate { address, .. } => Some(*address),
            _ => None,
        });
        addresses.collect()
    }

    /// Section 10.
    pub(super) fn egress_rule(&self, source: IpAddr, destination: IpAddr) -> Option<EgressRule> {
        let sources = self.egress.sources.iter().filter(|(from, _)| has(from, source));
        let (_, class) = sources.max_by_key(|((_, bits), _)| *bits)?;
        let rules = self.egress.rules.iter().filter(|((of, to), _)| of == class && has(to, destination));
        rules.max_by_key(|((_, (_, bits)), _)| *bits).map(|(_, rule)| *rule)
    }

    pub(super) fn came_for_pod(&mut self, packet: &Packet) {
        let egress = match self.egress_rule(packet.destination, packet.source) {
            Some(EgressRule::Tunnel { .. } | EgressRule::NextHop { .. } | EgressRule::Drop) => return,
            Some(EgressRule::Translate { address, ports }) => Some(Rule { outer: address, ports }),
            Some(EgressRule::Pass) | None => None,
        };
        let flow = Flow::coming(packet);
        let mut rules = egress.into_iter().chain(self.rule(packet));
        let is_known = rules.any(|rule| self.find(&flow, &rule).is_some());
        if self.is_direct(&flow) || !is_known {
            self.record_direct(flow);
        }
    }
}
