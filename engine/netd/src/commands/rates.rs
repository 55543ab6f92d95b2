//! Decides what went through per second, from two looks at the counters.

use crate::kinds::service::ServiceTraffic;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// What a service did per second between two looks.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    /// Packets to its backends.
    pub(super) packets: f64,
    /// Their bytes.
    pub(super) bytes: f64,
    /// Packets that were dropped.
    pub(super) dropped: f64,
    /// Of each backend, in the order of the later look.
    #[serde(skip)]
    pub(super) backends: Vec<BackendRates>,
}

/// What a backend was given per second between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct BackendRates {
    /// Packets.
    pub(super) packets: f64,
    /// Their bytes.
    pub(super) bytes: f64,
}

/// The rates of a service. What was not there before has counted from zero, and so has what counts less than before.
pub(super) fn rates(before: Option<&ServiceTraffic>, now: &ServiceTraffic, elapsed: Duration) -> Rates {
    let seconds = elapsed.as_secs_f64();
    let per_second = |before: u64, now: u64| match seconds > 0.0 {
        true => now.checked_sub(before).unwrap_or(now) as f64 / seconds,
        false => 0.0,
    };
    let earlier: BTreeMap<(IpAddr, u16), (u64, u64)> = before
        .iter()
        .flat_map(|service| &service.backends)
        .map(|backend| ((backend.address, backend.port), (backend.packets, backend.bytes)))
        .collect();
    let backends: Vec<BackendRates> = now
        .backends
        .iter()
        .map(|backend| {
            let (packets, bytes) = earlier.get(&(backend.address, backend.port)).copied().unwrap_or_default();
            BackendRates {
                packets: per_second(packets, backend.packets),
                bytes: per_second(bytes, backend.bytes),
            }
        })
        .collect();
    let dropped_before: BTreeMap<&str, u64> =
        before.map(ServiceTraffic::drops).into_iter().flatten().collect();
    let dropped = now
        .drops()
        .into_iter()
        .map(|(reason, count)| per_second(dropped_before.get(reason).copied().unwrap_or_default(), count));
    Rates {
        // Not from the totals: they fall when a backend goes.
        packets: backends.iter().map(|backend| backend.packets).sum(),
        bytes: backends.iter().map(|backend| backend.bytes).sum(),
        dropped: dropped.sum(),
        backends,
    }
}

/// A rate as people read it: with a digit after the point where that says something.
pub(super) fn shown(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::kinds::service::BackendTraffic;

    fn service(backends: &[(u8, u64)], no_backend: u64) -> ServiceTraffic {
        let backend = |&(last, packets): &(u8, u64)| BackendTraffic::active([10, 0, 0, last], packets);
        let backends: Vec<_> = backends.iter().map(backend).collect();
        let packets = backends.iter().map(|backend| backend.packets).sum();
        let counts = [("no_backend".into(), no_backend)].into();
        ServiceTraffic { backends, packets, counts, ..ServiceTraffic::default() }
    }

    const TWO_SECONDS: Duration = Duration::from_secs(2);

    #[test]
    fn rates_are_per_second() {
        let now = rates(Some(&service(&[(1, 10)], 4)), &service(&[(1, 30)], 5), TWO_SECONDS);
        assert_eq!((now.packets, now.bytes, now.dropped), (10.0, 1000.0, 0.5));
    }

    #[test]
    fn a_backend_that_goes_makes_no_rate_negative() {
        let before = service(&[(1, 10), (2, 1000)], 0);
        let now = rates(Some(&before), &service(&[(1, 14)], 0), TWO_SECONDS);
        assert_eq!((now.packets, now.backends.len()), (2.0, 1));
    }

    #[test]
    fn counters_that_began_anew_count_from_zero() {
        let now = rates(Some(&service(&[(1, 1000)], 9)), &service(&[(1, 6), (2, 2)], 1), TWO_SECONDS);
        assert_eq!((now.packets, now.dropped), (4.0, 0.5));
        assert_eq!(now.backends[1].packets, 1.0);
    }

    #[test]
    fn small_rates_keep_a_digit() {
        assert_eq!([shown(0.0), shown(0.25), shown(9.96), shown(1234.4)], ["0", "0.2", "10.0", "1234"]);
    }
}
