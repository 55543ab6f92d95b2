//! From byte ranges to lines, columns and short pieces of lines.

use crate::span::Span;
use std::ops::Range;

/// A piece of one line of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The text of the line, or of the part of it around the place.
    pub text: String,
    /// The bytes of `text` that are meant.
    pub mark: Range<usize>,
    /// The text does not start where the line does.
    pub cut: bool,
}

impl Excerpt {
    /// Puts stars where the place is.
    pub(super) fn hide(&mut self) {
        let marked = self.text.get(self.mark.clone()).unwrap_or_default();
        let stars = "*".repeat(marked.chars().count());
        self.text.replace_range(self.mark.clone(), &stars);
        self.mark.end = self.mark.start + stars.len();
    }
}

/// Lengths of what may be a key in base64, whole or with an end that went missing.
const KEY_CHARACTERS: std::ops::RangeInclusive<usize> = 40..=48;

/// Puts stars over what looks like a key: a line with a mistake may have a secret beside it.
fn hide_keys(text: &mut String) {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let mut start = 0;
    while let Some(at) = text.get(start..).and_then(|rest| rest.find(is_base64)) {
        let begin = start + at;
        let length = text[begin..].find(|c| !is_base64(c)).unwrap_or(text.len() - begin);
        let run = &text[begin..begin + length];
        let mixed =
            run.contains(|c: char| c.is_ascii_uppercase()) && run.contains(|c: char| c.is_ascii_lowercase());
        if KEY_CHARACTERS.contains(&length) && mixed {
            text.replace_range(begin..begin + length, &"*".repeat(length));
        }
        start = begin + length;
    }
}

/// Characters of a line that are kept before and after the start of a place; what is shown of them depends on the
/// width of the terminal.
const BEFORE_MAX: usize = 400;
const AFTER_MAX: usize = 200;

/// The lines of the places that are asked for; not of all lines, because a file may have millions.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// By offset.
    places: Vec<Place>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    offset: usize,
    line: usize,
    line_start: usize,
}

impl Lines {
    /// One walk over `text` for all the places at `offsets`.
    pub(super) fn of(text: &str, mut offsets: Vec<usize>) -> Self {
        offsets.sort_unstable();
        let mut here = Place { offset: 0, line: 1, line_start: 0 };
        let places = offsets
            .into_iter()
            .map(|offset| {
                let offset = floor(text, offset).max(here.offset);
                let passed = text.as_bytes().get(here.offset..offset).unwrap_or_default();
                for (at, _) in passed.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
                    here.line += 1;
                    here.line_start = here.offset + at + 1;
                }
                here.offset = offset;
                here
            })
            .collect();
        Self { places }
    }

    /// Line and column of the start of `span`, and what that line says.
    pub(super) fn locate(&self, text: &str, span: Span) -> (usize, usize, Excerpt) {
        let start = floor(text, span.start());
        let place = self.places.partition_point(|place| place.offset < start);
        let Place { line, line_start, .. } = self.places.get(place).copied().unwrap_or_default();
        let line_start =
            if line_start == 0 && text.starts_with('\u{feff}') { 3.min(start) } else { line_start };
        let before = text.get(line_start..start).unwrap_or_default();
        let rest = text.get(start..).unwrap_or_default();
        let rest = rest.split(['\n', '\r']).next().unwrap_or_default();
        let column = before.chars().count() + 1;

        let shown_before = before.char_indices().rev().nth(BEFORE_MAX - 1).map_or(0, |(at, _)| at);
        let before = before.get(shown_before..).unwrap_or_default();
        let shown_rest = rest.char_indices().nth(AFTER_MAX).map_or(rest.len(), |(at, _)| at);
        let cut_after = shown_rest < rest.len();
        let rest = rest.get(..shown_rest).unwrap_or_default();
        let marked = floor(rest, span.end().saturating_sub(start).min(rest.len()));

        let mut excerpt = Excerpt { cut: shown_before > 0, ..Excerpt::default() };
        if excerpt.cut {
            excerpt.text.push('…');
        }
        push_visible(&mut excerpt.text, before);
        let mark_start = excerpt.text.len();
        push_visible(&mut excerpt.text, rest.get(..marked).unwrap_or_default());
        excerpt.mark = mark_start..excerpt.text.len();
        push_visible(&mut excerpt.text, rest.get(marked..).unwrap_or_default());
        if cut_after {
            excerpt.text.push('…');
        }
        hide_keys(&mut excerpt.text);
        (line, column, excerpt)
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The renderer shows most control characters as symbols, but not those of Latin-1, which terminals obey too.
fn push_visible(excerpt: &mut String, text: &str) {
    excerpt.extend(
        text.chars().map(|c| if matches!(c, '\u{80}'..='\u{9f}') { char::REPLACEMENT_CHARACTER } else { c }),
    );
}
