//! Sums over a service's backends that never fall: a counter that falls has begun anew, for Prometheus, and a backend that
//! goes would look like a flood.

use crate::kinds::service::ServiceTraffic;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What went through the services since the first look.
#[derive(Debug, Default)]
pub(super) struct Totals(BTreeMap<String, Total>);

/// What went through one service.
#[derive(Debug, Default)]
pub(super) struct Total {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    seen: BTreeMap<SocketAddr, (u64, u64)>,
}

impl Totals {
    /// Adds what was counted since the last look, and forgets services that are gone.
    pub(super) fn take(&mut self, services: &[ServiceTraffic]) {
        let mut next = BTreeMap::new();
        for service in services.iter().filter(|service| service.pool().is_none()) {
            let before = self.0.remove(&service.service);
            let is_new = before.is_none();
            let mut total = before.unwrap_or_default();
            let mut seen = BTreeMap::new();
            for backend in &service.backends {
                let socket = SocketAddr::new(backend.address, backend.port);
                let now = (backend.packets, backend.bytes);
                // What a service had counted before the first look at it is no news.
                let first = if is_new { now } else { (0, 0) };
                let (packets, bytes) = total.seen.get(&socket).copied().unwrap_or(first);
                total.packets = total.packets.wrapping_add(now.0.checked_sub(packets).unwrap_or(now.0));
                total.bytes = total.bytes.wrapping_add(now.1.checked_sub(bytes).unwrap_or(now.1));
                seen.insert(socket, now);
            }
            total.seen = seen;
            next.insert(service.service.clone(), total);
        }
        self.0 = next;
    }

    /// The sums, by service.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Total)> {
        self.0.iter().map(|(name, total)| (name.as_str(), total))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::kinds::service::BackendTraffic;

    fn service(backends: &[(u8, u64)]) -> Vec<ServiceTraffic> {
        let backend = |&(last, packets): &(u8, u64)| BackendTraffic::active([10, 0, 0, last], packets);
        let backends = backends.iter().map(backend).collect();
        vec![ServiceTraffic { service: "web".into(), backends, ..ServiceTraffic::default() }]
    }

    #[test]
    fn a_sum_does_not_fall_when_a_backend_goes() {
        let mut totals = Totals::default();
        let mut packets = |backends: &[(u8, u64)]| {
            totals.take(&service(backends));
            totals.iter().next().map(|(_, total)| total.packets).unwrap()
        };
        assert_eq!(packets(&[(1, 100), (2, 1000)]), 0, "the first look");
        assert_eq!(packets(&[(1, 110), (2, 1005)]), 15);
        assert_eq!(packets(&[(1, 111)]), 16, "one went");
        assert_eq!(packets(&[(1, 111), (3, 4)]), 20, "one came");
        assert_eq!(packets(&[(1, 2), (3, 4)]), 22, "one began anew");
    }

    #[test]
    fn a_service_that_is_gone_is_forgotten() {
        let mut totals = Totals::default();
        totals.take(&service(&[(1, 5)]));
        totals.take(&[]);
        assert_eq!(totals.iter().count(), 0);
    }
}
