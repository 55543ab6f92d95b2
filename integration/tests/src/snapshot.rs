//! What the kernel holds for a bed's netd, as lines of text that say what it means and not where it lies.

#![allow(clippy::panic, reason = "the scaffolding of tests says what went wrong and stops")]
#![allow(clippy::unwrap_used, reason = "the scaffolding of tests says what went wrong and stops")]

use crate::bed::Bed;
use netd_bpf::abi::{self, Backend, Frontend, FrontendKey, IN_USE, LINE_BYTES, WIDE_SLOTS};
use netd_bpf::{Datapath, Maps, links};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl Bed {
    /// Everything of netd's in the kernel: frontends with lines and rings, links, routes, managed neighbours, and how
    /// many generations of maps there are. Places within the maps, counters and flows being kept are left out.
    #[must_use]
    pub fn kernel_state(&self) -> String {
        let mut lines = self.entries(|_| true);
        for link in links::list(&self.bpf_dir()).unwrap() {
            lines.push(format!(
                "link {} on {}",
                link.device,
                if link.ifindex == 0 { "nothing" } else { "a device" }
            ));
        }
        for family in ["-4", "-6"] {
            let routes = self.lb.ip(&[family, "route", "show", "table", "all", "proto", "177"]);
            lines.extend(routes.lines().map(|route| format!("route {}", route.trim())));
            let neighbours = self.lb.ip(&[family, "neigh", "show", "proto", "177"]);
            lines.extend(neighbours.lines().filter_map(managed));
        }
        lines.push(format!("{} generations", self.generations()));
        lines.sort();
        lines.join("\n")
    }

    /// The services' frontends in the maps, a line each.
    #[must_use]
    pub fn frontends(&self) -> Vec<String> {
        self.entries(|key| !key.is_vip_entry())
    }

    fn entries(&self, is_asked: fn(&FrontendKey) -> bool) -> Vec<String> {
        let root = self.bpf_dir();
        if !root.exists() {
            return Vec::new();
        }
        let Some(mut datapath) = Datapath::open(&root).unwrap() else { return Vec::new() };
        let maps = datapath.maps();
        let entries = maps.frontends().unwrap();
        let asked = entries.iter().filter(|(key, _)| is_asked(key));
        asked.map(|(key, frontend)| describe(maps, key, frontend)).collect()
    }

    fn generations(&self) -> usize {
        let Ok(entries) = std::fs::read_dir(self.bpf_dir()) else { return 0 };
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with('g')).count()
    }
}

fn describe(maps: &dyn Maps, key: &FrontendKey, frontend: &Frontend) -> String {
    let lines = maps.backend_lines(frontend.backends, frontend.backend_count).unwrap();
    let ring = slots(maps, frontend);
    let name = maps.service_name(frontend.service).unwrap();
    let mut shares: Vec<String> = lines
        .iter()
        .zip(0u16..)
        .filter(|(line, _)| line.flags & IN_USE != 0)
        .map(|(line, at)| backend(line, key, &ring, at))
        .collect();
    shares.sort();
    let (seed, intact) = (frontend.flow_seed, is_intact(maps, frontend));
    format!("{key} {name} seed {seed:08x} slots {} intact {intact}: {}", frontend.slots, shares.join("; "))
}

/// The slots of a frontend's ring.
#[must_use]
pub fn slots(maps: &dyn Maps, frontend: &Frontend) -> Vec<u16> {
    abi::ring_slots(&ring(maps, frontend), frontend.slots, frontend.flags & WIDE_SLOTS != 0)
}

fn ring(maps: &dyn Maps, frontend: &Frontend) -> Vec<u8> {
    let lines = abi::ring_lines(frontend.slots, frontend.flags & WIDE_SLOTS != 0);
    maps.ring(frontend.ring, lines as usize * LINE_BYTES).unwrap()
}

fn is_intact(maps: &dyn Maps, frontend: &Frontend) -> bool {
    frontend.slots == 0 || abi::ring_digest(&ring(maps, frontend)) == frontend.ring_digest
}

/// A backend with which slots it has, by a sum that tells any two sets of slots apart for all that a test needs.
fn backend(line: &Backend, key: &FrontendKey, ring: &[u16], at: u16) -> String {
    let own = ring.iter().zip(1u64..).filter(|(slot, _)| **slot == at);
    let (count, sum) =
        own.fold((0, 0u64), |(count, sum), (_, slot)| (count + 1, sum.wrapping_mul(31).wrapping_add(slot)));
    let Backend {
        destination, source, destination_mac, source_mac, mtu, flags, ifindex, port, checksum, ..
    } = line;
    format!(
        "{} from {} dev {ifindex} {destination_mac:02x?} {source_mac:02x?} mtu {mtu} flags {flags} port {} sum {checksum:04x} \
         state {} weight {} bits {} slots {count}/{sum:x}",
        address(destination, key),
        address(source, key),
        u16::from_be_bytes(*port),
        line.state,
        line.weight,
        line.source_bits,
    )
}

fn address(bytes: &[u8; 16], key: &FrontendKey) -> IpAddr {
    match bytes {
        [a, b, c, d, ..] if key.address.is_ipv4() => Ipv4Addr::new(*a, *b, *c, *d).into(),
        _ => Ipv6Addr::from(*bytes).into(),
    }
}

/// A neighbour without the kernel's own bookkeeping.
fn managed(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let address = words.first()?;
    let is_managed = words.contains(&"managed");
    Some(format!("neighbour {address} managed {is_managed}"))
}
