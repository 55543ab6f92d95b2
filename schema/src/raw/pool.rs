//! `[[ip_pools]]`.

use super::List;
use super::number::Priority;
use super::table::raw_table;
use super::word::{Name, Prefix, Refused, Word, word_schema};
use crate::model::{Avoid, POOL_PRIORITY_DEFAULT, PoolChoice, UnknownPort};
use ipnetwork::IpNetwork;
use schemars::{Schema, json_schema};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

raw_table! {
    /// Ranges of addresses that are routed to the load balancers, or to egress gateways. Services get VIPs from them, and
    /// egress policies their addresses. What arrives at a load balancer for an address that nothing has is dealt with,
    /// instead of being sent back to where it came from; that does not concern a pool from which only egress policies take.
    pub(crate) struct IpPool {
        /// Unique among the pools; what `services.pool` and `egress.pool` name.
        required name: PoolTitle, like "public";
        /// Prefixes, at least /8 for IPv4 and /16 for IPv6, and ranges from one address to another. No two of any pools
        /// may overlap. VIPs that a service names without having a pool need not be in one.
        required ranges: List<Range, 1>, like ["192.0.2.0/24", "2001:db8:100::10-2001:db8:100::ffff"];
        /// What is done with packets for addresses that no service has: `drop`, nothing is said; `reject`, the client
        /// gets a TCP reset or an ICMP error; `pass`, they are left to the network stack of the node.
        optional unassigned: UnknownPort = "drop", like "reject";
        /// Whether services and egress policies with `pool = "auto"` get addresses from it. If not, those that name it do.
        optional auto_assign: bool = true, like false;
        /// With `pool = "auto"`, of the pools that have a free address the one with the lowest number gives it; of
        /// several with the same, the first by name.
        optional priority: Priority = POOL_PRIORITY_DEFAULT, like 10;
        /// Nothing new is given from it any more; the services that have an address of it keep it. An address that a
        /// service names in `vips` is given all the same.
        optional drain: bool = false, like true;
        /// Addresses that are only given to services that name them in `vips`: `none`; `first-last`, the IPv4 addresses
        /// that end with `.0` or `.255`, which some old devices do not take for those of a machine.
        optional avoid: Avoid = "none", like "first-last";
    }
}

word_schema!(PoolTitle, PoolName, Range);

/// What the choice of any pool is called.
const AUTO: &str = "auto";

/// The name of a pool, where it is defined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PoolTitle(pub(crate) String);

impl Word for PoolTitle {
    const WHAT: &'static str = "the name of a pool";

    fn parse(text: &str) -> Result<Self, Refused> {
        let Name(name) = Name::parse(text)?;
        match name == AUTO {
            true => Err(Refused::because("`auto` stands for any pool in `services.pool`")),
            false => Ok(Self(name)),
        }
    }

    fn schema() -> Schema {
        let mut schema = <Name as Word>::schema();
        schema.insert("not".to_owned(), serde_json::json!({ "enum": [AUTO] }));
        schema
    }
}

/// The name of a pool, where one is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolName(pub(crate) PoolChoice);

impl Word for PoolName {
    const WHAT: &'static str = "the name of a pool";

    fn parse(text: &str) -> Result<Self, Refused> {
        if text == AUTO {
            return Ok(Self(PoolChoice::Auto));
        }
        Name::parse(text).map(|Name(name)| Self(PoolChoice::Named(name)))
    }

    fn schema() -> Schema {
        <Name as Word>::schema()
    }
}

/// The addresses from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// The lowest.
    pub(crate) first: IpAddr,
    /// The highest, of the same family.
    pub(crate) last: IpAddr,
    /// The prefix that was written, if it was one.
    prefix: Option<IpNetwork>,
}

impl Range {
    /// The length of the prefix that was written, if it was one.
    pub(crate) fn length(self) -> Option<u8> {
        self.prefix.map(|prefix| prefix.prefix())
    }

    /// The fewest prefixes that hold the same addresses, from the lowest up.
    pub(crate) fn prefixes(self) -> Vec<IpNetwork> {
        match (self.prefix, self.first, self.last) {
            (Some(prefix), _, _) => vec![prefix],
            (None, IpAddr::V4(first), IpAddr::V4(last)) => {
                let at = |bits: u128| IpAddr::V4(Ipv4Addr::from(u32::try_from(bits).unwrap_or(u32::MAX)));
                split(u128::from(u32::from(first)), u128::from(u32::from(last)), 32, at)
            }
            (None, IpAddr::V6(first), IpAddr::V6(last)) => {
                split(first.into(), last.into(), 128, |bits| IpAddr::V6(Ipv6Addr::from(bits)))
            }
            (None, IpAddr::V4(_), IpAddr::V6(_)) | (None, IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
        }
    }
}

/// The largest prefix that begins at `from` and ends before `last` does, and so on.
fn split(mut from: u128, last: u128, width: u32, address: impl Fn(u128) -> IpAddr) -> Vec<IpNetwork> {
    let mut prefixes = Vec::new();
    loop {
        let aligned = from.trailing_zeros().min(width);
        let room = (last - from).checked_add(1).map_or(width, u128::ilog2);
        let host_bits = aligned.min(room);
        let length = u8::try_from(width - host_bits).unwrap_or(u8::MAX);
        prefixes.extend(IpNetwork::new(address(from), length));
        let size = 1_u128.checked_shl(host_bits);
        match size.and_then(|size| from.checked_add(size)).filter(|next| *next <= last) {
            Some(next) => from = next,
            None => return prefixes,
        }
    }
}

impl fmt::Display for Range {
    /// As it was written, or would be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            Some(prefix) => write!(f, "{prefix}"),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Word for Range {
    const WHAT: &'static str = "a range of addresses";

    fn parse(text: &str) -> Result<Self, Refused> {
        let Some((first, last)) = text.split_once('-') else {
            let Prefix(prefix) = Prefix::parse(text)?;
            return Ok(Self { first: prefix.network(), last: prefix.broadcast(), prefix: Some(prefix) });
        };
        let ends = (first.trim().parse::<IpAddr>(), last.trim().parse::<IpAddr>());
        let (Ok(first), Ok(last)) = ends else {
            return Err(Refused::because("must be two addresses, such as `192.0.2.10-192.0.2.99`"));
        };
        if first.is_ipv4() != last.is_ipv4() {
            return Err(Refused::because("one end is an IPv4 address, the other an IPv6 address"));
        }
        if last < first {
            let why = "the end is below the beginning".to_owned();
            return Err(Refused { why, help: Some(format!("write `{last}-{first}`")) });
        }
        if let (IpAddr::V6(first), IpAddr::V6(last)) = (first, last)
            && (first.to_ipv4_mapped().is_some() || last.to_ipv4_mapped().is_some())
        {
            return Err(Refused::because("IPv4 addresses in IPv6 form"));
        }
        Ok(Self { first, last, prefix: None })
    }

    fn schema() -> Schema {
        let prefix = "[0-9A-Fa-f:.]+/[0-9]{1,3}";
        json_schema!({
            "type": "string",
            "title": "a prefix, with no bits beyond its length, or two addresses with `-` between them",
            "pattern": format!("^({prefix}|\\s*[0-9A-Fa-f:.]+\\s*-\\s*[0-9A-Fa-f:.]+\\s*)$"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn prefixes(text: &str) -> Vec<String> {
        let range = Range::parse(text).map_err(|refused| refused.why).unwrap();
        range.prefixes().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_range_is_the_fewest_prefixes_that_hold_the_same_addresses() {
        assert_eq!(prefixes("192.0.2.0-192.0.2.255"), ["192.0.2.0/24"]);
        assert_eq!(prefixes("192.0.2.5-192.0.2.5"), ["192.0.2.5/32"]);
        assert_eq!(prefixes("192.0.2.10 - 192.0.2.17"), ["192.0.2.10/31", "192.0.2.12/30", "192.0.2.16/31"]);
        assert_eq!(prefixes("255.255.255.254-255.255.255.255"), ["255.255.255.254/31"]);
        assert_eq!(prefixes("0.0.0.0-255.255.255.255"), ["0.0.0.0/0"]);
        assert_eq!(prefixes("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ["::/0"]);
        assert_eq!(prefixes("2001:db8::1-2001:db8::3"), ["2001:db8::1/128", "2001:db8::2/127"]);
    }
}
