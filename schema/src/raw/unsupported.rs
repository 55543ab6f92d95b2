//! Words that are reserved: the file may not use them before the program acts on them.

use super::{Raw, Reader};
use crate::document::Item;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// The type of a key that this version does not act on. Giving the key another type turns it on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsupported;

impl Raw for Unsupported {
    const UNSUPPORTED: bool = true;

    /// Never asked: the reader refuses the key itself.
    fn read(_: &Item<'_>, _: &mut Reader<'_>) -> Option<Self> {
        None
    }
}

/// What the schema and the reference page say about such a key, in front of its own documentation.
pub(crate) const UNSUPPORTED_NOTE: &str = "Not supported by this version.";

impl JsonSchema for Unsupported {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Unsupported".into()
    }

    /// Nothing is valid: an editor marks the key as the program would.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": UNSUPPORTED_NOTE, "not": {} })
    }
}
