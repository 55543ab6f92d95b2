//! Whole numbers within bounds, and booleans.

use super::{Raw, Reader};
use crate::diagnostic::Draft;
use crate::document::{Item, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// An integer from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Within<const MIN: u32, const MAX: u32>(u32);

/// A TCP or UDP port; 0 is reserved (RFC 6335, section 6).
pub(crate) type PortNumber = Within<1, 65_535>;

/// The share of a backend.
pub(crate) type Weight = Within<0, 65_535>;

/// A TTL or hop limit that lets a packet leave.
pub(crate) type HopLimit = Within<1, 255>;

/// What is asked first among several.
pub(crate) type Priority = Within<0, 65_535>;

/// A whole number of percent.
pub(crate) type Percent = Within<0, 100>;

/// So many checks in a row; more would take longer than anybody waits.
pub(crate) type Count = Within<1, 100>;

/// Packets per second; beyond a million the limit protects nobody.
pub(crate) type Rate = Within<0, 1_000_000>;

impl<const MIN: u32, const MAX: u32> Within<MIN, MAX> {
    /// The value, where the declared bounds fit 16 bits; it was checked against them.
    pub(crate) fn get(self) -> u16 {
        u16::try_from(self.0).unwrap_or(u16::MAX)
    }

    /// The value, where the declared bounds fit 8 bits.
    pub(crate) fn byte(self) -> u8 {
        u8::try_from(self.0).unwrap_or(u8::MAX)
    }

    /// The value.
    pub(crate) fn wide(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Raw for Within<MIN, MAX> {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::Integer(number) = item.value else {
            reader.wrong_type(item, &format!("an integer from {MIN} to {MAX}"));
            return None;
        };
        let number = number
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (MIN..=MAX).contains(number));
        if number.is_none() {
            let (key, found) = (reader.key(), reader.found(item.span));
            reader.report(|| {
                Draft::error(format!("`{key}` is out of range: {found}"))
                    .label(item.span, format!("must be from {MIN} to {MAX}"))
            });
        }
        number.map(Self)
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Within<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("From{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

impl Raw for bool {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        if let Value::Boolean(value) = item.value {
            return Some(value);
        }
        reader.wrong_type(item, "`true` or `false`");
        None
    }
}
