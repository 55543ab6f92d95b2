//! From text to a [`Table`]: listens to the grammar's events and applies TOML's rules on what may be defined twice.

use super::{Entry, Item, Origin, Soundness, Table, Value};
use crate::diagnostic::{Diagnoses, Draft};
use crate::span::Span;
use std::borrow::Cow;
use toml_parser::decoder::{Encoding, ScalarKind};
use toml_parser::lexer::{Token, TokenKind};
use toml_parser::parser::{EventReceiver, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ErrorSink, Expected, ParseError, Source};

/// Deeper nesting is refused; the vocabulary needs five levels. Bounds the stack.
const DEPTH_MAX: u32 = 64;

/// Reads `text` as TOML. Mistakes go to `diagnoses`; the table holds what could be read in spite of them.
pub(crate) fn build<'i>(text: &'i str, diagnoses: &mut Diagnoses) -> (Table<'i>, Soundness) {
    let source = Source::new(text);
    let mut builder = Builder {
        source,
        root: Table::default(),
        current: Table::default(),
        slot: None,
        frames: Vec::new(),
        keys: Vec::new(),
        header: None,
    };
    let mut soundness = Soundness::Sound;
    let mut broken_line = None;
    let mut sink = |error: ParseError| {
        let line = line_start(text, &error);
        soundness = soundness.max(harm(text, line, &error));
        // One mistake in a line makes the grammar stumble several times; the first says what is wrong.
        if error.description() == TWICE || broken_line.replace(line) != Some(line) {
            diagnoses.push(|| draft(&error));
        }
    };
    let mut tokens: Vec<Token> = Vec::new();
    let end_of_part = Source::new("").lex().next();
    let mut depth = 0_usize;
    let mut at_line_start = true;
    // The grammar is run over one top-level table at a time, so that the tokens of a large file never exist at once.
    for token in source.lex() {
        match token.kind() {
            TokenKind::LeftSquareBracket if depth == 0 && at_line_start && !tokens.is_empty() => {
                tokens.extend(end_of_part);
                builder.run(&tokens, &mut sink);
                tokens.clear();
                depth = 1;
            }
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => depth += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => depth = depth.saturating_sub(1),
            _ => {}
        }
        at_line_start = token.kind() == TokenKind::Newline;
        tokens.push(token);
    }
    builder.run(&tokens, &mut sink);
    builder.close_table();
    (builder.root, soundness)
}

/// What an error in the line that starts at `line` leaves of the tree.
fn harm(text: &str, line: usize, error: &ParseError) -> Soundness {
    if error.description() == TWICE {
        return Soundness::Sound;
    }
    match text.get(line..).unwrap_or_default().trim_start().starts_with('[') {
        true => Soundness::BrokenHeaders,
        false => Soundness::BrokenValues,
    }
}

fn line_start(text: &str, error: &ParseError) -> usize {
    let at = error.unexpected().or(error.context()).map_or(0, |span| span.start());
    text.get(..at).unwrap_or_default().rfind('\n').map_or(0, |newline| newline + 1)
}

/// An array or an inline table that is not closed yet.
enum Frame<'i> {
    Array { start: usize, items: Vec<Item<'i>> },
    Inline { start: usize, table: Table<'i>, outer_keys: Vec<Key<'i>> },
}

struct Key<'i> {
    name: Cow<'i, str>,
    span: Span,
}

/// The table that a header opened: the way to its slot from the root.
struct Slot {
    path: Vec<usize>,
    at: usize,
}

struct Builder<'i> {
    source: Source<'i>,
    root: Table<'i>,
    /// The table of the last header, taken out of the tree while its keys are read.
    current: Table<'i>,
    /// Where `current` belongs; `None` if it is the root.
    slot: Option<Slot>,
    frames: Vec<Frame<'i>>,
    keys: Vec<Key<'i>>,
    header: Option<Header>,
}

#[derive(Clone, Copy)]
struct Header {
    start: usize,
    is_array: bool,
}

impl<'i> Builder<'i> {
    fn run(&mut self, tokens: &[Token], sink: &mut dyn ErrorSink) {
        let source = self.source;
        let mut receiver = ValidateWhitespace::new(self, source);
        let mut receiver = RecursionGuard::new(&mut receiver, DEPTH_MAX);
        parse_document(tokens, &mut receiver, sink);
    }

    /// Puts the table of the last header back into the tree.
    fn close_table(&mut self) {
        let table = std::mem::take(&mut self.current);
        let Some(slot) = self.slot.take() else {
            self.root = table;
            return;
        };
        let mut parent = Some(&mut self.root);
        for at in slot.path {
            parent =
                parent.and_then(|parent| parent.entries.get_mut(at)).and_then(|entry| entry.item.table_mut());
        }
        let entry = parent.and_then(|parent| parent.entries.get_mut(slot.at));
        if let Some(place) = entry.and_then(|entry| entry.item.table_mut()) {
            *place = table;
        }
    }

    fn open_table(&mut self, header: Header, end: usize, sink: &mut dyn ErrorSink) {
        self.close_table();
        self.frames.clear();
        let mut keys = std::mem::take(&mut self.keys);
        let Some(last) = keys.pop() else {
            return self.open_nowhere();
        };
        let header_span = Span::new(header.start, end);
        let mut path = Vec::with_capacity(keys.len());
        let Some(parent) = descend(&mut self.root, keys, Origin::Implied, &mut path, sink) else {
            return self.open_nowhere();
        };
        let at = match parent.position(&last.name) {
            None => {
                let table = Item { span: header_span, value: Value::Table(Box::default()) };
                let value = if header.is_array { Value::Tables(vec![table]) } else { table.value };
                let item = Item { span: header_span, value };
                parent.push(Entry { key: last.name, key_span: last.span, item })
            }
            Some(at) => {
                let Some(entry) = parent.entries.get_mut(at) else { return self.open_nowhere() };
                match &mut entry.item.value {
                    Value::Tables(tables) if header.is_array => {
                        tables.push(Item { span: header_span, value: Value::Table(Box::default()) });
                    }
                    Value::Table(table) if !header.is_array && table.origin == Origin::Implied => {
                        table.origin = Origin::Header;
                        self.current = std::mem::take(table);
                        entry.item.span = header_span;
                    }
                    _ => {
                        twice(&last, entry, sink);
                        return self.open_nowhere();
                    }
                }
                at
            }
        };
        self.slot = Some(Slot { path, at });
    }

    /// The header was wrong: what follows is read for its syntax, and dropped.
    fn open_nowhere(&mut self) {
        self.slot = Some(Slot { path: Vec::new(), at: usize::MAX });
    }

    fn value(&mut self, item: Item<'i>, sink: &mut dyn ErrorSink) {
        match self.frames.last_mut() {
            Some(Frame::Array { items, .. }) => items.push(item),
            Some(Frame::Inline { table, .. }) => insert(table, std::mem::take(&mut self.keys), item, sink),
            None => insert(&mut self.current, std::mem::take(&mut self.keys), item, sink),
        }
    }
}

impl EventReceiver for Builder<'_> {
    fn std_table_open(&mut self, span: toml_parser::Span, _: &mut dyn ErrorSink) {
        self.keys.clear();
        self.header = Some(Header { start: span.start(), is_array: false });
    }

    fn array_table_open(&mut self, span: toml_parser::Span, _: &mut dyn ErrorSink) {
        self.keys.clear();
        self.header = Some(Header { start: span.start(), is_array: true });
    }

    fn std_table_close(&mut self, span: toml_parser::Span, sink: &mut dyn ErrorSink) {
        if let Some(header) = self.header.take() {
            self.open_table(header, span.end(), sink);
        }
    }

    fn array_table_close(&mut self, span: toml_parser::Span, sink: &mut dyn ErrorSink) {
        self.std_table_close(span, sink);
    }

    fn inline_table_open(&mut self, span: toml_parser::Span, _: &mut dyn ErrorSink) -> bool {
        let outer_keys = std::mem::take(&mut self.keys);
        let table = Table::new(Origin::Inline);
        self.frames.push(Frame::Inline { start: span.start(), table, outer_keys });
        true
    }

    fn inline_table_close(&mut self, span: toml_parser::Span, sink: &mut dyn ErrorSink) {
        if let Some(Frame::Inline { start, mut table, outer_keys }) = self.frames.pop() {
            table.entries.shrink_to_fit();
            self.keys = outer_keys;
            self.value(
                Item { span: Span::new(start, span.end()), value: Value::Table(Box::new(table)) },
                sink,
            );
        }
    }

    fn array_open(&mut self, span: toml_parser::Span, _: &mut dyn ErrorSink) -> bool {
        self.frames.push(Frame::Array { start: span.start(), items: Vec::new() });
        true
    }

    fn array_close(&mut self, span: toml_parser::Span, sink: &mut dyn ErrorSink) {
        if let Some(Frame::Array { start, mut items }) = self.frames.pop() {
            items.shrink_to_fit();
            self.value(Item { span: Span::new(start, span.end()), value: Value::Array(items) }, sink);
        }
    }

    fn simple_key(&mut self, span: toml_parser::Span, encoding: Option<Encoding>, sink: &mut dyn ErrorSink) {
        if self.keys.len() >= DEPTH_MAX as usize {
            if self.keys.len() == DEPTH_MAX as usize {
                sink.report_error(ParseError::new(TOO_DEEP).with_unexpected(span));
            }
            return;
        }
        let Some(raw) = self.source.get(span) else { return };
        let raw = toml_parser::Raw::new_unchecked(raw.as_str(), encoding, span);
        let mut name = Cow::Borrowed("");
        raw.decode_key(&mut name, sink);
        self.keys.push(Key { name, span: span.into() });
    }

    fn scalar(&mut self, span: toml_parser::Span, encoding: Option<Encoding>, sink: &mut dyn ErrorSink) {
        let Some(raw) = self.source.get(span) else { return };
        let raw = toml_parser::Raw::new_unchecked(raw.as_str(), encoding, span);
        let mut text = Cow::Borrowed("");
        let value = match raw.decode_scalar(&mut text, sink) {
            ScalarKind::String => Value::String(text),
            ScalarKind::Boolean(value) => Value::Boolean(value),
            ScalarKind::DateTime => Value::Datetime,
            ScalarKind::Float => Value::Float,
            ScalarKind::Integer(radix) => Value::Integer(i64::from_str_radix(&text, radix.value()).ok()),
        };
        self.value(Item { span: span.into(), value }, sink);
    }

    fn newline(&mut self, _: toml_parser::Span, _: &mut dyn ErrorSink) {
        if self.frames.is_empty() {
            self.keys.clear();
        }
    }
}

impl<'i> Item<'i> {
    /// The table, or the last table of an array of tables.
    fn table_mut(&mut self) -> Option<&mut Table<'i>> {
        match &mut self.value {
            Value::Table(table) => Some(table),
            Value::Tables(tables) => tables.last_mut().and_then(|item| match &mut item.value {
                Value::Table(table) => Some(&mut **table),
                _ => None,
            }),
            _ => None,
        }
    }
}

/// Walks from `table` along `keys`, making what is absent; the positions that were passed are added to `path`.
fn descend<'t, 'i>(
    mut table: &'t mut Table<'i>,
    keys: Vec<Key<'i>>,
    origin: Origin,
    path: &mut Vec<usize>,
    sink: &mut dyn ErrorSink,
) -> Option<&'t mut Table<'i>> {
    for key in keys {
        let at = match table.position(&key.name) {
            Some(at) => at,
            None => {
                let item = Item { span: key.span, value: Value::Table(Box::new(Table::new(origin))) };
                table.push(Entry { key: key.name.clone(), key_span: key.span, item })
            }
        };
        path.push(at);
        let entry = table.entries.get_mut(at)?;
        let allowed = match &mut entry.item.value {
            Value::Table(table) if origin == Origin::Dotted => {
                if table.origin == Origin::Implied {
                    table.origin = Origin::Dotted;
                }
                table.origin == Origin::Dotted
            }
            Value::Table(table) => table.origin != Origin::Inline,
            Value::Tables(_) => origin != Origin::Dotted,
            _ => false,
        };
        if !allowed {
            twice(&key, entry, sink);
            return None;
        }
        table = entry.item.table_mut()?;
    }
    Some(table)
}

fn insert<'i>(table: &mut Table<'i>, mut keys: Vec<Key<'i>>, item: Item<'i>, sink: &mut dyn ErrorSink) {
    let Some(last) = keys.pop() else { return };
    let parent = if keys.is_empty() {
        table
    } else {
        let Some(parent) = descend(table, keys, Origin::Dotted, &mut Vec::new(), sink) else { return };
        parent
    };
    match parent.position(&last.name).and_then(|at| parent.entries.get(at)) {
        Some(entry) => twice(&last, entry, sink),
        None => {
            parent.push(Entry { key: last.name, key_span: last.span, item });
        }
    }
}

const TWICE: &str = "duplicate key";
const TOO_DEEP: &str = "nested too deeply";

fn twice(key: &Key<'_>, earlier: &Entry<'_>, sink: &mut dyn ErrorSink) {
    let span = |span: Span| toml_parser::Span::new_unchecked(span.start(), span.end());
    sink.report_error(
        ParseError::new(TWICE).with_unexpected(span(key.span)).with_context(span(earlier.key_span)),
    );
}

fn draft(error: &ParseError) -> Draft {
    let span = error.unexpected().or(error.context()).map(Span::from).unwrap_or_default();
    if error.description() == TWICE {
        let draft = Draft::error("a key is written twice").label(span, "written again here");
        return match error.context() {
            Some(first) => draft.label(first.into(), "first written here"),
            None => draft,
        };
    }
    if error.description() == TOO_DEEP || error.description().contains("recurse") {
        return Draft::error(format!("nested more than {DEPTH_MAX} levels deep"))
            .label(span, "no configuration needs this");
    }
    if error.description() == "string values must be quoted" {
        return Draft::error("not TOML: a string must be in quotes").label(span, "put it in quotes");
    }
    let words: Vec<String> = error.expected().unwrap_or_default().iter().map(expected_word).collect();
    let expected = words.join(", ");
    let text = if expected.is_empty() { String::new() } else { format!("expected {expected}") };
    Draft::error(format!("not TOML: {}", error.description())).label(span, text)
}

fn expected_word(word: &Expected) -> String {
    match word {
        Expected::Literal("\n") => "a new line".to_owned(),
        Expected::Literal(text) => crate::diagnostic::quote(text),
        Expected::Description(text) => (*text).to_owned(),
        _ => "something else".to_owned(),
    }
}
