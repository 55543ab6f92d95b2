//! What is said about an object: what of it is not in the file, and why.

use std::error::Error;
use std::fmt;

/// Longer texts of objects are cut where they are shown: nobody reads on, and a log line stays one.
const SHOWN_CHARACTERS_MAX: usize = 253;

/// Which object something is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// `Service`, `Node`.
    pub kind: &'static str,
    /// Empty for objects of the whole cluster.
    pub namespace: String,
    /// Its name, as the object has it.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = plain(&self.name);
        match self.namespace.is_empty() {
            true => write!(f, "{} {name}", self.kind),
            false => write!(f, "{} {}/{name}", self.kind, plain(&self.namespace)),
        }
    }
}

/// One sentence about an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The object.
    pub object: ObjectRef,
    /// What is not in the file, and why; without a full stop.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.text)
    }
}

/// A text of an object as it can be shown on a terminal and in a comment: on one line, of characters that look like what
/// they are, and not endless.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::new();
    for (at, character) in text.chars().enumerate() {
        if at == SHOWN_CHARACTERS_MAX {
            shown.push('…');
            break;
        }
        match character {
            ' '..='~' => shown.push(character),
            _ => shown.extend(character.escape_default()),
        }
    }
    shown
}

/// An error and its causes, on one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    plain(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_comment_or_turn_text_around_is_shown_as_an_escape() {
        assert_eq!(plain("a\n[[services]]\u{202e}\u{7f}\r"), "a\\n[[services]]\\u{202e}\\u{7f}\\r");
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(plain(&"x".repeat(1000)).chars().count(), SHOWN_CHARACTERS_MAX + 1);
    }
}
