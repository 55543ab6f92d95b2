//! Durations: a whole number and a unit.

use super::word::{Refused, Word};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::time::Duration;

/// A duration of `LEAST` to `MOST` milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lasting<const LEAST: u64, const MOST: u64>(pub(crate) Duration);

/// For how long a client may keep its backend after its last packet.
pub(crate) type AffinityTime = Lasting<SECOND, { 24 * HOUR }>;

/// For how long a UDP flow may be silent; 0: none is kept. As long as a TCP flow at most.
pub(crate) type UdpIdleTime = Lasting<0, { 6 * HOUR }>;

/// From one health check to the next: more than ten a second are traffic of their own, and one per hour finds nothing.
pub(crate) type CheckInterval = Lasting<100, HOUR>;

/// How long a check waits: what answers within a LAN does so in 10 milliseconds or is not well.
pub(crate) type CheckTimeout = Lasting<10, HOUR>;

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;

/// The units and their milliseconds, the largest first.
const UNITS: [(&str, u64); 4] = [("h", HOUR), ("m", 60 * SECOND), ("s", SECOND), ("ms", 1)];

impl<const LEAST: u64, const MOST: u64> Word for Lasting<LEAST, MOST> {
    const WHAT: &'static str = "a duration that can be used here";

    fn parse(text: &str) -> Result<Self, Refused> {
        let duration = duration(text)?;
        let (least, most) = (Duration::from_millis(LEAST), Duration::from_millis(MOST));
        if !(least..=most).contains(&duration) {
            let (least, most) = (shown(least), shown(most));
            return Err(Refused::because(format!("must be from {least} to {most}")));
        }
        Ok(Self(duration))
    }

    fn schema() -> Schema {
        let (least, most) = (shown(Duration::from_millis(LEAST)), shown(Duration::from_millis(MOST)));
        json_schema!({
            "type": "string",
            "title": format!("a duration from {least} to {most}, in ms, s, m or h"),
            "pattern": "^[0-9]{1,12}(ms|s|m|h)$",
        })
    }
}

impl<const LEAST: u64, const MOST: u64> JsonSchema for Lasting<LEAST, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Lasting{LEAST}To{MOST}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        <Self as Word>::schema()
    }
}

/// In the largest unit that says it exactly: `90m`, `500ms`.
pub(crate) fn shown(duration: Duration) -> String {
    let all = duration.as_millis();
    let exact = UNITS.iter().find(|(_, unit)| all > 0 && all.is_multiple_of(u128::from(*unit)));
    let (unit, milliseconds) = exact.unwrap_or(&("ms", 1));
    format!("{}{unit}", all / u128::from(*milliseconds))
}

/// Longer numbers are not durations, and would not fit.
const DIGITS_MAX: usize = 12;

fn duration(text: &str) -> Result<Duration, Refused> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    if number.is_empty() {
        return Err(Refused::because("must be a whole number and a unit: `500ms`, `5s`, `10m`, `3h`"));
    }
    let milliseconds = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, milliseconds)| *milliseconds);
    let Some(milliseconds) = milliseconds else { return Err(no_unit(number, unit)) };
    match number.parse::<u64>() {
        Ok(number) if text.len() <= DIGITS_MAX + unit.len() => {
            Ok(Duration::from_millis(number.saturating_mul(milliseconds)))
        }
        _ => Err(Refused::because("a number with too many digits")),
    }
}

/// What to say about what is behind the number.
fn no_unit(number: &str, unit: &str) -> Refused {
    let write = |why: &str, unit: &str| Refused {
        why: why.to_owned(),
        help: (number.len() <= DIGITS_MAX).then(|| format!("write `{number}{unit}`")),
    };
    if unit.is_empty() {
        return write("the unit is missing", "s");
    }
    if unit.starts_with(['.', ',']) {
        return Refused::because("must be a whole number; take a smaller unit");
    }
    if unit.contains(|c: char| c.is_ascii_digit()) {
        return Refused::because("must be one number and one unit: `90m` for an hour and a half");
    }
    let bare = unit.trim().to_ascii_lowercase();
    if let Some((name, _)) = UNITS.iter().find(|(name, _)| *name == bare) {
        return write("the unit must follow the number directly, in small letters", name);
    }
    let why = "the units are `ms`, `s`, `m` and `h`";
    let long = [("milli", "ms"), ("msec", "ms"), ("sec", "s"), ("min", "m"), ("hour", "h")];
    match long.iter().find(|(start, _)| bare.starts_with(start)) {
        Some((_, name)) => write(why, name),
        None => Refused::because(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_the_largest_unit_that_says_it_exactly() {
        let cases = [(0, "0ms"), (500, "500ms"), (1_500, "1500ms"), (60_000, "1m"), (5_400_000, "90m")];
        for (milliseconds, expected) in cases {
            assert_eq!(shown(Duration::from_millis(milliseconds)), expected);
        }
    }
}
