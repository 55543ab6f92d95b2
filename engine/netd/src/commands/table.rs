//! Tables of the commands' output.

use crate::report::{KindReport, Report, ResourceReport};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use netd_core::render::escape;

/// A table with this head; the columns of `numbers` are aligned to the right.
pub(super) fn table(
    head: &[&str],
    numbers: impl IntoIterator<Item = usize>,
    rows: Vec<Vec<String>>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(|name| name.to_uppercase()));
    table.add_rows(rows);
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    // Each column is padded by one space; the first needs none.
    let line = |line: &str| format!("{}\n", line.strip_prefix(' ').unwrap_or(line).trim_end());
    table.to_string().lines().map(line).collect()
}

/// The counts of each kind of which there is something; where nothing was ever asked for, what to do about it.
pub(super) fn kinds(report: &Report) -> String {
    let rows: Vec<_> = report.kinds.iter().filter(|(_, counts)| **counts != KindReport::default()).collect();
    if rows.is_empty() && report.config.in_force.is_some() {
        return "There is nothing of netd's on this node.\n".to_owned();
    }
    if rows.is_empty() {
        return "Nothing is asked for yet: write the file (`netd explain-config` lists its keys, examples-config/ has \
                examples), then see `netd plan`.\n"
            .to_owned();
    }
    let row = |(kind, counts): (&String, &KindReport)| {
        let KindReport { desired, ready, pending, failed, conflict, unread } = counts;
        let shown = |count: &usize| if unread.is_some() { "?".to_owned() } else { count.to_string() };
        vec![kind.clone(), shown(desired), shown(ready), shown(pending), shown(failed), shown(conflict)]
    };
    table(
        &["kind", "desired", "ready", "pending", "failed", "conflict"],
        1..6,
        rows.into_iter().map(row).collect(),
    )
}

/// Resources, a line each.
pub(super) fn resources(list: &[ResourceReport]) -> String {
    let row = |resource: &ResourceReport| {
        let ResourceReport { kind, key, phase, message } = resource;
        vec![kind.clone(), escape(key), phase.to_string(), escape(message)]
    };
    table(&["kind", "key", "status", "why"], [], list.iter().map(row).collect())
}
