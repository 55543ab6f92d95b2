//! The macro that declares a table of the vocabulary.

/// Declares a table: a struct with one `Option<At<Type>>` per key, how it is read, and its part of the JSON Schema.
///
/// `required` keys must be there. `optional` keys may have `= default` for the documentation; the default itself is
/// filled in where the model is made, by the same constant. `like` gives an example. `at least one of [...]` behind the
/// table names keys of which one must be there.
macro_rules! raw_table {
    (
        $(#[doc = $table_doc:literal])*
        pub(crate) struct $Table:ident {
            $(
                $(#[doc = $doc:literal])*
                $need:ident $field:ident : $Type:ty $(= $default:expr)? $(, like $example:expr)? ;
            )*
        }
        $(at least one of [$($either:ident),*])?
    ) => {
        $(#[doc = $table_doc])*
        #[derive(Debug)]
        #[allow(dead_code, reason = "keys that are not supported yet are declared, and never read")]
        pub(crate) struct $Table {
            $(
                $(#[doc = $doc])*
                pub(crate) $field: Option<$crate::span::At<$Type>>,
            )*
        }

        impl $Table {
            /// The keys, and whether this version acts on them.
            const KEYS: &'static [(&'static str, bool)] =
                &[$((stringify!($field), !<$Type as $crate::raw::Raw>::UNSUPPORTED)),*];
        }

        impl $crate::raw::Raw for $Table {
            fn read(
                item: &$crate::document::Item<'_>,
                reader: &mut $crate::raw::Reader<'_>,
            ) -> Option<Self> {
                let table = reader.table(item)?;
                let mut raw = Self { $($field: None,)* };
                let mut seen = [$((stringify!($field), false)),*];
                for entry in &table.entries {
                    let key: &str = &entry.key;
                    $(
                        if key == stringify!($field) {
                            raw.$field = reader.field(stringify!($field), entry);
                        } else
                    )*
                    {
                        reader.unknown(entry, Self::KEYS);
                    }
                    for (name, seen) in &mut seen {
                        *seen |= *name == key;
                    }
                }
                let unsupported =
                    Self::KEYS.iter().zip(&seen).any(|((_, acts), (_, seen))| *seen && !acts);
                let required = [$($crate::raw::table::Need::$need == $crate::raw::table::Need::required),*];
                $(
                    let either = [$(stringify!($either)),*];
                    if !unsupported && !seen.iter().any(|(name, seen)| *seen && either.contains(name)) {
                        reader.missing_all(item, &either);
                    }
                )?
                for ((name, seen), required) in seen.into_iter().zip(required) {
                    if required && !seen && !unsupported {
                        reader.missing(item, name);
                    }
                }
                Some(raw)
            }
        }

        impl schemars::JsonSchema for $Table {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Table).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut properties = serde_json::Map::new();
                let mut required: Vec<&str> = Vec::new();
                $(
                    let mut property = generator.subschema_for::<$Type>();
                    $crate::raw::table::describe(&mut property, concat!($($doc, "\n"),*));
                    $( property.insert("default".to_owned(), serde_json::json!($default)); )?
                    $( property.insert("examples".to_owned(), serde_json::json!([$example])); )?
                    properties.insert(stringify!($field).to_owned(), property.into());
                    if $crate::raw::table::Need::$need == $crate::raw::table::Need::required {
                        required.push(stringify!($field));
                    }
                )*
                #[allow(unused_mut, reason = "most tables have no such keys")]
                let mut either: Vec<&str> = Vec::new();
                $( either.extend([$(stringify!($either)),*]); )?
                $crate::raw::table::object(concat!($($table_doc, "\n"),*), properties, &required, &either)
            }
        }
    };
}

pub(crate) use raw_table;

/// Whether a key must be there; spelled as in [`raw_table!`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the variants are the words of the macro")]
pub(crate) enum Need {
    required,
    optional,
}

/// Adds the documentation of a key; what its type says about itself already stays in front of it.
pub(crate) fn describe(schema: &mut schemars::Schema, doc: &str) {
    let mut text = prose(doc);
    if let Some(serde_json::Value::String(own)) = schema.get("description") {
        text = format!("{own} {text}");
    }
    schema.insert("description".to_owned(), text.into());
}

pub(crate) fn object(
    doc: &str,
    properties: serde_json::Map<String, serde_json::Value>,
    required: &[&str],
    either: &[&str],
) -> schemars::Schema {
    let mut schema = schemars::json_schema!({
        "type": "object",
        "description": prose(doc),
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    if !either.is_empty() {
        let keys: Vec<serde_json::Value> =
            either.iter().map(|key| serde_json::json!({ "required": [key] })).collect();
        schema.insert("anyOf".to_owned(), keys.into());
    }
    schema
}

/// Doc comments as running text: lines joined, paragraphs kept.
fn prose(doc: &str) -> String {
    let paragraphs: Vec<String> = doc
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|paragraph| !paragraph.is_empty())
        .collect();
    paragraphs.join("\n\n")
}
