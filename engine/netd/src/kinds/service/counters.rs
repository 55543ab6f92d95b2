//! What went through the load balancer, by service and backend.

use super::paths::HeldPaths;
use super::target::{held, sentence};
use crate::facts::Facts;
use netd_bpf::Maps;
use netd_bpf::abi::IN_USE;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The traffic of one service since its counters began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTraffic {
    /// The service.
    pub service: String,
    /// Its frontends: `192.0.2.10:80/tcp`.
    pub frontends: Vec<String>,
    /// Packets sent to the backends that it has now.
    pub packets: u64,
    /// Their bytes, from the IP header of the client's packet on.
    pub bytes: u64,
    /// Packets dropped because no backend could be used.
    pub no_backend: u64,
    /// Packets dropped because the way to their backend is not known.
    pub no_next_hop: u64,
    /// Flows that were recorded because their slot changed.
    pub kept_flows: u64,
    /// Packets dropped because the tunnel's header would make them longer than IP can say.
    pub too_long: u64,
    /// By backend, sorted by address and port.
    pub backends: Vec<BackendTraffic>,
}

/// The traffic of one backend of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendTraffic {
    /// Its address.
    pub address: IpAddr,
    /// The port that inner packets have when they leave.
    pub port: u16,
    /// The word of the file for its state.
    pub state: Cow<'static, str>,
    /// Its weight.
    pub weight: u16,
    /// Packets sent to it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Reads the counters, by service.
///
/// # Errors
///
/// A sentence, when the maps cannot be read.
pub fn traffic(maps: &dyn Maps) -> Result<Vec<ServiceTraffic>, String> {
    let mut services: BTreeMap<u32, ServiceTraffic> = BTreeMap::new();
    let mut counted: BTreeSet<u32> = BTreeSet::new();
    let facts = Facts::default();
    let mut paths = HeldPaths::new(&facts);
    for (key, frontend) in maps.frontends().map_err(|error| sentence(&error))? {
        let Some(held) = held(maps, &key, &frontend) else { continue };
        let Some(spec) = super::layout::spec(&key, &held, String::new(), &mut paths) else { continue };
        let service = services.entry(frontend.service).or_default();
        service.frontends.push(spec.key().to_string());
        let lines = held.lines.iter().filter(|line| line.flags & IN_USE != 0);
        let mut counters: BTreeMap<_, u32> = BTreeMap::new();
        for line in lines {
            counters.insert(super::layout::socket(line, &key), line.counter);
        }
        for backend in &spec.backends {
            let Some(&counter) = counters.get(&backend.socket()) else { continue };
            // VIPs of one service share lines and counters.
            if !counted.insert(counter) {
                continue;
            }
            let sum = maps.counter(counter).map_err(|error| sentence(&error))?;
            service.packets = service.packets.wrapping_add(sum.packets);
            service.bytes = service.bytes.wrapping_add(sum.bytes);
            service.backends.push(BackendTraffic {
                address: backend.address,
                port: backend.port,
                state: super::spec::state_word(backend.state).into(),
                weight: backend.weight,
                packets: sum.packets,
                bytes: sum.bytes,
            });
        }
    }
    for (&id, service) in &mut services {
        service.service = maps.service_name(id).map_err(|error| sentence(&error))?;
        let drops = maps.service_counter(id).map_err(|error| sentence(&error))?;
        service.no_backend = drops.no_backend;
        service.no_next_hop = drops.no_next_hop;
        service.kept_flows = drops.kept_flows;
        service.too_long = drops.malformed;
        service.backends.sort_by_key(|backend| (backend.address, backend.port));
    }
    let mut services: Vec<_> = services.into_values().collect();
    services.sort_by(|one, other| one.service.cmp(&other.service));
    Ok(services)
}
