//! What is announced, in the words of BGP.

use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// A family of unicast routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 unicast.
    Ipv4,
    /// IPv6 unicast.
    Ipv6,
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of a prefix.
    #[must_use]
    pub fn of(prefix: &IpNetwork) -> Self {
        match prefix {
            IpNetwork::V4(_) => Self::Ipv4,
            IpNetwork::V6(_) => Self::Ipv6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

/// A standard community (RFC 1997), written `64512:100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// A large community (RFC 8092), written `64512:1:2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0, self.1, self.2)
    }
}

/// Which peers learn of a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recipients {
    /// Every peer of the daemon.
    #[default]
    All,
    /// These peers of netd's, and nobody else.
    Only(BTreeSet<Recipient>),
}

impl Recipients {
    /// The peers with these addresses.
    #[must_use]
    pub fn only(peers: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::Only(peers.into_iter().map(Recipient::of).collect())
    }
}

/// A peer, as a path in the daemon names it: by a number that follows from its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient(u64);

impl Recipient {
    /// The peer with this address.
    #[must_use]
    pub fn of(peer: IpAddr) -> Self {
        Self(match peer {
            IpAddr::V4(v4) => digest(&v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => digest(&v6.octets()),
        })
    }

    pub(crate) fn mark(self) -> LargeCommunity {
        mark(self.0)
    }

    pub(crate) fn from_mark(mark: LargeCommunity) -> Self {
        Self((u64::from(mark.1) << 32) | u64::from(mark.2))
    }
}

/// FNV-1a: short, the same for ever, and 64 bits tell any number of peers apart.
fn digest(bytes: &[u8]) -> u64 {
    let fold = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold)
}

fn mark(number: u64) -> LargeCommunity {
    let [high, low] = [number >> 32, number & 0xffff_ffff].map(|half| u32::try_from(half).unwrap_or(0));
    LargeCommunity(MARK_ASN, high, low)
}

/// The AS in whose name netd marks paths inside the daemon. It is for private use (RFC 6996), and no path leaves the
/// daemon with a mark.
pub(crate) const MARK_ASN: u32 = 4_294_000_177;

/// The mark of a path that only some peers learn of. No peer's number is zero.
pub(crate) const RESTRICTED: LargeCommunity = LargeCommunity(MARK_ASN, 0, 0);

/// One prefix with what is said about it. Two that mean the same are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What can be reached.
    pub prefix: IpNetwork,
    /// Through which address; `None`: through this end of each session.
    pub next_hop: Option<IpAddr>,
    /// Standard communities.
    pub communities: BTreeSet<Community>,
    /// Large communities.
    pub large_communities: BTreeSet<LargeCommunity>,
    /// The local preference, which only peers of the same AS see.
    pub local_pref: Option<u32>,
    /// The multi-exit discriminator.
    pub med: Option<u32>,
    /// What the AS path begins with before a session adds the local AS: usually that AS some times more. A peer of
    /// the same AS refuses a path that has it already.
    pub prepend: Vec<u32>,
    /// Who learns of it.
    pub to: Recipients,
    /// What some peers are told beyond that, by the peer.
    pub besides: BTreeMap<IpAddr, Besides>,
}

/// What one peer is told of a prefix beyond what everybody is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Besides {
    /// Standard communities, added to the others.
    pub communities: BTreeSet<Community>,
    /// Large communities, added to the others.
    pub large_communities: BTreeSet<LargeCommunity>,
    /// In place of the local preference that everybody is told of; not 0, which the daemon takes for none.
    pub local_pref: Option<u32>,
    /// In place of the discriminator that everybody is told of.
    pub med: Option<u32>,
    /// The AS path begins with this besides: one AS, some times.
    pub prepend: Vec<u32>,
}

impl Besides {
    /// The mark of paths of which this peer is told so.
    pub(crate) fn mark(&self, peer: IpAddr) -> LargeCommunity {
        let Self { communities, large_communities, local_pref, med, prepend } = self;
        let standard = communities.iter().map(|community| format!("c{community}"));
        let large = large_communities.iter().map(|community| format!("l{community}"));
        let numbers = [("p", local_pref), ("m", med)].into_iter();
        let numbers = numbers.filter_map(|(word, number)| Some(format!("{word}{}", (*number)?)));
        let path = prepend.iter().map(|asn| format!("a{asn}"));
        let words: Vec<String> = standard.chain(large).chain(numbers).chain(path).collect();
        mark(digest(format!("{peer} {}", words.join(" ")).as_bytes()))
    }
}

impl Announcement {
    /// A prefix, and nothing more said about it.
    #[must_use]
    pub fn plain(prefix: IpNetwork) -> Self {
        Self {
            prefix,
            next_hop: None,
            communities: BTreeSet::new(),
            large_communities: BTreeSet::new(),
            local_pref: None,
            med: None,
            prepend: Vec::new(),
            to: Recipients::All,
            besides: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn communities_are_written_as_operators_write_them() {
        assert_eq!(Community((64512 << 16) | 100).to_string(), "64512:100");
        assert_eq!(LargeCommunity(64512, 1, 2).to_string(), "64512:1:2");
    }

    #[test]
    fn a_recipient_survives_the_way_through_its_mark() {
        for peer in ["10.0.0.1", "10.0.0.2", "2001:db8::1"] {
            let recipient = Recipient::of(peer.parse().unwrap());
            assert_eq!(Recipient::from_mark(recipient.mark()), recipient);
            assert_ne!(recipient.mark(), RESTRICTED);
        }
        assert_ne!(Recipient::of("10.0.0.1".parse().unwrap()), Recipient::of("10.0.0.2".parse().unwrap()));
    }

    #[test]
    fn what_peers_are_told_besides_is_told_apart() {
        let plain = Besides::default;
        let all = [
            plain(),
            Besides { communities: [Community(1)].into(), ..plain() },
            Besides { large_communities: [LargeCommunity(0, 0, 1)].into(), ..plain() },
            Besides { local_pref: Some(1), ..plain() },
            Besides { med: Some(1), ..plain() },
            Besides { prepend: vec![1], ..plain() },
            Besides { prepend: vec![1, 1], ..plain() },
        ];
        let peers = ["10.0.0.1", "10.0.0.2"].map(|peer| peer.parse::<IpAddr>().unwrap());
        let marks: BTreeSet<_> =
            peers.iter().flat_map(|peer| all.iter().map(|besides| besides.mark(*peer))).collect();
        assert_eq!(marks.len(), 2 * all.len());
    }
}
