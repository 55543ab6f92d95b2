//! One table of the file, and the object that it came from.

use crate::note::ObjectRef;
use netd_schema::quoted;
use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::net::IpAddr;

/// Where a table belongs in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Nodes,
    Services,
    Egress,
}

/// A table, written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) section: Section,
    /// Its `name`, unique within the section.
    pub(super) name: String,
    pub(super) object: ObjectRef,
    /// With the line that says where it came from.
    pub(super) text: String,
    /// The addresses that it names and whether it gets others from a pool, if it is what a load balancer is there for.
    pub(super) balanced: Option<(BTreeSet<IpAddr>, bool)>,
}

/// Writes a table, a line for each key.
pub(super) struct Writer {
    table: Table,
}

impl Writer {
    pub(super) fn new(section: Section, object: ObjectRef, name: String) -> Self {
        let header = match section {
            Section::Nodes => "[[nodes]]",
            Section::Services => "[[services]]",
            Section::Egress => "[[egress]]",
        };
        let text = format!("\n# {object}\n{header}\n");
        let mut writer = Self { table: Table { section, name: name.clone(), object, text, balanced: None } };
        writer.text("name", &name);
        writer
    }

    /// Clients of the load balancer reach the service by these addresses, or by those of a pool.
    pub(super) fn balanced(&mut self, vips: &BTreeSet<IpAddr>, is_pooled: bool) {
        self.table.balanced = Some((vips.clone(), is_pooled));
    }

    /// A key and a value that is TOML already.
    pub(super) fn raw(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.table.text, "{key} = {value}");
    }

    /// A key and a text.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.raw(key, quoted(value));
    }

    /// A key and a list, each as a text; nothing for an empty one.
    pub(super) fn list<T: Display>(&mut self, key: &str, values: impl IntoIterator<Item = T>) {
        let values: Vec<String> = values.into_iter().map(|value| quoted(&value.to_string())).collect();
        if !values.is_empty() {
            self.raw(key, format!("[{}]", values.join(", ")));
        }
    }

    /// A key and a list of tables, a line for each; nothing for an empty one.
    pub(super) fn tables(&mut self, key: &str, tables: impl IntoIterator<Item = String>) {
        let mut tables = tables.into_iter().peekable();
        if tables.peek().is_none() {
            return;
        }
        let _ = writeln!(self.table.text, "{key} = [");
        for table in tables {
            let _ = writeln!(self.table.text, "  {table},");
        }
        let _ = writeln!(self.table.text, "]");
    }

    pub(super) fn finish(self) -> Table {
        self.table
    }
}
