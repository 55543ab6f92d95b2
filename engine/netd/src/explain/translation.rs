//! What the translating programs do with a packet that no service takes: egress policies, masquerading, and answers.

use super::{Evidence, Explanation, Kind, Packet, TcpFlags, Verdict};
use crate::clock;
use crate::egress::{Rule, Tables};
use crate::facts::{Facts, Link, PathResolver};
use crate::kinds::{egress, masquerade};
use ipnetwork::IpNetwork;
use netd_bpf::nat::{self, Nat, Outer, Ports, Translated};
use netd_schema::Protocol;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// What the programs go by for a packet.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// Whose packets are masqueraded, and as what.
    pub rules: nat::Rules,
    /// The rules of egress policies, by source.
    pub tables: Tables,
    /// The flows with the packet's other end.
    pub flows: Vec<Translated>,
    /// Whether the other end began the flow, by the pod's own address.
    pub is_direct: bool,
    /// The devices that have the program for what leaves, by their indices.
    pub outwards: BTreeSet<u32>,
    /// The addresses to which answers are turned around: also one that no rule has any more, until the node is rid of it.
    pub answered: BTreeSet<IpAddr>,
}

/// Explains what the programs that are pinned below this folder do with the packet; `None`: they leave it alone.
///
/// # Errors
///
/// A sentence, when they cannot be read.
pub(super) fn explain(bpf_dir: &Path, facts: &Facts, packet: &Packet) -> Result<Option<Explanation>, String> {
    let Some(nat) = masquerade::programs(bpf_dir)? else { return Ok(None) };
    let outwards = masquerade::outwards(bpf_dir)?;
    let view = View { outwards, ..View::read(&nat, packet)? };
    Ok(view.explain(facts, packet))
}

impl View {
    fn read(nat: &Nat, packet: &Packet) -> Result<Self, String> {
        let told = |error: netd_bpf::Error| crate::kinds::service::sentence(&error);
        let has_egress = nat.size().has_egress;
        let tables = if has_egress { egress::tables(nat)? } else { Tables::new() };
        let answered = nat.answered().map_err(told)?;
        let mut view = Self { rules: nat.rules().map_err(told)?, tables, answered, ..Self::default() };
        if view.is_answer(packet) || view.is_of_pod(packet) {
            let (pod, remote) = match view.is_answer(packet) {
                true => (packet.destination, packet.source),
                false => (packet.source, packet.destination),
            };
            let now_ns = u64::try_from(clock::awake().as_nanos()).unwrap_or(u64::MAX);
            view.flows = nat.with_remote(number(packet), remote, now_ns).map_err(told)?;
            let seen_ns = nat.direct(number(packet), pod, remote).map_err(told)?;
            view.is_direct =
                seen_ns.is_some_and(|seen| is_direct(number(packet), now_ns.saturating_sub(seen)));
        }
        Ok(view)
    }

    /// What becomes of the packet, and why; `None`: it is not for these programs.
    pub(super) fn explain(&self, facts: &Facts, packet: &Packet) -> Option<Explanation> {
        if matches!(packet.kind, Kind::Error { .. }) {
            return None;
        }
        let mut answer = Explanation::new(packet, Evidence::Program);
        answer.step("service", format!("no service has {}", packet.destination.ip()));
        if self.is_answer(packet) {
            return Some(self.turned(packet, answer));
        }
        if !self.tables.is_empty() && facts.is_own_address(packet.source.ip()) {
            answer.is_exempt = true;
            let why = "it is the node's own: egress policies are for what comes in by a device";
            let passes = answer.clone().ends(Verdict::Pass, why);
            return Some(self.masqueraded(facts, packet, answer).unwrap_or(passes));
        }
        match self.rule(packet.source.ip(), packet.destination.ip()) {
            Some(found) => self.ruled(facts, packet, found, answer),
            None => self.masqueraded(facts, packet, answer),
        }
    }

    /// A packet that a rule of an egress policy is for.
    fn ruled(
        &self,
        facts: &Facts,
        packet: &Packet,
        (source, destination, rule): (IpNetwork, IpNetwork, Rule),
        mut answer: Explanation,
    ) -> Option<Explanation> {
        answer.step("egress", format!("from {source} to {destination}: {rule}"));
        answer.rule = Some(rule);
        if rule == Rule::Pass {
            return self.masqueraded(facts, packet, answer);
        }
        let link = match way_out(facts, packet, &mut answer) {
            Ok(link) => link,
            Err(why) => return Some(answer.ends(Verdict::Pass, why)),
        };
        if !self.outwards.contains(&link.index) {
            let why = format!("{} has no program that would look at it: left to the kernel", link.name);
            return Some(answer.ends(Verdict::Pass, why));
        }
        Some(match rule {
            Rule::Translate { address, first_port: first, last_port: last } => {
                self.translated(packet, address, Ports { first, last }, answer)
            }
            Rule::Tunnel { remote: gateway, .. } | Rule::NextHop { address: gateway, .. } => {
                answer.gateway = Some(gateway);
                answer.ends(Verdict::Steer, format!("to the gateway {gateway}, as it is"))
            }
            Rule::Drop => answer.ends(Verdict::Drop, "its egress policy has no gateway"),
            Rule::Pass => return None,
        })
    }

    fn masqueraded(&self, facts: &Facts, packet: &Packet, mut answer: Explanation) -> Option<Explanation> {
        let (from, to) = (packet.source.ip(), packet.destination.ip());
        let source = longest(&self.rules.sources, from)?;
        answer.step("masquerade", format!("{from} is in {source}"));
        if let Some(excluded) = longest(&self.rules.exclude, to) {
            return Some(answer.ends(Verdict::Pass, format!("{to} is in {excluded}, which is excluded")));
        }
        let link = match way_out(facts, packet, &mut answer) {
            Ok(link) => link,
            Err(why) => return Some(answer.ends(Verdict::Pass, why)),
        };
        let device = self.rules.devices.get(&link.index).filter(|_| self.outwards.contains(&link.index));
        let Some(Outer { v4, v6, ports }) = device.filter(|it| it.ports.first > 0) else {
            let why = format!("{} does not masquerade", link.name);
            return Some(answer.ends(Verdict::Pass, why));
        };
        let address = if to.is_ipv4() { v4.map(IpAddr::from) } else { v6.map(IpAddr::from) };
        Some(match address {
            Some(address) => self.translated(packet, address, *ports, answer),
            None => {
                answer.ends(Verdict::Drop, format!("{} has no address of this family to give", link.name))
            }
        })
    }

    /// A packet of a pod for which an address was found.
    fn translated(
        &self,
        packet: &Packet,
        address: IpAddr,
        ports: Ports,
        mut answer: Explanation,
    ) -> Explanation {
        let is_segment = packet.protocol == Protocol::Tcp && packet.kind != Kind::Ping;
        let leaves = |port| SocketAddr::new(address, port);
        let known = self.flows.iter().find(|flow| flow.inner == packet.source && flow.outer.ip() == address);
        match (packet.kind, known) {
            (Kind::LaterFragment(_), _) => {
                answer.step("fragment", "goes with what its first fragment got; without one it is dropped");
                answer.ends(Verdict::Translate, format!("leaves as {address}"))
            }
            (Kind::Ping, _) => answer.ends(Verdict::Translate, format!("leaves as {address}")),
            (_, Some(flow)) => {
                let outer = leaves(flow.outer.port());
                answer.step("flow", format!("is known, and has port {}", outer.port()));
                answer.leaves_as = Some(outer);
                answer.ends(Verdict::Translate, format!("leaves as {outer}"))
            }
            (Kind::Whole | Kind::FirstFragment(_), None) if self.is_direct && !packet.is_syn() => {
                let why =
                    "the other end began this flow, by the pod's own address: it is answered from there";
                answer.ends(Verdict::Pass, why)
            }
            (_, None) if is_segment && packet.flags == TcpFlags::Rst => {
                answer.ends(Verdict::Drop, "it ends a flow that nobody knows")
            }
            (_, None) => {
                let Ports { first, last } = ports;
                let own = packet.source.port();
                let own = (first..=last).contains(&own).then(|| format!("{own} if that is free, or "));
                let own = own.unwrap_or_default();
                answer.step("flow", format!("is new: it gets port {own}another of {first}-{last}"));
                answer.ends(Verdict::Translate, format!("leaves as {address}"))
            }
        }
    }

    /// A packet for an outer address of this node.
    fn turned(&self, packet: &Packet, mut answer: Explanation) -> Explanation {
        let outer = packet.destination;
        answer.is_exempt = true;
        answer.step("address", format!("{} is one that flows of pods leave this node with", outer.ip()));
        if packet.kind == Kind::Ping {
            return answer.ends(Verdict::Pass, "a ping is the host's");
        }
        if let Kind::LaterFragment(_) = packet.kind {
            let why = "to the pod that its first fragment went to; without one it is the host's";
            return answer.ends(Verdict::Translate, why);
        }
        let Some(flow) = self.flows.iter().find(|flow| flow.outer == outer) else {
            let why = format!("no pod has a flow from {outer} to {}: it is the host's", packet.source);
            return answer.ends(Verdict::Pass, why);
        };
        answer.step("flow", format!("of pod {}", flow.inner));
        answer.pod = Some(flow.inner);
        answer.ends(Verdict::Translate, format!("to the pod, {}, by the node's routes", flow.inner))
    }

    fn is_answer(&self, packet: &Packet) -> bool {
        self.answered.contains(&packet.destination.ip())
    }

    fn is_of_pod(&self, packet: &Packet) -> bool {
        let (from, to) = (packet.source.ip(), packet.destination.ip());
        self.rule(from, to).is_some() || longest(&self.rules.sources, from).is_some()
    }

    /// The rule of a packet, by the longest prefixes.
    fn rule(&self, from: IpAddr, to: IpAddr) -> Option<(IpNetwork, IpNetwork, Rule)> {
        let sources = self.tables.iter().filter(|(prefix, _)| prefix.contains(from));
        let (source, table) = sources.max_by_key(|(prefix, _)| prefix.prefix())?;
        let rules = table.iter().filter(|(prefix, _)| prefix.contains(to));
        let (destination, rule) = rules.max_by_key(|(prefix, _)| prefix.prefix())?;
        Some((*source, *destination, *rule))
    }
}

/// The device that the packet leaves by; otherwise why the kernel does not send it.
fn way_out<'f>(facts: &'f Facts, packet: &Packet, answer: &mut Explanation) -> Result<&'f Link, String> {
    let hop = PathResolver::new(facts).hop(packet.destination.ip());
    let link = hop.map_err(|error| format!("left to the kernel: {error}"))?.link;
    answer.step("leaves", format!("by {}", link.name));
    answer.device = Some(link.name.clone());
    Ok(link)
}

fn longest(prefixes: &BTreeSet<netd_bpf::decap::Prefix>, address: IpAddr) -> Option<IpNetwork> {
    let networks = prefixes.iter().filter_map(|&(network, bits)| IpNetwork::new(network, bits).ok());
    networks.filter(|network| network.contains(address)).max_by_key(|network| network.prefix())
}

/// Whether a record of a flow to a pod's own address still counts, so long after its last packet.
fn is_direct(protocol: u8, ago_ns: u64) -> bool {
    let lifetime_s = if protocol == TCP { 7440 } else { 300 };
    ago_ns <= lifetime_s * 1_000_000_000
}

/// The protocol as in the IP header.
fn number(packet: &Packet) -> u8 {
    match (packet.kind, packet.source.is_ipv4()) {
        (Kind::Ping, true) => ICMP,
        (Kind::Ping, false) => ICMPV6,
        _ => packet.protocol.number(),
    }
}

#[cfg(test)]
#[path = "translation_tests.rs"]
mod tests;
