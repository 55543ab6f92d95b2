//! Values of `[bgp]` that are written in one of two forms.

use super::bgp::{ImportTable, Restart};
use super::number::Within;
use super::{Raw, Reader};
use crate::diagnostic::Draft;
use crate::document::{Item, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// `true`, `false`, or a table.
#[derive(Debug)]
pub(crate) enum GracefulRestart {
    Off,
    /// With what everybody has.
    On,
    With(Restart),
}

impl Raw for GracefulRestart {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match &item.value {
            Value::Boolean(true) => Some(Self::On),
            Value::Boolean(false) => Some(Self::Off),
            Value::Table(_) => Restart::read(item, reader).map(Self::With),
            _ => {
                reader.wrong_type(item, "`true`, `false` or a table such as `{ restart = \"120s\" }`");
                None
            }
        }
    }
}

impl JsonSchema for GracefulRestart {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GracefulRestart".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, generator.subschema_for::<Restart>()] })
    }
}

/// What becomes of received routes.
#[derive(Debug)]
pub(crate) enum Import {
    /// Nothing.
    Nothing,
    /// They go into a routing table.
    Into(ImportTable),
}

/// Tables that hold what is no route of anybody's: `RT_TABLE_COMPAT`, the default table, the node's own addresses.
const TABLES_WITHOUT_ROUTES: [u32; 3] = [252, 253, 255];

/// The number of a routing table that may have routes of peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteTable(pub(crate) u32);

impl Raw for Import {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match &item.value {
            Value::String(word) if word == "none" => return Some(Self::Nothing),
            Value::Table(_) => return ImportTable::read(item, reader).map(Self::Into),
            Value::String(_) => {
                let (key, found) = (reader.key(), reader.found(item.span));
                reader.report(|| {
                    Draft::error(format!("`{key}` is not a use of received routes: {found}"))
                        .label(item.span, "must be \"none\", or a table such as `{ table = 100 }`")
                });
            }
            _ => reader.wrong_type(item, "`\"none\"` or a table such as `{ table = 100 }`"),
        }
        None
    }
}

impl JsonSchema for Import {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Import".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "none" }, generator.subschema_for::<ImportTable>()] })
    }
}

impl Raw for RouteTable {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let number = Within::<1, { u32::MAX }>::read(item, reader)?.wide();
        if TABLES_WITHOUT_ROUTES.contains(&number) {
            let key = reader.key();
            reader.report(|| {
                Draft::error(format!("`{key}` cannot be {number}"))
                    .label(item.span, "252, 253 and 255 are the kernel's own; main is 254")
            });
            return None;
        }
        Some(Self(number))
    }
}

impl JsonSchema for RouteTable {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RouteTable".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "integer",
            "minimum": 1,
            "maximum": u32::MAX,
            "not": { "enum": TABLES_WITHOUT_ROUTES },
        })
    }
}
