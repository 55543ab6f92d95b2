//! Every reading of the clock: timers run on the monotonic one, and only what people read shows the time of day.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The time since the machine booted, sleep included: comparable between processes, not between boots.
#[must_use]
pub fn since_boot() -> Duration {
    kernel_clock(rustix::time::ClockId::Boottime)
}

/// The time since the machine booted, without sleep: what the kernel's programs read.
#[must_use]
pub fn awake() -> Duration {
    kernel_clock(rustix::time::ClockId::Monotonic)
}

fn kernel_clock(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The time of day since 1970, for what people read.
#[must_use]
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time of day in milliseconds of Unix time, for people and for the store; nothing is timed by it.
#[must_use]
pub fn unix_ms() -> u64 {
    u64::try_from(unix().as_millis()).unwrap_or(u64::MAX)
}

/// A time of day as people write it, in UTC: `2026-03-01 12:00:05Z`.
#[must_use]
pub fn shown(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => format!("{unix_ms} ms"),
    }
}

/// A time of day for the name of a file, in UTC: `20260301T120005Z`.
#[must_use]
pub fn in_a_name(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.strftime("%Y%m%dT%H%M%SZ").to_string(),
        Err(_) => unix_ms.to_string(),
    }
}

/// Measures one stage after the other.
#[derive(Debug)]
pub struct Stopwatch {
    started: Instant,
    lap: Instant,
}

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        let now = now();
        Self { started: now, lap: now }
    }

    /// The time since the last lap, or since the start.
    pub fn lap(&mut self) -> Duration {
        let now = now();
        let lap = now.saturating_duration_since(self.lap);
        self.lap = now;
        lap
    }

    /// The time since the start.
    #[must_use]
    pub fn total(&self) -> Duration {
        now().saturating_duration_since(self.started)
    }
}
