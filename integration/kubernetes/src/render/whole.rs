//! The tables put together, and judged by the schema: what it refuses is taken out, and said of the object.

use super::table::Table;
use super::{Balanced, RenderError, Rendered};
use crate::Base;
use crate::note::{Note, plain};
use netd_schema::{Diagnostics, Severity};
use std::collections::BTreeMap;
use std::ops::Range;

/// What stands above everything.
const HEADER: &str =
    "# Written by netd-kubernetes, from objects of a cluster: what is changed here is lost.\n";

/// So often the schema is asked. Each time it names up to a hundred mistakes, and each mistake costs a table at least: only
/// somebody who makes them on purpose gets further, and then the last file stays.
const ROUNDS_MAX: usize = 64;

pub(super) fn assemble(
    base: &Base,
    mut tables: Vec<Table>,
    mut notes: Vec<Note>,
) -> Result<Rendered, RenderError> {
    tables.sort_by(|one, other| (one.section, &one.name).cmp(&(other.section, &other.name)));
    let mut mistakes = Diagnostics::default();
    for _ in 0..ROUNDS_MAX {
        let (text, places) = written(base, &tables);
        match netd_schema::parse("desired.toml", text.as_bytes()) {
            Ok(_) => {
                notes.sort();
                notes.dedup();
                let count = tables.len();
                let balanced = tables.into_iter().filter_map(|Table { name, object, balanced, .. }| {
                    balanced.map(|(vips, is_pooled)| Balanced { table: name, object, vips, is_pooled })
                });
                return Ok(Rendered { text, notes, tables: count, balanced: balanced.collect() });
            }
            Err(found) => mistakes = found,
        }
        let refused = refused(&mistakes, &places);
        if refused.is_empty() {
            break;
        }
        for (at, why) in refused.iter().rev() {
            let table = tables.remove(*at);
            notes.push(Note {
                object: table.object,
                text: format!("`{}` is left out: {why}", plain(&table.name)),
            });
        }
    }
    Err(RenderError::Mistakes(mistakes.render(false)))
}

/// The text, and where in it each of the tables is.
fn written(base: &Base, tables: &[Table]) -> (String, Vec<Range<usize>>) {
    let size = tables.iter().map(|table| table.text.len()).sum::<usize>() + base.text.len() + HEADER.len();
    let mut text = String::with_capacity(size);
    text.push_str(HEADER);
    text.push_str(&base.text);
    let mut places = Vec::with_capacity(tables.len());
    for table in tables {
        let start = text.len();
        text.push_str(&table.text);
        places.push(start..text.len());
    }
    (text, places)
}

/// The tables that mistakes are about, and why: of each mistake the first of its places that is in one. What people wrote
/// has been judged before, so a mistake that is also about theirs is made by the table.
fn refused(mistakes: &Diagnostics, places: &[Range<usize>]) -> BTreeMap<usize, String> {
    let mut refused = BTreeMap::new();
    for mistake in mistakes.list.iter().filter(|mistake| mistake.severity == Severity::Error) {
        let table = mistake.labels.iter().find_map(|label| {
            let after = places.partition_point(|place| place.start <= label.span.start);
            let at = after.checked_sub(1)?;
            places.get(at).filter(|place| place.contains(&label.span.start)).map(|_| at)
        });
        if let Some(at) = table {
            refused.entry(at).or_insert_with(|| mistake.message.clone());
        }
    }
    refused
}
