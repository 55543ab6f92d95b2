//! Collects what is found while a file is read; bounded, and cheap when there is nothing.

use super::excerpt::Lines;
use super::{DIAGNOSTICS_MAX, Diagnostic, Diagnostics, Label, Severity};
use crate::span::Span;

/// Found in any order and sorted afterwards, so more are kept than are shown.
const DRAFTS_MAX: usize = 10_000;

/// A diagnostic whose places are still byte ranges.
#[derive(Debug)]
pub(crate) struct Draft {
    severity: Severity,
    message: String,
    labels: Vec<(Span, String)>,
    help: Option<String>,
    secret: bool,
    meaningless: bool,
}

impl Draft {
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            labels: Vec::new(),
            help: None,
            secret: false,
            meaningless: false,
        }
    }

    pub(crate) fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    pub(crate) fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push((span, text.into()));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What stands at its places may be a secret, and is not shown.
    pub(crate) fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// No rule that could be dropped: without what is missing, the file means nothing.
    pub(crate) fn meaningless(mut self) -> Self {
        self.meaningless = true;
        self
    }

    fn place(&self) -> Span {
        self.labels.first().map(|(span, _)| *span).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Diagnoses {
    drafts: Vec<Draft>,
    omitted: usize,
    errors: usize,
}

impl Diagnoses {
    /// Adds one; it is not even made if there are too many already.
    pub(crate) fn push(&mut self, draft: impl FnOnce() -> Draft) {
        if self.drafts.len() >= DRAFTS_MAX {
            self.omitted += 1;
            return;
        }
        let draft = draft();
        self.errors += usize::from(draft.severity == Severity::Error);
        self.drafts.push(draft);
    }

    /// Makes warnings of all errors but those that leave the file without a meaning.
    pub(crate) fn soften(&mut self) {
        let softened = self.drafts.iter_mut().filter(|draft| !draft.meaningless);
        softened.for_each(|draft| draft.severity = Severity::Warning);
        self.errors = self.drafts.iter().filter(|draft| draft.severity == Severity::Error).count();
    }

    /// Adds all of the others.
    pub(crate) fn append(&mut self, others: Self) {
        self.omitted += others.omitted;
        for draft in others.drafts {
            self.push(|| draft);
        }
    }

    /// How many errors there are so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// In the order of the file, with lines, columns and excerpts.
    pub(crate) fn finish(mut self, file: &str, text: &str) -> Diagnostics {
        self.drafts.sort_by_key(|draft| (draft.severity, draft.place()));
        self.drafts
            .dedup_by(|later, earlier| later.place() == earlier.place() && later.message == earlier.message);
        let omitted = self.omitted + self.drafts.len().saturating_sub(DIAGNOSTICS_MAX);
        self.drafts.truncate(DIAGNOSTICS_MAX);
        let offsets = self.drafts.iter().flat_map(|draft| draft.labels.iter().map(|(span, _)| span.start()));
        let lines = Lines::of(text, offsets.collect());
        let list = self
            .drafts
            .into_iter()
            .map(|draft| Diagnostic {
                severity: draft.severity,
                message: draft.message,
                labels: draft
                    .labels
                    .into_iter()
                    .map(|(span, said)| {
                        let mut label = label(&lines, text, span, said);
                        if draft.secret {
                            label.excerpt.hide();
                        }
                        label
                    })
                    .collect(),
                help: draft.help,
            })
            .collect();
        Diagnostics { file: file.to_owned(), list, omitted }
    }
}

fn label(lines: &Lines, text: &str, span: Span, said: String) -> Label {
    let (line, column, excerpt) = lines.locate(text, span);
    Label { span: span.range(), line, column, text: said, excerpt }
}

/// Text of the file in a message: in back-ticks, escaped, and not longer than a message should be.
pub(crate) fn quote(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    let mut quoted = String::from("`");
    for (at, character) in text.chars().enumerate() {
        if at == CHARACTERS_MAX {
            quoted.push('…');
            break;
        }
        if character.is_control() || crate::text::is_bidi_control(character) {
            quoted.extend(character.escape_default());
        } else {
            quoted.push(character);
        }
    }
    quoted.push('`');
    quoted
}
