//! The configuration file: text in, a typed and canonical [`Config`] out, or every mistake that it has.
//!
//! This crate does no I/O. It knows nothing of kernels.
//!
//! A file goes through four stages: its bytes are checked to be text (`text`), the text is read as TOML with places
//! (`document`), the tables and keys are read by the vocabulary (`raw`), the sections are compared with each other
//! (`check`); only then is it given its meaning (`lower`, [`model`](Config)). Each stage reports all that it finds.

mod check;
mod diagnostic;
mod document;
mod explain;
mod lower;
mod model;
mod raw;
mod reference;
mod schema;
mod span;
mod text;

pub use diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Diagnostics, Excerpt, Label, Severity};
pub use explain::explain;
pub use model::*;
pub use raw::unusable_address;
pub use reference::reference_markdown;
pub use schema::json_schema;
pub use text::{FILE_BYTES_MAX, quoted};

use diagnostic::Diagnoses;
use document::{Item, Soundness, Value};
use raw::{Raw as _, Trust};
use span::Span;

/// An accepted file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What it means.
    pub config: Config,
    /// What is allowed, and probably not meant.
    pub warnings: Diagnostics,
}

/// Reads a file; `file_name` is only shown.
///
/// # Errors
///
/// Every mistake of the file, up to [`DIAGNOSTICS_MAX`], and the warnings. A file with a mistake means nothing.
pub fn parse(file_name: &str, bytes: &[u8]) -> Result<Parsed, Diagnostics> {
    parse_by(file_name, bytes, Rules::Hold)
}

/// Reads a file that was accepted before, maybe by another version: what the rules between its keys say against it is a
/// warning, so that no new rule takes it out of force. A name that nothing has stays a mistake.
///
/// # Errors
///
/// As for [`parse`]: words and values that are not known mean nothing.
pub fn recall(file_name: &str, bytes: &[u8]) -> Result<Parsed, Diagnostics> {
    parse_by(file_name, bytes, Rules::Advise)
}

/// What the rules between keys are for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    Hold,
    Advise,
}

fn parse_by(file_name: &str, bytes: &[u8], rules: Rules) -> Result<Parsed, Diagnostics> {
    let mut diagnoses = Diagnoses::default();
    let Some(text) = text::check(bytes, &mut diagnoses) else {
        let shown = bytes.get(..bytes.len().min(FILE_BYTES_MAX)).unwrap_or_default();
        return Err(diagnoses.finish(file_name, &String::from_utf8_lossy(shown)));
    };
    let config = read(text, rules, &mut diagnoses);
    let errors = diagnoses.errors();
    let found = diagnoses.finish(file_name, text);
    match config {
        Some(config) if errors == 0 => Ok(Parsed { config, warnings: found }),
        _ => Err(found),
    }
}

fn read(text: &str, rules: Rules, diagnoses: &mut Diagnoses) -> Option<Config> {
    let (table, soundness) = document::build(text, diagnoses);
    let trust = match soundness {
        Soundness::Sound => Trust::Whole,
        Soundness::BrokenValues => Trust::KeysOnly,
        Soundness::BrokenHeaders => return None,
    };
    let item = Item { span: Span::new(0, text.len()), value: Value::Table(Box::new(table)) };
    if raw::refuse_other_version(&item, diagnoses) {
        return None;
    }
    let top = raw::Top::read(&item, &mut raw::Reader::new(text, trust, diagnoses))?;
    drop(item);
    if trust == Trust::Whole {
        let mut said = Diagnoses::default();
        check::check(&top, &mut said);
        if rules == Rules::Advise {
            said.soften();
        }
        diagnoses.append(said);
    }
    if diagnoses.errors() > 0 {
        return None;
    }
    Some(lower::lower(&top))
}
