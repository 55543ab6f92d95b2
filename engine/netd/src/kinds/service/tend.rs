//! What ends by itself: windows after a change, and records of flows that nobody sends any more.

use super::rings::WINDOW_SECONDS;
use netd_bpf::Maps;
use netd_bpf::abi::{
    AFFINITY, Flow, FlowKey, Frontend, FrontendKey, IN_USE, KEEP_FLOWS, RANDOM, RECORDS_ANYWHERE, TCP,
    WIDE_PREVIOUS, WINDOW_OPEN,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// A TCP flow of which nothing was seen for so long is over. As long as Cilium remembers one: six hours.
const TCP_LIFETIME: Duration = Duration::from_secs(21_600);

/// A UDP flow of which nothing was seen for so long is over. As long as Cilium remembers one.
const UDP_LIFETIME: Duration = Duration::from_secs(60);

/// Ends what is over. `since_boot` counts sleep, as the windows do; `awake` does not, as the records do.
pub fn tend(maps: &mut dyn Maps, since_boot: Duration, awake: Duration) -> netd_bpf::Result<()> {
    let capacity = maps.capacity();
    // A damaged entry is the next pass' to write anew.
    let frontends: Vec<_> =
        maps.frontends()?.into_iter().filter(|(_, frontend)| capacity.holds(frontend)).collect();
    if !frontends.iter().any(|(_, frontend)| frontend.flags & (KEEP_FLOWS | RANDOM | AFFINITY) != 0) {
        return Ok(());
    }
    let timeouts: BTreeMap<FlowKey, Duration> = frontends.iter().filter_map(affinity).collect();
    let mut served = BTreeSet::new();
    for (_, frontend) in &frontends {
        served.extend(counters(maps, frontend)?);
    }
    maps.purge_flows(&|key, flow| !served.contains(&flow.counter) || is_over(key, flow, awake, &timeouts))?;
    let recorded: BTreeSet<u32> = maps.flows_per_counter()?.into_keys().collect();
    let mut changed = Vec::new();
    for (key, frontend) in frontends {
        let is_recorded = counters(maps, &frontend)?.any(|counter| recorded.contains(&counter));
        if let Some(next) = next(&frontend, since_boot, is_recorded) {
            changed.push((key, next));
        }
    }
    maps.put_frontends(&changed).into_iter().collect()
}

fn counters(maps: &dyn Maps, frontend: &Frontend) -> netd_bpf::Result<impl Iterator<Item = u32> + use<>> {
    let lines = maps.backend_lines(frontend.backends, frontend.backend_count)?;
    Ok(lines.into_iter().filter(|line| line.flags & IN_USE != 0).map(|line| line.counter))
}

/// The key of the records of a frontend's clients, without the client, and how long they last.
fn affinity((key, frontend): &(FrontendKey, Frontend)) -> Option<(FlowKey, Duration)> {
    let destination = match key.address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let (destination_port, protocol) = (key.port.to_be_bytes(), key.protocol);
    let key = FlowKey { destination: destination.octets(), destination_port, protocol, ..FlowKey::default() };
    let timeout = Duration::from_secs(frontend.affinity_seconds.into());
    (frontend.flags & AFFINITY != 0).then_some((key, timeout))
}

fn is_over(key: &FlowKey, flow: &Flow, awake: Duration, timeouts: &BTreeMap<FlowKey, Duration>) -> bool {
    let of_protocol = if key.protocol == TCP { TCP_LIFETIME } else { UDP_LIFETIME };
    let of_client = match key.source_port {
        [0, 0] => timeouts.get(&FlowKey { source: [0; 16], ..*key }).copied(),
        _ => None,
    };
    let lifetime = of_client.unwrap_or(of_protocol);
    awake.saturating_sub(Duration::from_nanos(flow.seen_ns)) > lifetime
}

/// The entry after what is over has ended; `None` if nothing has.
fn next(frontend: &Frontend, since_boot: Duration, is_recorded: bool) -> Option<Frontend> {
    if frontend.flags & KEEP_FLOWS == 0 {
        return None;
    }
    if frontend.flags & WINDOW_OPEN != 0 {
        let age = since_boot.as_secs().saturating_sub(u64::from(frontend.previous_since));
        let closed = Frontend { flags: frontend.flags & !WINDOW_OPEN, ..*frontend };
        return (age >= u64::from(WINDOW_SECONDS)).then_some(closed);
    }
    let plain = Frontend {
        flags: frontend.flags & !(KEEP_FLOWS | WIDE_PREVIOUS | RECORDS_ANYWHERE),
        previous_ring: 0,
        previous_slots: 0,
        previous_magic: 0,
        previous_since: 0,
        ..*frontend
    };
    (!is_recorded).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: u32 = 1000;

    fn frontend(flags: u32) -> Frontend {
        Frontend { flags, previous_slots: 251, previous_since: SINCE, slots: 251, ..Frontend::default() }
    }

    fn at(seconds: u32) -> Duration {
        Duration::from_secs(u64::from(seconds))
    }

    #[test]
    fn a_window_closes_when_its_time_is_over() {
        let open = frontend(KEEP_FLOWS | WINDOW_OPEN);
        assert_eq!(next(&open, at(SINCE + WINDOW_SECONDS - 1), false), None);
        let closed = next(&open, at(SINCE + WINDOW_SECONDS), false);
        assert_eq!(closed, Some(frontend(KEEP_FLOWS)));
    }

    #[test]
    fn rings_are_compared_as_long_as_flows_have_records() {
        let closed = frontend(KEEP_FLOWS | WIDE_PREVIOUS | RECORDS_ANYWHERE);
        assert_eq!(next(&closed, at(5000), true), None);
        let plain = next(&closed, at(5000), false).unwrap_or_default();
        assert_eq!((plain.flags, plain.previous_slots, plain.slots), (0, 0, 251));
    }

    #[test]
    fn an_entry_that_compares_nothing_stays_as_it_is() {
        assert_eq!(next(&frontend(0), at(9_000_000), false), None);
    }

    #[test]
    fn a_flow_is_over_when_its_protocol_says_so() {
        let flow = Flow { seen_ns: at(100).as_nanos() as u64, ..Flow::default() };
        let is_over = |protocol, seconds| {
            is_over(
                &FlowKey { protocol, source_port: [0, 9], ..FlowKey::default() },
                &flow,
                at(seconds),
                &BTreeMap::new(),
            )
        };
        assert!(!is_over(netd_bpf::abi::UDP, 160) && is_over(netd_bpf::abi::UDP, 161));
        assert!(!is_over(TCP, 21_700) && is_over(TCP, 21_701));
    }

    #[test]
    fn a_client_is_remembered_for_as_long_as_its_service_says() {
        let address = [192, 0, 2, 10].into();
        let frontend = Frontend { flags: AFFINITY, affinity_seconds: 300, ..Frontend::default() };
        let timeouts: BTreeMap<_, _> =
            affinity(&(FrontendKey { address, port: 80, protocol: TCP }, frontend)).into_iter().collect();
        let (key, _) = timeouts.iter().next().map(|(key, timeout)| (*key, *timeout)).unwrap_or_default();
        let record = FlowKey { source: [7; 16], ..key };
        let flow = Flow { seen_ns: at(100).as_nanos() as u64, ..Flow::default() };
        assert!(!is_over(&record, &flow, at(400), &timeouts) && is_over(&record, &flow, at(401), &timeouts));
    }
}
