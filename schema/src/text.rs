//! Whether the bytes of a file are text that a person can be shown: the rules that come before TOML. And how a
//! text is written in it.

use crate::diagnostic::{Diagnoses, Draft};
use crate::span::Span;

/// Larger files are refused, by the reader of the file before it has read them whole and by [`crate::parse`].
/// A hundred thousand backends take about 6 MiB.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// A text as a value of TOML on one line, whatever is in it: the escapes of JSON are TOML's, too, but for one character.
#[must_use]
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// The text of a file, or what forbids to read on.
pub(crate) fn check<'i>(bytes: &'i [u8], diagnoses: &mut Diagnoses) -> Option<&'i str> {
    if bytes.len() > FILE_BYTES_MAX {
        let (size, limit) = (bytes.len(), FILE_BYTES_MAX >> 20);
        diagnoses.push(|| Draft::error(format!("the file has {size} bytes; the limit is {limit} MiB")));
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            refuse_bytes(bytes, error.valid_up_to(), diagnoses);
            return None;
        }
    };
    let before = diagnoses.errors();
    for (at, character) in text.char_indices() {
        if character == '\0' {
            diagnoses.push(|| {
                Draft::error(format!("a NUL byte at offset {at}"))
                    .label(Span::new(at, at + 1), "not allowed anywhere in the file")
            });
        } else if is_bidi_control(character) {
            let code = u32::from(character);
            diagnoses.push(|| {
                Draft::error(format!("U+{code:04X} at offset {at} makes text look different from what it is"))
                    .label(Span::new(at, at + character.len_utf8()), "not allowed anywhere in the file")
                    .help("remove the character; it is invisible in most editors")
            });
        }
    }
    if diagnoses.errors() > before {
        return None;
    }
    if is_blank(text) {
        diagnoses.push(|| {
            Draft::error("the file is empty")
                .help("a file that is meant to ask for nothing says `version = 1` and `allow_empty = true`")
        });
        return None;
    }
    Some(text)
}

/// Characters that change the direction of the text around them: what is shown is then not what is read.
pub(crate) fn is_bidi_control(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn refuse_bytes(bytes: &[u8], at: usize, diagnoses: &mut Diagnoses) {
    let before = bytes.get(..at).unwrap_or_default();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count() + 1;
    let byte = bytes.get(at).copied().unwrap_or_default();
    diagnoses.push(|| {
        Draft::error(format!("not UTF-8: the byte 0x{byte:02x} at offset {at}, line {line}, column {column}"))
            .label(Span::new(at, at + 1), "from here on the text cannot be read")
            .help("save the file as UTF-8")
    });
}

/// Nothing but white space and comments.
fn is_blank(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'))
}
