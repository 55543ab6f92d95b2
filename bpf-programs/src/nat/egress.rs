//! The rules of egress policies: read, and changed by as little as possible.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::abi::{self, Class, EgressKey};
use super::rules::{add, held, keep};
use super::{Maps, Ports};
use crate::abi::PoolKey;
use crate::decap::Prefix;
use crate::error::Result;

/// Bits of a class, in front of those of a destination.
const CLASS_BITS: u32 = 32;

/// Bits in front of an IPv4 address that is mapped.
const MAPPED_BITS: u32 = 96;

const IPV4: u32 = 4;
const IPV6: u32 = 6;

/// What packets of egress policies go by. The longest prefix of sources that contains a packet's source says its class, and
/// the longest prefix of the class that contains its destination the rule; without one it leaves as if there were no
/// policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressRules {
    /// The class of each source.
    pub sources: BTreeMap<Prefix, u32>,
    /// The rules of classes, by destination.
    pub rules: BTreeMap<(u32, Prefix), EgressRule>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EgressRule {
    /// It leaves here, with this address, which is of the packet's family, and one of these ports.
    Translate {
        /// The egress address.
        address: IpAddr,
        /// The ports, and identifiers of pings.
        ports: Ports,
    },
    /// It goes to the gateway in a tunnel.
    Tunnel {
        /// The gateway's end of the tunnel, of either family.
        remote: IpAddr,
        /// The virtual network.
        vni: u32,
        /// The tunnel's device, which takes where to from each packet.
        ifindex: u32,
    },
    /// It goes to the gateway, which is on link, at this address of the packet's family.
    NextHop {
        /// The gateway.
        address: IpAddr,
        /// The device that leads there.
        ifindex: u32,
    },
    /// It is dropped, for want of a gateway.
    Drop,
    /// It leaves as if there were no policy.
    Pass,
}

impl EgressRule {
    fn entry(&self, to: &Prefix) -> abi::EgressRule {
        let rule = abi::EgressRule { family: family(to) as u8, ..abi::EgressRule::default() };
        let at = |address: IpAddr| abi::EgressRule {
            address: abi::mapped(address),
            is_v6: address.is_ipv6().into(),
            ..rule
        };
        match *self {
            Self::Translate { address, ports } => abi::EgressRule {
                what: abi::TRANSLATE,
                first_port: ports.first,
                last_port: ports.last,
                ..at(address)
            },
            Self::Tunnel { remote, vni, ifindex } => {
                abi::EgressRule { what: abi::TUNNEL, vni, ifindex, ..at(remote) }
            }
            Self::NextHop { address, ifindex } => {
                abi::EgressRule { what: abi::NEXT_HOP, ifindex, ..at(address) }
            }
            Self::Drop => abi::EgressRule { what: abi::DROP, ..rule },
            Self::Pass => abi::EgressRule { what: abi::PASS, ..rule },
        }
    }

    /// What the programs make of an entry; one that they do not know lets packets leave.
    fn of(entry: &abi::EgressRule) -> Self {
        let address = std::net::Ipv6Addr::from(entry.address);
        let address = if entry.is_v6 != 0 { address.into() } else { address.to_canonical() };
        match entry.what {
            abi::TRANSLATE => {
                Self::Translate { address, ports: Ports { first: entry.first_port, last: entry.last_port } }
            }
            abi::TUNNEL => Self::Tunnel { remote: address, vni: entry.vni, ifindex: entry.ifindex },
            abi::NEXT_HOP => Self::NextHop { address, ifindex: entry.ifindex },
            abi::DROP => Self::Drop,
            _ => Self::Pass,
        }
    }
}

impl EgressRules {
    /// Every egress address of this node, as it is in maps.
    fn addresses(&self) -> impl Iterator<Item = [u8; 16]> {
        self.rules.values().filter_map(|rule| match rule {
            EgressRule::Translate { address, .. } => Some(abi::mapped(*address)),
            _ => None,
        })
    }

    fn keys(&self) -> (BTreeMap<PoolKey, Class>, BTreeMap<EgressKey, abi::EgressRule>) {
        let sources = self.sources.iter().map(|(from, class)| {
            (PoolKey::new(from.0, from.1), Class { family: family(from), class: *class })
        });
        let rules = self.rules.iter().map(|((class, to), rule)| (key(*class, to), rule.entry(to)));
        (sources.collect(), rules.collect())
    }
}

impl Maps {
    pub(super) fn egress(&self) -> Result<EgressRules> {
        let sources = held(&self.egress_sources, "egress_sources")?;
        let rules = held(&self.egress_rules, "egress_rules")?;
        Ok(EgressRules {
            sources: sources.iter().map(|(from, class)| (from.prefix(), class.class)).collect(),
            rules: rules
                .iter()
                .map(|(key, rule)| ((key.class, destination(key, rule)), EgressRule::of(rule)))
                .collect(),
        })
    }

    pub(super) fn set_egress(&mut self, wanted: &EgressRules) -> Result<()> {
        let (sources, rules) = wanted.keys();
        let devices = held(&self.devices, "devices")?;
        self.fix_ports(&devices, &rules)?;
        let addresses: BTreeMap<[u8; 16], u32> = wanted.addresses().map(|at| (at, 1)).collect();
        // Answers are turned around before anything leaves that they could be answers to, and no packet of a source that
        // stays is without its rule meanwhile.
        add(&self.addresses, "addresses", &addresses)?;
        add(&self.egress_rules, "egress_rules", &rules)?;
        add(&self.egress_sources, "egress_sources", &sources)?;
        keep(&self.egress_sources, "egress_sources", &sources)?;
        keep(&self.egress_rules, "egress_rules", &rules)
    }

    /// Forgets the outer addresses that no rule has, but for these.
    pub(super) fn forget_addresses(&mut self, held: &BTreeSet<IpAddr>) -> Result<()> {
        let ruled = self.masquerade_addresses()?.into_iter().chain(self.egress_addresses()?);
        let held = held.iter().map(|address| abi::mapped(*address));
        keep(&self.addresses, "addresses", &ruled.chain(held).map(|at| (at, 1)).collect())
    }

    /// Every egress address of this node that packets leave with.
    fn egress_addresses(&self) -> Result<BTreeSet<[u8; 16]>> {
        let rules = held(&self.egress_rules, "egress_rules")?;
        let translate = rules.values().filter(|rule| rule.what == abi::TRANSLATE);
        Ok(translate.map(|rule| rule.address).collect())
    }
}

fn family(prefix: &Prefix) -> u32 {
    if prefix.0.is_ipv4() { IPV4 } else { IPV6 }
}

fn key(class: u32, to: &Prefix) -> EgressKey {
    let in_front = if to.0.is_ipv4() { MAPPED_BITS } else { 0 };
    EgressKey { bits: CLASS_BITS + in_front + u32::from(to.1), class, address: abi::mapped(to.0) }
}

fn destination(key: &EgressKey, rule: &abi::EgressRule) -> Prefix {
    let address = std::net::Ipv6Addr::from(key.address);
    let bits = key.bits.saturating_sub(CLASS_BITS);
    match address.to_ipv4_mapped().filter(|_| u32::from(rule.family) == IPV4) {
        Some(address) => (address.into(), bits.saturating_sub(MAPPED_BITS) as u8),
        None => (address.into(), bits as u8),
    }
}
