//! Prefixes: which overlap, which hold an address, and which no network can have.

use crate::diagnostic::{Diagnoses, Draft};
use crate::span::Span;
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Prefixes that are to be apart, and their places.
pub(super) struct Ranges(Vec<(IpNetwork, Span)>);

impl Ranges {
    pub(super) fn new(mut prefixes: Vec<(IpNetwork, Span)>) -> Self {
        prefixes.sort();
        Self(prefixes)
    }

    /// Says which overlap; `what` is one of them ("pod prefix").
    ///
    /// Prefixes are nested or apart, so in sorted order one that overlaps another comes right after a prefix that holds
    /// it.
    pub(super) fn refuse_overlaps(&self, what: &str, diagnoses: &mut Diagnoses) {
        let mut outer: Option<(IpNetwork, Span)> = None;
        for &(prefix, span) in &self.0 {
            match outer {
                Some((holding, place)) if holds(holding, prefix.ip()) => {
                    let (first, again) = if place < span { (place, span) } else { (span, place) };
                    diagnoses.push(|| {
                        let message = if holding == prefix {
                            format!("the {what} {prefix} is given twice")
                        } else {
                            format!("the {what}es {holding} and {prefix} overlap")
                        };
                        Draft::error(message).label(again, "here").label(first, "and here")
                    });
                }
                _ => outer = Some((prefix, span)),
            }
        }
    }
}

pub(super) fn holds(prefix: IpNetwork, address: IpAddr) -> bool {
    prefix.is_ipv4() == address.is_ipv4() && prefix.contains(address)
}

pub(super) fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    holds(one, other.ip()) || holds(other, one.ip())
}

/// Addresses that no packet is routed to or from, and what they are called.
const NEVER_ROUTED: [(IpAddr, u8, &str); 8] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8, "unspecified"),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8, "loopback"),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16, "link-local"),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4, "multicast"),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128, "unspecified"),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128, "loopback"),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10, "link-local"),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8, "multicast"),
];

/// `loopback` and the like, if addresses of that kind are in the prefix.
pub(super) fn never_routed(prefix: IpNetwork) -> Option<&'static str> {
    let kind = NEVER_ROUTED.iter().find(|(address, length, _)| {
        IpNetwork::new(*address, *length).is_ok_and(|special| overlap(special, prefix))
    });
    kind.map(|(_, _, name)| *name)
}
