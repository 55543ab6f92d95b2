//! `[load_balancer]`.

use super::table::raw_table;
use super::word::{DeviceName, Prefix};
use super::{List, Raw, Reader};
use crate::diagnostic::Draft;
use crate::document::{Item, Value};
use crate::model::{HashSeed, TABLE_SIZES, TableSize, XdpMode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

raw_table! {
    /// Settings of the load balancer as a whole.
    pub(crate) struct LoadBalancer {
        /// The devices that receive traffic for VIPs. Without it, those of the default routes.
        optional devices: List<DeviceName>, like ["eth0"];
        /// Where the XDP program runs: `native`, in the device's driver; `generic`, in the network stack, slower but
        /// on every device; `auto`, natively where that is possible, else generically with a warning.
        optional mode: XdpMode = "auto", like "native";
        /// How many slots the Maglev table of a service has; `auto` chooses by the number of backends, with
        /// head-room. All balancers of a tier must have the same.
        optional table_size: TableSize = "auto", like 16_381;
        /// Twelve bytes in base64, from which the hash functions take their seeds. All balancers of a tier must have
        /// the same. The default is Cilium's.
        optional hash_seed: HashSeed = "JLfvgnHc2kaSUFaI";
        /// Outer source addresses are picked from these prefixes, at most one per family, so that a backend's network
        /// card spreads the load over its queues. The prefixes must be routed to this tier. Without one the source
        /// is the address that the node would use itself.
        optional rss_source: List<Prefix> = [""; 0], like ["10.100.0.0/16"];
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
