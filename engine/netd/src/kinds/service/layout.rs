//! Between a frontend as the file means it and as the maps hold it. Pure: reads and gives values.

use super::maglev::Tables;
use super::paths::{HeldPaths, address};
use super::policy::Policy;
use super::rings::{self, Compared, NARROW_POSITIONS, NO_GUESS, Previous};
use super::spec::{BackendPath, BackendSpec, ServiceSpec};
use netd_bpf::abi::{self, Backend, Frontend, FrontendKey, GUE, IN_USE, OTHER_FAMILY, READY};
use netd_schema::{Algorithm, BackendState, HashSeed, Mode, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// A frontend as the maps hold it, with all that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its entry.
    pub frontend: Frontend,
    /// The lines of its block.
    pub lines: Vec<Backend>,
    /// Its ring; empty without backends.
    pub ring: Vec<u16>,
    /// The ring that it is compared with.
    pub previous: Option<Vec<u16>>,
    /// Whether the ring is the one that was written.
    pub intact: bool,
}

/// A frontend as it is to be held, before it has a place in the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The lines of its block. A line whose `counter` is [`NEW_COUNTER`] needs one.
    pub lines: Vec<Backend>,
    /// Its ring.
    pub ring: Vec<u16>,
    /// What it is compared with.
    pub previous: Option<Previous>,
    /// Whether the previous ring is a new one, so that its window begins now.
    pub window_begins: bool,
}

/// In a line that has no counter yet.
pub const NEW_COUNTER: u32 = u32::MAX;

/// The key of a frontend's entry.
#[must_use]
pub fn key(spec: &ServiceSpec) -> FrontendKey {
    FrontendKey { address: spec.vip, port: spec.port, protocol: spec.protocol.number() }
}

/// What the maps should hold for `spec`, given what they hold for it now and what that was `found` to
/// mean; `tables` were built ahead.
///
/// `None` when its backends do not fit a block.
#[must_use]
pub fn wanted(
    spec: &ServiceSpec,
    held: Option<&Held>,
    found: Option<&ServiceSpec>,
    tables: &Tables,
) -> Option<Wanted> {
    let held_at = held.map(|held| positions_by_socket(&held.lines, &key(spec))).unwrap_or_default();
    let before: Vec<Option<u16>> =
        spec.backends.iter().map(|backend| held_at.get(&backend.socket()).copied()).collect();
    let positions = rings::positions(&before, &taken(held))?;
    let count = positions.iter().max().map_or(0, |&last| usize::from(last) + 1);
    let mut lines = vec![Backend::default(); count];
    for (backend, &position) in spec.backends.iter().zip(&positions) {
        let before = held
            .and_then(|held| held.lines.get(usize::from(position)))
            .filter(|_| held_at.get(&backend.socket()) == Some(&position));
        lines[usize::from(position)] = line(backend, spec, before);
    }
    let has_path = |at: usize| lines[usize::from(positions[at])].flags & READY != 0;
    // The backends keep their positions, so the ring is the same to the last slot.
    let is_same = |held: &&Held| held.intact && found.is_some_and(|found| spec.has_ring_of(found));
    let ring = match held.filter(is_same) {
        Some(held) => held.ring.clone(),
        None => {
            let (members, request) = spec.request(has_path);
            let table = tables.table(&request);
            table.iter().map(|&member| positions[members[usize::from(member)]]).collect()
        }
    };
    let (previous, window_begins) = compared(held, spec, &ring, &lines);
    Some(Wanted { lines, ring, previous, window_begins })
}

/// What to compare with, and whether that is new.
fn compared(
    held: Option<&Held>,
    spec: &ServiceSpec,
    ring: &[u16],
    lines: &[Backend],
) -> (Option<Previous>, bool) {
    let has_affinity = |held: &Held| held.frontend.flags & abi::AFFINITY != 0;
    let same_hash = |held: &&Held| {
        held.frontend.flow_seed == flow_seed(spec) && has_affinity(held) == (spec.policy.affinity_seconds > 0)
    };
    let Some(held) = held.filter(|held| held.intact).filter(same_hash) else {
        // Another hash sends every flow elsewhere; a damaged ring tells nothing.
        return (None, false);
    };
    if spec.protocol == Protocol::Udp && spec.policy.udp_idle_seconds == 0 {
        // Flows are not kept, but a client keeps its backend.
        return (looked_for(held, spec, ring), false);
    }
    let was_random = held.frontend.flags & abi::RANDOM != 0;
    if was_random && spec.policy.algorithm == Algorithm::Maglev {
        // Flows are wherever chance has sent them: their records are looked for in every slot.
        let ring = vec![NO_GUESS; ring.len().max(1)];
        return (Some(Previous { ring, anywhere: false }), true);
    }
    let keeps = |position: u16| lines.get(usize::from(position)).is_some_and(rings::keeps_flows);
    let has = |flag: u32| held.frontend.flags & flag != 0;
    let (is_open, anywhere) = (has(abi::WINDOW_OPEN), has(abi::RECORDS_ANYWHERE));
    let compared = held.previous.as_deref().map(|ring| Compared { ring, is_open, anywhere });
    let previous = rings::previous(&held.ring, compared, ring, keeps);
    let begins = previous.is_some() && held.ring != ring;
    (previous.or_else(|| looked_for(held, spec, ring)), begins)
}

/// The ring itself, so that flows' own records are looked for although no slot changes.
///
/// A client that keeps its backend leaves one that terminates with its new flows, which have records of their own. They
/// are followed as long as there are any, also when the backend is active again.
fn looked_for(held: &Held, spec: &ServiceSpec, ring: &[u16]) -> Option<Previous> {
    let terminates = |backend: &BackendSpec| backend.state == BackendState::Terminating;
    let may_have = held.previous.is_some() || spec.backends.iter().any(terminates);
    let previous = || Previous { ring: ring.to_vec(), anywhere: false };
    (spec.policy.affinity_seconds > 0 && may_have && !ring.is_empty()).then(previous)
}

fn taken(held: Option<&Held>) -> BTreeSet<u16> {
    let Some(held) = held else { return BTreeSet::new() };
    let lines = held.lines.iter().zip(0u16..).filter(|(line, _)| line.flags & IN_USE != 0);
    lines.map(|(_, position)| position).chain(held.previous.iter().flatten().copied()).collect()
}

fn positions_by_socket(lines: &[Backend], key: &FrontendKey) -> BTreeMap<SocketAddr, u16> {
    let in_use = lines.iter().zip(0u16..).filter(|(line, _)| line.flags & IN_USE != 0);
    in_use.map(|(line, position)| (socket(line, key), position)).collect()
}

/// Where a line sends packets.
#[must_use]
pub fn socket(line: &Backend, key: &FrontendKey) -> SocketAddr {
    let rewritten = u16::from_be_bytes(line.port);
    let port = if rewritten == 0 { key.port } else { rewritten };
    SocketAddr::new(address(&line.destination, outer_is_ipv4(line, key.address.is_ipv4())), port)
}

/// Whether a line's outer header is IPv4, given the VIP's family.
#[must_use]
pub fn outer_is_ipv4(line: &Backend, is_ipv4: bool) -> bool {
    is_ipv4 != (line.flags & OTHER_FAMILY != 0)
}

fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
    }
}

/// Forgets the ways that were found to lead astray: better none than one by another device.
pub fn forget_astray(held: &mut Held, found: &ServiceSpec) {
    let astray: BTreeSet<SocketAddr> =
        found.backends.iter().filter(|backend| backend.is_astray()).map(BackendSpec::socket).collect();
    if astray.is_empty() {
        return;
    }
    let key = key(found);
    for line in held.lines.iter_mut().filter(|line| line.flags & IN_USE != 0) {
        if astray.contains(&socket(line, &key)) {
            line.flags &= !READY;
        }
    }
}

fn line(backend: &BackendSpec, spec: &ServiceSpec, before: Option<&Backend>) -> Backend {
    let mut flags = IN_USE;
    if backend.address.is_ipv4() != spec.vip.is_ipv4() {
        flags |= OTHER_FAMILY;
    }
    if spec.policy.mode == Mode::DsrGue {
        flags |= GUE;
    }
    let mut line = Backend {
        flags,
        destination: address_bytes(backend.address),
        counter: before.map_or(NEW_COUNTER, |before| before.counter),
        port: if backend.port == spec.port { [0; 2] } else { backend.port.to_be_bytes() },
        state: state_number(backend.state),
        weight: backend.weight,
        ..Backend::default()
    };
    match (&backend.path, before) {
        (Some(path), _) => set_path(&mut line, path),
        // The way is not known now: the last one that was known stays in force.
        (None, Some(before)) if before.flags & READY != 0 => {
            line = Backend {
                flags: flags | READY,
                counter: line.counter,
                port: line.port,
                state: line.state,
                weight: line.weight,
                ..*before
            };
        }
        (None, _) => {}
    }
    line
}

/// Whether what follows from the other fields of a line is as it was written, given the VIP's family.
#[must_use]
pub fn is_whole(line: &Backend, is_ipv4: bool) -> bool {
    let is_ipv4 = outer_is_ipv4(line, is_ipv4);
    let addresses = (address(&line.source, is_ipv4), address(&line.destination, is_ipv4));
    match addresses {
        (IpAddr::V4(source), IpAddr::V4(destination)) if line.flags & READY != 0 => {
            line.checksum == abi::presum(source, destination)
        }
        _ => true,
    }
}

fn set_path(line: &mut Backend, path: &BackendPath) {
    line.flags |= READY;
    line.destination_mac = path.destination_mac.0;
    line.source_mac = path.source_mac.0;
    line.mtu = path.mtu;
    line.ifindex = path.ifindex;
    line.source = address_bytes(path.source);
    line.source_bits = path.source_bits;
    if let (IpAddr::V4(source), IpAddr::V4(destination)) =
        (path.source, address(&line.destination, path.source.is_ipv4()))
    {
        line.checksum = abi::presum(source, destination);
    }
}

/// What a frontend that the maps hold means, but for the sources that it lets in; `None` for a protocol that netd does
/// not know, and for the entries of VIPs.
#[must_use]
pub fn spec(
    key: &FrontendKey,
    held: &Held,
    service: String,
    paths: &mut HeldPaths<'_>,
) -> Option<ServiceSpec> {
    let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|known| known.number() == key.protocol)?;
    let mut backends: Vec<BackendSpec> = held
        .lines
        .iter()
        .filter(|line| line.flags & IN_USE != 0)
        .map(|line| {
            let socket = socket(line, key);
            BackendSpec {
                address: socket.ip(),
                port: socket.port(),
                weight: line.weight,
                state: state(line.state),
                path: paths.of(line, outer_is_ipv4(line, key.address.is_ipv4())),
            }
        })
        .collect();
    backends.sort_by_key(BackendSpec::socket);
    let frontend = &held.frontend;
    Some(ServiceSpec {
        service,
        vip: key.address,
        port: key.port,
        protocol,
        table_size: frontend.slots,
        hash_seed: hash_seed(frontend, key.address.is_ipv4()),
        policy: Policy::held(frontend).shared(),
        backends,
        intact: held.intact,
    })
}

/// The seed of the flow hash of a frontend's family.
#[must_use]
pub fn flow_seed(spec: &ServiceSpec) -> u32 {
    if spec.vip.is_ipv4() { spec.hash_seed.flows_v4() } else { spec.hash_seed.flows_v6() }
}

/// The entry of a frontend, without the places of what it names and without its previous ring.
#[must_use]
pub fn frontend(spec: &ServiceSpec, wanted: &Wanted, service: u32) -> Frontend {
    let slots = wanted.ring.len() as u32;
    let wide = is_wide(wanted);
    let mut frontend = Frontend {
        slots,
        slots_magic: abi::magic(slots),
        flow_seed: flow_seed(spec),
        backend_count: wanted.lines.len() as u32,
        flags: if wide { abi::WIDE_SLOTS } else { 0 },
        service,
        first_counter: abi::first_counter(&wanted.lines),
        name_seed: spec.hash_seed.names(),
        other_flow_seed: if spec.vip.is_ipv4() {
            spec.hash_seed.flows_v6()
        } else {
            spec.hash_seed.flows_v4()
        },
        ring_digest: abi::ring_digest(&abi::ring_bytes(&wanted.ring, wide)),
        ..Frontend::default()
    };
    spec.policy.write(&mut frontend);
    frontend
}

/// Whether positions need two bytes.
#[must_use]
pub fn is_wide(wanted: &Wanted) -> bool {
    wanted.lines.len() > usize::from(NARROW_POSITIONS)
}

fn hash_seed(frontend: &Frontend, is_ipv4: bool) -> HashSeed {
    let (v4, v6) = match is_ipv4 {
        true => (frontend.flow_seed, frontend.other_flow_seed),
        false => (frontend.other_flow_seed, frontend.flow_seed),
    };
    let mut bytes = [0; 12];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip([frontend.name_seed, v4, v6]) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    HashSeed(bytes)
}

fn state_number(state: BackendState) -> u8 {
    match state {
        BackendState::Active => abi::ACTIVE,
        BackendState::Terminating => abi::TERMINATING,
        BackendState::Quarantined => abi::QUARANTINED,
        BackendState::Maintenance => abi::MAINTENANCE,
    }
}

fn state(number: u8) -> BackendState {
    match number {
        abi::ACTIVE => BackendState::Active,
        abi::TERMINATING => BackendState::Terminating,
        abi::QUARANTINED => BackendState::Quarantined,
        _ => BackendState::Maintenance,
    }
}
