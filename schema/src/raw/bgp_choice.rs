//! Values of `[bgp]` that are written in one of two forms.

use super::bgp::Restart;
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

/// What becomes of received routes: nothing. A table is a word of a later version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Import;

impl Raw for Import {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match &item.value {
            Value::String(word) if word == "none" => return Some(Self),
            Value::Table(_) => {
                let key = reader.key();
                reader.report(|| {
                    Draft::error(format!("`{key}` into a table is not supported by this version"))
                        .label(item.span, "must be \"none\"")
                });
            }
            Value::String(_) => {
                let (key, found) = (reader.key(), reader.found(item.span));
                reader.report(|| {
                    Draft::error(format!("`{key}` is not a use of received routes: {found}"))
                        .label(item.span, "must be \"none\"")
                });
            }
            _ => reader.wrong_type(item, "`\"none\"`"),
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

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": "none" })
    }
}
