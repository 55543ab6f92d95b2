//! TOML as a person would write it: a line each, with comments where something is left to do.

use netd_schema::quoted;
use std::fmt::Write as _;

/// What has been written.
#[derive(Debug, Default)]
pub(super) struct Lines(String);

impl Lines {
    /// Begins a table: `[bgp]`, `[[ip_pools]]`.
    pub(super) fn header(&mut self, header: &str) {
        let _ = writeln!(self.0, "\n{header}");
    }

    /// A key and its value, which is TOML already.
    pub(super) fn raw(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    /// A key and a text.
    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.raw(key, &quoted(text));
    }

    /// A key and a list of texts.
    pub(super) fn list(&mut self, key: &str, texts: &[String]) {
        let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
        self.raw(key, &format!("[{}]", texts.join(", ")));
    }

    /// A comment; what would end its line is made visible.
    pub(super) fn comment(&mut self, text: &str) {
        let _ = writeln!(self.0, "# {}", netd_core::render::escape(text));
    }

    /// Everything.
    pub(super) fn finish(self) -> String {
        self.0
    }
}
