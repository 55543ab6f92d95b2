//! The file as TOML: tables, arrays and scalars with their places, and no meaning yet.
//!
//! The lexer and the grammar are those of `toml_parser`; the tree is ours, because it must stay small for a hundred
//! thousand backends, must name both places of a key that is written twice, and must not grow with the number of errors.

mod build;

use crate::span::Span;
use std::borrow::Cow;
use std::collections::HashMap;

pub(crate) use build::build;

/// How far the tree can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Soundness {
    /// It says what the file says; a key that is written twice has its first value.
    Sound,
    /// Some values could not be read.
    BrokenValues,
    /// Some headers could not be read, so keys may be in the wrong table.
    BrokenHeaders,
}

/// A value and where it is.
#[derive(Debug)]
pub(crate) struct Item<'i> {
    pub(crate) span: Span,
    pub(crate) value: Value<'i>,
}

#[derive(Debug)]
pub(crate) enum Value<'i> {
    String(Cow<'i, str>),
    /// `None` if it does not fit 64 bits.
    Integer(Option<i64>),
    Float,
    Boolean(bool),
    Datetime,
    Array(Vec<Item<'i>>),
    /// Written as `[[…]]`.
    Tables(Vec<Item<'i>>),
    Table(Box<Table<'i>>),
}

impl Value<'_> {
    /// The kind of value in the words of an error message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float => "a floating-point number",
            Self::Boolean(_) => "a boolean",
            Self::Datetime => "a date",
            Self::Array(_) => "an array",
            Self::Tables(_) => "an array of tables",
            Self::Table(_) => "a table",
        }
    }
}

/// How a table came to be; TOML allows each to be extended in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Origin {
    /// By its own `[header]`, or as an element of an array of tables.
    #[default]
    Header,
    /// By a header of a table inside it.
    Implied,
    /// By a dotted key.
    Dotted,
    /// Written in braces.
    Inline,
}

/// A table. Its entries are in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct Table<'i> {
    pub(crate) entries: Vec<Entry<'i>>,
    pub(crate) origin: Origin,
    /// Only for tables with many entries, so that a million keys do not take a million times a million comparisons.
    #[allow(clippy::box_collection, reason = "of a hundred thousand tables hardly one has an index")]
    index: Option<Box<HashMap<Cow<'i, str>, usize>>>,
}

#[derive(Debug)]
pub(crate) struct Entry<'i> {
    pub(crate) key: Cow<'i, str>,
    pub(crate) key_span: Span,
    pub(crate) item: Item<'i>,
}

/// Up to this many entries a linear search is faster than hashing.
const LINEAR_ENTRIES_MAX: usize = 16;

impl<'i> Table<'i> {
    fn new(origin: Origin) -> Self {
        Self { origin, ..Self::default() }
    }

    fn position(&self, key: &str) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(key).copied(),
            None => self.entries.iter().position(|entry| entry.key == key),
        }
    }

    /// Adds an entry whose key is known to be absent.
    fn push(&mut self, entry: Entry<'i>) -> usize {
        let at = self.entries.len();
        if let Some(index) = &mut self.index {
            index.insert(entry.key.clone(), at);
        } else if at == LINEAR_ENTRIES_MAX {
            let mut index: HashMap<_, _> =
                self.entries.iter().enumerate().map(|(at, entry)| (entry.key.clone(), at)).collect();
            index.insert(entry.key.clone(), at);
            self.index = Some(Box::new(index));
        }
        self.entries.push(entry);
        at
    }
}
