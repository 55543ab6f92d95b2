//! The size of packets: a number of bytes, or `auto`.

use super::{Raw, Reader};
use crate::diagnostic::Draft;
use crate::document::{Item, Value};
use crate::model::{MTU_MAX, MTU_MIN, Mtu};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

impl Raw for Mtu {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mtu = match &item.value {
            Value::String(word) if word == "auto" => return Some(Self::Auto),
            Value::Integer(bytes) => bytes
                .and_then(|bytes| u32::try_from(bytes).ok())
                .filter(|bytes| (MTU_MIN..=MTU_MAX).contains(bytes)),
            Value::String(_) => None,
            _ => {
                reader.wrong_type(item, &format!("`\"auto\"` or an integer from {MTU_MIN} to {MTU_MAX}"));
                return None;
            }
        };
        if mtu.is_none() {
            let (key, found) = (reader.key(), reader.found(item.span));
            reader.report(|| {
                Draft::error(format!("`{key}` is not an MTU: {found}"))
                    .label(item.span, format!("must be \"auto\" or from {MTU_MIN} to {MTU_MAX}"))
                    .help(format!("IPv6 needs packets of {MTU_MIN} bytes (RFC 8200)"))
            });
        }
        mtu.map(Self::Fixed)
    }
}

impl JsonSchema for Mtu {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Mtu".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": MTU_MIN, "maximum": MTU_MAX }] })
    }
}
