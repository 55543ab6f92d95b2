//! What the programs go by: read, and changed by as little as possible.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::Pod;

use super::abi::{self, Device, EgressKey, EgressRule};
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
        let given = rules.devices.values().flat_map(Outer::addresses).map(abi::mapped);
        let addresses: BTreeMap<[u8; 16], u32> = given.map(|at| (at, 1)).collect();
        let before = self.masquerade_addresses()?;
        self.fix_ports(&devices, &held(&self.egress_rules, "egress_rules")?)?;
        // Answers are turned around before anything leaves that they could be answers to.
        add(&self.addresses, "addresses", &addresses)?;
        self.exclude.add(&rules.exclude)?;
        add(&self.devices, "devices", &devices)?;
        self.sources.add(&rules.sources)?;
        self.sources.keep(&rules.sources)?;
        keep(&self.devices, "devices", &devices)?;
        self.exclude.keep(&rules.exclude)?;
        // Others may be egress addresses that the node still has.
        let held = held(&self.addresses, "addresses")?.into_keys().filter(|at| !before.contains(at));
        self.forget_addresses(&held.map(|at| Ipv6Addr::from(at).to_canonical()).collect())
    }
}

impl Maps {
    /// Has every flow found where it is, if these rules may give it the same address with another range: its first candidate
    /// then is another one.
    pub(super) fn fix_ports(
        &self,
        devices: &BTreeMap<u32, Device>,
        egress: &BTreeMap<EgressKey, EgressRule>,
    ) -> Result<()> {
        let before = (held(&self.devices, "devices")?, held(&self.egress_rules, "egress_rules")?);
        if (&before.0, &before.1) == (devices, egress) {
            return Ok(());
        }
        let (before, after): (BTreeSet<_>, BTreeSet<_>) =
            (ranges(&before.0, &before.1).collect(), ranges(devices, egress).collect());
        let addresses: BTreeSet<_> = before.iter().map(|(address, ..)| address).collect();
        // An address that is new may have been there once, with flows that go on.
        if after.is_subset(&before) && addresses.len() == before.len() {
            return Ok(());
        }
        table::fix_ports(&self.mappings, &self.moved)
    }

    /// Every outer address of a device.
    pub(super) fn masquerade_addresses(&self) -> Result<BTreeSet<[u8; 16]>> {
        let devices = held(&self.devices, "devices")?;
        let outers = devices.values().map(Outer::of);
        Ok(outers.flat_map(|outer| outer.addresses().map(abi::mapped).collect::<Vec<_>>()).collect())
    }
}

/// Outer addresses with the ranges of their ports.
fn ranges(
    devices: &BTreeMap<u32, Device>,
    egress: &BTreeMap<EgressKey, EgressRule>,
) -> impl Iterator<Item = ([u8; 16], u16, u16)> {
    let given = devices.values().flat_map(|entry| {
        let addresses = Outer::of(entry).addresses().map(abi::mapped).collect::<Vec<_>>();
        addresses.into_iter().map(|address| (address, entry.first_port, entry.last_port))
    });
    let translated = egress.values().filter(|rule| rule.what == abi::TRANSLATE);
    given.chain(translated.map(|rule| (rule.address, rule.first_port, rule.last_port)))
}

pub(super) fn held<K: Pod + Ord, V: Pod>(map: &Hash<K, V>, name: &'static str) -> Result<BTreeMap<K, V>> {
    Ok(all(map, name)?.into_iter().collect())
}

pub(super) fn add<K: Pod + Ord, V: Pod + PartialEq>(
    map: &Hash<K, V>,
    name: &'static str,
    wanted: &BTreeMap<K, V>,
) -> Result<()> {
    let held = held(map, name)?;
    let missing = wanted.iter().filter(|(key, value)| held.get(key) != Some(value));
    put_all(map, name, &missing.map(|(key, value)| (*key, *value)).collect::<Vec<_>>())
}

pub(super) fn keep<K: Pod + Ord, V: Pod>(
    map: &Hash<K, V>,
    name: &'static str,
    wanted: &BTreeMap<K, V>,
) -> Result<()> {
    let others: Vec<K> =
        all(map, name)?.into_iter().map(|(key, _)| key).filter(|key| !wanted.contains_key(key)).collect();
    delete_all(map, name, &others)
}
