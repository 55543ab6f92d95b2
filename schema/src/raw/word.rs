//! Strings that mean something: names, addresses, prefixes.

use super::{Raw, Reader};
use crate::diagnostic::{Draft, quote};
use crate::document::{Item, Value};
use crate::model::HashSeed;
use base64::Engine as _;
use ipnetwork::IpNetwork;
use schemars::{JsonSchema, Schema, json_schema};
use std::net::{IpAddr, Ipv6Addr};

/// Why a string was refused.
pub(crate) struct Refused {
    /// What is allowed, after the found text.
    pub(crate) why: String,
    pub(crate) help: Option<String>,
}

impl Refused {
    pub(crate) fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), help: None }
    }
}

/// A type that is written as a string.
pub(crate) trait Word: Sized {
    /// With its article: "an IP address".
    const WHAT: &'static str;
    /// What a later version will take, and this one refuses with that reason.
    const LATER: &'static [&'static str] = &[];
    fn parse(text: &str) -> Result<Self, Refused>;
    fn schema() -> Schema;
}

impl<T: Word + JsonSchema> Raw for T {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::String(text) = &item.value else {
            reader.wrong_type(item, &format!("a string: {}", T::WHAT));
            return None;
        };
        if T::LATER.contains(&text.as_ref()) {
            let key = reader.key();
            reader.report(|| {
                Draft::error(format!("{} in `{key}` is not supported by this version", quote(text)))
                    .label(item.span, "netd knows the word, but would not act on it")
            });
            return None;
        }
        match T::parse(text) {
            Ok(value) => Some(value),
            Err(refused) => {
                let key = reader.key();
                reader.report(|| {
                    let draft = Draft::error(format!("`{key}` is not {}: {}", T::WHAT, quote(text)))
                        .label(item.span, refused.why);
                    match refused.help {
                        Some(help) => draft.help(help),
                        None => draft,
                    }
                });
                None
            }
        }
    }
}

/// The schema of a type is that of its word.
macro_rules! word_schema {
    ($($Type:ty),*) => { $(
        impl schemars::JsonSchema for $Type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                <Self as $crate::raw::word::Word>::schema()
            }
        }
    )* };
}

pub(super) use word_schema;

word_schema!(Name, NodeName, DeviceName, Address, Prefix, HashSeed);

/// The name of a service or of a set of backends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(pub(crate) String);

/// Also the length of a DNS label and of a Kubernetes name, and short enough for a line of a table.
const NAME_CHARACTERS_MAX: usize = 63;

impl Word for Name {
    const WHAT: &'static str = "a name";

    fn parse(text: &str) -> Result<Self, Refused> {
        if text.is_empty() {
            return Err(Refused::because("must not be empty"));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        if let Some(other) = text.chars().find(|c| !allowed(*c)) {
            let why =
                format!("{} is not allowed; only `a-z`, `0-9`, `-`, `.`, `_`", quote(&other.to_string()));
            let help = Some(text.to_ascii_lowercase()).filter(|lower| lower.chars().all(allowed));
            return Err(Refused { why, help: help.map(|lower| format!("write {}", quote(&lower))) });
        }
        if text.len() > NAME_CHARACTERS_MAX {
            let length = text.len();
            return Err(Refused::because(format!(
                "{length} characters; at most {NAME_CHARACTERS_MAX} are allowed"
            )));
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": format!("a name of at most {NAME_CHARACTERS_MAX} characters: a-z, 0-9, -, ., _"),
            "pattern": format!("^[a-z0-9._-]{{1,{NAME_CHARACTERS_MAX}}}$"),
        })
    }
}

/// The name of a node: what `hostname` prints there, or what `--node` gives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeName(pub(crate) String);

/// The limit of a DNS name (RFC 1035, section 2.3.4), longer than Linux allows for a host name.
const NODE_NAME_CHARACTERS_MAX: usize = 253;

impl Word for NodeName {
    const WHAT: &'static str = "the name of a node";

    fn parse(text: &str) -> Result<Self, Refused> {
        if text.is_empty() {
            return Err(Refused::because("must not be empty"));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(other) = text.chars().find(|c| !allowed(*c)) {
            let other = quote(&other.to_string());
            return Err(Refused::because(format!(
                "{other} is not allowed; only letters, digits, `-`, `.`, `_`"
            )));
        }
        if text.len() > NODE_NAME_CHARACTERS_MAX {
            let length = text.len();
            return Err(Refused::because(format!(
                "{length} characters; at most {NODE_NAME_CHARACTERS_MAX} are allowed"
            )));
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Schema {
        let pattern = format!("^[A-Za-z0-9._-]{{1,{NODE_NAME_CHARACTERS_MAX}}}$");
        json_schema!({ "type": "string", "title": "the name of a node", "pattern": pattern })
    }
}

/// The name of a network device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DeviceName(pub(crate) String);

/// IFNAMSIZ without the terminating zero.
const DEVICE_NAME_BYTES_MAX: usize = 15;

impl Word for DeviceName {
    const WHAT: &'static str = "the name of a device";

    /// The rules of the kernel's `dev_valid_name`.
    fn parse(text: &str) -> Result<Self, Refused> {
        if text.is_empty() || text.len() > DEVICE_NAME_BYTES_MAX {
            let length = text.len();
            return Err(Refused::because(format!("{length} bytes; must be 1 to {DEVICE_NAME_BYTES_MAX}")));
        }
        if text == "." || text == ".." {
            return Err(Refused::because("the kernel does not allow this name"));
        }
        if let Some(other) =
            text.chars().find(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control())
        {
            let other = quote(&other.to_string());
            return Err(Refused::because(format!("{other} is not allowed in the name of a device")));
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": "the name of a device",
            "pattern": format!("^[^\\s/:]{{1,{DEVICE_NAME_BYTES_MAX}}}$"),
            "not": { "enum": [".", ".."] },
        })
    }
}

/// The address of one machine: not of none, of many, or of this machine to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address(pub(crate) IpAddr);

impl Word for Address {
    const WHAT: &'static str = "an address that can be used here";

    fn parse(text: &str) -> Result<Self, Refused> {
        let Ok(address) = text.parse::<IpAddr>() else {
            let help = text.split_once('/').filter(|(address, _)| address.parse::<IpAddr>().is_ok());
            return Err(Refused {
                why: "must be an IPv4 or IPv6 address".to_owned(),
                help: help
                    .map(|(address, _)| format!("an address has no prefix length: write {}", quote(address))),
            });
        };
        match unusable_address(address) {
            Some(why) => Err(Refused::because(why)),
            None => Ok(Self(address)),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "an IPv4 or IPv6 address", "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] })
    }
}

/// Why no machine can be reached at the address; `None` if one can.
#[must_use]
pub fn unusable_address(address: IpAddr) -> Option<String> {
    if address.is_unspecified() {
        return Some("the unspecified address stands for no machine".to_owned());
    }
    if address.is_loopback() {
        return Some("a loopback address never leaves its machine".to_owned());
    }
    if address.is_multicast() {
        return Some("a multicast address stands for many machines".to_owned());
    }
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => {
            Some("the broadcast address stands for many machines".to_owned())
        }
        IpAddr::V4(v4) if v4.is_link_local() => {
            Some("a link-local address is not unique beyond one link".to_owned())
        }
        IpAddr::V6(v6) if is_link_local(v6) => {
            Some("a link-local address is not unique beyond one link".to_owned())
        }
        IpAddr::V4(v4) if v4.octets()[0] == 0 => {
            Some("0.0.0.0/8 stands for the own network, not for a machine (RFC 1122)".to_owned())
        }
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map(|v4| format!("an IPv4 address in IPv6 form; write `{v4}`")),
        IpAddr::V4(_) => None,
    }
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// A prefix whose host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Prefix(pub(crate) IpNetwork);

impl Word for Prefix {
    const WHAT: &'static str = "a prefix";

    fn parse(text: &str) -> Result<Self, Refused> {
        let digits = |length: &str| length.len() <= 3 && length.bytes().all(|byte| byte.is_ascii_digit());
        // A netmask, and a length with zeros before it, are read by some programs and not by others.
        let plain = text.split_once('/').is_none_or(|(_, length)| digits(length));
        let Some(prefix) = text.parse::<IpNetwork>().ok().filter(|_| plain) else {
            return Err(Refused::because(
                "must be an address and a length, such as `10.244.1.0/24` or `fd00:1::/64`",
            ));
        };
        if !text.contains('/') {
            let full = if prefix.is_ipv4() { 32 } else { 128 };
            return Err(Refused {
                why: "the length is missing".to_owned(),
                help: Some(format!("for this one address write `{text}/{full}`")),
            });
        }
        if prefix.network() != prefix.ip() {
            return Err(Refused {
                why: "the address has bits beyond the length of the prefix".to_owned(),
                help: Some(format!("write `{}/{}`", prefix.network(), prefix.prefix())),
            });
        }
        if let IpAddr::V6(v6) = prefix.ip()
            && v6.to_ipv4_mapped().is_some()
        {
            return Err(Refused::because("an IPv4 prefix in IPv6 form"));
        }
        Ok(Self(prefix))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": "a prefix, with no bits beyond its length",
            "pattern": "^[0-9A-Fa-f:.]+/[0-9]{1,3}$",
        })
    }
}

impl Word for HashSeed {
    const WHAT: &'static str = "a hash seed";

    fn parse(text: &str) -> Result<Self, Refused> {
        let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text) else {
            return Err(Refused::because("must be 12 bytes in base64: 16 letters, digits, `+` or `/`"));
        };
        let length = bytes.len();
        match <[u8; 12]>::try_from(bytes) {
            Ok(seed) => Ok(Self(seed)),
            Err(_) => Err(Refused {
                why: format!("stands for {length} bytes; must be exactly 12"),
                help: Some("`head -c12 /dev/urandom | base64` makes one".to_owned()),
            }),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "title": "12 bytes in base64", "pattern": "^[A-Za-z0-9+/]{16}$" })
    }
}
