//! From answers to a verdict, and what passes read of verdicts. Pure: the time is an argument.

use super::check::Pace;
use netd_schema::Backend;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// What is known of the backends' health, as a fact for a pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// For every VIP that is checked, the backends that are unhealthy. Those that are not named are in force.
    pub unhealthy: BTreeMap<Group, BTreeMap<BackendId, Unhealthy>>,
    /// Backends that were out of force for their health when this process started, by service, address and port: they
    /// stay so until the checks of their VIP have begun.
    pub carried: BTreeSet<(String, IpAddr, u16)>,
    /// What is odd about the checking of backends, to be said after their names: `is not checked: ...`.
    pub remarks: BTreeMap<Group, BTreeMap<BackendId, String>>,
    /// The VIPs that are checked and not judged yet: what is said of their backends is from before.
    pub unjudged: BTreeSet<Group>,
    /// For how long those that are unhealthy have been so while this process looked.
    pub unhealthy_for: BTreeMap<Group, BTreeMap<BackendId, Duration>>,
}

/// The backends of one VIP of a service: what the floor is a share of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The service.
    pub service: String,
    /// The VIP.
    pub vip: IpAddr,
}

/// What tells the backends of a service apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackendId {
    /// Its address.
    pub address: IpAddr,
    /// Its own port, if it has one.
    pub port: Option<u16>,
}

impl BackendId {
    /// That of a backend of the file.
    #[must_use]
    pub fn of(backend: &Backend) -> Self {
        Self { address: backend.address, port: backend.port }
    }
}

/// Why a backend is given no traffic, although the file says that it is active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unhealthy {
    /// Since when, in milliseconds of Unix time.
    pub since_unix_ms: u64,
    /// What the last failed check said.
    pub why: String,
}

/// The answers of one check, counted.
///
/// A backend is in force until `fall` checks in a row failed, and again after `rise` good answers in a row. The first
/// good answer decides that it is healthy, so that nothing waits for a round of `rise`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracker {
    unhealthy: Option<Unhealthy>,
    is_decided: bool,
    /// Answers in a row that contradict what holds.
    against: u32,
}

impl Tracker {
    /// Begins with what held before: as long as the answers do not say otherwise, it holds on.
    #[must_use]
    pub fn carrying(unhealthy: Option<Unhealthy>) -> Self {
        Self { unhealthy, ..Self::default() }
    }

    /// Counts one answer, given at a Unix time in milliseconds; says whether what is known changed.
    pub fn take(&mut self, answer: Result<(), String>, pace: &Pace, at_unix_ms: u64) -> bool {
        let before = (self.unhealthy.is_some(), self.is_decided);
        match (answer, &mut self.unhealthy) {
            (Ok(()), None) => {
                self.against = 0;
                self.is_decided = true;
            }
            (Ok(()), Some(_)) => {
                self.against += 1;
                if self.against >= pace.rise {
                    *self = Self { unhealthy: None, is_decided: true, against: 0 };
                }
            }
            (Err(why), None) => {
                self.against += 1;
                if self.against >= pace.fall {
                    let unhealthy = Some(Unhealthy { since_unix_ms: at_unix_ms, why });
                    *self = Self { unhealthy, is_decided: true, against: 0 };
                }
            }
            (Err(why), Some(unhealthy)) => {
                unhealthy.why = why;
                self.against = 0;
                self.is_decided = true;
            }
        }
        before != (self.unhealthy.is_some(), self.is_decided)
    }

    /// Why the backend is unhealthy; `None` while it is in force.
    #[must_use]
    pub fn unhealthy(&self) -> Option<&Unhealthy> {
        self.unhealthy.as_ref()
    }

    /// Whether the answers have said something, be it good or bad.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.is_decided
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PACE: Pace =
        Pace { interval: Duration::from_secs(5), timeout: Duration::from_secs(2), rise: 2, fall: 3 };

    fn after(tracker: &mut Tracker, answers: &str) {
        for (second, answer) in (1u64..).zip(answers.chars()) {
            let answer = if answer == '+' { Ok(()) } else { Err(format!("no {second}")) };
            tracker.take(answer, &PACE, second * 1000);
        }
    }

    fn holds(answers: &str) -> Option<u64> {
        let mut tracker = Tracker::default();
        after(&mut tracker, answers);
        tracker.unhealthy().map(|unhealthy| unhealthy.since_unix_ms)
    }

    #[test]
    fn a_backend_is_in_force_until_fall_checks_in_a_row_failed() {
        assert_eq!([holds(""), holds("--"), holds("--+--"), holds("++--")], [None; 4]);
        assert_eq!([holds("---"), holds("--+---"), holds("-----")], [Some(3000), Some(6000), Some(3000)]);
    }

    #[test]
    fn it_comes_back_after_rise_good_answers_in_a_row() {
        assert_eq!([holds("---+"), holds("---+-+")], [Some(3000); 2]);
        assert_eq!([holds("---++"), holds("---+-++--")], [None; 2]);
    }

    #[test]
    fn the_reason_is_that_of_the_last_failure() {
        let mut tracker = Tracker::default();
        after(&mut tracker, "-----");
        assert_eq!(tracker.unhealthy().map(|unhealthy| unhealthy.why.as_str()), Some("no 5"));
    }

    #[test]
    fn the_first_good_answer_decides_and_fewer_failures_than_fall_do_not() {
        for (answers, is_decided) in [("", false), ("-", false), ("--", false), ("---", true), ("+", true)] {
            let mut tracker = Tracker::default();
            after(&mut tracker, answers);
            assert_eq!(tracker.is_decided(), is_decided, "{answers}");
        }
    }

    #[test]
    fn what_was_unhealthy_before_stays_so_until_rise_good_answers() {
        let carried = Unhealthy { since_unix_ms: 7, why: "before".into() };
        let mut tracker = Tracker::carrying(Some(carried.clone()));
        after(&mut tracker, "+");
        assert_eq!((tracker.unhealthy(), tracker.is_decided()), (Some(&carried), false));
        after(&mut tracker, "+");
        assert_eq!((tracker.unhealthy(), tracker.is_decided()), (None, true));
        let mut tracker = Tracker::carrying(Some(carried));
        after(&mut tracker, "-");
        assert!(tracker.is_decided() && tracker.unhealthy().is_some_and(|now| now.since_unix_ms == 7));
    }

    #[test]
    fn only_what_becomes_known_is_told() {
        let mut tracker = Tracker::default();
        let mut told = |is_good| {
            let answer = if is_good { Ok(()) } else { Err(String::new()) };
            tracker.take(answer, &PACE, 0)
        };
        assert_eq!([told(false), told(true), told(true), told(false)], [false, true, false, false]);
        assert_eq!([told(false), told(false), told(false), told(true)], [false, true, false, false]);
        assert!(told(true));
    }
}
