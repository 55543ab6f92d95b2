//! The vocabulary as a JSON Schema.

use crate::raw::Top;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// The JSON Schema (2020-12) of the file, as indented text that ends with a new line.
///
/// What it accepts is a little more than what [`parse`](crate::parse) accepts: it cannot say that a prefix has no host
/// bits, or that two sections must not contradict each other.
#[must_use]
pub fn json_schema() -> String {
    let mut text = serde_json::to_string_pretty(&json_schema_value()).unwrap_or_default();
    text.push('\n');
    text
}

/// The same as a value; keys are sorted whatever order the map type keeps.
pub(crate) fn json_schema_value() -> Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Top>();
    let mut value = sorted(schema.into());
    if let Value::Object(root) = &mut value {
        root.insert("title".to_owned(), "netd's configuration file".into());
    }
    sorted(value)
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> =
                map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(entries.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        scalar => scalar,
    }
}
