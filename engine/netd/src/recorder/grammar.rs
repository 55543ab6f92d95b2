//! Filters as people write them: `SOURCE PORTS DESTINATION PORTS PROTOCOL`, as Hubble's record command has them.

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use netd_bpf::recorder::{ANY_PORT, Filter};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// The form, for messages and help.
pub const FORM: &str = "SOURCE PORTS DESTINATION PORTS PROTOCOL";

const EXAMPLE: &str = "\"10.0.0.0/8 0 192.0.2.10/32 80 TCP\"";

const ALL_V4: Ipv4Network =
    Ipv4Network::new_checked(Ipv4Addr::UNSPECIFIED, 0).expect("zero bits are a prefix");
const ALL_V6: Ipv6Network =
    Ipv6Network::new_checked(Ipv6Addr::UNSPECIFIED, 0).expect("zero bits are a prefix");

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter {text:?}: {why}")]
pub struct FilterError {
    text: String,
    why: String,
}

/// Reads a filter. Where both sides are `any` it is two, one of each family.
///
/// # Errors
///
/// A sentence with what was found and what is allowed.
pub fn parse(text: &str) -> Result<Vec<Filter>, FilterError> {
    let shown: String = text.chars().take(100).collect();
    read(text).map_err(|why| FilterError { text: shown, why })
}

fn read(text: &str) -> Result<Vec<Filter>, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [source, source_ports, destination, destination_ports, protocol] = words[..] else {
        return Err(format!("it has {} words and should have 5: {FORM}, such as {EXAMPLE}", words.len()));
    };
    let (source, destination) = (prefix(source)?, prefix(destination)?);
    let (source_ports, destination_ports) = (ports(source_ports)?, ports(destination_ports)?);
    let protocol = Protocol::read(protocol)?;
    let has_ports = source_ports != ANY_PORT || destination_ports != ANY_PORT;
    if protocol == Protocol::Icmp && has_ports {
        return Err("ICMP has no ports: write 0 for both".into());
    }
    let families: Vec<bool> = match (source, destination) {
        (Some(source), Some(destination)) if source.is_ipv4() != destination.is_ipv4() => {
            return Err(format!("{source} and {destination} are of different families"));
        }
        (None, None) => vec![true, false],
        (Some(known), _) | (None, Some(known)) => vec![known.is_ipv4()],
    };
    let filter = |is_v4: bool| Filter {
        source: source.unwrap_or_else(|| everything(is_v4)),
        destination: destination.unwrap_or_else(|| everything(is_v4)),
        source_ports: source_ports.clone(),
        destination_ports: destination_ports.clone(),
        protocol: protocol.number(is_v4),
    };
    Ok(families.into_iter().map(filter).collect())
}

fn everything(is_v4: bool) -> IpNetwork {
    if is_v4 { IpNetwork::V4(ALL_V4) } else { IpNetwork::V6(ALL_V6) }
}

/// `None`: any address of either family. Bits behind the prefix are dropped, as Hubble drops them.
fn prefix(word: &str) -> Result<Option<IpNetwork>, String> {
    if word == "any" || word == "*" {
        return Ok(None);
    }
    let refused = || {
        format!(
            "{word:?} is no prefix: write one such as 192.0.2.0/24 or 2001:db8::/32, an address, or `any`"
        )
    };
    let network: IpNetwork = word.parse().map_err(|_| refused())?;
    IpNetwork::new(network.network(), network.prefix()).map(Some).map_err(|_| refused())
}

fn ports(word: &str) -> Result<RangeInclusive<u16>, String> {
    if matches!(word, "0" | "any" | "*") {
        return Ok(ANY_PORT);
    }
    let refused =
        || format!("{word:?} is no port: write 1 to 65535, a range such as 8000-8099, or 0 for any");
    let port = |word: &str| word.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(refused);
    match word.split_once('-') {
        None => port(word).map(|port| port..=port),
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            if first > last {
                return Err(format!("the range {first}-{last} is backwards: is {last}-{first} meant?"));
            }
            Ok(first..=last)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Any,
    Icmp,
    Number(u8),
}

impl Protocol {
    fn read(word: &str) -> Result<Self, String> {
        match word.to_ascii_uppercase().as_str() {
            "ANY" | "*" => Ok(Self::Any),
            "TCP" => Ok(Self::Number(TCP)),
            "UDP" => Ok(Self::Number(UDP)),
            "SCTP" => Ok(Self::Number(SCTP)),
            "ICMP" | "ICMPV6" => Ok(Self::Icmp),
            _ => Err(format!("{word:?} is no protocol: TCP, UDP, ICMP, SCTP or ANY")),
        }
    }

    fn number(self, is_v4: bool) -> Option<u8> {
        match self {
            Self::Any => None,
            Self::Icmp => Some(if is_v4 { ICMP } else { ICMPV6 }),
            Self::Number(number) => Some(number),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn refused(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn hubbles_filters_are_read() {
        let filters = parse("0.0.0.0/0 0 192.168.33.11/32 80 TCP").unwrap();
        let expected = Filter {
            source: "0.0.0.0/0".parse().unwrap(),
            destination: "192.168.33.11/32".parse().unwrap(),
            source_ports: ANY_PORT,
            destination_ports: 80..=80,
            protocol: Some(6),
        };
        assert_eq!(filters, [expected]);
    }

    #[test]
    fn any_on_both_sides_is_a_filter_of_each_family() {
        let filters = parse("any 0 any 8000-8099 any").unwrap();
        assert_eq!(filters.iter().map(|filter| filter.source.is_ipv4()).collect::<Vec<_>>(), [true, false]);
        assert_eq!(parse("any 0 2001:db8::1 0 icmp").unwrap()[0].protocol, Some(58));
        assert_eq!(parse("10.1.2.3/8 0 any 0 icmp").unwrap()[0].source.to_string(), "10.0.0.0/8");
    }

    #[test]
    fn what_is_no_filter_is_refused_with_what_is_allowed() {
        assert!(refused("10.0.0.0/8 0 80 TCP").contains("has 4 words and should have 5"));
        assert!(refused("10.0.0.0/8 0 2001:db8::/32 80 TCP").contains("different families"));
        assert!(refused("10.0.0.0/33 0 any 80 TCP").contains("is no prefix"));
        assert!(refused("any 0 any 90-80 TCP").contains("is 80-90 meant?"));
        assert!(refused("any 0 any 65536 TCP").contains("is no port"));
        assert!(refused("any 0 any 0-80 TCP").contains("is no port"));
        assert!(refused("any 0 any 80 ICMP").contains("ICMP has no ports"));
        assert!(refused("any 0 any 80 TPC").contains("TCP, UDP, ICMP, SCTP or ANY"));
        assert!(refused(&"x".repeat(100_000)).len() < 400);
    }
}
