//! When to try again.

use std::time::Duration;

/// The first retry comes after this time.
const FIRST: Duration = Duration::from_millis(200);

/// No retry waits longer than this: a fault that ended is noticed within it.
const LONGEST: Duration = Duration::from_secs(30);

/// Delays that double from attempt to attempt, spread so that many nodes do not retry in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    attempts: u32,
    first: Duration,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::between(FIRST, LONGEST)
    }
}

impl Backoff {
    /// Delays from this one up to that one.
    #[must_use]
    pub fn between(first: Duration, longest: Duration) -> Self {
        Self { attempts: 0, first, longest }
    }

    /// The delay before the next attempt. `spread` is any number that differs between nodes and attempts.
    pub fn next(&mut self, spread: u64) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.attempts.min(16)).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        // Between three quarters of the delay and the whole of it.
        let quarter = u64::try_from(doubled.as_millis() / 4).unwrap_or(u64::MAX);
        doubled - Duration::from_millis(spread % (quarter + 1))
    }

    /// How many attempts failed in a row.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Something succeeded: the next failure starts from the beginning.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_half_a_minute() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..10).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
    }

    #[test]
    fn a_spread_never_makes_a_delay_longer_or_less_than_three_quarters() {
        for spread in [1, 49, 50, 51, 12345, u64::MAX] {
            let delay = Backoff::default().next(spread).as_millis();
            assert!((150..=200).contains(&delay), "{spread}: {delay}");
        }
    }
}
