//! `[wireguard]` and `nodes.wireguard`.

use super::bgp_word::AbsolutePath;
use super::duration::Lasting;
use super::number::{PortNumber, Within};
use super::strict::Strict;
use super::table::raw_table;
use super::word::{Address, DeviceName, Refused, Word, word_schema};
use super::{Raw, Reader};
use crate::diagnostic::{Draft, quote};
use crate::document::{Item, Value};
use crate::model::{
    Mtu, PublicKey, WIREGUARD_INTERFACE_DEFAULT, WIREGUARD_PORT_DEFAULT, WireguardDevice, WireguardMode,
};
use base64::Engine as _;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A firewall mark; 0 is that of every packet that nobody marked.
pub(crate) type Mark = Within<1, { u32::MAX }>;

/// How many times keys were changed.
pub(crate) type Generation = Within<0, { u32::MAX }>;

/// A priority of rules: after the kernel's first rule, and with room before that of the main table (32,766).
pub(crate) type RulePriority = Within<1, 32_000>;

raw_table! {
    /// Encryption between the nodes, by WireGuard. Without it nothing is encrypted.
    pub(crate) struct Wireguard {
        /// What is encrypted: `pods`, packets from pods to the pods of other nodes; `nodes`, these and every packet
        /// from one node to another; `overlay`, the packets of the tunnel that `network.mode` says, in which those of
        /// pods are. Packets to and from nodes without a key are not.
        optional mode: WireguardMode = "pods", like "nodes";
        /// The name of the device. One program's devices need names of their own on a whole machine, also in network
        /// namespaces.
        optional interface: DeviceName = WIREGUARD_INTERFACE_DEFAULT;
        /// The UDP port at which every node listens.
        optional port: PortNumber = WIREGUARD_PORT_DEFAULT;
        /// The file of this node's private key: made at the first start, and refused if others can read it. Without it,
        /// `wireguard.key` in the folder of what netd remembers.
        optional key_file: AbsolutePath, like "/var/lib/netd/default/wireguard.key";
        /// The MTU of the device; `auto`: that of the device towards the peers, less 80 bytes.
        optional mtu: Mtu = "auto", like 1420;
        /// How often a packet is sent when there is nothing to send, for nodes behind NAT. Without it, none is sent.
        optional keepalive: Keepalive, like "25s";
        /// The firewall mark of the encrypted packets, which are not to be encrypted again.
        optional mark: Mark = 0xe00;
        /// The routing table of what is encrypted. Nobody else may use it.
        optional table: TableNumber = 201;
        /// The priority of the policy rules that lead to the table.
        optional rule_priority: RulePriority = 1;
        /// Whose device encrypts: `kernel`; `userspace`, that of the program wireguard-go; `auto`, the kernel's where
        /// it has one, else the program's.
        optional device: WireguardDevice = "auto", like "kernel";
        /// Counts changes of keys, which lose no packet by it: while a node has a `next_public_key`, every node has a
        /// second device, called as the first with a `b` behind, at the next port, and takes packets by both. An even
        /// number sends by the first, an odd one by the second.
        optional generation: Generation = 0, like 1;
        /// Drops what is to be encrypted and is not.
        optional strict: Strict;
    }
}

raw_table! {
    /// The node's WireGuard key, and where it listens.
    pub(crate) struct NodeWireguard {
        /// The public key: `netd wireguard pubkey` prints it there, and `--write` puts it here. A private key looks the
        /// same and cannot be told apart: it must never stand here.
        optional public_key: PublicKey;
        /// The public key that the node changes to next: others take it beside the present one, at a second device (see
        /// `wireguard.generation`). After the change, the one before it, until no node sends by it any more.
        optional next_public_key: PublicKey;
        /// The address and the UDP port at which other nodes reach its WireGuard. Without it, the first of its
        /// addresses to which there is a way, and `wireguard.port`.
        optional endpoint: EndpointWord, like "198.51.100.12:51871";
        /// The file, on every node, of a secret between this node and all others that protects even where Curve25519
        /// is broken: 32 bytes in base64, as `wg genpsk` makes. Of two nodes that both have one, that of the node whose
        /// name comes first counts.
        optional preshared_key_file: AbsolutePath, like "/etc/netd/wireguard-lb-1.psk";
    }
}

word_schema!(EndpointWord, Keepalive);

/// A number of seconds that a field of 16 bits holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keepalive(pub(crate) u16);

impl Word for Keepalive {
    const WHAT: &'static str = "a keepalive time";

    fn parse(text: &str) -> Result<Self, Refused> {
        let Lasting(duration) = Lasting::<1_000, 65_535_000>::parse(text)?;
        match u16::try_from(duration.as_secs()) {
            Ok(seconds) if Duration::from_secs(seconds.into()) == duration => Ok(Self(seconds)),
            _ => Err(Refused::because("must be a whole number of seconds")),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": "a duration from 1s to 65535s, in whole seconds",
            "pattern": "^[0-9]{1,12}(ms|s|m|h)$",
        })
    }
}

/// The address and port of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EndpointWord(pub(crate) SocketAddr);

impl Word for EndpointWord {
    const WHAT: &'static str = "an address and a port";

    fn parse(text: &str) -> Result<Self, Refused> {
        let Ok(endpoint) = text.parse::<SocketAddr>() else {
            if is_name(text) {
                return Err(Refused {
                    why: "is a name; must be an address and a port: where packets go is not for a name server to say"
                        .to_owned(),
                    help: Some("write the address that the name stands for".to_owned()),
                });
            }
            let write = match text.parse::<IpAddr>() {
                Ok(IpAddr::V4(ip)) => Some(format!("{ip}:{WIREGUARD_PORT_DEFAULT}")),
                Ok(IpAddr::V6(ip)) => Some(format!("[{ip}]:{WIREGUARD_PORT_DEFAULT}")),
                Err(_) => None,
            };
            return Err(Refused {
                why: "must be an address and a port, such as `10.0.0.12:51871` or `[2001:db8::12]:51871`"
                    .to_owned(),
                help: write.map(|write| format!("write {}", quote(&write))),
            });
        };
        if endpoint.port() == 0 {
            return Err(Refused::because("the port must be from 1 to 65535"));
        }
        Address::parse(&endpoint.ip().to_string())?;
        Ok(Self(endpoint))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": "an address and a port",
            "pattern": "^([0-9.]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]+$",
        })
    }
}

/// Whether this may be the name of a machine, with a port or without.
fn is_name(text: &str) -> bool {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    !host.contains(':')
        && host.contains(|c: char| c.is_ascii_alphabetic())
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// The number of a routing table that is none of the kernel's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableNumber(pub(crate) u32);

/// `RT_TABLE_COMPAT` to `RT_TABLE_LOCAL`.
const TABLES_OF_THE_KERNEL: std::ops::RangeInclusive<u32> = 252..=255;

impl Raw for TableNumber {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let number = Within::<1, { u32::MAX }>::read(item, reader)?.wide();
        if TABLES_OF_THE_KERNEL.contains(&number) {
            let key = reader.key();
            reader.report(|| {
                Draft::error(format!("`{key}` cannot be {number}"))
                    .label(item.span, "252 to 255 are the kernel's own tables: main is 254")
            });
            return None;
        }
        Some(Self(number))
    }
}

impl JsonSchema for TableNumber {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TableNumber".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "integer",
            "minimum": 1,
            "maximum": u32::MAX,
            "not": { "minimum": TABLES_OF_THE_KERNEL.start(), "maximum": TABLES_OF_THE_KERNEL.end() },
        })
    }
}

impl Raw for PublicKey {
    /// What was written is never said again: it may be a private key.
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::String(text) = &item.value else {
            reader.wrong_type(item, "a string: a public key");
            return None;
        };
        match public_key(text) {
            Ok(key) => Some(key),
            Err(refused) => {
                let key = reader.key();
                reader.report(|| {
                    let draft = Draft::error(format!("`{key}` is not a public key"));
                    let draft = draft.label(item.span, refused.why).secret();
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

impl std::str::FromStr for PublicKey {
    /// Why it is none, without the text: it may be a private key.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        public_key(text).map_err(|refused| refused.why)
    }
}

impl JsonSchema for PublicKey {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PublicKey".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "title": "a public key: 32 bytes in base64",
            "pattern": "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$",
        })
    }
}

/// Characters of a key in base64, its `=` counted.
const KEY_CHARACTERS: usize = 44;

fn public_key(text: &str) -> Result<PublicKey, Refused> {
    let refused = |why: &str, help: &str| Refused { why: why.to_owned(), help: Some(help.to_owned()) };
    const MAKES_ONE: &str = "`netd wireguard pubkey` prints that of the node on which it runs";
    if text.is_empty() {
        return Err(refused("must not be empty", MAKES_ONE));
    }
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(refused("looks like hexadecimal; must be base64", MAKES_ONE));
    }
    if text.trim() != text {
        return Err(Refused::because("has space around it"));
    }
    let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text) else {
        let length = text.chars().count();
        if length == KEY_CHARACTERS {
            return Err(refused(
                "is not base64: letters, digits, `+`, `/`, and one `=` at the end",
                MAKES_ONE,
            ));
        }
        let why = format!("has {length} characters; must be 32 bytes in base64: {KEY_CHARACTERS} characters");
        return Err(refused(&why, MAKES_ONE));
    };
    let length = bytes.len();
    let Ok(key) = <[u8; 32]>::try_from(bytes) else {
        return Err(refused(&format!("stands for {length} bytes; must be exactly 32"), MAKES_ONE));
    };
    if key == [0; 32] {
        return Err(refused("is all zero: nobody has this key", MAKES_ONE));
    }
    if is_of_low_order(key) {
        return Err(refused(
            "is a point of low order: whatever is encrypted for it, anybody can read (RFC 7748)",
            MAKES_ONE,
        ));
    }
    Ok(PublicKey(key))
}

/// Whether every private key agrees with it on the same secret, zero.
fn is_of_low_order(mut key: [u8; 32]) -> bool {
    // The highest bit means nothing (RFC 7748, section 5).
    key[31] &= 0x7f;
    LOW_ORDER.contains(&key)
}

/// The little-endian numbers of all points whose order divides eight, the two that are not reduced included.
const LOW_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    number(1, 0, 0),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    number(0xec, 0xff, 0x7f),
    number(0xed, 0xff, 0x7f),
    number(0xee, 0xff, 0x7f),
];

/// The number with these bytes: the lowest, those between, the highest.
const fn number(lowest: u8, between: u8, highest: u8) -> [u8; 32] {
    let mut bytes = [between; 32];
    bytes[0] = lowest;
    bytes[31] = highest;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: [u8; 32]) -> Result<PublicKey, String> {
        public_key(&base64::engine::general_purpose::STANDARD.encode(bytes)).map_err(|refused| refused.why)
    }

    #[test]
    fn w12_an_endpoint_that_a_name_server_would_have_to_answer_for_is_refused() {
        for name in ["lb-1.example.com:51871", "lb-1", "localhost:1", "node_1:x"] {
            let said = EndpointWord::parse(name).map_err(|refused| refused.why);
            assert!(said.is_err_and(|why| why.starts_with("is a name")), "{name}");
        }
        for other in ["10.0.0.1", "[2001:db8::1]", "2001:db8::1", "::1:x", "", ":1"] {
            let said = EndpointWord::parse(other).map_err(|refused| refused.why);
            assert!(said.is_err_and(|why| why.starts_with("must be an address")), "{other}");
        }
    }

    #[test]
    fn w1_no_point_of_low_order_is_a_key_whatever_its_highest_bit() {
        for mut point in LOW_ORDER {
            assert!(read(point).is_err());
            point[31] |= 0x80;
            assert!(read(point).is_err());
        }
        // The base point, and a neighbour of the largest.
        assert!(read(number(9, 0, 0)).is_ok());
        assert!(read(number(0xeb, 0xff, 0x7f)).is_ok());
    }
}
