//! What went through the load balancer, by service and backend.

use super::paths::HeldPaths;
use super::target::{held, sentence};
use crate::facts::Facts;
use crate::kinds::vip::POOL_PREFIX;
use netd_bpf::Maps;
use netd_bpf::abi::{IN_USE, ServiceCounter};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The traffic of one service since its counters began; of a pool, as `pool/NAME`, what was for addresses that no service
/// has.
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
    /// What else the kernel counts of it, by the name of the count: what was dropped, by reason; what was answered.
    #[serde(flatten)]
    pub counts: BTreeMap<Cow<'static, str>, u64>,
    /// By backend, sorted by address and port.
    pub backends: Vec<BackendTraffic>,
}

/// The counts that say how many packets were dropped, each for one reason. The others count something besides.
const DROPS: [&str; 8] = [
    "no_backend",
    "no_next_hop",
    "malformed",
    "too_big",
    "source_denied",
    "martian",
    "unknown_port",
    "fragment_lost",
];

/// The count of records that were made of flows; it has a place of its own where counts are shown.
const KEPT_FLOWS: &str = "kept_flows";

impl ServiceTraffic {
    /// What was dropped, by the name of the reason.
    #[must_use]
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        DROPS.into_iter().map(|name| (name, self.count(name))).collect()
    }

    /// What was counted besides, by its name: answers to clients, fragments, what was left to the kernel.
    #[must_use]
    pub fn besides(&self) -> Vec<(&'static str, u64)> {
        let names = ServiceCounter::default().named().into_iter().map(|(name, _)| name);
        let others = names.filter(|name| !DROPS.contains(name) && *name != KEPT_FLOWS);
        others.map(|name| (name, self.count(name))).collect()
    }

    /// The records that were made of flows whose slot changed.
    #[must_use]
    pub fn kept_flows(&self) -> u64 {
        self.count(KEPT_FLOWS)
    }

    /// The pool whose unassigned addresses this is about; `None` for a service.
    #[must_use]
    pub fn pool(&self) -> Option<&str> {
        self.service.strip_prefix(POOL_PREFIX)
    }

    fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }
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
    /// Why it is not given new flows although the file says that it is active, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Its weight.
    pub weight: u16,
    /// Packets sent to it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// TCP connections that were begun with it; other protocols do not say which packet is a flow's first.
    #[serde(default)]
    pub new_flows: u64,
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
                why: None,
                weight: backend.weight,
                packets: sum.packets,
                bytes: sum.bytes,
                new_flows: maps.new_flows(counter).map_err(|error| sentence(&error))?,
            });
        }
    }
    // Packets for addresses that no service has are counted for their pool.
    for (_, pool) in maps.pools().map_err(|error| sentence(&error))? {
        services.entry(pool.service).or_default();
    }
    for (&id, service) in &mut services {
        service.service = maps.service_name(id).map_err(|error| sentence(&error))?;
        let counted = maps.service_counter(id).map_err(|error| sentence(&error))?;
        service.counts = counted.named().into_iter().map(|(name, count)| (name.into(), count)).collect();
        service.backends.sort_by_key(|backend| (backend.address, backend.port));
    }
    let mut services: Vec<_> = services.into_values().collect();
    services.sort_by(|one, other| one.service.cmp(&other.service));
    Ok(services)
}

#[cfg(test)]
impl BackendTraffic {
    /// An active backend on port 80 with the usual weight that was sent these packets, of 100 bytes each.
    pub fn active(address: impl Into<IpAddr>, packets: u64) -> Self {
        Self {
            address: address.into(),
            port: 80,
            state: "active".into(),
            why: None,
            weight: 100,
            packets,
            bytes: packets.wrapping_mul(100),
            new_flows: packets / 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_of_the_kernel_is_shown_in_one_place() {
        let all: BTreeSet<&str> =
            ServiceCounter::default().named().into_iter().map(|(name, _)| name).collect();
        let traffic = ServiceTraffic::default();
        let (drops, besides) = (traffic.drops(), traffic.besides());
        let shown: Vec<&str> =
            drops.iter().chain(&besides).map(|(name, _)| *name).chain([KEPT_FLOWS]).collect();
        assert_eq!((shown.len(), shown.into_iter().collect::<BTreeSet<_>>()), (all.len(), all));
    }
}
