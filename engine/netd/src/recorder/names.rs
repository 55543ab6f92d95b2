//! What comments say of packets: the service, the backend, the reason.

use crate::balancer::Balancer;
use crate::clock;
use netd_bpf::Maps;
use netd_bpf::abi::IN_USE;
use netd_bpf::recorder::Header;
use netd_bpf::recorder::abi::{NO_BACKEND, NO_SERVICE};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

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

/// How long names are good for: the place of a backend that goes can be another one's from then on.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// How soon they are read again for one that is not among them.
const AGAIN: Duration = Duration::from_secs(1);

/// The names that the maps had a moment ago.
#[derive(Default)]
pub(super) struct Names {
    services: BTreeMap<u32, String>,
    /// By counter: the service's name and the backend's address.
    backends: BTreeMap<u32, (String, IpAddr)>,
    read: Option<Instant>,
}

impl Names {
    /// What is to be said of a packet that left or stayed.
    pub(super) fn comment(&mut self, header: &Header, balancer: &Balancer) -> String {
        let is_known = (header.service == NO_SERVICE || self.services.contains_key(&header.service))
            && (header.backend == NO_BACKEND || self.backends.contains_key(&header.backend));
        let limit = if is_known { GOOD_FOR } else { AGAIN };
        if self.read.is_none_or(|read| clock::now().duration_since(read) > limit) {
            self.reread(balancer);
        }
        let event = EVENTS.get(usize::from(header.event)).copied();
        let backend = self.backends.get(&header.backend);
        let service = match backend {
            Some((service, _)) => Some(service),
            None => self.services.get(&header.service),
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

    fn reread(&mut self, balancer: &Balancer) {
        self.read = Some(clock::now());
        let read = balancer.with_maps(|maps| maps.map(read));
        match read {
            Ok(Some(Ok((services, backends)))) => (self.services, self.backends) = (services, backends),
            Ok(Some(Err(error))) => tracing::debug!(%error, "captures have no names"),
            Ok(None) => {}
            Err(why) => tracing::debug!(why, "captures have no names"),
        }
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
