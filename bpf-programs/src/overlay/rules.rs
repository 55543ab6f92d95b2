//! What the programs of the overlay go by, in plain types, and as entries of their maps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::abi::{self, DIRECT, IN_TUNNEL};
use crate::abi::PoolKey;
use crate::decap::Prefix;

/// What the programs go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The virtual network of the nodes.
    pub vni: u32,
    /// The largest packet of a pod that is sent on, in bytes; `None`: what the device takes.
    pub mtu: Option<u32>,
    /// The ends of the other nodes: who is believed.
    pub peers: BTreeSet<IpAddr>,
    /// The ways to the pods of other nodes.
    pub ways: BTreeMap<Prefix, Way>,
    /// The pods of this node by their addresses, and the device that leads to each.
    pub pods: BTreeMap<IpAddr, u32>,
}

/// The way to the pods of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In the tunnel.
    Tunnel {
        /// This end; `None`: the kernel's choice.
        local: Option<IpAddr>,
        /// The other end.
        remote: IpAddr,
        /// The tunnel device.
        ifindex: u32,
    },
    /// By a next hop on a device's link.
    Direct {
        /// The next hop.
        via: IpAddr,
        /// The device.
        ifindex: u32,
    },
}

impl Way {
    pub(super) fn entry(&self, prefix: &Prefix) -> abi::Way {
        let (how, remote, local, ifindex) = match *self {
            Self::Tunnel { local, remote, ifindex } => (IN_TUNNEL, remote, local, ifindex),
            Self::Direct { via, ifindex } => (DIRECT, via, None, ifindex),
        };
        let unspecified = match remote {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        abi::Way {
            remote: bytes(remote),
            local: bytes(local.unwrap_or(unspecified)),
            ifindex,
            how,
            is_v6: remote.is_ipv6().into(),
            pods_are_v6: prefix.0.is_ipv6().into(),
            zero: 0,
        }
    }

    /// `None` for a damaged entry.
    pub(super) fn of_entry(key: &PoolKey, entry: &abi::Way) -> Option<(Prefix, Self)> {
        let prefix = key.prefix();
        let (remote, local) = (address(entry.remote, entry.is_v6), address(entry.local, entry.is_v6));
        let way = match entry.how {
            IN_TUNNEL => {
                let local = Some(local).filter(|local| !local.is_unspecified());
                Self::Tunnel { local, remote, ifindex: entry.ifindex }
            }
            DIRECT => Self::Direct { via: remote, ifindex: entry.ifindex },
            _ => return None,
        };
        (way.entry(&prefix) == *entry).then_some((prefix, way))
    }
}

pub(super) fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn address(bytes: [u8; 16], is_v6: u8) -> IpAddr {
    let address = Ipv6Addr::from(bytes);
    match address.to_ipv4_mapped() {
        Some(address) if is_v6 == 0 => address.into(),
        _ => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_comes_back_from_its_entry_and_a_damaged_entry_is_none() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let tunnel = |local: Option<&str>, remote: &str| Way::Tunnel {
            local: local.map(ip),
            remote: ip(remote),
            ifindex: 7,
        };
        let ways = [
            tunnel(None, "10.0.0.2"),
            tunnel(Some("10.0.0.1"), "10.0.0.2"),
            tunnel(None, "2001:db8::2"),
            tunnel(Some("2001:db8::1"), "2001:db8::2"),
            Way::Direct { via: ip("10.0.0.2"), ifindex: 3 },
            Way::Direct { via: ip("fe80::2"), ifindex: 3 },
        ];
        for prefix in [(ip("10.244.2.0"), 24), (ip("fd00:244:2::"), 64), (ip("::"), 8)] {
            for way in ways {
                let entry = way.entry(&prefix);
                let key = PoolKey::new(prefix.0, prefix.1);
                assert_eq!(Way::of_entry(&key, &entry), Some((prefix, way)));
                assert_eq!(Way::of_entry(&key, &abi::Way { zero: 1, ..entry }), None);
                assert_eq!(Way::of_entry(&key, &abi::Way { how: 3, ..entry }), None);
            }
        }
    }
}
