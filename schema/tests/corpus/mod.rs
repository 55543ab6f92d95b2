//! The files that tests read, and what the JSON Schema says to them.

#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::expect_used, reason = "a test that cannot read its files fails")]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub struct Case {
    pub name: String,
    pub path: PathBuf,
    pub text: String,
}

/// The files of a folder of the repository, by name.
pub fn cases(folder: &str, extension: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a repository").join(folder);
    let mut cases: Vec<Case> = std::fs::read_dir(&folder)
        .expect("the folder exists")
        .map(|entry| entry.expect("can be listed").path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .map(|path| Case {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            text: std::fs::read_to_string(&path).expect("is text"),
            path,
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

pub fn parses(text: &str) -> bool {
    netd_schema::parse("test.toml", text.as_bytes()).is_ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepts,
    Refuses,
    /// Only what is TOML can be asked.
    NotToml,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Self::Accepts => "schema: accepts",
            Self::Refuses => "schema: refuses",
            Self::NotToml => "schema: not TOML",
        }
    }
}

/// What the generated JSON Schema says to a TOML text.
pub fn schema_says(text: &str) -> Verdict {
    static VALIDATOR: OnceLock<jsonschema::Validator> = OnceLock::new();
    let validator = VALIDATOR.get_or_init(|| {
        let schema = serde_json::from_str(&netd_schema::json_schema()).expect("the schema is JSON");
        jsonschema::options().should_validate_formats(true).build(&schema).expect("the schema is a schema")
    });
    let Ok(value) = toml::from_str::<toml::Value>(text) else { return Verdict::NotToml };
    if validator.is_valid(&json(value)) { Verdict::Accepts } else { Verdict::Refuses }
}

/// TOML as editors hand it to a JSON Schema validator.
fn json(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(value) => value.into(),
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, json(value))).collect(),
    }
}
