//! The table of nftables: what it consists of, how it is made and changed, and what is found of it.

use super::expression::{Expression, find, number, read, text, written};
use super::intervals::{End, covered, ends};
use crate::netlink::{Attributes, Netfilter, NfRequest, attributes};
use ipnetwork::IpNetwork;
use netd_schema::Family;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

/// `NFT_MSG_*`.
const NEW_TABLE: u8 = 0;
const GET_TABLE: u8 = 1;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const GET_CHAIN: u8 = 4;
const NEW_RULE: u8 = 6;
const GET_RULE: u8 = 7;
const NEW_SET: u8 = 9;
const GET_SET: u8 = 10;
const NEW_ELEMENTS: u8 = 12;
const GET_ELEMENTS: u8 = 13;
const DELETE_ELEMENTS: u8 = 14;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_HANDLE: u16 = 4;
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_DATA_VALUE: u16 = 1;

/// `NFPROTO_*`.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// `NFT_SET_INTERVAL`, and `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL: u32 = 4;
const INTERVAL_END: u32 = 1;

/// nft's own numbers for the types `ipv4_addr` and `ipv6_addr`, by which it shows elements.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;

/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;

/// `NF_IP_PRI_RAW`: before connection tracking, which is at -200.
const BEFORE_TRACKING: i32 = -300;

/// Chains by their names, and the hooks that they are at: `NF_INET_PRE_ROUTING` and `NF_INET_LOCAL_OUT`.
const CHAINS: [(&str, u32); 2] = [("prerouting", 0), ("output", 3)];

/// Where libnftables keeps a table's comment.
const USERDATA_COMMENT: u8 = 0;

/// Ends of intervals in one message: an attribute holds 64 KiB, and the end of an IPv6 interval takes 40 bytes.
const ENDS_PER_MESSAGE: usize = 1000;

/// A table of netd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Its name: `netd`, or `netd_INSTANCE`.
    pub(super) name: String,
    /// What says whose it is, as `nft list` shows it.
    pub(super) comment: String,
}

/// What is found under a table's name.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// Somebody else's.
    Foreign,
    /// netd's, and these prefixes are in it, if all else is as it should be.
    Own {
        /// The kernel's number for it: another table of the name has another one.
        handle: Vec<u8>,
        /// `None` if something else is not as netd makes it.
        prefixes: Option<BTreeSet<IpNetwork>>,
    },
}

impl Table {
    /// The table of an instance.
    pub(super) fn of(instance: &str) -> Self {
        let name = match instance {
            crate::instance::DEFAULT_NAME => "netd".to_owned(),
            // nft takes no hyphen in names.
            other => format!("netd_{}", other.replace('-', "_")),
        };
        Self { name, comment: format!("netd:{instance}") }
    }

    /// Looks at the kernel's.
    pub(super) fn look(&self, netfilter: &mut Netfilter) -> io::Result<Found> {
        let named = Attributes::default().text(NFTA_TABLE_NAME, &self.name);
        let Some(table) = netfilter.get(&request(GET_TABLE, named))? else { return Ok(Found::Nothing) };
        if find(&table, NFTA_TABLE_USERDATA) != Some(self.userdata().as_slice()) {
            return Ok(Found::Foreign);
        }
        let handle = find(&table, NFTA_TABLE_HANDLE).unwrap_or_default().to_vec();
        let is_awake = find(&table, NFTA_TABLE_FLAGS).and_then(number).unwrap_or(0) == 0;
        let is_whole = is_awake
            && self.chains_found(netfilter)? == chains_wanted()
            && self.rules_found(netfilter)? == rules_wanted()
            && self.sets_found(netfilter)? == sets_wanted();
        if !is_whole {
            return Ok(Found::Own { handle, prefixes: None });
        }
        let mut prefixes = Some(BTreeSet::new());
        for family in [Family::Ipv4, Family::Ipv6] {
            let found = covered(family, self.ends_found(netfilter, family)?);
            prefixes = prefixes.zip(found).map(|(before, more)| before.into_iter().chain(more).collect());
        }
        Ok(Found::Own { handle, prefixes })
    }

    /// Makes it, for these prefixes, in place of the one with this handle.
    pub(super) fn making(&self, prefixes: &BTreeSet<IpNetwork>, handle: Option<&[u8]>) -> Vec<NfRequest> {
        let mut requests: Vec<NfRequest> = handle.map(Self::removing).into_iter().collect();
        let table = Attributes::default().text(NFTA_TABLE_NAME, &self.name);
        requests.push(creating(NEW_TABLE, table.with(NFTA_TABLE_USERDATA, &self.userdata())));
        for family in [Family::Ipv4, Family::Ipv6] {
            let (key, length, id) = key_of(family);
            let set = Attributes::default().text(NFTA_SET_TABLE, &self.name).text(NFTA_SET_NAME, set(family));
            let set = set.number(NFTA_SET_FLAGS, INTERVAL).number(NFTA_SET_KEY_TYPE, key);
            let set = set.number(NFTA_SET_KEY_LEN, length).number(NFTA_SET_ID, id);
            requests.push(creating(NEW_SET, set));
        }
        requests.extend(self.adding(prefixes.iter()));
        for (chain, hook) in CHAINS {
            let place = Attributes::default()
                .number(NFTA_HOOK_HOOKNUM, hook)
                .with(NFTA_HOOK_PRIORITY, &BEFORE_TRACKING.to_be_bytes());
            let made = Attributes::default().text(NFTA_CHAIN_TABLE, &self.name).text(NFTA_CHAIN_NAME, chain);
            let made = made.nest(NFTA_CHAIN_HOOK, &place).number(NFTA_CHAIN_POLICY, ACCEPT);
            requests.push(creating(NEW_CHAIN, made.text(NFTA_CHAIN_TYPE, "filter")));
        }
        for (chain, rule) in rules_wanted() {
            let made = Attributes::default().text(NFTA_RULE_TABLE, &self.name).text(NFTA_RULE_CHAIN, &chain);
            let made = made.nest(NFTA_RULE_EXPRESSIONS, &rule.as_deref().map(written).unwrap_or_default());
            // Without NLM_F_APPEND it would come before the others.
            let flags = NLM_F_CREATE | netlink_packet_core::NLM_F_APPEND;
            requests.push(NfRequest { flags, ..request(NEW_RULE, made) });
        }
        requests
    }

    /// Changes which prefixes it is about.
    pub(super) fn changing(&self, from: &BTreeSet<IpNetwork>, to: &BTreeSet<IpNetwork>) -> Vec<NfRequest> {
        let mut requests = self.elements(DELETE_ELEMENTS, from.difference(to));
        requests.extend(self.adding(to.difference(from)));
        requests
    }

    /// Removes the table with this handle.
    pub(super) fn removing(handle: &[u8]) -> NfRequest {
        request(DELETE_TABLE, Attributes::default().with(NFTA_TABLE_HANDLE, handle))
    }

    fn adding<'p>(&self, prefixes: impl Iterator<Item = &'p IpNetwork>) -> Vec<NfRequest> {
        let requests = self.elements(NEW_ELEMENTS, prefixes);
        requests.into_iter().map(|request| NfRequest { flags: NLM_F_CREATE, ..request }).collect()
    }

    fn elements<'p>(&self, kind: u8, prefixes: impl Iterator<Item = &'p IpNetwork>) -> Vec<NfRequest> {
        let (v4, v6): (Vec<&IpNetwork>, Vec<&IpNetwork>) = prefixes.partition(|prefix| prefix.is_ipv4());
        let mut requests = Vec::new();
        for (family, prefixes) in [(Family::Ipv4, v4), (Family::Ipv6, v6)] {
            for prefixes in prefixes.chunks(ENDS_PER_MESSAGE / 2) {
                let ends = prefixes.iter().flat_map(|prefix| ends(**prefix));
                let list = ends.fold(Attributes::default(), |list, end| {
                    let key = Attributes::default().with(NFTA_DATA_VALUE, &octets(end.address));
                    let one = Attributes::default().nest(NFTA_SET_ELEM_KEY, &key);
                    let flags = if end.begins { 0 } else { INTERVAL_END };
                    list.nest(NFTA_LIST_ELEM, &one.number(NFTA_SET_ELEM_FLAGS, flags))
                });
                let place = Attributes::default().text(NFTA_SET_ELEM_LIST_TABLE, &self.name);
                let place = place.text(NFTA_SET_ELEM_LIST_SET, set(family));
                requests.push(request(kind, place.nest(NFTA_SET_ELEM_LIST_ELEMENTS, &list)));
            }
        }
        requests
    }

    fn userdata(&self) -> Vec<u8> {
        let length = u8::try_from(self.comment.len() + 1).unwrap_or(u8::MAX);
        [&[USERDATA_COMMENT, length], self.comment.as_bytes(), &[0]].concat()
    }

    fn chains_found(&self, netfilter: &mut Netfilter) -> io::Result<BTreeSet<Chain>> {
        let found = netfilter.dump(&request(GET_CHAIN, Attributes::default()), |family, chain| {
            (family == INET && self.has(chain, NFTA_CHAIN_TABLE)).then(|| {
                let hook = find(chain, NFTA_CHAIN_HOOK).unwrap_or_default();
                let of = |kind| find(hook, kind).and_then(number);
                Chain {
                    name: find(chain, NFTA_CHAIN_NAME).map(text).unwrap_or_default(),
                    kind: find(chain, NFTA_CHAIN_TYPE).map(text).unwrap_or_default(),
                    hook: of(NFTA_HOOK_HOOKNUM),
                    priority: of(NFTA_HOOK_PRIORITY).map(u32::cast_signed),
                    policy: find(chain, NFTA_CHAIN_POLICY).and_then(number),
                }
            })
        })?;
        Ok(found.into_iter().collect())
    }

    /// By chain, in the order of the list; `None` for a rule that netd does not make.
    fn rules_found(&self, netfilter: &mut Netfilter) -> io::Result<Vec<(String, Option<Vec<Expression>>)>> {
        let of_table = Attributes::default().text(NFTA_RULE_TABLE, &self.name);
        let mut found = netfilter.dump(&request(GET_RULE, of_table), |family, rule| {
            (family == INET && self.has(rule, NFTA_RULE_TABLE)).then(|| {
                let chain = find(rule, NFTA_RULE_CHAIN).map(text).unwrap_or_default();
                (chain, find(rule, NFTA_RULE_EXPRESSIONS).and_then(read))
            })
        })?;
        // Chains come in any order, the rules of each in theirs.
        found.sort_by_key(|(chain, _)| CHAINS.iter().position(|(name, _)| name == chain));
        Ok(found)
    }

    fn sets_found(&self, netfilter: &mut Netfilter) -> io::Result<BTreeSet<(String, [Option<u32>; 3])>> {
        let of_table = Attributes::default().text(NFTA_SET_TABLE, &self.name);
        let found = netfilter.dump(&request(GET_SET, of_table), |family, set| {
            (family == INET && self.has(set, NFTA_SET_TABLE)).then(|| {
                let of = |kind| find(set, kind).and_then(number);
                let name = find(set, NFTA_SET_NAME).map(text).unwrap_or_default();
                (name, [of(NFTA_SET_FLAGS), of(NFTA_SET_KEY_TYPE), of(NFTA_SET_KEY_LEN)])
            })
        })?;
        Ok(found.into_iter().collect())
    }

    fn ends_found(&self, netfilter: &mut Netfilter, family: Family) -> io::Result<BTreeSet<End>> {
        let place = Attributes::default().text(NFTA_SET_ELEM_LIST_TABLE, &self.name);
        let place = place.text(NFTA_SET_ELEM_LIST_SET, set(family));
        let found = netfilter.dump(&request(GET_ELEMENTS, place), |_, message| {
            let list = find(message, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
            Some(attributes(list).filter_map(|(_, one)| end(one)).collect::<Vec<_>>())
        })?;
        Ok(found.into_iter().flatten().collect())
    }

    fn has(&self, message: &[u8], kind: u16) -> bool {
        find(message, kind).map(text).as_deref() == Some(&self.name)
    }
}

/// A chain, as far as netd's differ from others.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Chain {
    name: String,
    kind: String,
    hook: Option<u32>,
    priority: Option<i32>,
    policy: Option<u32>,
}

fn chains_wanted() -> BTreeSet<Chain> {
    let chain = |(name, hook): (&str, u32)| Chain {
        name: name.to_owned(),
        kind: "filter".to_owned(),
        hook: Some(hook),
        priority: Some(BEFORE_TRACKING),
        policy: Some(ACCEPT),
    };
    CHAINS.map(chain).into()
}

fn sets_wanted() -> BTreeSet<(String, [Option<u32>; 3])> {
    let set = |family| {
        let (key, length, _) = key_of(family);
        (set(family).to_owned(), [Some(INTERVAL), Some(key), Some(length)])
    };
    [Family::Ipv4, Family::Ipv6].map(set).into()
}

/// In each chain: what is for pods, then what is from pods, of either family.
fn rules_wanted() -> Vec<(String, Option<Vec<Expression>>)> {
    let mut rules = Vec::new();
    for (chain, _) in CHAINS {
        for (family, number, length, places) in
            [(Family::Ipv4, IPV4, 4, [16, 12]), (Family::Ipv6, IPV6, 16, [24, 8])]
        {
            for offset in places {
                let rule = vec![
                    Expression::Family,
                    Expression::Equals(vec![number]),
                    Expression::Header { offset, length },
                    Expression::In(set(family).to_owned()),
                    Expression::Notrack,
                ];
                rules.push((chain.to_owned(), Some(rule)));
            }
        }
    }
    rules
}

fn set(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "pods_ipv4",
        Family::Ipv6 => "pods_ipv6",
    }
}

/// The type and the length of a set's elements, and a number for the set within one batch.
fn key_of(family: Family) -> (u32, u32, u32) {
    match family {
        Family::Ipv4 => (TYPE_IPV4, 4, 1),
        Family::Ipv6 => (TYPE_IPV6, 16, 2),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn end(element: &[u8]) -> Option<End> {
    let key = find(find(element, NFTA_SET_ELEM_KEY)?, NFTA_DATA_VALUE)?;
    let address = match (<[u8; 4]>::try_from(key), <[u8; 16]>::try_from(key)) {
        (Ok(v4), _) => IpAddr::from(v4),
        (_, Ok(v6)) => IpAddr::from(v6),
        _ => return None,
    };
    let flags = find(element, NFTA_SET_ELEM_FLAGS).and_then(number).unwrap_or(0);
    Some(End { address, begins: flags & INTERVAL_END == 0 })
}

fn request(kind: u8, attributes: Attributes) -> NfRequest {
    NfRequest { kind, family: INET, flags: 0, attributes }
}

fn creating(kind: u8, attributes: Attributes) -> NfRequest {
    NfRequest { flags: NLM_F_CREATE | NLM_F_EXCL, ..request(kind, attributes) }
}

/// Whether the table `raw` of a family has a chain of this name: where iptables keeps its rules in nftables.
pub(super) fn chain_named(netfilter: &mut Netfilter, family: Family, name: &str) -> io::Result<bool> {
    let family = match family {
        Family::Ipv4 => IPV4,
        Family::Ipv6 => IPV6,
    };
    let chain = Attributes::default().text(NFTA_CHAIN_TABLE, "raw").text(NFTA_CHAIN_NAME, name);
    Ok(netfilter.get(&NfRequest { family, ..request(GET_CHAIN, chain) })?.is_some())
}
