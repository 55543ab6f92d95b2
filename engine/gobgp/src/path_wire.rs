//! Announcements as paths of the daemon's API, and back.

use crate::api;
use crate::path::{
    Announcement, Besides, Community, Family, LargeCommunity, MARK_ASN, RESTRICTED, Recipient, Recipients,
};
use ipnetwork::IpNetwork;
use prost_types::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The path identifier of netd's paths: "netd". The daemon keeps paths of one prefix apart by it, and sends it only to
/// peers with which it has agreed on several paths for a prefix (RFC 7911), which netd asks of none.
pub const PATH_MARK: u32 = u32::from_be_bytes(*b"netd");

/// `INCOMPLETE` (RFC 4271, 5.1.1): learned by other means than an IGP or EGP.
const ORIGIN_INCOMPLETE: u32 = 2;

pub(crate) fn family(family: Family) -> api::Family {
    let afi = match family {
        Family::Ipv4 => api::family::Afi::Ip,
        Family::Ipv6 => api::family::Afi::Ip6,
    };
    api::Family { afi: afi.into(), safi: api::family::Safi::Unicast.into() }
}

pub(crate) fn known_family(family: &api::Family) -> Option<Family> {
    let is_unicast = family.safi == i32::from(api::family::Safi::Unicast);
    Family::ALL.into_iter().find(|known| is_unicast && family.afi == self::family(*known).afi)
}

/// The path that announces.
pub(crate) fn announcing(announcement: &Announcement) -> api::Path {
    let Announcement {
        prefix,
        next_hop,
        communities,
        large_communities,
        local_pref,
        med,
        prepend,
        to,
        besides,
    } = announcement;
    let mut path = bare(prefix);
    let mut pattrs = vec![any(&api::OriginAttribute { origin: ORIGIN_INCOMPLETE })];
    if !prepend.is_empty() {
        let sequence = api::as_segment::Type::AsSequence.into();
        let segment = api::AsSegment { r#type: sequence, numbers: prepend.clone() };
        pattrs.push(any(&api::AsPathAttribute { segments: vec![segment] }));
    }
    pattrs.push(next_hop_attribute(prefix, *next_hop, path.nlri.clone()));
    if let Some(med) = *med {
        pattrs.push(any(&api::MultiExitDiscAttribute { med }));
    }
    if let Some(local_pref) = *local_pref {
        pattrs.push(any(&api::LocalPrefAttribute { local_pref }));
    }
    if !communities.is_empty() {
        let communities = communities.iter().map(|community| community.0).collect();
        pattrs.push(any(&api::CommunitiesAttribute { communities }));
    }
    let said = besides.iter().map(|(peer, besides)| besides.mark(*peer));
    let large: Vec<_> = large_communities.iter().copied().chain(marks(to)).chain(said).map(large).collect();
    if !large.is_empty() {
        pattrs.push(any(&api::LargeCommunitiesAttribute { communities: large }));
    }
    path.pattrs = pattrs;
    path
}

/// The path that withdraws netd's announcement of a prefix, and no other.
pub(crate) fn withdrawing(prefix: &IpNetwork) -> api::Path {
    api::Path { is_withdraw: true, ..bare(prefix) }
}

fn bare(prefix: &IpNetwork) -> api::Path {
    let nlri =
        api::IpAddressPrefix { prefix_len: prefix.prefix().into(), prefix: prefix.network().to_string() };
    api::Path {
        nlri: Some(any(&nlri)),
        family: Some(family(Family::of(prefix))),
        identifier: PATH_MARK,
        ..api::Path::default()
    }
}

fn next_hop_attribute(prefix: &IpNetwork, next_hop: Option<IpAddr>, nlri: Option<Any>) -> Any {
    // An unspecified address is replaced by the local one of each session.
    let next_hop = next_hop.unwrap_or(match prefix {
        IpNetwork::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpNetwork::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    });
    match (prefix, next_hop) {
        (IpNetwork::V4(_), IpAddr::V4(_)) => any(&api::NextHopAttribute { next_hop: next_hop.to_string() }),
        _ => any(&api::MpReachNlriAttribute {
            family: Some(family(Family::of(prefix))),
            next_hops: vec![next_hop.to_string()],
            nlris: nlri.into_iter().collect(),
        }),
    }
}

fn marks(to: &Recipients) -> Vec<LargeCommunity> {
    match to {
        Recipients::All => Vec::new(),
        Recipients::Only(peers) => {
            std::iter::once(RESTRICTED).chain(peers.iter().map(|peer| peer.mark())).collect()
        }
    }
}

fn large(community: LargeCommunity) -> api::LargeCommunity {
    let LargeCommunity(global_admin, local_data1, local_data2) = community;
    api::LargeCommunity { global_admin, local_data1, local_data2 }
}

/// What peers are told besides, by the marks that say so.
pub(crate) type Said = BTreeMap<LargeCommunity, (IpAddr, Besides)>;

/// What a path of the daemon's says. Attributes that netd does not use are left out.
///
/// # Errors
///
/// What cannot be understood.
pub(crate) fn announced(path: &api::Path, said: &Said) -> Result<Announcement, String> {
    let mut found = Announcement::plain(prefix(path)?);
    let mut marks = BTreeSet::new();
    for attribute in &path.pattrs {
        if let Some(next_hop) = message::<api::NextHopAttribute>(attribute)? {
            found.next_hop = specified(&next_hop.next_hop)?;
        } else if let Some(reach) = message::<api::MpReachNlriAttribute>(attribute)? {
            found.next_hop = reach.next_hops.first().map_or(Ok(None), |hop| specified(hop))?;
        } else if let Some(as_path) = message::<api::AsPathAttribute>(attribute)? {
            found.prepend = as_path.segments.into_iter().flat_map(|segment| segment.numbers).collect();
        } else if let Some(med) = message::<api::MultiExitDiscAttribute>(attribute)? {
            found.med = Some(med.med);
        } else if let Some(local_pref) = message::<api::LocalPrefAttribute>(attribute)? {
            found.local_pref = Some(local_pref.local_pref);
        } else if let Some(communities) = message::<api::CommunitiesAttribute>(attribute)? {
            found.communities = communities.communities.into_iter().map(Community).collect();
        } else if let Some(communities) = message::<api::LargeCommunitiesAttribute>(attribute)? {
            for community in communities.communities {
                let api::LargeCommunity { global_admin, local_data1, local_data2 } = community;
                let community = LargeCommunity(global_admin, local_data1, local_data2);
                if global_admin == MARK_ASN {
                    marks.insert(community);
                } else {
                    found.large_communities.insert(community);
                }
            }
        }
    }
    let is_restricted = marks.remove(&RESTRICTED);
    found.besides = marks.iter().filter_map(|mark| said.get(mark).cloned()).collect();
    if is_restricted {
        let named = marks.into_iter().filter(|mark| !said.contains_key(mark));
        found.to = Recipients::Only(named.map(Recipient::from_mark).collect());
    }
    Ok(found)
}

/// Whether a path was added by the API, and by netd.
pub(crate) fn is_ours(path: &api::Path) -> bool {
    is_local(path) && path.identifier == PATH_MARK
}

/// Whether a path was added by the API: of others the daemon knows the neighbour.
pub(crate) fn is_local(path: &api::Path) -> bool {
    path.neighbor_ip.parse::<IpAddr>().is_err()
}

pub(crate) fn prefix(path: &api::Path) -> Result<IpNetwork, String> {
    let nlri = path.nlri.as_ref().ok_or("a path without a prefix")?;
    let nlri =
        message::<api::IpAddressPrefix>(nlri)?.ok_or_else(|| format!("a path for a {}", nlri.type_url))?;
    let length =
        u8::try_from(nlri.prefix_len).map_err(|_| format!("a prefix length of {}", nlri.prefix_len))?;
    let address = nlri.prefix.parse().map_err(|_| format!("the prefix {:?}", nlri.prefix))?;
    IpNetwork::new(address, length).map_err(|error| error.to_string())
}

fn specified(text: &str) -> Result<Option<IpAddr>, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("the next hop {text:?}"))?;
    Ok(Some(address).filter(|address| !address.is_unspecified()))
}

fn any<M: prost::Name>(message: &M) -> Any {
    Any { type_url: format!("type.googleapis.com/{}", M::full_name()), value: message.encode_to_vec() }
}

fn message<M: prost::Name + Default>(any: &Any) -> Result<Option<M>, String> {
    match any.type_url.rsplit('/').next() == Some(M::full_name().as_str()) {
        true => {
            M::decode(any.value.as_slice()).map(Some).map_err(|error| format!("{}: {error}", any.type_url))
        }
        false => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn everything(prefix: &str) -> Announcement {
        Announcement {
            prefix: prefix.parse().unwrap(),
            next_hop: Some("2001:db8::9".parse().unwrap()),
            communities: [Community(1), Community(u32::MAX)].into(),
            large_communities: [LargeCommunity(64512, 1, 2)].into(),
            local_pref: Some(0),
            med: Some(7),
            prepend: vec![64512, 64512],
            to: Recipients::only(["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]),
            besides: BTreeMap::new(),
        }
    }

    fn read(path: &api::Path) -> Result<Announcement, String> {
        announced(path, &Said::new())
    }

    #[test]
    fn what_is_announced_is_read_back_as_it_was() {
        for prefix in ["192.0.2.10/32", "2001:db8:100::/64", "0.0.0.0/0"] {
            for announcement in [everything(prefix), Announcement::plain(prefix.parse().unwrap())] {
                let path = announcing(&announcement);
                assert!(is_ours(&path));
                assert_eq!(read(&path).unwrap(), announcement);
            }
        }
    }

    #[test]
    fn what_peers_are_told_besides_is_read_back_by_its_marks() {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let besides = Besides { med: Some(5), ..Besides::default() };
        for to in [Recipients::All, Recipients::only([peer])] {
            let mut announcement = Announcement::plain("192.0.2.10/32".parse().unwrap());
            announcement.to = to;
            announcement.besides = [(peer, besides.clone())].into();
            let said = Said::from([(besides.mark(peer), (peer, besides.clone()))]);
            assert_eq!(announced(&announcing(&announcement), &said).unwrap(), announcement);
        }
        // A mark that nothing stands behind any more restricts nobody.
        let mut stale = Announcement::plain("192.0.2.10/32".parse().unwrap());
        stale.besides = [(peer, besides)].into();
        assert_eq!(read(&announcing(&stale)).unwrap(), Announcement::plain(stale.prefix));
    }

    #[test]
    fn nobody_is_a_restriction_too() {
        let mut announcement = Announcement::plain("192.0.2.10/32".parse().unwrap());
        announcement.to = Recipients::only([]);
        assert_eq!(read(&announcing(&announcement)).unwrap(), announcement);
    }

    #[test]
    fn b7_paths_of_peers_and_of_others_are_not_netds() {
        let ours = announcing(&Announcement::plain("192.0.2.10/32".parse().unwrap()));
        let learned = api::Path { neighbor_ip: "10.0.0.1".into(), ..ours.clone() };
        let anothers = api::Path { identifier: 0, ..ours };
        assert!(!is_ours(&learned) && !is_local(&learned));
        assert!(!is_ours(&anothers) && is_local(&anothers));
    }

    #[test]
    fn nonsense_is_an_error_and_not_a_panic() {
        let path = announcing(&Announcement::plain("192.0.2.10/32".parse().unwrap()));
        let nlri =
            |prefix: &str, prefix_len| Some(any(&api::IpAddressPrefix { prefix_len, prefix: prefix.into() }));
        for nlri in [None, nlri("192.0.2.10", 33), nlri("x", 8), nlri("192.0.2.10", 500)] {
            assert!(read(&api::Path { nlri, ..path.clone() }).is_err());
        }
        let mut garbled = path;
        for attribute in &mut garbled.pattrs {
            attribute.value = vec![0xff; 3];
        }
        assert!(read(&garbled).is_err());
    }
}
