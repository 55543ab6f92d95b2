//! Files with services and BGP, and what is to be announced of them, told from the words of the file's reference.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

pub fn vip_of(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}

pub fn backend_of(number: u8) -> IpAddr {
    IpAddr::from([10, 1, 0, number])
}

/// What a random file says, and what is known of its backends.
#[derive(Clone, Debug)]
pub struct File {
    pub services: BTreeMap<u8, Service>,
    /// For how many seconds a backend has been unhealthy.
    pub sick: BTreeMap<u8, u64>,
    pub has_bgp: bool,
    pub floor: u8,
}

#[derive(Clone, Debug)]
pub struct Service {
    pub vip: u8,
    /// Whether the file makes it active.
    pub backends: BTreeMap<u8, bool>,
}

impl File {
    pub fn text(&self) -> String {
        let mut out =
            String::from("version = 1\nallow_empty = true\n[load_balancer]\ndevices = [\"eth0\"]\n");
        for (name, Service { vip, backends }) in &self.services {
            let backend = |(number, is_active): (&u8, &bool)| {
                let state = if *is_active { "active" } else { "maintenance" };
                format!("{{ address = \"{}\", state = \"{state}\" }}", backend_of(*number))
            };
            let backends: Vec<String> = backends.iter().map(backend).collect();
            let _ = writeln!(
                out,
                "[[services]]\nname = \"s{name}\"\nvips = [\"{}\"]\nports = [{{ protocol = \"tcp\", port = {} }}]\n\
                 backends = [{}]\nhealth_check = {{ kind = \"tcp\" }}",
                vip_of(*vip),
                8000 + u16::from(*name),
                backends.join(", ")
            );
        }
        if self.has_bgp {
            let _ = writeln!(
                out,
                "[bgp]\nasn = 64512\nfloor = {}\n[[bgp.peers]]\naddress = \"10.0.0.1\"\nasn = 64513",
                self.floor
            );
        }
        out
    }

    /// What is to be announced, told from the reference page: `before` is what is announced already.
    pub fn announced(&self, before: &BTreeSet<String>) -> BTreeSet<String> {
        if !self.has_bgp {
            return BTreeSet::new();
        }
        // For each VIP that has an active backend: for how long its last healthy one has been gone.
        let mut vips: BTreeMap<u8, Option<u64>> = BTreeMap::new();
        for service in self.services.values() {
            let active: Vec<u8> =
                service.backends.iter().filter(|(_, active)| **active).map(|(number, _)| *number).collect();
            if active.is_empty() {
                continue;
            }
            let gone = match active.iter().all(|number| self.sick.contains_key(number)) {
                true => active.iter().map(|number| self.sick[number]).min(),
                false => None,
            };
            vips.entry(service.vip)
                .and_modify(|other| *other = other.zip(gone).map(|(one, other)| one.min(other)))
                .or_insert(gone);
        }
        let healthy = vips.values().filter(|gone| gone.is_none()).count();
        let is_believed = healthy * 100 >= usize::from(self.floor) * vips.len();
        let is_announced = |(vip, gone): (&u8, &Option<u64>)| {
            let prefix = format!("{}/32", vip_of(*vip));
            let is_up = match gone {
                None => true,
                Some(_) if !is_believed => true,
                Some(seconds) if *seconds < 5 => before.contains(&prefix),
                Some(_) => false,
            };
            is_up.then_some(prefix)
        };
        vips.iter().filter_map(is_announced).collect()
    }
}

/// Files of a few services, with and without BGP.
pub fn file() -> impl Strategy<Value = File> {
    let service = (1..5_u8, proptest::collection::btree_map(1..6_u8, any::<bool>(), 1..4))
        .prop_map(|(vip, backends)| Service { vip, backends });
    let services = proptest::collection::btree_map(1..6_u8, service, 0..5);
    let sick = proptest::collection::btree_map(1..6_u8, prop_oneof![0..5_u64, 5..60_u64], 0..6);
    let floor = prop_oneof![Just(0), Just(50), 1..101_u8];
    (services, sick, prop::bool::weighted(0.9), floor).prop_map(|(services, sick, has_bgp, floor)| File {
        services,
        sick,
        has_bgp,
        floor,
    })
}

/// Two VIPs of one backend each.
pub fn two_services() -> File {
    let service = |vip: u8| Service { vip, backends: BTreeMap::from([(vip, true)]) };
    let services = BTreeMap::from([(1, service(1)), (2, service(2))]);
    File { services, sick: BTreeMap::new(), has_bgp: true, floor: 50 }
}
