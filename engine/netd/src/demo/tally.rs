//! What the client saw, counted, and what that says.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A wait longer than this is a stall: the first retransmission of a lost SYN comes after a second.
pub(super) const STALL: Duration = Duration::from_secs(1);

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Whether a request had a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Connection {
    New,
    Kept,
}

/// The requests that began in a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    answers: BTreeMap<(Connection, Family, String), u64>,
    failures: BTreeMap<String, u64>,
    slowest: Duration,
}

impl Tally {
    /// Counts an answer of a backend, which took this long.
    pub(super) fn answer(&mut self, connection: Connection, family: Family, backend: &str, took: Duration) {
        *self.answers.entry((connection, family, backend.to_owned())).or_default() += 1;
        self.slowest = self.slowest.max(took);
    }

    /// Counts a request without an answer, or with a wrong one.
    pub(super) fn failure(&mut self, what: String) {
        *self.failures.entry(what).or_default() += 1;
    }

    /// All stretches of time as one.
    pub(super) fn sum(tallies: &[Self]) -> Self {
        let mut all = Self::default();
        for tally in tallies {
            for (key, count) in &tally.answers {
                *all.answers.entry(key.clone()).or_default() += count;
            }
            for (what, count) in &tally.failures {
                *all.failures.entry(what.clone()).or_default() += count;
            }
            all.slowest = all.slowest.max(tally.slowest);
        }
        all
    }

    /// Requests on connections of this sort that a backend answered.
    pub(super) fn answers_of(&self, connection: Connection, family: Family, backend: &str) -> u64 {
        self.answers.get(&(connection, family, backend.to_owned())).copied().unwrap_or(0)
    }

    /// As [`Tally::answers_of`], of both families.
    pub(super) fn of_both(&self, connection: Connection, backend: &str) -> u64 {
        Family::ALL.iter().map(|family| self.answers_of(connection, *family, backend)).sum()
    }

    /// All answers.
    pub(super) fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Nothing failed and nothing stalled; else what did.
    pub(super) fn smooth(&self) -> Result<(), String> {
        let mut wrong: Vec<String> =
            self.failures.iter().map(|(what, count)| format!("{what} ({count} times)")).collect();
        if self.slowest > STALL {
            wrong.push(format!("a request took {} ms", self.slowest.as_millis()));
        }
        if self.answered() == 0 {
            wrong.push("there was no answer".into());
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// A line for each backend, and the sum.
    pub(super) fn table<'a>(&self, backends: impl Iterator<Item = &'a str>) -> String {
        let mut text = String::from("             new connections        on kept connections\n");
        text += "                IPv4     IPv6          IPv4     IPv6\n";
        for backend in backends {
            let count = |connection, family| self.answers_of(connection, family, backend);
            text += &format!(
                "  {backend:9} {:>9}{:>9}     {:>9}{:>9}\n",
                count(Connection::New, Family::V4),
                count(Connection::New, Family::V6),
                count(Connection::Kept, Family::V4),
                count(Connection::Kept, Family::V6),
            );
        }
        let failed: u64 = self.failures.values().sum();
        text += &format!(
            "  {} answers, {failed} failures, the slowest answer after {} ms",
            self.answered(),
            self.slowest.as_millis()
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(3);

    #[test]
    fn answers_are_counted_by_backend_family_and_connection() {
        let mut tally = Tally::default();
        tally.answer(Connection::New, Family::V4, "backend-1", FAST);
        tally.answer(Connection::New, Family::V6, "backend-1", FAST);
        tally.answer(Connection::Kept, Family::V6, "backend-2", FAST);
        assert_eq!(tally.of_both(Connection::New, "backend-1"), 2);
        assert_eq!(tally.answers_of(Connection::Kept, Family::V6, "backend-2"), 1);
        assert_eq!(tally.answers_of(Connection::Kept, Family::V4, "backend-2"), 0);
        assert_eq!(tally.smooth(), Ok(()));
    }

    #[test]
    fn a_failure_a_stall_and_silence_are_not_smooth() {
        let mut failed = Tally::default();
        failed.answer(Connection::New, Family::V4, "backend-1", FAST);
        failed.failure("reset".into());
        assert_eq!(failed.smooth(), Err("reset (1 times)".into()));
        let mut stalled = Tally::default();
        stalled.answer(Connection::New, Family::V4, "backend-1", Duration::from_millis(1200));
        assert_eq!(stalled.smooth(), Err("a request took 1200 ms".into()));
        assert_eq!(Tally::default().smooth(), Err("there was no answer".into()));
    }
}
