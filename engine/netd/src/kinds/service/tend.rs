//! What ends by itself: windows after a change, and records of flows that nobody sends any more.

use super::policy::udp_idle_seconds;
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

/// Ends what is over. `since_boot` counts sleep, as the windows do; `awake` does not, as the records do.
pub fn tend(maps: &mut dyn Maps, since_boot: Duration, awake: Duration) -> netd_bpf::Result<()> {
    let capacity = maps.capacity();
    // A damaged entry is the next pass' to write anew.
    let frontends: Vec<_> =
        maps.frontends()?.into_iter().filter(|(_, frontend)| capacity.holds(frontend)).collect();
    if !frontends.iter().any(|(_, frontend)| frontend.flags & (KEEP_FLOWS | RANDOM | AFFINITY) != 0) {
        return Ok(());
    }
    let lifetimes: BTreeMap<FlowKey, Lifetimes> = frontends.iter().map(lifetimes).collect();
    let mut served = BTreeSet::new();
    for (_, frontend) in &frontends {
        served.extend(counters(maps, frontend)?);
    }
    maps.purge_flows(&|key, flow| !served.contains(&flow.counter) || is_over(key, flow, awake, &lifetimes))?;
    let recorded: BTreeSet<u32> = maps.flows_per_counter()?.into_keys().collect();
    let mut changed = Vec::new();
    for (key, frontend) in frontends {
        let is_recorded = counters(maps, &frontend)?.any(|counter| recorded.contains(&counter));
        if let Some(next) = next((key.protocol, &frontend), since_boot, is_recorded) {
            changed.push((key, next));
        }
    }
    maps.put_frontends(&changed).into_iter().collect()
}

fn counters(maps: &dyn Maps, frontend: &Frontend) -> netd_bpf::Result<impl Iterator<Item = u32> + use<>> {
    let lines = maps.backend_lines(frontend.backends, frontend.backend_count)?;
    Ok(lines.into_iter().filter(|line| line.flags & IN_USE != 0).map(|line| line.counter))
}

/// How long the records of a frontend last after the last packet.
struct Lifetimes {
    flow: Duration,
    /// With affinity, those of its clients.
    client: Option<Duration>,
}

/// By the key of the records of a frontend, without the client.
fn lifetimes((key, frontend): &(FrontendKey, Frontend)) -> (FlowKey, Lifetimes) {
    let destination = match key.address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let (destination_port, protocol) = (key.port.to_be_bytes(), key.protocol);
    let has_affinity = frontend.flags & AFFINITY != 0;
    let lifetimes = Lifetimes {
        flow: if protocol == TCP { TCP_LIFETIME } else { udp_idle(frontend) },
        client: has_affinity.then(|| Duration::from_secs(frontend.affinity_seconds.into())),
    };
    let key = FlowKey { destination: destination.octets(), destination_port, protocol, ..FlowKey::default() };
    (key, lifetimes)
}

fn udp_idle(frontend: &Frontend) -> Duration {
    Duration::from_secs(udp_idle_seconds(frontend).into())
}

/// What belongs to no frontend is over.
fn is_over(key: &FlowKey, flow: &Flow, awake: Duration, lifetimes: &BTreeMap<FlowKey, Lifetimes>) -> bool {
    let of_frontend = FlowKey { source: [0; 16], source_port: [0; 2], ..*key };
    let lifetime = lifetimes.get(&of_frontend).map(|lifetimes| match key.source_port {
        [0, 0] => lifetimes.client.unwrap_or(lifetimes.flow),
        _ => lifetimes.flow,
    });
    let age = awake.saturating_sub(Duration::from_nanos(flow.seen_ns));
    lifetime.is_none_or(|lifetime| age > lifetime)
}

/// For how long flows without a record are taken for those of the ring before a change.
///
/// Of TCP, only those are that do not begin. Of UDP all are, new ones too: so it is no longer than a flow may be silent.
fn window(protocol: u8, frontend: &Frontend) -> Duration {
    let window = Duration::from_secs(WINDOW_SECONDS.into());
    if protocol == TCP { window } else { udp_idle(frontend) }
}

/// The entry after what is over has ended; `None` if nothing has.
fn next((protocol, frontend): (u8, &Frontend), since_boot: Duration, is_recorded: bool) -> Option<Frontend> {
    if frontend.flags & KEEP_FLOWS == 0 {
        return None;
    }
    if frontend.flags & WINDOW_OPEN != 0 {
        let age = since_boot.as_secs().saturating_sub(u64::from(frontend.previous_since));
        let closed = Frontend { flags: frontend.flags & !WINDOW_OPEN, ..*frontend };
        return (age >= window(protocol, frontend).as_secs()).then_some(closed);
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
    use super::super::Policy;
    use super::*;
    use netd_bpf::abi::UDP;

    const SINCE: u32 = 1000;

    fn frontend(flags: u32) -> Frontend {
        Frontend { flags, previous_slots: 251, previous_since: SINCE, slots: 251, ..Frontend::default() }
    }

    fn at(seconds: u32) -> Duration {
        Duration::from_secs(u64::from(seconds))
    }

    fn after(seconds: u32, frontend: &Frontend, is_recorded: bool) -> Option<Frontend> {
        next((TCP, frontend), at(SINCE + seconds), is_recorded)
    }

    fn with_udp_idle(udp_idle_seconds: u32, flags: u32) -> Frontend {
        let mut frontend = frontend(flags);
        Policy { udp_idle_seconds, ..Policy::default() }.write(&mut frontend);
        frontend
    }

    #[test]
    fn a_window_closes_when_its_time_is_over() {
        let open = frontend(KEEP_FLOWS | WINDOW_OPEN);
        assert_eq!(after(WINDOW_SECONDS - 1, &open, false), None);
        assert_eq!(after(WINDOW_SECONDS, &open, false), Some(frontend(KEEP_FLOWS)));
    }

    #[test]
    fn new_udp_flows_go_to_a_backend_that_drains_no_longer_than_flows_may_be_silent() {
        for seconds in [60, 90] {
            let open = with_udp_idle(seconds, KEEP_FLOWS | WINDOW_OPEN);
            let after = |passed| next((UDP, &open), at(SINCE + passed), true).map(|next| next.flags);
            assert_eq!(after(seconds - 1), None);
            assert_eq!(after(seconds).map(|flags| flags & (KEEP_FLOWS | WINDOW_OPEN)), Some(KEEP_FLOWS));
        }
    }

    #[test]
    fn rings_are_compared_as_long_as_flows_have_records() {
        let closed = frontend(KEEP_FLOWS | WIDE_PREVIOUS | RECORDS_ANYWHERE);
        assert_eq!(after(4000, &closed, true), None);
        let plain = after(4000, &closed, false).unwrap_or_default();
        assert_eq!((plain.flags, plain.previous_slots, plain.slots), (0, 0, 251));
    }

    #[test]
    fn an_entry_that_compares_nothing_stays_as_it_is() {
        assert_eq!(after(9_000_000, &frontend(0), false), None);
    }

    /// Whether a record of a frontend that was seen at second 100 is over.
    fn ends(frontend: Frontend, protocol: u8, client_port: u8, seconds: u32) -> bool {
        let key = FrontendKey { address: [192, 0, 2, 10].into(), port: 80, protocol };
        let lifetimes = BTreeMap::from([lifetimes(&(key, frontend))]);
        let (of_frontend, _) = lifetimes.iter().next().expect("it was put there");
        let record = FlowKey { source: [7; 16], source_port: [0, client_port], ..*of_frontend };
        let flow = Flow { seen_ns: at(100).as_nanos() as u64, ..Flow::default() };
        is_over(&record, &flow, at(seconds), &lifetimes)
    }

    #[test]
    fn a_flow_is_over_when_its_protocol_or_its_service_says_so() {
        assert!(!ends(frontend(0), TCP, 9, 21_700) && ends(frontend(0), TCP, 9, 21_701));
        assert!(!ends(frontend(0), UDP, 9, 160) && ends(frontend(0), UDP, 9, 161));
        let longer = with_udp_idle(300, 0);
        assert!(!ends(longer, UDP, 9, 400) && ends(longer, UDP, 9, 401));
        assert!(!ends(longer, TCP, 9, 21_700), "that is of UDP");
    }

    #[test]
    fn a_client_is_remembered_for_as_long_as_its_service_says() {
        let sticky = Frontend { flags: AFFINITY, affinity_seconds: 300, ..Frontend::default() };
        assert!(!ends(sticky, TCP, 0, 400) && ends(sticky, TCP, 0, 401));
        assert!(!ends(sticky, TCP, 9, 401), "a flow's own record lasts as others do");
    }

    #[test]
    fn a_record_of_no_frontend_is_over() {
        assert!(is_over(&FlowKey::default(), &Flow::default(), at(0), &BTreeMap::new()));
    }
}
