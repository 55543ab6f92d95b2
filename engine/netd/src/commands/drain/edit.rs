//! Writes the state of backends into the text of the file: only the bytes that have to change do.

use super::place::{Entry, Wish};
use crate::commands::toml_text::{
    Edit, Written, applied, beside, keys, line_around, name_of, parse, tables, values,
};
use anyhow::{Context as _, ensure};
use std::collections::BTreeSet;
use toml_edit::{Document, Item, Table};

/// The file after the change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edited {
    /// Its text.
    pub(super) text: String,
    /// Other services whose backends changed too, because they share the set.
    pub(super) shared_with: Vec<String>,
}

/// Sets the state of these backends of a service, or takes it out again.
///
/// # Errors
///
/// When the result would not mean what was asked for, and nothing else: the file is to be edited by hand then.
pub(super) fn edit(
    file: &str,
    text: &str,
    service: &str,
    entries: &BTreeSet<Entry>,
    wish: Wish,
) -> anyhow::Result<Edited> {
    let document = Document::parse(text).context("read the file")?;
    let root = document.as_table();
    let own = tables(root.get("services")).into_iter().find(|table| name_of(*table) == Some(service));
    let own = own.with_context(|| format!("service `{service}` is not found in the text"))?;
    let set = own.as_like().get("backend_set").and_then(Item::as_str);
    let (backends, shared_with) = match set {
        None => (own.as_like().get("backends"), Vec::new()),
        Some(set) => {
            let holder =
                tables(root.get("backend_sets")).into_iter().find(|table| name_of(*table) == Some(set));
            (holder.and_then(|holder| holder.as_like().get("backends")), sharers(root, set, service))
        }
    };
    let mut edits = Vec::new();
    for table in tables(backends) {
        if entry_of(table).is_some_and(|entry| entries.contains(&entry)) {
            let edit = match wish {
                Wish::Drain => set_state(text, table),
                Wish::Undo => clear_state(text, table),
            };
            edits.push(edit.context("the place of a backend in the text is not known")?);
        }
    }
    let edited = Edited { text: applied(text, edits)?, shared_with };
    check(file, text, &edited, service, entries, wish)?;
    Ok(edited)
}

/// What was written has to mean what was asked for, and nothing else.
fn check(
    file: &str,
    before: &str,
    edited: &Edited,
    service: &str,
    entries: &BTreeSet<Entry>,
    wish: Wish,
) -> anyhow::Result<()> {
    let mut wanted = parse(file, before)?;
    for one in &mut wanted.services {
        if one.name != service && !edited.shared_with.contains(&one.name) {
            continue;
        }
        for backend in &mut one.backends {
            if entries.contains(&(backend.address, backend.port)) {
                backend.state = wish.state();
            }
        }
    }
    ensure!(
        parse(file, &edited.text)? == wanted,
        "the state cannot be written in this form of the file; edit it by hand"
    );
    Ok(())
}

fn entry_of(table: Written<'_>) -> Option<Entry> {
    let address = table.as_like().get("address")?.as_str()?.parse().ok()?;
    let port = match table.as_like().get("port") {
        Some(port) => Some(u16::try_from(port.as_integer()?).ok()?),
        None => None,
    };
    Some((address, port))
}

/// The other services that name the set.
fn sharers(root: &Table, set: &str, service: &str) -> Vec<String> {
    let names_it =
        |table: &Written<'_>| table.as_like().get("backend_set").and_then(Item::as_str) == Some(set);
    let all = tables(root.get("services")).into_iter().filter(names_it);
    all.filter_map(name_of).filter(|name| *name != service).map(str::to_owned).collect()
}

const TERMINATING: &str = "\"terminating\"";
const ACTIVE: &str = "\"active\"";

fn set_state(text: &str, table: Written<'_>) -> Option<Edit> {
    if let Some(state) = table.as_like().get("state") {
        return Some((state.span()?, TERMINATING.to_owned()));
    }
    beside(text, table, values(table).last()?.end, &format!("state = {TERMINATING}"))
}

/// Takes the key out; where a comment would go with it, the value becomes the usual one.
fn clear_state(text: &str, table: Written<'_>) -> Option<Edit> {
    let (key, item) = table.as_like().get_key_value("state")?;
    let (key, value) = (key.span()?, item.span()?);
    let range = match table {
        Written::Headed(_) => {
            let (first, last) = (line_around(text, key.start)?, line_around(text, value.end)?);
            let after = text.get(last.end..)?;
            let newline = if after.starts_with("\r\n") { 2 } else { after.len().min(1) };
            first.start..last.end + newline
        }
        Written::Inline(_) => match values(table).iter().rfind(|one| one.end <= key.start) {
            Some(before) => before.end..value.end,
            None => {
                // The first of several: what follows begins with the next key.
                let next = keys(table).into_iter().find(|one| one.start > value.end)?;
                key.start..next.start
            }
        },
    };
    match text.get(range.clone())?.contains('#') {
        true => Some((value, ACTIVE.to_owned())),
        false => Some((range, String::new())),
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
