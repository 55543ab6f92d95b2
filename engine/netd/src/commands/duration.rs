//! Durations as people type them.

use anyhow::{Context as _, bail};
use std::time::Duration;

/// `90s`, `5m`, `1h`, or seconds.
///
/// # Errors
///
/// How it is written.
pub(super) fn read(text: &str) -> anyhow::Result<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => bail!("`{text}` is not a duration; write it like 90s or 5m"),
    };
    let count: u64 =
        digits.parse().with_context(|| format!("`{text}` is not a duration; write it like 90s or 5m"))?;
    Ok(Duration::from_secs(count.saturating_mul(seconds)))
}

/// In whole seconds, in the two largest units that say something: `12s`, `5m3s`, `2h10m`, `3d`.
pub(super) fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (count, unit, rest, smaller) = match seconds {
        0..60 => (seconds, "s", 0, ""),
        60..3_600 => (seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => (seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => (seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    };
    match rest {
        0 => format!("{count}{unit}"),
        rest => format!("{count}{unit}{rest}{smaller}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(read("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(read("5m").unwrap(), Duration::from_secs(300));
        assert_eq!(read("7").unwrap(), Duration::from_secs(7));
        assert!(read("").is_err() && read("s").is_err() && read("5d").is_err());
    }

    #[test]
    fn a_duration_is_shown_in_its_two_largest_units() {
        let cases = [(0, "0s"), (59, "59s"), (60, "1m"), (63, "1m3s"), (7_800, "2h10m"), (273_600, "3d4h")];
        for (seconds, expected) in cases {
            assert_eq!(words(Duration::from_secs(seconds)), expected);
        }
        assert_eq!(words(Duration::from_secs(86_460)), "1d");
    }
}
