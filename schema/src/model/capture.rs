//! Captures of packets, and the filters that choose them: `SOURCE PORTS DESTINATION PORTS PROTOCOL`, as Hubble's record
//! command has them.

use ipnetwork::IpNetwork;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// The form of a filter, for messages and help.
pub const FILTER_FORM: &str = "SOURCE PORTS DESTINATION PORTS PROTOCOL";

/// Bytes of a frame that a capture can have.
pub const CAPTURE_SNAPLEN_MAX: u32 = 16_384;

/// Files of a capture that are kept, where the file does not say.
pub const CAPTURE_FILES_DEFAULT: u32 = 8;

const EXAMPLE: &str = "\"10.0.0.0/8 0 192.0.2.10/32 80 TCP\"";

/// One of `[[captures]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Its name, of which its folder is called: it begins with a letter or a digit, and has no slash.
    pub name: String,
    /// The nodes that record, sorted; empty: all.
    pub nodes: Vec<String>,
    /// A packet is recorded if one of them matches it: sorted, each once; at least one.
    pub filters: Vec<CaptureFilter>,
    /// Bytes of each frame at most, 1 to [`CAPTURE_SNAPLEN_MAX`].
    pub snaplen: u32,
    /// Frames after which it ends.
    pub packets: Option<u64>,
    /// Bytes of frames after which it ends.
    pub bytes: Option<u64>,
    /// How long after its beginning it ends.
    pub duration: Option<Duration>,
    /// The format of its files.
    pub format: CaptureFormat,
    /// Bytes of a file after which the next one is begun.
    pub file_bytes: Option<u64>,
    /// Files of it that are kept; at least 1.
    pub files: u32,
}

/// The format of a capture's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CaptureFormat {
    /// Interfaces `in` and `out`, comments, what was lost.
    #[default]
    Pcapng,
    /// Frames and their times only.
    Pcap,
}

/// Which packets are wanted. Two that say the same are equal, and are shown by the same text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaptureFilter {
    /// Where they come from; `None`: anywhere. Source and destination are of the same family.
    pub source: Option<IpNetwork>,
    /// The first and the last of their source ports; `None`: any, or none.
    pub source_ports: Option<(u16, u16)>,
    /// Where they go; `None`: anywhere.
    pub destination: Option<IpNetwork>,
    /// The first and the last of their destination ports; `None`: any, or none.
    pub destination_ports: Option<(u16, u16)>,
    /// What they are; `None`: anything. With ports, anything that has ports.
    pub protocol: Option<CaptureProtocol>,
}

/// A protocol that filters name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CaptureProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of the family. It has no ports.
    Icmp,
    /// SCTP.
    Sctp,
}

impl FromStr for CaptureFilter {
    type Err = String;

    /// Reads a filter. Bits behind a prefix are dropped, as Hubble drops them.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [source, source_ports, destination, destination_ports, protocol] = words[..] else {
            let count = words.len();
            return Err(format!("it has {count} words and should have 5: {FILTER_FORM}, such as {EXAMPLE}"));
        };
        let filter = Self {
            source: prefix(source)?,
            source_ports: ports(source_ports)?,
            destination: prefix(destination)?,
            destination_ports: ports(destination_ports)?,
            protocol: protocol_of(protocol)?,
        };
        if let (Some(source), Some(destination)) = (filter.source, filter.destination)
            && source.is_ipv4() != destination.is_ipv4()
        {
            return Err(format!("{source} and {destination} are of different families"));
        }
        let has_ports = filter.source_ports.is_some() || filter.destination_ports.is_some();
        if filter.protocol == Some(CaptureProtocol::Icmp) && has_ports {
            return Err("ICMP has no ports: write 0 for both".into());
        }
        Ok(filter)
    }
}

impl fmt::Display for CaptureFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |prefix: Option<IpNetwork>, ports: Option<(u16, u16)>| {
            let prefix = prefix.map_or_else(|| "any".to_owned(), |prefix| prefix.to_string());
            let ports = match ports {
                None => "0".to_owned(),
                Some((first, last)) if first == last => first.to_string(),
                Some((first, last)) => format!("{first}-{last}"),
            };
            format!("{prefix} {ports}")
        };
        let protocol = match self.protocol {
            None => "ANY",
            Some(CaptureProtocol::Tcp) => "TCP",
            Some(CaptureProtocol::Udp) => "UDP",
            Some(CaptureProtocol::Icmp) => "ICMP",
            Some(CaptureProtocol::Sctp) => "SCTP",
        };
        let (source, destination) =
            (side(self.source, self.source_ports), side(self.destination, self.destination_ports));
        write!(f, "{source} {destination} {protocol}")
    }
}

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
    if let IpAddr::V6(v6) = network.ip()
        && v6.to_ipv4_mapped().is_some()
    {
        return Err(format!("{word:?} is an IPv4 prefix in IPv6 form"));
    }
    IpNetwork::new(network.network(), network.prefix()).map(Some).map_err(|_| refused())
}

fn ports(word: &str) -> Result<Option<(u16, u16)>, String> {
    if matches!(word, "0" | "any" | "*") {
        return Ok(None);
    }
    let refused =
        || format!("{word:?} is no port: write 1 to 65535, a range such as 8000-8099, or 0 for any");
    let port = |word: &str| word.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(refused);
    match word.split_once('-') {
        None => port(word).map(|port| Some((port, port))),
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            if first > last {
                return Err(format!("the range {first}-{last} is backwards: is {last}-{first} meant?"));
            }
            Ok(Some((first, last)))
        }
    }
}

fn protocol_of(word: &str) -> Result<Option<CaptureProtocol>, String> {
    match word.to_ascii_uppercase().as_str() {
        "ANY" | "*" => Ok(None),
        "TCP" => Ok(Some(CaptureProtocol::Tcp)),
        "UDP" => Ok(Some(CaptureProtocol::Udp)),
        "SCTP" => Ok(Some(CaptureProtocol::Sctp)),
        "ICMP" | "ICMPV6" => Ok(Some(CaptureProtocol::Icmp)),
        _ => Err(format!("{word:?} is no protocol: TCP, UDP, ICMP, SCTP or ANY")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<CaptureFilter>().unwrap_err()
    }

    #[test]
    fn hubbles_filters_are_read() {
        let expected = CaptureFilter {
            source: Some("0.0.0.0/0".parse().unwrap()),
            source_ports: None,
            destination: Some("192.168.33.11/32".parse().unwrap()),
            destination_ports: Some((80, 80)),
            protocol: Some(CaptureProtocol::Tcp),
        };
        assert_eq!("0.0.0.0/0 0 192.168.33.11/32 80 TCP".parse(), Ok(expected));
    }

    #[test]
    fn a_filter_is_shown_as_it_is_read() {
        for (written, shown) in [
            ("*  any any 8000-8099 any", "any 0 any 8000-8099 ANY"),
            ("10.1.2.3/8 80-80 192.0.2.1 0 tcp", "10.0.0.0/8 80 192.0.2.1/32 0 TCP"),
            ("any 0 2001:db8::1 0 icmpv6", "any 0 2001:db8::1/128 0 ICMP"),
        ] {
            let filter: CaptureFilter = written.parse().unwrap();
            assert_eq!(filter.to_string(), shown);
            assert_eq!(shown.parse(), Ok(filter));
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_what_is_allowed() {
        assert!(refused("10.0.0.0/8 0 80 TCP").contains("has 4 words and should have 5"));
        assert!(refused("10.0.0.0/8 0 2001:db8::/32 80 TCP").contains("different families"));
        assert!(refused("10.0.0.0/33 0 any 80 TCP").contains("is no prefix"));
        assert!(refused("::ffff:10.0.0.1 0 any 80 TCP").contains("in IPv6 form"));
        assert!(refused("any 0 any 90-80 TCP").contains("is 80-90 meant?"));
        assert!(refused("any 0 any 65536 TCP").contains("is no port"));
        assert!(refused("any 0 any 0-80 TCP").contains("is no port"));
        assert!(refused("any 0 any 80 ICMP").contains("ICMP has no ports"));
        assert!(refused("any 0 any 80 TPC").contains("TCP, UDP, ICMP, SCTP or ANY"));
    }
}
