//! Which flows have a record that keeps them on their backend, by service and backend.

use super::layout;
use super::target::sentence;
use netd_bpf::Maps;
use netd_bpf::abi::IN_USE;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The recorded flows of one backend of a service.
///
/// A flow is recorded with the first packet after its slot was given to another backend. One that sent nothing since has no
/// record, and stays where it is all the same while the window of the change is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFlows {
    /// The service.
    pub service: String,
    /// The backend's address.
    pub address: IpAddr,
    /// The port that inner packets have when they leave.
    pub port: u16,
    /// Flows that sent something lately.
    pub flows: usize,
    /// Records of flows that did not.
    pub silent: usize,
    /// How long ago the last packet of any of them was seen, in milliseconds; up to a second too long.
    pub last_seen_ms: u64,
}

/// Counts the records of flows, sorted by service and backend; a backend without any is left out.
///
/// `awake` is the clock of the records, see [`crate::clock::awake`]; what sent nothing for `idle` is silent.
///
/// # Errors
///
/// A sentence, when the maps cannot be read.
pub fn kept_flows(maps: &dyn Maps, awake: Duration, idle: Duration) -> Result<Vec<KeptFlows>, String> {
    let mut counted: BTreeMap<u32, (usize, usize, Duration)> = BTreeMap::new();
    for (_, flow) in maps.flows().map_err(|error| sentence(&error))? {
        let age = awake.saturating_sub(Duration::from_nanos(flow.seen_ns));
        let (flows, silent, last) = counted.entry(flow.counter).or_insert((0, 0, Duration::MAX));
        *if age <= idle { flows } else { silent } += 1;
        *last = age.min(*last);
    }
    if counted.is_empty() {
        return Ok(Vec::new());
    }
    let mut kept: BTreeMap<(String, SocketAddr), KeptFlows> = BTreeMap::new();
    let capacity = maps.capacity();
    for (key, frontend) in maps.frontends().map_err(|error| sentence(&error))? {
        if !capacity.holds(&frontend) {
            continue;
        }
        let lines = maps.backend_lines(frontend.backends, frontend.backend_count);
        for line in lines.map_err(|error| sentence(&error))?.iter().filter(|line| line.flags & IN_USE != 0) {
            // VIPs of one service share counters: what was taken out is not counted again.
            let Some((flows, silent, last)) = counted.remove(&line.counter) else { continue };
            let service = maps.service_name(frontend.service).map_err(|error| sentence(&error))?;
            let socket = layout::socket(line, &key);
            let last = u64::try_from(last.as_millis()).unwrap_or(u64::MAX);
            let entry = kept.entry((service.clone(), socket)).or_insert_with(|| KeptFlows {
                service,
                address: socket.ip(),
                port: socket.port(),
                flows: 0,
                silent: 0,
                last_seen_ms: u64::MAX,
            });
            entry.flows += flows;
            entry.silent += silent;
            entry.last_seen_ms = entry.last_seen_ms.min(last);
        }
    }
    Ok(kept.into_values().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use netd_bpf::FakeMaps;
    use netd_bpf::abi::{Backend, Flow, FlowKey, Frontend, FrontendKey, TCP};

    const NOW: Duration = Duration::from_secs(1000);

    fn maps() -> FakeMaps {
        let mut maps = FakeMaps::new(super::super::smallest_capacity());
        let line = |last: u8, counter| {
            let mut line = Backend { counter, flags: IN_USE, ..Backend::default() };
            line.destination[..4].copy_from_slice(&[10, 0, 0, last]);
            line
        };
        maps.set_backend_lines(0, &[line(1, 5), line(2, 6)]).unwrap();
        let frontend = Frontend { backend_count: 2, service: 3, ..Frontend::default() };
        let key = |last| FrontendKey { address: IpAddr::from([192, 0, 2, last]), port: 80, protocol: TCP };
        for result in maps.put_frontends(&[(key(1), frontend), (key(2), frontend)]) {
            result.unwrap();
        }
        maps.set_service_name(3, "web").unwrap();
        maps
    }

    fn flow(client_port: u8, counter: u32, seen_s: u64) -> (FlowKey, Flow) {
        let key = FlowKey { source_port: [0, client_port], protocol: TCP, ..FlowKey::default() };
        (key, Flow { counter, index: 0, seen_ns: seen_s * 1_000_000_000 })
    }

    #[test]
    fn flows_are_counted_by_backend_and_silent_ones_apart() {
        let mut maps = maps();
        maps.put_flows(&[flow(1, 5, 999), flow(2, 5, 990), flow(3, 5, 100), flow(4, 77, 999)]).unwrap();
        let kept = kept_flows(&maps, NOW, Duration::from_secs(60)).unwrap();
        let expected = KeptFlows {
            service: "web".into(),
            address: [10, 0, 0, 1].into(),
            port: 80,
            flows: 2,
            silent: 1,
            last_seen_ms: 1000,
        };
        assert_eq!(kept, [expected]);
    }

    #[test]
    fn without_records_nothing_is_kept() {
        assert_eq!(kept_flows(&maps(), NOW, Duration::ZERO).unwrap(), []);
    }
}
