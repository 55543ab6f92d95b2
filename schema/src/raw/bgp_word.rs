//! Strings and numbers that mean something in BGP.

use super::duration::Lasting;
use super::number::Within;
use super::word::{Name, Refused, Word, word_schema};
use crate::diagnostic::quote;
use crate::model::{Community, LargeCommunity, WELL_KNOWN_COMMUNITIES};
use schemars::{Schema, json_schema};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// An autonomous system number; 0 is nobody's (RFC 7607).
pub(crate) type Asn = Within<1, { u32::MAX }>;

/// How long a VIP without a healthy backend stays announced.
pub(crate) type HoldDown = Lasting<0, 3_600_000>;

/// Between two BFD packets; more than a hundred a second are traffic of their own.
pub(crate) type BfdTime = Lasting<10, 60_000>;

word_schema!(
    RouterId,
    HoldTime,
    Keepalive,
    ConnectRetry,
    RestartTime,
    AbsolutePath,
    GobgpdWord,
    PeerWord,
    CommunityWord,
    LargeCommunityWord
);

/// A router identifier: 32 bits, written as an IPv4 address, which it need not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouterId(pub(crate) Ipv4Addr);

impl Word for RouterId {
    const WHAT: &'static str = "a router identifier";

    fn parse(text: &str) -> Result<Self, Refused> {
        match text.parse::<Ipv4Addr>() {
            Ok(id) if id.is_unspecified() => Err(Refused::because("must not be 0.0.0.0 (RFC 6286)")),
            Ok(id) => Ok(Self(id)),
            Err(_) => Err(Refused::because("must look like an IPv4 address, such as `10.0.0.11`")),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "a router identifier, like an IPv4 address", "format": "ipv4" })
    }
}

/// A number of seconds that a field of 16 bits holds.
fn seconds(text: &str, most: u64) -> Result<Duration, Refused> {
    let duration = Lasting::<0, { 3_600_000 * 24 }>::parse(text)?.0;
    if duration.subsec_millis() != 0 {
        return Err(Refused::because("must be a whole number of seconds"));
    }
    if duration.as_secs() > most {
        return Err(Refused::because(format!("at most {most}s")));
    }
    Ok(duration)
}

fn seconds_schema(title: &str) -> Schema {
    json_schema!({ "type": "string", "title": title, "pattern": "^[0-9]{1,12}(ms|s|m|h)$" })
}

/// The field of the OPEN message has 16 bits (RFC 4271, section 4.2).
const HOLD_SECONDS_MAX: u64 = 65_535;

/// Never, or at least three seconds (RFC 4271, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HoldTime(pub(crate) Duration);

impl Word for HoldTime {
    const WHAT: &'static str = "a hold time";

    fn parse(text: &str) -> Result<Self, Refused> {
        match seconds(text, HOLD_SECONDS_MAX)? {
            hold if (1..3).contains(&hold.as_secs()) => {
                Err(Refused::because("must be 0s (never) or at least 3s (RFC 4271)"))
            }
            hold => Ok(Self(hold)),
        }
    }

    fn schema() -> Schema {
        seconds_schema("0s, or a duration from 3s to 65535s")
    }
}

/// At least a second.
macro_rules! at_least_a_second {
    ($(#[doc = $doc:literal])* $Name:ident, $what:literal, $most:expr, $title:literal) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $Name(pub(crate) Duration);

        impl Word for $Name {
            const WHAT: &'static str = $what;

            fn parse(text: &str) -> Result<Self, Refused> {
                match seconds(text, $most)? {
                    Duration::ZERO => Err(Refused::because("must be at least 1s")),
                    duration => Ok(Self(duration)),
                }
            }

            fn schema() -> Schema {
                seconds_schema($title)
            }
        }
    };
}

at_least_a_second!(
    /// A third of the longest hold time.
    Keepalive, "a keepalive time", HOLD_SECONDS_MAX / 3, "a duration from 1s to 21845s"
);
at_least_a_second!(
    /// Between two tries to connect.
    ConnectRetry, "a time between tries", HOLD_SECONDS_MAX, "a duration from 1s to 65535s"
);
at_least_a_second!(
    /// The field of the capability has 12 bits (RFC 4724, section 3).
    RestartTime, "a restart time", 4_095, "a duration from 1s to 4095s"
);

/// A file that is found from anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AbsolutePath(pub(crate) PathBuf);

/// PATH_MAX of Linux, with the terminating zero.
const PATH_BYTES_MAX: usize = 4_095;

impl Word for AbsolutePath {
    const WHAT: &'static str = "the path of a file";

    fn parse(text: &str) -> Result<Self, Refused> {
        if !text.starts_with('/') {
            return Err(Refused {
                why: "must be absolute: begin with `/`".to_owned(),
                help: (!text.is_empty()).then(|| "netd does not run in the folder of this file".to_owned()),
            });
        }
        if text.ends_with('/') {
            return Err(Refused::because("names a folder"));
        }
        if text.contains(|c: char| c.is_control()) {
            return Err(Refused::because("must not have control characters"));
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(Refused::because(format!("{} bytes; at most {PATH_BYTES_MAX}", text.len())));
        }
        Ok(Self(PathBuf::from(text)))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "an absolute path", "pattern": "^/(.*[^/])$" })
    }
}

/// Where gobgpd is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GobgpdWord {
    Managed,
    Unix(PathBuf),
    Http(SocketAddr),
    Https(String),
}

impl Word for GobgpdWord {
    const WHAT: &'static str = "a gobgpd";

    fn parse(text: &str) -> Result<Self, Refused> {
        if text == "managed" {
            return Ok(Self::Managed);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or_default();
            return match AbsolutePath::parse(path) {
                Ok(path) => Ok(Self::Unix(path.0)),
                Err(_) => Err(Refused::because(
                    "must name a socket by its absolute path: `unix:///run/gobgpd.sock`",
                )),
            };
        }
        if let Some(authority) = text.strip_prefix("https://") {
            return host_and_port(authority).map(|()| Self::Https(authority.to_owned()));
        }
        if let Some(authority) = text.strip_prefix("http://") {
            return loopback(authority).map(Self::Http);
        }
        Err(Refused::because(
            "must be `managed`, `unix:///PATH`, `http://127.0.0.1:PORT` or `https://HOST:PORT`",
        ))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": "`managed`, or the address of a gobgpd",
            "pattern": "^(managed|unix:///.+|https?://[^/ ]+:[0-9]{1,5})$",
        })
    }
}

/// Plain http is for this machine only: whoever can reach a gobgpd rules its routes.
fn loopback(authority: &str) -> Result<SocketAddr, Refused> {
    match authority.parse::<SocketAddr>() {
        Ok(socket) if socket.ip().is_loopback() && socket.port() > 0 => Ok(socket),
        Ok(socket) if socket.ip().is_loopback() => Err(Refused::because("the port must be from 1 to 65535")),
        Ok(_) => Err(Refused {
            why: "whoever can reach this gobgpd rules its routes: over plain http only on this machine"
                .to_owned(),
            help: Some(format!("write `https://{authority}`, with the files in `bgp.tls`")),
        }),
        Err(_) => {
            let port = authority.strip_prefix("localhost:").filter(|port| port.parse::<u16>().is_ok());
            Err(Refused {
                why: "must be a loopback address and a port: `http://127.0.0.1:50051`".to_owned(),
                help: port.map(|port| format!("write `http://127.0.0.1:{port}`")),
            })
        }
    }
}

/// Whether it is `host:port` and nothing else.
fn host_and_port(authority: &str) -> Result<(), Refused> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let is_name = authority.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && host.chars().all(allowed) && number::<u16>(port).is_some_and(|port| port > 0)
    });
    let is_address = authority.parse::<SocketAddr>().is_ok_and(|socket| socket.port() > 0);
    if is_name || is_address {
        return Ok(());
    }
    Err(Refused::because(
        "must be a host and a port, and nothing behind them: `https://bgp.example.com:50051`",
    ))
}

/// A peer by name or address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerWord(pub(crate) String);

impl Word for PeerWord {
    const WHAT: &'static str = "the name or the address of a peer";

    fn parse(text: &str) -> Result<Self, Refused> {
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self(address.to_string())),
            Err(_) => Name::parse(text).map(|name| Self(name.0)),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "the name or the address of a peer", "pattern": "^[A-Za-z0-9._:-]{1,63}$" })
    }
}

/// A community by its numbers or its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CommunityWord(pub(crate) Community);

impl Word for CommunityWord {
    const WHAT: &'static str = "a community";

    fn parse(text: &str) -> Result<Self, Refused> {
        if let Some((_, community)) = WELL_KNOWN_COMMUNITIES.iter().find(|(name, _)| *name == text) {
            return Ok(Self(*community));
        }
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [high, low] => match (number::<u16>(high), number::<u16>(low)) {
                (Some(high), Some(low)) => Ok(Self(Community(u32::from(high) << 16 | u32::from(low)))),
                _ if number::<u32>(high).is_some() && number::<u32>(low).is_some() => Err(Refused {
                    why: "each number must be from 0 to 65535".to_owned(),
                    help: Some(format!(
                        "larger ones fit `large_communities`: {}",
                        quote(&format!("{text}:0"))
                    )),
                }),
                _ => Err(not_numbers(text, 2)),
            },
            [_, _, _] if LargeCommunityWord::parse(text).is_ok() => Err(Refused {
                why: "three numbers are a large community".to_owned(),
                help: Some("write it in `large_communities`".to_owned()),
            }),
            _ => Err(not_numbers(text, 2)),
        }
    }

    fn schema() -> Schema {
        let names: Vec<&str> = WELL_KNOWN_COMMUNITIES.iter().map(|(name, _)| *name).collect();
        json_schema!({
            "type": "string",
            "title": "two numbers from 0 to 65535, or a well-known name",
            "pattern": format!("^([0-9]{{1,5}}:[0-9]{{1,5}}|{})$", names.join("|")),
        })
    }
}

/// A large community by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LargeCommunityWord(pub(crate) LargeCommunity);

/// A private ASN (RFC 6996) by which netd marks what is its own inside gobgpd; no mark leaves it.
const MARK_ADMINISTRATOR: u32 = 4_294_000_177;

impl Word for LargeCommunityWord {
    const WHAT: &'static str = "a large community";

    fn parse(text: &str) -> Result<Self, Refused> {
        let numbers: Vec<Option<u32>> = text.split(':').map(number::<u32>).collect();
        let [Some(administrator), Some(first), Some(second)] = numbers[..] else {
            return Err(not_numbers(text, 3));
        };
        if administrator == MARK_ADMINISTRATOR {
            return Err(Refused::because(format!(
                "netd marks its own announcements with {MARK_ADMINISTRATOR}"
            )));
        }
        Ok(Self(LargeCommunity { administrator, data: [first, second] }))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": "three numbers from 0 to 4294967295",
            "pattern": "^[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$",
        })
    }
}

/// A number as everybody writes it: no sign, no zeros before it.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn not_numbers(text: &str, count: usize) -> Refused {
    let (example, range) = match count {
        2 => ("`64512:100`, or a name such as `no-export`", "65535"),
        _ => ("`64512:1:100`", "4294967295"),
    };
    let words = WELL_KNOWN_COMMUNITIES.iter().map(|(name, _)| *name);
    let near = (count == 2).then(|| crate::explain::nearest(text, words)).flatten();
    Refused {
        why: format!("must be {count} numbers from 0 to {range}: {example}"),
        help: near.map(|name| format!("did you mean `\"{name}\"`?")),
    }
}
