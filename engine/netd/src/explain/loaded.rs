//! What the loaded program says about a packet: it is run on it, and the maps tell why.

use super::frame::{Sent, sent};
use super::{Evidence, Explanation, Packet, Verdict, flow_hash};
use crate::balancer::Balancer;
use crate::facts::Facts;
use crate::kinds::service::{HeldFrontend, held_frontend, sentence};
use netd_bpf::abi::{self, FlowKey, Frontend, FrontendKey};
use netd_bpf::{Datapath, Maps};
use std::net::{IpAddr, SocketAddr};

/// Runs the loaded program on the packet and says what it did, step by step.
///
/// The packet is counted like any other; a record that it makes is removed again.
///
/// # Errors
///
/// A sentence, when nothing is loaded or the maps cannot be read.
pub fn explain(balancer: &Balancer, facts: &Facts, packet: &Packet) -> Result<Explanation, String> {
    balancer.with_datapath(|datapath| match datapath {
        Some(datapath) => run(datapath, facts, packet),
        None => Err("nothing is loaded: netd has not applied a file with services here (`--offline` answers from the \
                     file alone)"
            .into()),
    })?
}

fn run(datapath: &mut Datapath, facts: &Facts, packet: &Packet) -> Result<Explanation, String> {
    let mut answer = Explanation::new(packet, Evidence::Program);
    let key = FrontendKey {
        address: packet.destination.ip(),
        port: packet.destination.port(),
        protocol: packet.protocol.number(),
    };
    let frontend = told(entry(datapath.maps_ref(), &key))?;
    if let Some(frontend) = &frontend {
        told(promise(datapath.maps_ref(), facts, packet, &key, frontend, &mut answer))?;
    } else {
        answer.step("frontend", format!("no service has {key}"));
        told(unknown(datapath.maps_ref(), &key, &mut answer))?;
    }
    let before = told(records(datapath.maps_ref(), packet))?;
    let (verdict, frame) = told(datapath.run(&packet.frame()?))?;
    forget_new(datapath.maps(), packet, &before)?;
    Ok(conclude(answer, verdict, sent(&frame), facts))
}

fn told<T>(result: netd_bpf::Result<T>) -> Result<T, String> {
    result.map_err(|error| sentence(&error))
}

fn entry(maps: &dyn Maps, key: &FrontendKey) -> netd_bpf::Result<Option<Frontend>> {
    Ok(maps.frontends()?.into_iter().find(|(found, _)| found == key).map(|(_, frontend)| frontend))
}

/// Says what the maps promise for a packet of a frontend.
fn promise(
    maps: &dyn Maps,
    facts: &Facts,
    packet: &Packet,
    key: &FrontendKey,
    frontend: &Frontend,
    answer: &mut Explanation,
) -> netd_bpf::Result<()> {
    let service = maps.service_name(frontend.service)?;
    let Some(held) = held_frontend(maps, facts, key, frontend) else {
        answer.step("frontend", "its entry is damaged; the next pass writes it anew");
        return Ok(());
    };
    answer.frontend = Some(held.spec.key().to_string());
    answer.step("frontend", format!("{} of service {service}", held.spec.key()));
    answer.service = Some(service);
    if frontend.flags & abi::SOURCES != 0 {
        answer.step("source", "the service lets in by address: the longest prefix decides");
    }
    let hash = flow_hash(packet, held.spec.hash_seed, frontend.flags & abi::AFFINITY != 0);
    answer.flow_hash = Some(hash);
    answer.step("hash", format!("{hash:08x}"));
    if frontend.slots > 0 {
        let slot = hash % frontend.slots;
        answer.table_size = Some(frontend.slots);
        answer.slot = Some(slot);
        answer.step("slot", format!("{slot} of {}", frontend.slots));
    }
    let promised = answer.slot.and_then(|slot| held.backend_of(slot));
    match promised {
        Some(backend) => {
            answer.backend = Some(backend);
            answer.step("ring", format!("names backend {backend}"));
        }
        None => answer.step("ring", "names no backend"),
    }
    recorded(maps, packet, frontend, &held, answer)
}

/// Says what records there are that may decide instead of the ring.
fn recorded(
    maps: &dyn Maps,
    packet: &Packet,
    frontend: &Frontend,
    held: &HeldFrontend,
    answer: &mut Explanation,
) -> netd_bpf::Result<()> {
    if frontend.flags & abi::RANDOM != 0 {
        answer.step("random", "a new flow takes a slot at random");
    }
    if frontend.flags & abi::KEEP_FLOWS != 0 {
        let window = if frontend.flags & abi::WINDOW_OPEN != 0 {
            "flows without a record are taken for old ones"
        } else {
            "only flows with a record are kept"
        };
        answer.step("change", format!("the ring has changed: {window}"));
    }
    for (key, flow) in records(maps, packet)? {
        let whose = if key.source_port == [0, 0] { "client" } else { "flow" };
        let backend =
            held.backend_at(flow.index).map_or_else(|| "a backend that is gone".into(), |at| at.to_string());
        answer.step("record", format!("the {whose} has one, of backend {backend}"));
    }
    Ok(())
}

/// Says what becomes of packets that no service takes.
fn unknown(maps: &dyn Maps, key: &FrontendKey, answer: &mut Explanation) -> netd_bpf::Result<()> {
    if let Some(vip) = entry(maps, &FrontendKey::vip_entry(key.address))? {
        let service = maps.service_name(vip.service)?;
        answer.step("vip", format!("{} is a VIP of {service}", key.address));
        return Ok(());
    }
    answer.step("vip", format!("{} is no VIP", key.address));
    Ok(())
}

/// The records of the packet's flow and client.
fn records(maps: &dyn Maps, packet: &Packet) -> netd_bpf::Result<Vec<(FlowKey, abi::Flow)>> {
    let mapped = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let of_flow = FlowKey {
        source: mapped(packet.source.ip()),
        destination: mapped(packet.destination.ip()),
        source_port: packet.source.port().to_be_bytes(),
        destination_port: packet.destination.port().to_be_bytes(),
        protocol: packet.protocol.number(),
        ..FlowKey::default()
    };
    let of_client = FlowKey { source_port: [0, 0], ..of_flow };
    Ok(maps.flows()?.into_iter().filter(|(key, _)| *key == of_flow || *key == of_client).collect())
}

/// Removes the records that the run made.
fn forget_new(maps: &mut dyn Maps, packet: &Packet, before: &[(FlowKey, abi::Flow)]) -> Result<(), String> {
    let after = told(records(maps, packet))?;
    let new: Vec<FlowKey> = after
        .into_iter()
        .map(|(key, _)| key)
        .filter(|key| before.iter().all(|(known, _)| known != key))
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    told(maps.purge_flows(&|key, _| new.contains(key))).map(drop)
}

/// What the program did, beside what the maps promised.
fn conclude(
    mut answer: Explanation,
    verdict: netd_bpf::Verdict,
    sent: Option<Sent>,
    facts: &Facts,
) -> Explanation {
    let _ = facts;
    match verdict {
        netd_bpf::Verdict::Pass => {
            disagree_if(&mut answer, |answer| answer.backend.is_some(), "the program left it to the kernel");
            answer.ends(Verdict::Pass, "left to the kernel as it came")
        }
        netd_bpf::Verdict::Drop => {
            answer.backend = None;
            answer.ends(Verdict::Drop, "the program dropped it; `netd services` counts why")
        }
        netd_bpf::Verdict::Aborted => {
            answer.disagreements.push("the program failed".into());
            answer.ends(Verdict::Drop, "the program failed")
        }
        netd_bpf::Verdict::Transmit | netd_bpf::Verdict::Redirect => match sent {
            Some(Sent::Tunnel { source, destination, port, how }) => {
                let backend = SocketAddr::new(destination, port);
                if let Some(promised) = answer.backend.filter(|promised| *promised != backend) {
                    answer.step("backend", format!("{backend}, by its record, instead of {promised}"));
                } else {
                    answer.step("backend", backend.to_string());
                }
                answer.backend = Some(backend);
                answer.outer_source = Some(source);
                answer.outer_destination = Some(destination);
                answer.step("tunnel", format!("{how} to {destination} from {source}"));
                let service = answer.service.clone().unwrap_or_default();
                answer.ends(Verdict::Forward, format!("to backend {backend} of {service}"))
            }
            Some(Sent::Answer(what)) => {
                answer.backend = None;
                answer.ends(Verdict::Reject, format!("the client is answered with {what}"))
            }
            None => {
                answer.disagreements.push("what the program sent cannot be read".into());
                answer.ends(Verdict::Forward, "sent")
            }
        },
    }
}

fn disagree_if(answer: &mut Explanation, is_so: impl Fn(&Explanation) -> bool, what: &str) {
    if is_so(answer) {
        answer.disagreements.push(what.to_owned());
    }
}
