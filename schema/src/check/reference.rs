//! Words that name something else of the file, and name nothing.

use crate::diagnostic::{Diagnoses, Draft, quote};
use crate::explain::nearest;
use crate::span::Span;

/// A word that names something of the file.
pub(super) struct Reference<'a> {
    /// "service", "pool".
    pub what: &'static str,
    /// The header of the table that it names: `[[services]]`.
    pub header: &'static str,
    pub name: &'a str,
    pub span: Span,
}

impl Reference<'_> {
    /// Says that there is no such thing, and which of `names` was probably meant.
    pub(super) fn unknown<'n>(&self, names: impl IntoIterator<Item = &'n str>, diagnoses: &mut Diagnoses) {
        self.unknown_unless_meant(names, None, diagnoses);
    }

    /// The same, with what else may be meant if no name is near.
    pub(super) fn unknown_unless_meant<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
        otherwise: Option<&str>,
        diagnoses: &mut Diagnoses,
    ) {
        diagnoses.push(|| {
            let draft = Draft::error(format!("there is no {} called {}", self.what, quote(self.name)))
                .label(self.span, format!("names one of the `{}`", self.header))
                .meaningless();
            match (nearest(self.name, names.into_iter()), otherwise) {
                (Some(near), _) => draft.help(format!("did you mean `\"{near}\"`?")),
                (None, Some(otherwise)) => draft.help(otherwise),
                (None, None) => draft,
            }
        });
    }
}
