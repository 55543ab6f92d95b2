//! What the file alone says about a packet: no node, no kernel, no privilege.

use super::promise::is_of_a_flow;
use super::{Evidence, Explanation, Kind, Packet, Verdict, flow_hash, outer_source, size};
use crate::egress::{self, Owner};
use crate::facts::Facts;
use crate::kinds::service::{self, ServiceSpec, maglev};
use ipnetwork::IpNetwork;
use netd_schema::{Algorithm, BackendState, Config, Family, NoBackend, OnNoGateway, UnknownPort};
use std::net::IpAddr;

/// Explains what the file asks for.
///
/// # Errors
///
/// A sentence, when the file's services cannot be lowered.
pub fn explain(config: &Config, packet: &Packet) -> Result<Explanation, String> {
    let mut answer = Explanation::new(packet, Evidence::File);
    let desired = service::desired(config, &Facts::default())?;
    if packet.kind == Kind::Ping {
        return Ok(pinged(config, packet, answer));
    }
    is_of_a_flow(packet, &mut answer);
    let wanted = format!("{}/{}", packet.destination, packet.protocol.name());
    let found = desired.table.get(wanted.as_str());
    let Some(spec) = found.and_then(|spec| spec.as_any().downcast_ref::<ServiceSpec>()) else {
        answer.step("frontend", format!("no service has {wanted}"));
        return Ok(unknown(config, packet, answer));
    };
    answer.service = Some(spec.service.clone());
    answer.frontend = Some(wanted.clone());
    answer.step("frontend", format!("{wanted} of service {}", spec.service));
    if let Some(reason) = denied(spec, packet) {
        answer.step("source", reason.clone());
        return Ok(answer.ends(Verdict::Drop, reason));
    }
    Ok(balanced(config, spec, packet, answer))
}

fn balanced(config: &Config, spec: &ServiceSpec, packet: &Packet, mut answer: Explanation) -> Explanation {
    let has_affinity = spec.policy.affinity_seconds > 0;
    let hash = flow_hash(packet, spec.hash_seed, has_affinity);
    answer.flow_hash = Some(hash);
    let left_out = if has_affinity { ", of the client's address without its port" } else { "" };
    answer.step("hash", format!("{hash:08x}{left_out}"));
    let members = spec.members(|_| true);
    let names: Vec<_> = members.iter().map(|(_, member)| member.clone()).collect();
    let table = maglev::table(&names, spec.table_size, spec.hash_seed.names());
    let slot = hash.checked_rem(spec.table_size).unwrap_or(0);
    let chosen = table.get(slot as usize).and_then(|&member| members.get(usize::from(member)));
    let Some(backend) = chosen.and_then(|(position, _)| spec.backends.get(*position)) else {
        let reason = "the service has no backend that may be used";
        return match spec.policy.no_backend {
            NoBackend::Reject => rejected(answer, packet, reason),
            NoBackend::Drop => answer.ends(Verdict::Drop, reason),
        };
    };
    answer.table_size = Some(spec.table_size);
    answer.slot = Some(slot);
    answer.step("slot", format!("{slot} of {}", spec.table_size));
    if backend.state == BackendState::Terminating {
        answer.step("backend", "no backend is active: those that terminate are used");
    }
    if spec.policy.algorithm == Algorithm::Random {
        answer.step(
            "backend",
            "chosen at random for a new flow; this one only where nothing is recorded of a flow under way",
        );
    }
    answer.backend = Some(backend.socket());
    answer.step("backend", format!("{}, weight {}", backend.socket(), backend.weight));
    if has_affinity {
        answer.step("affinity", "a client that is known keeps the backend that it has");
    }
    size::step(&mut answer, packet, spec.policy.mode, backend.socket(), None);
    answer.outer_destination = Some(backend.address);
    let prefixes = &config.load_balancer.rss_source;
    let prefix = prefixes.iter().find(|prefix| prefix.is_ipv4() == backend.address.is_ipv4());
    answer.outer_source = prefix.map(|prefix| picked(packet, prefix));
    let source = match (answer.outer_source, prefix) {
        (Some(source), Some(prefix)) => format!("{source}, picked from {prefix}"),
        _ => "the node's own address towards the backend".into(),
    };
    answer.step("tunnel", format!("to {} from {source}", backend.address));
    let reason = format!("to backend {} of {}", backend.socket(), spec.service);
    answer.ends(Verdict::Forward, reason)
}

fn picked(packet: &Packet, prefix: &IpNetwork) -> IpAddr {
    let width = if prefix.is_ipv4() { 32 } else { 128 };
    outer_source(packet, prefix.network(), width - prefix.prefix())
}

/// Why a packet's client is not let in; `None` if it is, or if nobody asks.
pub(super) fn denied(spec: &ServiceSpec, packet: &Packet) -> Option<String> {
    if !packet.shows_its_client() {
        return None;
    }
    let client = packet.source.ip();
    let longest = |prefixes: &[IpNetwork]| {
        prefixes.iter().filter(|prefix| prefix.contains(client)).max_by_key(|prefix| prefix.prefix()).copied()
    };
    let (allow, deny) = (longest(&spec.policy.allow), longest(&spec.policy.deny));
    match (allow, deny) {
        (Some(allow), Some(deny)) if allow.prefix() >= deny.prefix() => None,
        (_, Some(deny)) => Some(format!("{client} is in {deny}, which the service denies")),
        (None, None) if !spec.policy.allow.is_empty() => {
            Some(format!("{client} is in none of the prefixes that the service allows"))
        }
        (_, None) => None,
    }
}

/// A ping is answered where a service has its VIP and does not mind.
fn pinged(config: &Config, packet: &Packet, mut answer: Explanation) -> Explanation {
    let vip = packet.destination.ip();
    let Some(service) = config.services.iter().find(|service| service.vips.contains(&vip)) else {
        return unknown(config, packet, answer);
    };
    if service.ping {
        answer.step("vip", format!("{vip} is a VIP of {}", service.name));
        return answer.ends(Verdict::Answer, "the load balancer answers pings itself");
    }
    unknown(config, packet, answer)
}

/// A packet that no service takes.
fn unknown(config: &Config, packet: &Packet, mut answer: Explanation) -> Explanation {
    let vip = packet.destination.ip();
    let of_service = config.services.iter().find(|service| service.vips.contains(&vip));
    let is_egress = config.egress.iter().any(|policy| policy.ips.contains(&vip));
    let of_pool = config.balanced_pools().find(|pool| pool.contains(vip) && !is_egress);
    let (policy, whose) = match (of_service, of_pool) {
        (Some(service), _) => (service.unknown_port, format!("{vip} is a VIP of {}", service.name)),
        (None, Some(pool)) => {
            (pool.unassigned, format!("{vip} is an unassigned address of pool {}", pool.name))
        }
        (None, None) => return outside(config, packet, answer),
    };
    answer.step("vip", whose);
    match policy {
        UnknownPort::Drop => answer.ends(Verdict::Drop, "unknown ports are dropped"),
        UnknownPort::Reject => rejected(answer, packet, "unknown ports are rejected"),
        UnknownPort::Pass => answer.ends(Verdict::Pass, "unknown ports are left to the kernel"),
    }
}

/// A packet for nobody of the file: perhaps one of a pod, whose egress policy says how it leaves.
fn outside(config: &Config, packet: &Packet, mut answer: Explanation) -> Explanation {
    let (from, to) = (packet.source.ip(), packet.destination.ip());
    let nobody = format!("{to} is no VIP");
    let owner = match packet.kind {
        Kind::Error { .. } => None,
        _ => egress::owner(&config.egress, &egress::cluster(config), from, to),
    };
    let Some(Owner { policy, source, destination }) = owner else {
        return answer.ends(Verdict::Pass, nobody);
    };
    answer.step("service", nobody);
    answer.step("policy", format!("{}, from {source} to {destination}", policy.name));
    answer.policy = Some(policy.name.clone());
    let family = if to.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    match (egress::in_force(policy, None), policy.ip(family)) {
        (Some(gateway), Some(address)) => {
            let how = if config.egress_failover.is_some() { ", if all of its gateways live" } else { "" };
            answer.step("gateway", format!("node {}{how}", gateway.node));
            let ports = format!("ports {}-{}", policy.ports.first, policy.ports.last);
            answer.step("flow", format!("gets one of the {ports}, its own if that is free"));
            answer.ends(Verdict::Translate, format!("leaves node {} as {address}", gateway.node))
        }
        // Its sources or destinations are of the other family only.
        (_, None) if policy.pool.is_none() || !policy.takes(family) => {
            answer.ends(Verdict::Pass, format!("the policy has no {} address", family.word()))
        }
        (_, address) => {
            let what = if address.is_some() { "gateway" } else { "address yet" };
            match policy.on_no_gateway {
                OnNoGateway::Drop => answer.ends(Verdict::Drop, format!("the policy has no {what}")),
                OnNoGateway::Pass => {
                    answer.ends(Verdict::Pass, format!("the policy has no {what}, and lets it pass then"))
                }
            }
        }
    }
}

/// Some packets are never answered: resets (RFC 9293), ICMP, fragments.
fn rejected(answer: Explanation, packet: &Packet, reason: &str) -> Explanation {
    if packet.is_refused_aloud() {
        return answer.ends(Verdict::Reject, reason);
    }
    let whom = match packet.kind {
        Kind::Whole => "a reset",
        Kind::FirstFragment(_) | Kind::LaterFragment(_) => "a fragment",
        Kind::Ping | Kind::Error { .. } => "ICMP",
    };
    answer.ends(Verdict::Drop, format!("{reason}, and nobody answers {whom} so"))
}

#[cfg(test)]
#[path = "offline_tests.rs"]
mod tests;
