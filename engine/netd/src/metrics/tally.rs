//! Counts passes as their reports come.

use crate::report::{PassReport, Reason, Report};
use prometheus_client::metrics::histogram::Histogram;
use std::collections::BTreeMap;

/// The upper bounds of the histogram of passes, in seconds: a pass that finds nothing takes a millisecond, the largest
/// bring-up half a minute.
const PASS_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// What was counted since the start of the process.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Passes by reason. All are there from the start: a rate needs a first value.
    pub(super) passes: BTreeMap<&'static str, u64>,
    /// How long passes took, in seconds.
    pub(super) seconds: Histogram,
    /// Changes that were made.
    pub(super) applied: u64,
    /// Changes that failed, were skipped, or hit a conflict.
    pub(super) not_applied: u64,
    last: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let reasons = [
            Reason::Startup,
            Reason::Asked,
            Reason::ConfigChanged,
            Reason::FactsChanged,
            Reason::Retry,
            Reason::Resync,
        ];
        Self {
            passes: reasons.iter().map(|reason| (reason.word(), 0)).collect(),
            seconds: Histogram::new(PASS_SECONDS),
            applied: 0,
            not_applied: 0,
            last: 0,
        }
    }
}

impl Tally {
    /// Counts the pass of this report, unless it was counted before.
    pub(super) fn count(&mut self, report: &Report) {
        let PassReport { number, reason, ended_unix_ms: _, applied, not_applied, rounds: _, took } =
            report.pass;
        if number == self.last {
            return;
        }
        self.last = number;
        *self.passes.entry(reason.word()).or_default() += 1;
        self.seconds.observe(took.total_us as f64 / 1e6);
        self.applied = self.applied.saturating_add(applied as u64);
        self.not_applied = self.not_applied.saturating_add(not_applied as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pass_is_counted_once() {
        let mut tally = Tally::default();
        let mut report = Report::default();
        tally.count(&report);
        (report.pass.number, report.pass.reason, report.pass.applied) = (1, Reason::Retry, 3);
        tally.count(&report);
        tally.count(&report);
        report.pass.number = 2;
        tally.count(&report);
        assert_eq!((tally.passes.get("retry"), tally.applied), (Some(&2), 6));
        assert_eq!(tally.passes.get("startup"), Some(&0));
    }
}
