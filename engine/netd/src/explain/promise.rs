//! What the maps promise for a packet, before the program runs on it.

use super::offline::denied;
use super::{Explanation, Kind, Packet, flow_hash, size};
use crate::facts::{Facts, Mac};
use crate::kinds::service::{HeldFrontend, held_frontend};
use crate::kinds::vip::POOL_PREFIX;
use ipnetwork::IpNetwork;
use netd_bpf::Maps;
use netd_bpf::abi::{self, FlowKey, Frontend, FrontendKey, Pool, PoolKey};
use netd_schema::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// What conclusions are drawn from.
#[derive(Debug, Default)]
pub(super) struct Promise {
    /// Whose counters count the packet, if a service's do.
    pub(super) service: Option<u32>,
    ways: BTreeMap<SocketAddr, Way>,
}

impl Promise {
    /// The way to a backend that the maps have.
    pub(super) fn way_to(&self, backend: SocketAddr) -> Option<&Way> {
        self.ways.get(&backend)
    }

    /// The port of a backend by its address, for packets that do not say it.
    pub(super) fn port_of(&self, address: IpAddr) -> Option<u16> {
        self.ways.keys().find(|backend| backend.ip() == address).map(SocketAddr::port)
    }
}

/// The way to a backend.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// The name of the device, as the facts have it.
    pub(super) device: String,
    pub(super) ifindex: u32,
    pub(super) mac: Mac,
    mtu: u16,
}

/// Says what the maps promise.
pub(super) fn promise(
    maps: &dyn Maps,
    facts: &Facts,
    packet: &Packet,
    answer: &mut Explanation,
) -> netd_bpf::Result<Promise> {
    let key = FrontendKey {
        address: packet.destination.ip(),
        port: packet.destination.port(),
        protocol: packet.protocol.number(),
    };
    if packet.kind == Kind::Ping {
        return unknown(maps, &key, answer);
    }
    is_of_a_flow(packet, answer);
    let Some(frontend) = maps.frontend(&key)? else {
        answer.step("frontend", format!("no service has {}/{}", packet.destination, packet.protocol.name()));
        return unknown(maps, &key, answer);
    };
    let mut promise = Promise { service: Some(frontend.service), ways: BTreeMap::new() };
    let Some(held) = held_frontend(maps, facts, &key, &frontend) else {
        answer.step("frontend", "its entry is damaged; the next pass writes it anew");
        return Ok(promise);
    };
    for backend in &held.spec.backends {
        let Some(path) = &backend.path else { continue };
        let (device, mac) = (path.device.clone(), path.destination_mac);
        let way = Way { device, ifindex: path.ifindex, mac, mtu: path.mtu };
        promise.ways.insert(backend.socket(), way);
    }
    of_frontend(maps, packet, &frontend, &held, answer)?;
    if let Some(backend) = answer.backend {
        let mtu = promise.ways.get(&backend).map(|way| way.mtu);
        size::step(answer, packet, held.spec.policy.mode, backend, mtu);
    }
    Ok(promise)
}

/// Says what a packet is that is not just one of its flow.
pub(super) fn is_of_a_flow(packet: &Packet, answer: &mut Explanation) {
    match packet.kind {
        Kind::Whole | Kind::Ping => {}
        Kind::FirstFragment(id) => {
            answer.step("fragment", format!("the first: those of identification {id} that follow go after it"));
        }
        Kind::LaterFragment(id) => answer.step(
            "fragment",
            format!("a later one: goes after the first of identification {id}, if that came at most 30 seconds before"),
        ),
        Kind::Error { .. } => {
            let flow = format!("{} {} > {}", packet.protocol.name(), packet.source, packet.destination);
            answer.step("about", format!("the flow {flow}: it goes to the same backend"));
        }
    }
}

fn of_frontend(
    maps: &dyn Maps,
    packet: &Packet,
    frontend: &Frontend,
    held: &HeldFrontend,
    answer: &mut Explanation,
) -> netd_bpf::Result<()> {
    let service = maps.service_name(frontend.service)?;
    answer.frontend = Some(held.spec.key().to_string());
    answer.step("frontend", format!("{} of service {service}", held.spec.key()));
    answer.service = Some(service);
    if let Some(reason) = denied(&held.spec, packet) {
        answer.step("source", reason);
        return Ok(());
    }
    let has_affinity = frontend.flags & abi::AFFINITY != 0;
    let hash = flow_hash(packet, held.spec.hash_seed, has_affinity);
    answer.flow_hash = Some(hash);
    let left_out = if has_affinity { ", of the client's address without its port" } else { "" };
    answer.step("hash", format!("{hash:08x}{left_out}"));
    if frontend.slots > 0 {
        let slot = hash % frontend.slots;
        answer.table_size = Some(frontend.slots);
        answer.slot = Some(slot);
        answer.step("slot", format!("{slot} of {}", frontend.slots));
    }
    match answer.slot.and_then(|slot| held.backend_of(slot)) {
        Some(backend) => {
            answer.backend = Some(backend);
            answer.step("ring", format!("names backend {backend}"));
        }
        None => answer.step("ring", "names no backend"),
    }
    recorded(maps, packet, frontend, held, answer)
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
        let how = match packet.protocol {
            Protocol::Tcp => "a SYN without a record takes a slot at random, any other packet its hash's",
            Protocol::Udp => "a packet without a record takes a slot at random",
        };
        answer.step("random", how);
    }
    if frontend.flags & abi::KEEP_FLOWS != 0 {
        answer.step("change", format!("the ring has changed: {}", window(packet.protocol, frontend.flags)));
    }
    for (key, flow) in records(maps, packet)? {
        let whose = if key.source_port == [0, 0] { "client" } else { "flow" };
        let backend =
            held.backend_at(flow.index).map_or_else(|| "a backend that is gone".into(), |at| at.to_string());
        answer.step("record", format!("the {whose} has one, of backend {backend}"));
    }
    Ok(())
}

/// What a ring that changed means for a packet without a record, and where records are looked for.
fn window(protocol: Protocol, flags: u32) -> String {
    let window = match (flags & abi::WINDOW_OPEN != 0, protocol) {
        (true, Protocol::Tcp) => "a flow without a record is taken for an old one, unless this is its SYN",
        (true, Protocol::Udp) => {
            "a flow without a record is taken for an old one, for as long after it as `udp_idle` says"
        }
        (false, _) => "only flows with a record are kept",
    };
    let anywhere = match flags & abi::RECORDS_ANYWHERE {
        0 => "in slots that changed",
        _ => "in every slot, because of earlier changes",
    };
    format!("{window}; records are looked for {anywhere}")
}

/// Says what becomes of packets that no service takes.
fn unknown(maps: &dyn Maps, key: &FrontendKey, answer: &mut Explanation) -> netd_bpf::Result<Promise> {
    let address = key.address;
    let vip = maps.frontend(&FrontendKey::vip_entry(address))?;
    if let Some(vip) = vip {
        let pings = if vip.flags & abi::PING == 0 { "; pings are not answered" } else { "" };
        answer.step("vip", format!("{address} is a VIP of {}{pings}", maps.service_name(vip.service)?));
        return Ok(Promise { service: Some(vip.service), ways: BTreeMap::new() });
    }
    let pool = pool_of(maps, address)?;
    match pool {
        Some(pool) => {
            let named = maps.service_name(pool.service)?;
            let name = named.strip_prefix(POOL_PREFIX).unwrap_or(&named);
            answer.step("vip", format!("{address} is an unassigned address of pool {name}"));
        }
        None => answer.step("vip", format!("{address} is no VIP")),
    }
    Ok(Promise { service: pool.map(|pool| pool.service), ways: BTreeMap::new() })
}

/// The pool whose prefix contains the address; the longest decides.
fn pool_of(maps: &dyn Maps, address: IpAddr) -> netd_bpf::Result<Option<Pool>> {
    let holds = |key: &PoolKey| {
        let (network, bits) = key.prefix();
        IpNetwork::new(network, bits).is_ok_and(|prefix| prefix.contains(address))
    };
    let pools = maps.pools()?.into_iter().filter(|(key, _)| holds(key));
    Ok(pools.max_by_key(|(key, _)| key.bits).map(|(_, pool)| pool))
}

/// The records of the packet's flow and client.
pub(super) fn records(maps: &dyn Maps, packet: &Packet) -> netd_bpf::Result<Vec<(FlowKey, abi::Flow)>> {
    let of_flow = FlowKey {
        source: mapped(packet.source.ip()),
        destination: mapped(packet.destination.ip()),
        source_port: packet.source.port().to_be_bytes(),
        destination_port: packet.destination.port().to_be_bytes(),
        protocol: packet.protocol.number(),
        ..FlowKey::default()
    };
    let of_client = FlowKey { source_port: [0, 0], ..of_flow };
    // They are one where the packet's source port is zero.
    let keys = BTreeSet::from([of_client, of_flow]);
    keys.into_iter().filter_map(|key| maps.flow(&key).map(|flow| Some((key, flow?))).transpose()).collect()
}

/// As records have an address.
pub(super) fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
