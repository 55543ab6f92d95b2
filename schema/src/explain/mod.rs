//! What each key means, read back from the JSON Schema, so that the documentation is written once.

mod nearest;

use crate::diagnostic::quote;
use crate::raw::unsupported::UNSUPPORTED_NOTE;
use crate::schema::json_schema_value;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::OnceLock;

pub(crate) use nearest::{meant, nearest};

/// What is known of one key.
#[derive(Debug)]
pub(crate) struct KeyDoc {
    /// From the top of the file: `services.backends.weight`.
    pub(crate) path: String,
    /// The kind of value and its range, for people.
    pub(crate) kind: String,
    /// What the key means.
    pub(crate) text: String,
    /// What the table is, or each table of the array; empty for other values.
    pub(crate) table_text: String,
    pub(crate) required: bool,
    /// Whether this version acts on it.
    pub(crate) supported: bool,
    /// In TOML.
    pub(crate) default: Option<String>,
    /// In TOML.
    pub(crate) example: Option<String>,
    pub(crate) is_table: bool,
}

impl KeyDoc {
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    pub(crate) fn table(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(table, _)| table)
    }
}

/// What `key_path` means (`services.backends.weight`): its type, range, default and an example. The empty path lists
/// all keys.
///
/// # Errors
///
/// A sentence that names the nearest key if there is no such key.
pub fn explain(key_path: &str) -> Result<String, String> {
    let path = key_path.trim().replace("[]", "").replace(['[', ']'], "");
    if path.is_empty() {
        return Ok(list());
    }
    match keys().iter().find(|doc| doc.path == path) {
        Some(doc) => Ok(explain_key(doc)),
        None => Err(unknown(&path)),
    }
}

/// Every key, those of a table below the table's own; what this version acts on first, then what must be there.
pub(crate) fn keys() -> &'static [KeyDoc] {
    static KEYS: OnceLock<Vec<KeyDoc>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let root = json_schema_value();
        let mut docs = Vec::new();
        collect(&root, &root, "", &mut docs);
        docs
    })
}

fn collect(root: &Value, table: &Value, path: &str, docs: &mut Vec<KeyDoc>) {
    let Some(properties) = table.get("properties").and_then(Value::as_object) else { return };
    let required = |name: &str| {
        table.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|it| it == name))
    };
    let mut properties: Vec<(&String, &Value)> = properties.iter().collect();
    properties.sort_by_key(|(name, property)| (is_reserved(property), !required(name), *name));
    for (name, property) in properties {
        let element = resolve(root, property.get("items").unwrap_or(property));
        let text = description(property);
        let is_table = element.get("properties").is_some();
        let table_text = if is_table { description(element) } else { "" };
        let doc = KeyDoc {
            path: if path.is_empty() { name.clone() } else { format!("{path}.{name}") },
            kind: kind(root, property),
            text: text.trim_start_matches(UNSUPPORTED_NOTE).trim().to_owned(),
            table_text: table_text.to_owned(),
            required: required(name),
            supported: !is_reserved(property),
            default: property.get("default").map(in_toml),
            example: property.get("examples").and_then(|examples| examples.get(0)).map(in_toml),
            is_table,
        };
        let path = doc.path.clone();
        docs.push(doc);
        if is_table {
            collect(root, element, &path, docs);
        }
    }
}

/// Whether nothing at all is accepted; a `not` that names values leaves the others.
fn is_reserved(property: &Value) -> bool {
    property.get("not").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty)
}

fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

fn resolve<'v>(root: &'v Value, schema: &'v Value) -> &'v Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
    name.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

fn kind(root: &Value, schema: &Value) -> String {
    if let Some(items) = schema.get("items") {
        let least = if schema.get("minItems").is_some() { ", at least one" } else { "" };
        return match resolve(root, items).get("properties") {
            Some(_) => format!("array of tables{least}"),
            None => format!("array{least}, each {}", kind(root, items)),
        };
    }
    let schema = resolve(root, schema);
    if let Some(title) = schema.get("title").and_then(Value::as_str) {
        return format!("string: {title}");
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        let words: Vec<String> = words.iter().map(|word| format!("`{}`", in_toml(word))).collect();
        return format!("one of {}", words.join(", "));
    }
    if let Some(named) = schema.get("additionalProperties").filter(|named| named.is_object()) {
        return format!("table of names, each with an {}", kind(root, named));
    }
    match schema.get("const") {
        Some(Value::String(word)) => return format!("`\"{word}\"`"),
        Some(only) => return format!("integer: {}", in_toml(only)),
        None => {}
    }
    if let Some(kinds) = schema.get("anyOf").and_then(Value::as_array) {
        let kinds: Vec<String> = kinds.iter().map(|schema| kind(root, schema)).collect();
        return kinds.join(" or ");
    }
    match (schema.get("minimum"), schema.get("maximum")) {
        (Some(least), Some(most)) => format!("integer from {least} to {most}"),
        _ if schema.get("properties").is_some() => "table".to_owned(),
        _ => schema.get("type").and_then(Value::as_str).unwrap_or("reserved").to_owned(),
    }
}

/// The few kinds of JSON values that occur look nearly the same in TOML.
fn in_toml(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(in_toml).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{key} = {}", in_toml(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

fn explain_key(doc: &KeyDoc) -> String {
    let mut text = format!("{}\n", doc.path);
    if !doc.supported {
        let _ = writeln!(text, "  {UNSUPPORTED_NOTE} The word is reserved; a file that uses it is refused.");
    } else {
        let _ = writeln!(text, "  type      {}", doc.kind);
        match &doc.default {
            _ if doc.required => text.push_str("  required  yes\n"),
            Some(default) => {
                let _ = writeln!(text, "  default   {default}");
            }
            None => text.push_str("  default   none\n"),
        }
    }
    if let Some(example) = &doc.example {
        let _ = writeln!(text, "  example   {} = {example}", doc.name());
    }
    let _ = writeln!(text, "\n{}", doc.text);
    if !doc.table_text.is_empty() && doc.table_text != doc.text {
        let _ = writeln!(text, "\n{}", doc.table_text);
    }
    let inside: Vec<&KeyDoc> = keys().iter().filter(|key| key.table() == doc.path && key.supported).collect();
    if !inside.is_empty() {
        text.push_str("\nkeys\n");
        let width = inside.iter().map(|key| key.name().len()).max().unwrap_or_default() + 2;
        for key in inside {
            let _ = writeln!(text, "  {:<width$}{}", key.name(), first_sentence(&key.text));
        }
    }
    text
}

fn list() -> String {
    let mut text = String::new();
    let width = keys().iter().map(|doc| doc.path.len()).max().unwrap_or_default() + 2;
    for doc in keys() {
        let note = if doc.supported { "" } else { " (not supported by this version)" };
        let _ = writeln!(text, "{:<width$}{}{note}", doc.path, first_sentence(&doc.text));
    }
    text
}

pub(crate) fn first_sentence(text: &str) -> &str {
    text.find(". ").map_or(text, |end| text.get(..=end).unwrap_or(text))
}

fn unknown(path: &str) -> String {
    let last = path.rsplit('.').next().unwrap_or_default();
    let same_name = keys().iter().find(|doc| doc.name() == last).map(|doc| doc.path.as_str());
    match same_name.or_else(|| nearest(path, keys().iter().map(|doc| doc.path.as_str()))) {
        Some(near) => format!("there is no key {}; did you mean `{near}`?", quote(path)),
        None => format!("there is no key {}; without an argument all keys are listed", quote(path)),
    }
}
