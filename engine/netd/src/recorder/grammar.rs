//! Filters as people write them, as the kernel program looks them up.

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use netd_bpf::recorder::{ANY_PORT, Filter};
use netd_schema::{CaptureFilter, CaptureProtocol};
use std::net::{Ipv4Addr, Ipv6Addr};

const ALL_V4: Ipv4Network =
    Ipv4Network::new_checked(Ipv4Addr::UNSPECIFIED, 0).expect("zero bits are a prefix");
const ALL_V6: Ipv6Network =
    Ipv6Network::new_checked(Ipv6Addr::UNSPECIFIED, 0).expect("zero bits are a prefix");

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Characters of a text that are shown when it is no filter.
const SHOWN_MAX: usize = 100;

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
    let shown = || text.chars().take(SHOWN_MAX).collect();
    text.parse().map(|filter| lower(&filter)).map_err(|why| FilterError { text: shown(), why })
}

fn lower(filter: &CaptureFilter) -> Vec<Filter> {
    let families: &[bool] = match filter.source.or(filter.destination) {
        None => &[true, false],
        Some(known) if known.is_ipv4() => &[true],
        Some(_) => &[false],
    };
    let of_family = |is_v4: bool| Filter {
        source: filter.source.unwrap_or_else(|| everything(is_v4)),
        destination: filter.destination.unwrap_or_else(|| everything(is_v4)),
        source_ports: filter.source_ports.map_or(ANY_PORT, |(first, last)| first..=last),
        destination_ports: filter.destination_ports.map_or(ANY_PORT, |(first, last)| first..=last),
        protocol: filter.protocol.map(|protocol| match protocol {
            CaptureProtocol::Tcp => TCP,
            CaptureProtocol::Udp => UDP,
            CaptureProtocol::Sctp => SCTP,
            CaptureProtocol::Icmp if is_v4 => ICMP,
            CaptureProtocol::Icmp => ICMPV6,
        }),
    };
    families.iter().map(|is_v4| of_family(*is_v4)).collect()
}

fn everything(is_v4: bool) -> IpNetwork {
    if is_v4 { IpNetwork::V4(ALL_V4) } else { IpNetwork::V6(ALL_V6) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_written_is_what_is_looked_up() {
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
        let icmp = |text: &str| parse(text).unwrap().iter().map(|filter| filter.protocol).collect::<Vec<_>>();
        assert_eq!(icmp("any 0 2001:db8::1 0 icmp"), [Some(58)]);
        assert_eq!(icmp("any 0 any 0 icmp"), [Some(1), Some(58)]);
    }

    #[test]
    fn what_is_no_filter_is_refused_in_a_few_words() {
        assert!(
            parse("any 0 any 80 TPC").unwrap_err().to_string().starts_with("filter \"any 0 any 80 TPC\": ")
        );
        assert!(parse(&"x".repeat(100_000)).unwrap_err().to_string().len() < 400);
    }
}
