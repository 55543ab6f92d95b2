//! What comments say of packets: the service, the backend, the reason.

use netd_bpf::Maps;
use netd_bpf::abi::IN_USE;
use netd_bpf::recorder::Header;
use netd_bpf::recorder::abi::{NO_BACKEND, NO_SERVICE};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a packet was counted as, in the order of a service's counter.
const EVENTS: [&str; 16] = [
    "no backend",
    "no path to the backend",
    "kept on its backend",
    "malformed",
    "too big",
    "source refused",
    "martian address",
    "unknown port",
    "fragment without its first",
    "over the limit of answers",
    "rejected",
    "told that it is too big",
    "answered",
    "ICMP error passed on",
    "fragment",
    "left to the kernel",
];

/// For so long it is known what a number stood for before: records wait in the ring for less.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

/// What numbers in records stand for, and stood for a moment ago.
///
/// A number that goes is another one's only after a grace period, in a later change of the maps; so what it stands for since
/// the beginning of that change is what no record before it can mean.
#[derive(Default)]
pub struct Names(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Whether anything is recorded.
    is_used: bool,
    services: History<String>,
    /// By counter: the service's name and the backend's address.
    backends: History<(String, IpAddr)>,
}

/// What a number stands for, each since a moment of the monotonic clock, the latest last.
struct History<T>(BTreeMap<u32, Vec<(Duration, T)>>);

impl<T> Default for History<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: PartialEq> History<T> {
    fn note(&mut self, since: Duration, now: BTreeMap<u32, T>) {
        for (number, value) in now {
            let before = self.0.entry(number).or_default();
            if before.last().is_none_or(|(_, last)| *last != value) {
                before.push((since, value));
            }
            let is_old = |next: &(Duration, T)| next.0.saturating_add(REMEMBERED_FOR) < since;
            while before.get(1).is_some_and(is_old) {
                before.remove(0);
            }
        }
    }

    /// What it stood for then; before it was known, what it stood for first.
    fn at(&self, number: u32, then: Duration) -> Option<&T> {
        let known = self.0.get(&number)?;
        let since = known.iter().rev().find(|(since, _)| *since <= then).or(known.first());
        since.map(|(_, value)| value)
    }
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is recorded from now on.
    pub(crate) fn begin(&self, maps: &mut dyn Maps) {
        *self.lock() = Known { is_used: true, ..Known::default() };
        self.note(Duration::ZERO, maps);
    }

    /// Nothing is recorded any more: another time numbers may stand for something else.
    pub(crate) fn end(&self) {
        *self.lock() = Known::default();
    }

    /// The maps were changed, not before this moment of the monotonic clock.
    pub(crate) fn note(&self, since: Duration, maps: &mut dyn Maps) {
        let mut known = self.lock();
        if !known.is_used {
            return;
        }
        match read(maps) {
            Ok((services, backends)) => {
                known.services.note(since, services);
                known.backends.note(since, backends);
            }
            Err(error) => tracing::debug!(%error, "captures have no names"),
        }
    }

    /// What is to be said of a packet that left or stayed.
    pub(super) fn comment(&self, header: &Header) -> String {
        let known = self.lock();
        let then = Duration::from_nanos(header.ns);
        let event = EVENTS.get(usize::from(header.event)).copied();
        let backend = known.backends.at(header.backend, then).filter(|_| header.backend != NO_BACKEND);
        let service = match backend {
            Some((service, _)) => Some(service),
            None => known.services.at(header.service, then).filter(|_| header.service != NO_SERVICE),
        };
        let mut words = Vec::new();
        words.extend(service.map(|service| format!("service {service}")));
        words.extend(backend.map(|(_, address)| format!("backend {address}")));
        words.extend(event.map(str::to_owned));
        match header.verdict {
            1 => words.push("dropped".into()),
            2 => words.push("passed to the kernel".into()),
            0 if header.point == 2 => words.push("aborted".into()),
            _ => {}
        }
        words.join(", ")
    }
}

type Read = (BTreeMap<u32, String>, BTreeMap<u32, (String, IpAddr)>);

fn read(maps: &mut dyn Maps) -> netd_bpf::Result<Read> {
    let (mut services, mut backends) = (BTreeMap::new(), BTreeMap::new());
    let capacity = maps.capacity();
    for (_, frontend) in maps.frontends()?.into_iter().filter(|(_, frontend)| capacity.holds(frontend)) {
        let name = maps.service_name(frontend.service)?;
        for line in maps.backend_lines(frontend.backends, frontend.backend_count)? {
            if line.flags & IN_USE != 0 {
                backends.insert(line.counter, (name.clone(), address(line.destination)));
            }
        }
        services.insert(frontend.service, name);
    }
    Ok((services, backends))
}

/// IPv4 addresses stand in the first four bytes, and nothing behind them.
fn address(bytes: [u8; 16]) -> IpAddr {
    let (v4, rest) = bytes.split_first_chunk::<4>().map_or(([0; 4], &bytes[..]), |(v4, rest)| (*v4, rest));
    match rest.iter().all(|byte| *byte == 0) {
        true => Ipv4Addr::from(v4).into(),
        false => Ipv6Addr::from(bytes).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(history: &History<&'static str>, seconds: u64) -> Option<&'static str> {
        history.at(7, Duration::from_secs(seconds)).copied()
    }

    #[test]
    fn a_record_means_what_its_number_stood_for_when_it_was_made() {
        let mut history = History::default();
        history.note(Duration::ZERO, BTreeMap::from([(7, "first")]));
        history.note(Duration::from_secs(5), BTreeMap::new());
        assert_eq!(at(&history, 6), Some("first"), "packets were under way when it went");
        history.note(Duration::from_secs(10), BTreeMap::from([(7, "second")]));
        assert_eq!((at(&history, 9), at(&history, 10)), (Some("first"), Some("second")));
        history.note(Duration::from_secs(19), BTreeMap::from([(7, "second")]));
        assert_eq!(at(&history, 9), Some("first"));
        history.note(Duration::from_secs(21), BTreeMap::from([(7, "second")]));
        assert_eq!(at(&history, 9), Some("second"), "nothing of that time is on its way any more");
    }
}
