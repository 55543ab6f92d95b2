//! What the programs go by: read, and changed by as little as possible.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::Pod;

use super::abi::{self, Device};
use super::{Maps, table};
use crate::decap::Prefix;
use crate::error::Result;
use crate::kernel_maps::{all, delete_all, put_all};
use crate::sys::Hash;

/// What the programs go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whose packets are translated: prefixes of pods of this node.
    pub sources: BTreeSet<Prefix>,
    /// Where they go as they are.
    pub exclude: BTreeSet<Prefix>,
    /// What they get on which device, by its index.
    pub devices: BTreeMap<u32, Outer>,
}

/// What packets that leave by a device get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// The address for IPv4; without one, packets of IPv4 are dropped.
    pub v4: Option<Ipv4Addr>,
    /// The address for IPv6; without one, packets of IPv6 are dropped.
    pub v6: Option<Ipv6Addr>,
    /// The ports.
    pub ports: Ports,
}

/// A range of ports, and of identifiers of pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// The first port; not zero.
    pub first: u16,
    /// The last port; not less than the first.
    pub last: u16,
}

impl Outer {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::from).into_iter().chain(self.v6.map(IpAddr::from))
    }

    fn entry(&self) -> Device {
        Device {
            outer_v4: self.v4.map(|address| abi::mapped(address.into())).unwrap_or_default(),
            outer_v6: self.v6.map(|address| abi::mapped(address.into())).unwrap_or_default(),
            first_port: self.ports.first,
            last_port: self.ports.last,
            has_v4: self.v4.is_some().into(),
            has_v6: self.v6.is_some().into(),
            zero: [0; 2],
        }
    }

    fn of(entry: &Device) -> Self {
        let v6 = |address: [u8; 16]| Ipv6Addr::from(address);
        Self {
            v4: if entry.has_v4 == 0 { None } else { v6(entry.outer_v4).to_ipv4_mapped() },
            v6: (entry.has_v6 != 0).then(|| v6(entry.outer_v6)),
            ports: Ports { first: entry.first_port, last: entry.last_port },
        }
    }
}

impl Maps {
    pub(super) fn rules(&self) -> Result<Rules> {
        let devices = held(&self.devices, "devices")?;
        Ok(Rules {
            sources: self.sources.all()?,
            exclude: self.exclude.all()?,
            devices: devices.iter().map(|(index, entry)| (*index, Outer::of(entry))).collect(),
        })
    }

    pub(super) fn set_rules(&mut self, rules: &Rules) -> Result<()> {
        let devices: BTreeMap<u32, Device> =
            rules.devices.iter().map(|(index, outer)| (*index, outer.entry())).collect();
        let addresses: BTreeMap<[u8; 16], u32> =
            rules.devices.values().flat_map(Outer::addresses).map(|at| (abi::mapped(at), 1)).collect();
        // A flow of an old range is found by what is written here, whatever its first candidate becomes.
        let before = held(&self.devices, "devices")?;
        let is_other =
            |index: &u32, entry: &Device| before.get(index).is_some_and(|found| range(found) != range(entry));
        if devices.iter().any(|(index, entry)| is_other(index, entry)) {
            table::fix_ports(&self.mappings, &self.moved)?;
        }
        // Answers are turned around before anything leaves that they could be answers to.
        add(&self.addresses, "addresses", &addresses)?;
        self.exclude.add(&rules.exclude)?;
        add(&self.devices, "devices", &devices)?;
        self.sources.add(&rules.sources)?;
        self.sources.keep(&rules.sources)?;
        keep(&self.devices, "devices", &devices)?;
        self.exclude.keep(&rules.exclude)?;
        keep(&self.addresses, "addresses", &addresses)
    }
}

fn range(entry: &Device) -> (u16, u16) {
    (entry.first_port, entry.last_port)
}

fn held<K: Pod + Ord, V: Pod>(map: &Hash<K, V>, name: &'static str) -> Result<BTreeMap<K, V>> {
    Ok(all(map, name)?.into_iter().collect())
}

fn add<K: Pod + Ord, V: Pod + PartialEq>(
    map: &Hash<K, V>,
    name: &'static str,
    wanted: &BTreeMap<K, V>,
) -> Result<()> {
    let held = held(map, name)?;
    let missing = wanted.iter().filter(|(key, value)| held.get(key) != Some(value));
    put_all(map, name, &missing.map(|(key, value)| (*key, *value)).collect::<Vec<_>>())
}

fn keep<K: Pod + Ord, V: Pod>(map: &Hash<K, V>, name: &'static str, wanted: &BTreeMap<K, V>) -> Result<()> {
    let others: Vec<K> =
        all(map, name)?.into_iter().map(|(key, _)| key).filter(|key| !wanted.contains_key(key)).collect();
    delete_all(map, name, &others)
}
