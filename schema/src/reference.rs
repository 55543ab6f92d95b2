//! The reference page, generated from the same documentation as everything else.

use crate::explain::{KeyDoc, keys};
use std::fmt::Write as _;

/// `docs/configuration.md`: every table and key, in Markdown with one sentence per line.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = String::from(
        "# The configuration file\n\n\
         This page is generated from the program; `make schema` writes it again.\n\
         `netd explain-config KEY` says the same on a terminal, and editors show it as you type if the file starts \
         with `#:schema` and the path of `desired.schema.json`.\n\n\
         The file is TOML.\n\
         Unknown keys are errors, and a file with an error is refused as a whole: the last good one stays in force.\n",
    );
    table(&mut text, "");
    for doc in keys().iter().filter(|doc| doc.is_table) {
        table(&mut text, &doc.path);
    }
    text
}

fn table(text: &mut String, path: &str) {
    match keys().iter().find(|doc| doc.path == path) {
        Some(doc) => {
            let _ = writeln!(text, "\n## `{}`\n\n{}", heading(doc), sentences(&doc.table_text, ""));
        }
        None => text.push_str("\n## The top of the file\n"),
    }
    text.push('\n');
    for doc in keys().iter().filter(|doc| doc.table() == path && doc.supported) {
        key(text, doc);
    }
    let reserved: Vec<String> = keys()
        .iter()
        .filter(|doc| doc.table() == path && !doc.supported)
        .map(|doc| format!("`{}`", doc.name()))
        .collect();
    if !reserved.is_empty() {
        let _ = writeln!(text, "\nReserved, and refused by this version: {}.", reserved.join(", "));
    }
}

/// As it is written in the file.
fn heading(doc: &KeyDoc) -> String {
    match (doc.table().is_empty(), doc.kind.starts_with("array")) {
        (true, true) => format!("[[{}]]", doc.path),
        (true, false) => format!("[{}]", doc.path),
        (false, _) => doc.path.clone(),
    }
}

fn key(text: &mut String, doc: &KeyDoc) {
    let mut facts = vec![doc.kind.clone()];
    if doc.required {
        facts.push("required".to_owned());
    } else if let Some(default) = &doc.default {
        facts.push(format!("default `{default}`"));
    }
    let _ = writeln!(text, "- **`{}`** ({}).", doc.name(), facts.join("; "));
    let _ = writeln!(text, "  {}", sentences(&doc.text, "  "));
    if let Some(example) = &doc.example {
        let _ = writeln!(text, "  Example: `{} = {example}`", doc.name());
    }
}

/// One sentence per line, as all our Markdown.
fn sentences(text: &str, indent: &str) -> String {
    text.replace(". ", &format!(".\n{indent}"))
}
