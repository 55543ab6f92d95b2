//! What is wrong with a file, where, and what was probably meant.

mod collect;
mod excerpt;
mod render;

use serde_json::{Value, json};
use std::fmt;
use std::ops::Range;

pub(crate) use collect::{Diagnoses, Draft, quote};
pub use excerpt::Excerpt;

/// Everything that was found in one file, in the order of the file, errors and warnings apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// The name of the file as the caller gave it.
    pub file: String,
    /// At most [`DIAGNOSTICS_MAX`].
    pub list: Vec<Diagnostic>,
    /// How many more there were.
    pub omitted: usize,
}

/// More mistakes than this in one file are counted only: nobody reads on, and the output stays bounded.
pub const DIAGNOSTICS_MAX: usize = 100;

/// One mistake or one doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// One sentence without a full stop. Control characters of the input are escaped.
    pub message: String,
    /// The places it is about; the first is the one to go to.
    pub labels: Vec<Label>,
    /// What to do, if that is known.
    pub help: Option<String>,
}

/// Whether a file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused as a whole.
    Error,
    /// The file is accepted.
    Warning,
}

/// A place in the file and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The bytes of the file.
    pub span: Range<usize>,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is said about the place; may be empty.
    pub text: String,
    /// The line, shortened around the place if it is long.
    pub excerpt: Excerpt,
}

impl Diagnostics {
    /// Nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One after the other, as compilers print them; with colours for a terminal if `color`.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        render::render(self, color)
    }

    /// An array of objects with `severity`, `file`, `line`, `column`, `message`, `labels` and `help`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.list.iter().map(|diagnostic| diagnostic.to_json(&self.file)).collect()
    }
}

impl Diagnostic {
    fn to_json(&self, file: &str) -> Value {
        let labels: Vec<Value> = self
            .labels
            .iter()
            .map(|label| json!({ "line": label.line, "column": label.column, "text": label.text }))
            .collect();
        json!({
            "severity": self.severity.word(),
            "file": file,
            "line": self.labels.first().map(|label| label.line),
            "column": self.labels.first().map(|label| label.column),
            "message": self.message,
            "labels": labels,
            "help": self.help,
        })
    }
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}
