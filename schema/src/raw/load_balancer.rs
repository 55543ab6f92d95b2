//! `[load_balancer]`.

use super::number::{HopLimit, PortNumber, Rate};
use super::table::raw_table;
use super::word::{DeviceName, Prefix};
use super::{List, Raw, Reader};
use crate::diagnostic::Draft;
use crate::document::{Item, Value};
use crate::model::{GUE_PORT_DEFAULT, HashSeed, OuterDscp, OuterEcn, TABLE_SIZES, TableSize, XdpMode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

raw_table! {
    /// Settings of the load balancer as a whole.
    pub(crate) struct LoadBalancer {
        /// The devices that receive traffic for VIPs. Without it, those of the default routes that are none of
        /// `decap.devices`.
        optional devices: List<DeviceName>, like ["eth0"];
        /// Where the XDP program runs: `native`, in the device's driver; `generic`, in the network stack, slower but
        /// on every device; `auto`, natively where that is possible, else generically with a warning.
        optional mode: XdpMode = "auto", like "native";
        /// How many slots the Maglev table of a service has; `auto` chooses by the number of backends, with
        /// head-room. A hundred slots per backend share the traffic evenly. All balancers of a tier must have the
        /// same.
        optional table_size: TableSize = "auto", like 16_381;
        /// Twelve bytes in base64, from which the hash functions take their seeds. All balancers of a tier must have
        /// the same. The default is Cilium's.
        optional hash_seed: HashSeed = "JLfvgnHc2kaSUFaI";
        /// Outer source addresses are picked from these prefixes, at most one per family, so that a backend's network
        /// card spreads the load over its queues. The prefixes must be routed to this tier, and nothing else may have
        /// an address of them: no VIP, backend, pod or other node. Without one the source is the address that the
        /// node would use itself.
        optional rss_source: List<Prefix> = [""; 0], like ["10.100.0.0/16"];
        /// The TTL or hop limit of the outer header. The inner one stays as it is.
        optional hop_limit: HopLimit = 64, like 32;
        /// The DSCP of the outer header: `copy`, that of the inner one, or the same number for all packets.
        optional outer_dscp: OuterDscp = "copy", like 46;
        /// The ECN field of the outer header (RFC 6040): `copy`, that of the inner one; `clear`, not ECN-capable, for
        /// backends that would lose a congestion mark when they take the packet out of the tunnel.
        optional outer_ecn: OuterEcn = "copy", like "clear";
        /// The UDP port to which services with `mode = "dsr-gue"` send.
        optional gue_port: PortNumber = GUE_PORT_DEFAULT;
        /// How many ICMP errors and TCP resets the node makes per second, and how many ICMP errors it relays to
        /// backends; each is counted on its own. 0 turns both off.
        optional icmp_errors_per_second: Rate = 1_000, like 100;
    }
}

const EXPECTED: &str = "`\"auto\"` or the number of slots";

impl Raw for TableSize {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let size = match &item.value {
            Value::String(word) if word == "auto" => return Some(Self::Auto),
            Value::Integer(size) => {
                size.and_then(|size| u32::try_from(size).ok()).filter(|size| TABLE_SIZES.contains(size))
            }
            Value::String(_) => None,
            _ => {
                reader.wrong_type(item, EXPECTED);
                return None;
            }
        };
        if size.is_none() {
            let (key, found) = (reader.key(), reader.found(item.span));
            let sizes: Vec<String> = TABLE_SIZES.iter().map(ToString::to_string).collect();
            reader.report(|| {
                Draft::error(format!("`{key}` is not the size of a table: {found}"))
                    .label(item.span, format!("must be \"auto\" or one of {}", sizes.join(", ")))
            });
        }
        size.map(Self::Fixed)
    }
}

impl JsonSchema for TableSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TableSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let sizes = TABLE_SIZES.iter().map(|size| serde_json::Value::from(*size));
        let words: Vec<serde_json::Value> = std::iter::once("auto".into()).chain(sizes).collect();
        json_schema!({ "enum": words })
    }
}

impl Raw for OuterDscp {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let dscp = match &item.value {
            Value::String(word) if word == "copy" => return Some(Self::Copy),
            Value::Integer(dscp) => {
                dscp.and_then(|dscp| u8::try_from(dscp).ok()).filter(|dscp| *dscp <= DSCP_MAX)
            }
            Value::String(_) => None,
            _ => {
                reader.wrong_type(item, &format!("`\"copy\"` or an integer from 0 to {DSCP_MAX}"));
                return None;
            }
        };
        if dscp.is_none() {
            let (key, found) = (reader.key(), reader.found(item.span));
            reader.report(|| {
                Draft::error(format!("`{key}` is not a DSCP: {found}"))
                    .label(item.span, format!("must be \"copy\" or from 0 to {DSCP_MAX}"))
            });
        }
        dscp.map(Self::Fixed)
    }
}

/// Six bits (RFC 2474, section 3).
const DSCP_MAX: u8 = 63;

impl JsonSchema for OuterDscp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OuterDscp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "copy" }, { "type": "integer", "minimum": 0, "maximum": DSCP_MAX }] })
    }
}
