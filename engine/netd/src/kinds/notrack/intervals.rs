//! Prefixes as the ends of intervals, which is what sets of nftables hold, and back.

use ipnetwork::IpNetwork;
use netd_schema::Family;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An end of an interval; in order, what ends at an address comes before what begins there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) address: IpAddr,
    pub(super) begins: bool,
}

pub(super) fn ends(prefix: IpNetwork) -> impl Iterator<Item = End> {
    let begin = End { address: prefix.network(), begins: true };
    // Behind the last address of all there is none.
    let behind = next(prefix.broadcast());
    let behind = behind.map(|address| End { address, begins: false });
    std::iter::once(begin).chain(behind)
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

/// The prefixes whose ends these are; `None` if they are of something else.
pub(super) fn covered(family: Family, ends: BTreeSet<End>) -> Option<BTreeSet<IpNetwork>> {
    let mut prefixes = BTreeSet::new();
    let mut ends = ends.into_iter().peekable();
    while let Some(begin) = ends.next() {
        if !begin.begins {
            return None;
        }
        let behind = ends.next_if(|end| !end.begins).map(|end| end.address);
        prefixes.insert(prefix(family, begin.address, behind)?);
    }
    Some(prefixes)
}

/// The prefix that begins here and ends before there, or with the last address of all.
fn prefix(family: Family, begin: IpAddr, behind: Option<IpAddr>) -> Option<IpNetwork> {
    let longest = match family {
        Family::Ipv4 => 32,
        Family::Ipv6 => 128,
    };
    (0..=longest)
        .filter_map(|length| IpNetwork::new(begin, length).ok())
        .find(|prefix| prefix.network() == begin && next(prefix.broadcast()) == behind)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn networks(texts: &[&str]) -> BTreeSet<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn prefixes_are_found_again_by_their_ends_next_to_each_other_and_at_the_end_of_all() {
        for (family, prefixes) in [
            (Family::Ipv4, networks(&["10.244.0.0/24", "10.244.1.0/24", "10.244.9.7/32", "255.0.0.0/8"])),
            (Family::Ipv6, networks(&["fd00:244::/64", "fd00:244:0:1::/64", "ff00::/8"])),
        ] {
            let ends = prefixes.iter().flat_map(|prefix| ends(*prefix)).collect();
            assert_eq!(covered(family, ends), Some(prefixes));
        }
    }

    #[test]
    fn ends_that_no_prefix_has_are_not_taken_for_one() {
        let end = |text: &str, begins| End { address: text.parse().unwrap(), begins };
        let odd = [end("10.0.0.1", true), end("10.0.0.9", false)];
        assert_eq!(covered(Family::Ipv4, odd.into()), None);
        assert_eq!(covered(Family::Ipv4, [end("10.0.0.0", false)].into()), None);
    }
}
