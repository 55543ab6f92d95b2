//! Filters of packets, and the keys and masks that find in a few lookups which captures want a packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;

use super::abi::{Key, MASKS_MAX};

/// The protocols that have ports.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// All ports, and no ports.
pub const ANY_PORT: RangeInclusive<u16> = 0..=u16::MAX;

/// Which packets are wanted. Source and destination are of the same family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Where they come from.
    pub source: IpNetwork,
    /// Where they go.
    pub destination: IpNetwork,
    /// Their source ports; [`ANY_PORT`] for those that have none, too.
    pub source_ports: RangeInclusive<u16>,
    /// Their destination ports; [`ANY_PORT`] for those that have none, too.
    pub destination_ports: RangeInclusive<u16>,
    /// Their protocol's number; `None` for any. With ports, any that has ports.
    pub protocol: Option<u8>,
}

/// A packet, as filters see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// Its protocol's number.
    pub protocol: u8,
    /// Source and destination port, where they are known.
    pub ports: Option<(u16, u16)>,
}

impl Filter {
    /// Whether a packet is wanted.
    #[must_use]
    pub fn matches(&self, packet: &Tuple) -> bool {
        let fits = |wanted: &RangeInclusive<u16>, port: Option<u16>| match port {
            Some(port) => wanted.contains(&port),
            None => *wanted == ANY_PORT,
        };
        self.source.contains(packet.source)
            && self.destination.contains(packet.destination)
            && self.protocol.is_none_or(|protocol| protocol == packet.protocol)
            && fits(&self.source_ports, packet.ports.map(|(source, _)| source))
            && fits(&self.destination_ports, packet.ports.map(|(_, destination)| destination))
    }

    /// The masks that it needs, each with the keys under it.
    fn lower(&self) -> BTreeSet<(Shape, Key)> {
        let has_ports = self.source_ports != ANY_PORT || self.destination_ports != ANY_PORT;
        let protocols: Vec<Option<u8>> = match self.protocol {
            None if has_ports => WITH_PORTS.map(Some).to_vec(),
            one => vec![one],
        };
        let mut lowered = BTreeSet::new();
        for protocol in protocols {
            for source in blocks(&self.source_ports) {
                for destination in blocks(&self.destination_ports) {
                    lowered.insert(self.entry(protocol, source, destination, has_ports));
                }
            }
        }
        lowered
    }

    fn entry(
        &self,
        protocol: Option<u8>,
        source: Block,
        destination: Block,
        has_ports: bool,
    ) -> (Shape, Key) {
        let bits = Key {
            source: mask_of(self.source),
            destination: mask_of(self.destination),
            source_port: source.mask().to_be_bytes(),
            destination_port: destination.mask().to_be_bytes(),
            protocol: protocol.map_or(0, |_| u8::MAX),
            has_ports: u8::from(has_ports),
            mask: 0,
            zero: 0,
        };
        let key = Key {
            source: mapped(self.source.network()),
            destination: mapped(self.destination.network()),
            source_port: source.first.to_be_bytes(),
            destination_port: destination.first.to_be_bytes(),
            protocol: protocol.unwrap_or(0),
            has_ports: u8::from(has_ports),
            mask: 0,
            zero: 0,
        };
        (Shape { is_v6: self.source.is_ipv6(), bits }, key)
    }
}

/// A mask of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub is_v6: bool,
    pub bits: Key,
}

/// Too many masks for a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} masks of {}, at most {MASKS_MAX} are possible at once: use fewer different prefix lengths, \
     or port ranges that begin and end at powers of two",
    self.needed, if self.is_v6 { "IPv6" } else { "IPv4" }
)]
pub struct TooManyMasks {
    /// Whether they are of IPv6.
    pub is_v6: bool,
    /// How many there would have to be.
    pub needed: usize,
}

/// What the maps have to hold for some captures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// Each mask and its number: those of IPv4 from zero on, those of IPv6 from [`MASKS_MAX`] on.
    pub masks: BTreeMap<Shape, u8>,
    /// The captures that a key is for, bit by bit; the keys name their masks.
    pub entries: BTreeMap<Key, u64>,
}

impl Table {
    /// What these captures need, by number, after a table that is in force: masks that stay keep their numbers.
    pub(crate) fn after(&self, captures: &BTreeMap<u8, Vec<Filter>>) -> Result<Self, TooManyMasks> {
        let mut wanted: BTreeMap<(Shape, Key), u64> = BTreeMap::new();
        for (number, filters) in captures {
            for entry in filters.iter().flat_map(Filter::lower) {
                *wanted.entry(entry).or_default() |= 1 << number;
            }
        }
        let shapes: BTreeSet<Shape> = wanted.keys().map(|(shape, _)| *shape).collect();
        for is_v6 in [false, true] {
            let needed = shapes.iter().filter(|shape| shape.is_v6 == is_v6).count();
            if needed > MASKS_MAX as usize {
                return Err(TooManyMasks { is_v6, needed });
            }
        }
        let mut masks: BTreeMap<Shape, u8> = self.masks.clone();
        masks.retain(|shape, _| shapes.contains(shape));
        for shape in shapes {
            let first = if shape.is_v6 { MASKS_MAX as u8 } else { 0 };
            let free = (first..).find(|number| masks.values().all(|taken| taken != number));
            masks.entry(shape).or_insert(free.unwrap_or(first));
        }
        let number = |shape: &Shape| masks.get(shape).copied().unwrap_or_default();
        let entries =
            wanted.iter().map(|((shape, key), captures)| (Key { mask: number(shape), ..*key }, *captures));
        Ok(Self { entries: entries.collect(), masks })
    }

    /// The masks in force, bit by bit: of IPv4, and of IPv6.
    pub(crate) fn active(&self) -> (u32, u32) {
        self.masks.values().fold((0, 0), |(v4, v6), &number| match u32::from(number) {
            number if number < MASKS_MAX => (v4 | 1 << number, v6),
            number => (v4, v6 | 1 << (number - MASKS_MAX)),
        })
    }
}

/// Ports whose first bits are the same.
#[derive(Clone, Copy)]
struct Block {
    first: u16,
    bits: u32,
}

impl Block {
    fn mask(self) -> u16 {
        u16::MAX.checked_shl(16 - self.bits).unwrap_or(0)
    }
}

/// The fewest blocks that have the ports of a range, and no others.
fn blocks(range: &RangeInclusive<u16>) -> Vec<Block> {
    let (mut first, last) = (u32::from(*range.start()), u32::from(*range.end()));
    let mut blocks = Vec::new();
    while first <= last {
        let aligned = first.trailing_zeros().min(16);
        let left = (last - first + 1).ilog2();
        let size = aligned.min(left);
        blocks.push(Block { first: first as u16, bits: 16 - size });
        first += 1 << size;
    }
    blocks
}

/// An address of IPv6, or one of IPv4 mapped.
fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn mask_of(network: IpNetwork) -> [u8; 16] {
    let bits = u32::from(network.prefix()) + if network.is_ipv4() { 96 } else { 0 };
    u128::MAX.checked_shl(128 - bits).unwrap_or(0).to_be_bytes()
}

#[cfg(test)]
mod tests;
