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
}
