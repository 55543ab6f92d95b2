//! `wireguard.strict`.

use super::table::raw_table;
use super::word::Prefix;
use super::{List, Raw, Reader};
use crate::document::{Item, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

raw_table! {
    /// Packets that are to be encrypted do not go by the node's devices in clear, whatever becomes of WireGuard, of netd
    /// and of routes: programs on the devices towards other nodes, and on those of the default routes, drop them.
    pub(crate) struct Strict {
        /// Destinations for which nothing leaves in clear, whoever it is from: `true`, the `pod_cidrs` of all nodes, also
        /// of those without a key; or prefixes. What the nodes' tunnel carries is looked at, too.
        optional egress: StrictEgress = false, like true;
        /// Whether packets are dropped that come in in clear and say that they are from the `pod_cidrs` of any node.
        optional ingress: bool = false, like true;
    }
}

/// `true`, `false`, or prefixes.
#[derive(Debug)]
pub(crate) enum StrictEgress {
    Off,
    /// All pods.
    Pods,
    Listed(List<Prefix, 1>),
}

impl Raw for StrictEgress {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match &item.value {
            Value::Boolean(true) => Some(Self::Pods),
            Value::Boolean(false) => Some(Self::Off),
            Value::Array(_) => List::read(item, reader).map(Self::Listed),
            _ => {
                reader.wrong_type(
                    item,
                    "`true`, `false` or an array of prefixes such as `[\"10.244.0.0/16\"]`",
                );
                None
            }
        }
    }
}

impl JsonSchema for StrictEgress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StrictEgress".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, generator.subschema_for::<List<Prefix, 1>>()] })
    }
}
