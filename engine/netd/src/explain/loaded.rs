//! What the loaded program says about a packet: it is run on it, and the maps and its counters tell why.

use super::counted::{Counting, because};
use super::frame::{Sent, sent};
use super::ingress::{Ingress, ingress};
use super::promise::{self, Promise};
use super::{Evidence, Explanation, Kind, Packet, Verdict, translation, wire};
use crate::balancer::Balancer;
use crate::facts::Facts;
use crate::kinds::service::sentence;
use netd_bpf::abi::{FlowKey, FragmentKey};
use netd_bpf::{Datapath, Maps, links};
use std::net::SocketAddr;
use std::path::Path;

/// Runs the loaded program on the packet and says what it did, step by step. Of the facts, which are those of the
/// calling thread's network namespace, it takes devices and their names.
///
/// The packet comes in by `device`, or by the one that is likely. It is counted like any other; the records are
/// afterwards what they were before. What the load balancer leaves alone may be one for the programs that translate, which are
/// pinned below `bpf_dir`.
///
/// # Errors
///
/// A sentence, when nothing is loaded, the maps cannot be read, or the program is not on `device`.
pub fn explain(
    balancer: &Balancer,
    bpf_dir: &Path,
    facts: &Facts,
    packet: &Packet,
    device: Option<&str>,
) -> Result<Explanation, String> {
    let balanced = balanced(balancer, facts, packet, device);
    let is_known = |answer: &Explanation| answer.verdict != Verdict::Pass || !answer.disagreements.is_empty();
    // Who names a device asks about the load balancer.
    if balanced.as_ref().map_or(device.is_some(), is_known) {
        return balanced;
    }
    match (translation::explain(bpf_dir, facts, packet)?, balanced) {
        (Some(translated), Ok(earlier)) => Ok(translated.after(earlier)),
        (Some(translated), Err(_)) => Ok(translated),
        (None, balanced) => balanced,
    }
}

fn balanced(
    balancer: &Balancer,
    facts: &Facts,
    packet: &Packet,
    device: Option<&str>,
) -> Result<Explanation, String> {
    let attached = balancer.root().map_or(Ok(Vec::new()), |root| told(links::list(&root)))?;
    let ingress = ingress(&attached, facts, packet, device)?;
    balancer.with_datapath(|datapath| match datapath {
        Some(datapath) => run(datapath, facts, packet, ingress.as_ref()),
        None => Err("nothing is loaded: netd has not applied a file with services or egress policies here (`--offline` answers from the \
                     file alone)"
            .into()),
    })?
}

fn run(
    datapath: &mut Datapath,
    facts: &Facts,
    packet: &Packet,
    ingress: Option<&Ingress>,
) -> Result<Explanation, String> {
    let mut answer = Explanation::new(packet, Evidence::Program);
    match ingress {
        Some(device) => answer.step("device", format!("comes in by {}", device.name)),
        None => {
            answer.step("device", "comes in by lo: the program is on no device of this network namespace")
        }
    }
    let promise = told(promise::promise(datapath.maps_ref(), facts, packet, &mut answer))?;
    let before = told(promise::records(datapath.maps_ref(), packet))?;
    let counting = promise.service.map(|service| Counting::begin(datapath.maps_ref(), service));
    let counting = told(counting.transpose())?;
    let frame = wire::frame(packet)?;
    let fragment = fragment_key(packet);
    let first = told(fragment.map(|key| datapath.fragment(&key)).transpose())?;
    let (verdict, frame) = told(match ingress {
        Some(device) => datapath.run_from(&frame, device.ifindex),
        None => datapath.run(&frame),
    })?;
    undo_records(datapath.maps(), packet, &before)?;
    if let (Some(key), Some(first)) = (fragment, first) {
        told(datapath.set_fragment(&key, first.as_ref()))?;
    }
    let counted = told(counting.map(|counting| counting.end(datapath.maps_ref())).transpose())?;
    let ran = Ran { verdict, sent: sent(&frame), counted: counted.unwrap_or_default() };
    Ok(conclude(answer, &ran, &promise, ingress))
}

/// What the program did.
struct Ran {
    verdict: netd_bpf::Verdict,
    sent: Option<Sent>,
    /// The names of the counts that grew.
    counted: Vec<&'static str>,
}

impl Ran {
    /// Why, as far as the counts say it.
    fn reason(&self, otherwise: &str) -> String {
        let reasons: Vec<&str> = self.counted.iter().filter_map(|name| because(name)).collect();
        if reasons.is_empty() { otherwise.to_owned() } else { reasons.join(", or ") }
    }
}

/// Makes the records of the packet's flow and client again what they were before the run: what it has made is removed,
/// what it has replaced or refreshed is put back. A SYN would otherwise take a flow of a draining backend along.
fn undo_records(
    maps: &mut dyn Maps,
    packet: &Packet,
    before: &[(FlowKey, netd_bpf::abi::Flow)],
) -> Result<(), String> {
    let after = told(promise::records(maps, packet))?;
    let changed: Vec<_> = before.iter().filter(|record| !after.contains(record)).copied().collect();
    if !changed.is_empty() {
        told(maps.put_flows(&changed))?;
    }
    let is_new = |key: &FlowKey| before.iter().all(|(known, _)| known != key);
    let new: Vec<FlowKey> = after.into_iter().map(|(key, _)| key).filter(is_new).collect();
    told(maps.delete_flows(&new))
}

/// The record that a first fragment makes.
fn fragment_key(packet: &Packet) -> Option<FragmentKey> {
    let Kind::FirstFragment(id) = packet.kind else { return None };
    Some(FragmentKey {
        source: promise::mapped(packet.source.ip()),
        destination: promise::mapped(packet.destination.ip()),
        // As it lies in the header.
        id: if packet.source.is_ipv4() { u32::from((id as u16).to_be()) } else { id.to_be() },
        protocol: packet.protocol.number(),
        zero: [0; 3],
    })
}

/// What the program did, beside what the maps promised.
fn conclude(mut answer: Explanation, ran: &Ran, promise: &Promise, ingress: Option<&Ingress>) -> Explanation {
    if !ran.counted.is_empty() {
        answer.step("counted", format!("as {}", ran.counted.join(", ")));
    }
    match ran.verdict {
        netd_bpf::Verdict::Pass => {
            if answer.backend.is_some() {
                answer.disagreements.push("the program left it to the kernel".into());
            }
            answer.ends(Verdict::Pass, "left to the kernel as it came")
        }
        netd_bpf::Verdict::Drop => {
            answer.backend = None;
            answer.ends(Verdict::Drop, ran.reason("the program dropped it"))
        }
        netd_bpf::Verdict::Aborted => {
            answer.disagreements.push("the program failed".into());
            answer.ends(Verdict::Drop, "the program failed")
        }
        netd_bpf::Verdict::Transmit | netd_bpf::Verdict::Redirect => match &ran.sent {
            Some(Sent::Pong) => answer.ends(Verdict::Answer, "the load balancer answers pings itself"),
            Some(Sent::Tunnel { source, destination, port, how }) => {
                let port = port.or_else(|| promise.port_of(*destination)).unwrap_or_default();
                let backend = SocketAddr::new(*destination, port);
                if let Some(promised) = answer.backend.filter(|promised| *promised != backend) {
                    answer.step("backend", format!("{backend}, by its record, instead of {promised}"));
                } else {
                    answer.step("backend", backend.to_string());
                }
                answer.backend = Some(backend);
                answer.outer_source = Some(*source);
                answer.outer_destination = Some(*destination);
                answer.step("tunnel", format!("{how} to {destination} from {source}"));
                if answer.flow_hash.is_none() {
                    answer.disagreements.push("the program forwarded what the maps do not let in".into());
                }
                leaves(&mut answer, ran.verdict, promise.way_to(backend), ingress);
                let service = answer.service.clone().unwrap_or_default();
                answer.ends(Verdict::Forward, format!("to backend {backend} of {service}"))
            }
            Some(Sent::Answer(what)) => {
                answer.backend = None;
                let reason = ran.reason("so the file wants it");
                answer.ends(Verdict::Reject, format!("{reason}; the client is answered with {what}"))
            }
            None => {
                answer.disagreements.push("what the program sent cannot be read".into());
                answer.ends(Verdict::Forward, "sent")
            }
        },
    }
}

/// Says by which device it leaves: where it is the one that it came in by, the program sends it back, and otherwise
/// over to the other.
fn leaves(
    answer: &mut Explanation,
    verdict: netd_bpf::Verdict,
    way: Option<&promise::Way>,
    ingress: Option<&Ingress>,
) {
    let Some(way) = way else { return };
    let is_back = verdict == netd_bpf::Verdict::Transmit;
    let how = if is_back { "back out by" } else { "redirected to" };
    answer.step("leaves", format!("{how} {} for {}", way.device, way.mac));
    answer.device = Some(way.device.clone());
    if is_back != ingress.is_some_and(|device| device.ifindex == way.ifindex) {
        answer.disagreements.push("the program sent it by another device than the maps name".into());
    }
}

fn told<T>(result: netd_bpf::Result<T>) -> Result<T, String> {
    result.map_err(|error| sentence(&error))
}
