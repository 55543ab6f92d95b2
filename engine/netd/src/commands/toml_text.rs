//! Places in the text of a file, so that only the bytes change that have to.

use anyhow::{bail, ensure};
use netd_schema::Config;
use std::ops::Range;
use toml_edit::{InlineTable, Item, Table, TableLike, Value};

/// What the text means.
///
/// # Errors
///
/// That it has mistakes.
pub(super) fn parse(file: &str, text: &str) -> anyhow::Result<Config> {
    match netd_schema::parse(file, text.as_bytes()) {
        Ok(parsed) => Ok(parsed.config),
        Err(mistakes) => bail!("the file would have mistakes then\n{}", mistakes.render(false)),
    }
}

/// A table under a header, or between braces.
#[derive(Clone, Copy)]
pub(super) enum Written<'d> {
    Headed(&'d Table),
    Inline(&'d InlineTable),
}

impl<'d> Written<'d> {
    pub(super) fn as_like(self) -> &'d dyn TableLike {
        match self {
            Self::Headed(table) => table,
            Self::Inline(table) => table,
        }
    }
}

/// The tables of an array, however it is written.
pub(super) fn tables(item: Option<&Item>) -> Vec<Written<'_>> {
    match item {
        Some(Item::ArrayOfTables(tables)) => tables.iter().map(Written::Headed).collect(),
        Some(Item::Value(Value::Array(values))) => {
            values.iter().filter_map(Value::as_inline_table).map(Written::Inline).collect()
        }
        _ => Vec::new(),
    }
}

/// The `name` of a table.
pub(super) fn name_of(table: Written<'_>) -> Option<&str> {
    table.as_like().get("name").and_then(Item::as_str)
}

/// Bytes of the text, and what comes in their place.
pub(super) type Edit = (Range<usize>, String);

/// Where the values of a table are, in the order of the text.
pub(super) fn values(table: Written<'_>) -> Vec<Range<usize>> {
    sorted(table.as_like().iter().filter_map(|(_, item)| item.as_value()?.span()))
}

/// Where its keys are.
pub(super) fn keys(table: Written<'_>) -> Vec<Range<usize>> {
    let like = table.as_like();
    sorted(like.iter().filter_map(|(name, _)| like.key(name)?.span()))
}

fn sorted(spans: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut spans: Vec<_> = spans.collect();
    spans.sort_by_key(|span| span.start);
    spans
}

/// The line around a byte, without its end.
pub(super) fn line_around(text: &str, at: usize) -> Option<Range<usize>> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let rest = text.get(at..)?;
    let end = at + rest.find('\n').unwrap_or(rest.len());
    let end = if text.get(..end)?.ends_with('\r') { end - 1 } else { end };
    Some(start..end)
}

/// A new key of the table, behind the place where one of its values ends.
pub(super) fn beside(text: &str, table: Written<'_>, end: usize, assignment: &str) -> Option<Edit> {
    match table {
        Written::Inline(_) => Some((end..end, format!(", {assignment}"))),
        Written::Headed(_) => {
            let line = line_around(text, end)?;
            let indent: String =
                text.get(line.clone())?.chars().take_while(|c| matches!(c, ' ' | '\t')).collect();
            let newline = if text.get(line.end..)?.starts_with("\r\n") { "\r\n" } else { "\n" };
            Some((line.end..line.end, format!("{newline}{indent}{assignment}")))
        }
    }
}

/// The text after the edits, which do not overlap.
pub(super) fn applied(text: &str, mut edits: Vec<Edit>) -> anyhow::Result<String> {
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = text.to_owned();
    for (range, new) in edits.into_iter().rev() {
        ensure!(out.get(range.clone()).is_some(), "the place of a change in the text is not known");
        out.replace_range(range, &new);
    }
    Ok(out)
}
