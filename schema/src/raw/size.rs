//! Sizes: a whole number of bytes and a unit.

use super::word::{Refused, Word};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// `LEAST` to `MOST` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size<const LEAST: u64, const MOST: u64>(pub(crate) u64);

/// The units and their bytes, the largest first.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Longer numbers would not fit.
const DIGITS_MAX: usize = 13;

impl<const LEAST: u64, const MOST: u64> Word for Size<LEAST, MOST> {
    const WHAT: &'static str = "a size that can be used here";

    fn parse(text: &str) -> Result<Self, Refused> {
        let bytes = bytes(text)?;
        if !(LEAST..=MOST).contains(&bytes) {
            return Err(Refused::because(format!("must be from {} to {}", shown(LEAST), shown(MOST))));
        }
        Ok(Self(bytes))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": format!("a size from {} to {}, in B, KiB, MiB, GiB or TiB", shown(LEAST), shown(MOST)),
            "pattern": format!("^[0-9]{{1,{DIGITS_MAX}}}(B|KiB|MiB|GiB|TiB)$"),
        })
    }
}

impl<const LEAST: u64, const MOST: u64> JsonSchema for Size<LEAST, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Size{LEAST}To{MOST}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        <Self as Word>::schema()
    }
}

/// In the largest unit that says it exactly: `64MiB`, `1500B`.
fn shown(bytes: u64) -> String {
    let exact = UNITS.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    let (unit, size) = exact.unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / size)
}

fn bytes(text: &str) -> Result<u64, Refused> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    if number.is_empty() {
        return Err(Refused::because("must be a whole number and a unit: `4096B`, `64MiB`, `1GiB`"));
    }
    let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(no_unit(number, unit));
    };
    match number.parse::<u64>() {
        Ok(number) if text.len() <= DIGITS_MAX + unit.len() => Ok(number.saturating_mul(*size)),
        _ => Err(Refused::because("a number with too many digits")),
    }
}

/// What to say about what is behind the number.
fn no_unit(number: &str, unit: &str) -> Refused {
    let first = unit.trim().to_ascii_uppercase();
    let near = UNITS.iter().find(|(name, _)| first.chars().next() == name.chars().next());
    let meant = match near {
        _ if unit.is_empty() => Some("B"),
        near => near.map(|(name, _)| *name),
    };
    let help = meant.filter(|_| number.len() <= DIGITS_MAX).map(|name| format!("write `{number}{name}`"));
    Refused { why: "the units are `B`, `KiB`, `MiB`, `GiB` and `TiB`".to_owned(), help }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_its_number_times_its_unit_and_is_shown_so() {
        for (text, expected) in [("1B", 1), ("64MiB", 64 << 20), ("1TiB", 1 << 40), ("1500B", 1500)] {
            assert_eq!(bytes(text).ok(), Some(expected));
            assert_eq!(shown(expected), text);
        }
    }

    #[test]
    fn another_unit_is_refused_with_the_one_that_is_meant() {
        let help = |text: &str| bytes(text).err().and_then(|refused| refused.help);
        assert_eq!(help("64mb").as_deref(), Some("write `64MiB`"));
        assert_eq!(help("4096").as_deref(), Some("write `4096B`"));
        assert_eq!(help("64 parsecs"), None);
        assert!(bytes("99999999999999B").is_err());
    }
}
