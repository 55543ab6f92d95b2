//! Arrays, and arrays of tables.

use super::{Raw, Reader};
use crate::diagnostic::Draft;
use crate::document::{Item, Value};
use crate::span::At;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// A list of `MIN` to `MAX` elements, and their places.
#[derive(Debug)]
pub(crate) struct List<T, const MIN: usize = 0, const MAX: usize = { usize::MAX }> {
    /// Those that could be read.
    pub(crate) items: Vec<At<T>>,
    /// All could be read: what is not here was not written.
    pub(crate) complete: bool,
}

/// The elements of a list that may be absent.
pub(crate) fn each<T, const MIN: usize, const MAX: usize>(
    list: &Option<At<List<T, MIN, MAX>>>,
) -> impl Iterator<Item = &At<T>> {
    list.iter().flat_map(|list| &list.value.items)
}

impl<T: Raw, const MIN: usize, const MAX: usize> Raw for List<T, MIN, MAX> {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let (Value::Array(written) | Value::Tables(written)) = &item.value else {
            refuse(item, reader);
            return None;
        };
        let (key, span, length) = (reader.key(), item.span, written.len());
        if length < MIN {
            reader.report(|| {
                Draft::error(format!("`{key}` is empty")).label(span, "must have at least one element")
            });
        }
        if length > MAX {
            reader.report(|| {
                Draft::error(format!("`{key}` has {length} elements"))
                    .label(span, format!("at most {MAX} are allowed"))
            });
        }
        let mut items = Vec::with_capacity(length);
        items.extend(written.iter().filter_map(|item| reader.element(item)));
        Some(Self { complete: items.len() == length, items })
    }
}

fn refuse(item: &Item<'_>, reader: &mut Reader<'_>) {
    let key = reader.key();
    if matches!(item.value, Value::Table(_)) && !key.contains('.') {
        reader.report(|| {
            Draft::error(format!("`{key}` is an array of tables"))
                .label(item.span, "found one table")
                .help(format!("write `[[{key}]]` instead of `[{key}]`"))
        });
    } else {
        reader.wrong_type(item, "an array");
    }
}

impl<T: JsonSchema, const MIN: usize, const MAX: usize> JsonSchema for List<T, MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("ListOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({ "type": "array", "items": generator.subschema_for::<T>() });
        if MIN > 0 {
            schema.insert("minItems".to_owned(), MIN.into());
        }
        if MAX < usize::MAX {
            schema.insert("maxItems".to_owned(), MAX.into());
        }
        schema
    }
}
