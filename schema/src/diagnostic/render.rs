//! Diagnostics as people read them.

use super::{Diagnostic, Diagnostics, Severity};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::fmt::Write as _;

pub(super) fn render(diagnostics: &Diagnostics, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for (at, diagnostic) in diagnostics.list.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        text.push_str(&renderer.render(&[group(&diagnostics.file, diagnostic)]));
        text.push('\n');
    }
    if diagnostics.omitted > 0 {
        let _ = writeln!(text, "\nand {} more", diagnostics.omitted);
    }
    text
}

fn group<'a>(file: &'a str, diagnostic: &'a Diagnostic) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = level.primary_title(diagnostic.message.as_str()).elements(None::<Origin<'_>>);
    if diagnostic.labels.is_empty() {
        group = group.element(Origin::path(file));
    }
    for (at, label) in diagnostic.labels.iter().enumerate() {
        let kind = if at == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let text = Some(label.text.as_str()).filter(|text| !text.is_empty());
        let snippet = Snippet::source(label.excerpt.text.as_str())
            .line_start(label.line)
            .fold(false)
            .annotation(kind.span(label.excerpt.mark.clone()).label(text));
        // The column in the heading is counted from the text, which is right only if it starts with the line.
        group = if label.excerpt.cut {
            group.element(Origin::path(file).line(label.line).char_column(label.column)).element(snippet)
        } else {
            group.element(snippet.path(file))
        };
    }
    match &diagnostic.help {
        Some(help) => group.element(Level::HELP.message(help.as_str())),
        None => group,
    }
}
