//! Prefixes: which clients a service lets in, and which addresses belong to pools.

use std::net::{IpAddr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};

/// Bits of an IPv4-mapped address before the IPv4 address.
const MAPPED_BITS: u32 = 96;
/// Bits of a [`SourceKey`] before its address: the service.
const SERVICE_BITS: u32 = 32;

/// Key of `sources`: a prefix of clients of one service.
///
/// A prefix of IPv6 that is shorter than 96 bits and contains `::ffff:0:0` contains all IPv4 clients: who means IPv6
/// alone sets `0.0.0.0/0` as well.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct SourceKey {
    /// How many bits of what follows count: 32 of the service, and the prefix's.
    pub bits: u32,
    /// The service: [`Frontend::service`](crate::abi::Frontend::service).
    pub service: u32,
    /// The prefix's address; IPv4-mapped for IPv4.
    pub address: [u8; 16],
}

/// Value of `sources`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Source {
    /// [`SOURCE_ALLOWED`](crate::abi::SOURCE_ALLOWED) or [`SOURCE_DENIED`](crate::abi::SOURCE_DENIED).
    pub verdict: u32,
    /// User space's: 1 if nobody asked for the entry, see [`Source::between_families`]; else 0.
    pub added: u32,
}

/// Key of `pools`: a prefix of addresses that may be VIPs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct PoolKey {
    /// How many bits of the address count.
    pub bits: u32,
    /// The prefix's address; IPv4-mapped for IPv4.
    pub address: [u8; 16],
}

/// Value of `pools`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Pool {
    /// [`UNKNOWN_DROP`](crate::abi::UNKNOWN_DROP), [`UNKNOWN_REJECT`](crate::abi::UNKNOWN_REJECT) or neither.
    pub flags: u32,
    /// Whose counters count what comes for addresses without an entry.
    pub service: u32,
}

impl SourceKey {
    /// The key of a prefix of clients; `bits` are those of the address's family.
    #[must_use]
    pub fn new(service: u32, address: IpAddr, bits: u8) -> Self {
        let PoolKey { bits, address } = PoolKey::new(address, bits);
        Self { bits: SERVICE_BITS + bits, service, address }
    }

    /// The prefix: address, and bits of the address's family. A damaged key gives the nearest that there is.
    #[must_use]
    pub fn prefix(&self) -> (IpAddr, u8) {
        PoolKey { bits: self.bits.saturating_sub(SERVICE_BITS), address: self.address }.prefix()
    }
}

impl Source {
    /// [`SOURCE_ALLOWED`](crate::abi::SOURCE_ALLOWED) or [`SOURCE_DENIED`](crate::abi::SOURCE_DENIED), as a value.
    #[must_use]
    pub const fn new(verdict: u32) -> Self {
        Self { verdict, added: 0 }
    }

    /// An entry that only keeps a prefix of IPv6 from meaning IPv4 clients, too.
    #[must_use]
    pub const fn between_families(verdict: u32) -> Self {
        Self { verdict, added: 1 }
    }
}

impl PoolKey {
    /// The key of a prefix; `bits` are those of the address's family.
    #[must_use]
    pub fn new(address: IpAddr, bits: u8) -> Self {
        match address {
            IpAddr::V4(address) => {
                Self { bits: MAPPED_BITS + u32::from(bits), address: address.to_ipv6_mapped().octets() }
            }
            IpAddr::V6(address) => Self { bits: bits.into(), address: address.octets() },
        }
    }

    /// The prefix: address, and bits of the address's family. A damaged key gives the nearest that there is.
    #[must_use]
    pub fn prefix(&self) -> (IpAddr, u8) {
        let address = Ipv6Addr::from(self.address);
        let bits = self.bits.min(128);
        match (address.to_ipv4_mapped(), bits.checked_sub(MAPPED_BITS)) {
            (Some(v4), Some(bits)) => (v4.into(), bits as u8),
            _ => (address.into(), bits as u8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_comes_back_from_its_key() {
        let prefixes =
            [("0.0.0.0", 0), ("10.1.0.0", 16), ("10.1.2.3", 32), ("::", 0), ("2001:db8::", 32), ("::", 95)];
        for (address, bits) in prefixes {
            let prefix: (IpAddr, u8) = (address.parse().expect("an address"), bits);
            assert_eq!(PoolKey::new(prefix.0, bits).prefix(), prefix);
            let key = SourceKey::new(7, prefix.0, bits);
            assert_eq!((key.prefix(), key.service), (prefix, 7));
        }
        assert_eq!(SourceKey::new(7, IpAddr::from([10, 0, 0, 0]), 8).bits, 32 + 96 + 8);
        assert_eq!(PoolKey::new(IpAddr::from([10, 0, 0, 0]), 8).address[8..13], [0, 0, 0xff, 0xff, 10]);
    }
}
