//! Walks a document, asks each type of the vocabulary to read its part, and reports what does not fit.

use crate::diagnostic::{Diagnoses, Draft, quote};
use crate::document::{Entry, Item, Table, Value};
use crate::span::{At, Span};
use schemars::JsonSchema;

/// A type of the vocabulary.
pub(crate) trait Raw: JsonSchema + Sized {
    /// What was written at `item`; `None` after saying why it cannot be used.
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self>;

    /// Whether this version does not act on it: its presence is the mistake.
    const UNSUPPORTED: bool = false;
}

pub(crate) struct Reader<'d> {
    source: &'d str,
    diagnoses: &'d mut Diagnoses,
    /// The keys from the top to where the reader is.
    path: Vec<&'static str>,
    /// The length of `path` when what is read is one of a list.
    element_at: Option<usize>,
    trust: Trust,
}

/// How far the document says what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The whole file was read.
    Whole,
    /// Parts of it are not TOML: what is missing or odd may be a consequence, only foreign keys are certain.
    KeysOnly,
}

impl<'d> Reader<'d> {
    pub(crate) fn new(source: &'d str, trust: Trust, diagnoses: &'d mut Diagnoses) -> Self {
        Self { source, diagnoses, path: Vec::new(), element_at: None, trust }
    }

    /// Reads the value of a known key.
    pub(crate) fn field<T: Raw>(&mut self, name: &'static str, entry: &Entry<'_>) -> Option<At<T>> {
        self.path.push(name);
        let value = if T::UNSUPPORTED {
            self.refuse_unsupported(entry);
            None
        } else {
            T::read(&entry.item, self).map(|value| At { value, span: entry.item.span })
        };
        self.path.pop();
        value
    }

    /// Reads one of a list.
    pub(crate) fn element<T: Raw>(&mut self, item: &Item<'_>) -> Option<At<T>> {
        let outer = self.element_at.replace(self.path.len());
        let value = T::read(item, self).map(|value| At { value, span: item.span });
        self.element_at = outer;
        value
    }

    /// The key being read, as the reference page calls it: `services.backends.weight`.
    pub(crate) fn key(&self) -> String {
        self.path.join(".")
    }

    /// Says what is wrong, unless it may be the consequence of a mistake in the syntax.
    pub(crate) fn report(&mut self, draft: impl FnOnce() -> Draft) {
        if self.trust == Trust::Whole {
            self.diagnoses.push(draft);
        }
    }

    /// What was written at `span`, ready for a message.
    pub(crate) fn found(&self, span: Span) -> String {
        quote(self.source.get(span.range()).unwrap_or_default())
    }

    /// The value is of another kind than `expected` ("an integer from 1 to 65535").
    pub(crate) fn wrong_type(&mut self, item: &Item<'_>, expected: &str) {
        let (key, kind, span) = (self.key(), item.value.kind(), item.span);
        let each = if self.element_at == Some(self.path.len()) { "each of " } else { "" };
        self.report(|| {
            Draft::error(format!("{each}`{key}` must be {expected}")).label(span, format!("found {kind}"))
        });
    }

    pub(crate) fn table<'a, 'i>(&mut self, item: &'a Item<'i>) -> Option<&'a Table<'i>> {
        match &item.value {
            Value::Table(table) => Some(table),
            Value::Tables(_) => {
                let (key, span) = (self.key(), item.span);
                self.report(|| {
                    Draft::error(format!("`{key}` is one table"))
                        .label(span, "found an array of tables")
                        .help(format!("write `[{key}]` instead of `[[{key}]]`"))
                });
                None
            }
            _ => {
                self.wrong_type(item, "a table");
                None
            }
        }
    }

    pub(crate) fn missing(&mut self, item: &Item<'_>, name: &'static str) {
        let (table, span) = (self.key(), item.span);
        self.report(|| {
            if table.is_empty() {
                Draft::error(format!("`{name}` is missing"))
                    .label(Span::new(0, 0), format!("`{name}` must be given"))
            } else {
                Draft::error(format!("`{table}.{name}` is missing"))
                    .label(span, format!("`{name}` must be given here"))
            }
        });
    }

    /// None of several keys is there, of which one must be.
    pub(crate) fn missing_all(&mut self, item: &Item<'_>, names: &[&'static str]) {
        let (table, span) = (self.key(), item.span);
        self.report(|| {
            let keys: Vec<String> = names.iter().map(|name| format!("`{table}.{name}`")).collect();
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            Draft::error(format!("neither {} is given", keys.join(" nor ")))
                .label(span, format!("{} must be given here", names.join(" or ")))
        });
    }

    pub(crate) fn unknown(&mut self, entry: &Entry<'_>, known: &[(&'static str, bool)]) {
        let table = self.key();
        self.diagnoses.push(|| {
            let place =
                if table.is_empty() { "at the top of the file".to_owned() } else { format!("in `{table}`") };
            let draft = Draft::error(format!("unknown key {} {place}", quote(&entry.key)))
                .label(entry.key_span, "this key does not exist");
            match crate::explain::meant(&table, &entry.key, known) {
                Some(help) => draft.help(help),
                None => draft,
            }
        });
    }

    fn refuse_unsupported(&mut self, entry: &Entry<'_>) {
        let key = self.key();
        self.diagnoses.push(|| {
            let what = if key.contains('.') { format!("`{key}`") } else { format!("[{key}]") };
            Draft::error(format!("{what} is not supported by this version"))
                .label(entry.key_span, "netd knows the word, but would not act on it")
                .help("remove it: nothing in the file may be ignored silently")
        });
    }
}
