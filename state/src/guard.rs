//! Runs work that may panic or hang on a thread of its own, with a limit on the time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Why guarded work gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It panicked, with this message.
    Panicked(String),
    /// It is still running, on a thread that is left to itself.
    TimedOut,
    /// The thread could not be started.
    NotStarted(String),
}

/// Runs `work` on a new thread and waits for it, but not longer than `limit`.
///
/// A result that comes too late is dropped on that thread.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let started = thread::Builder::new().name("netd-state-io".into()).spawn(move || {
        let result = caught(work);
        // Nobody waits any more when this fails: the time was up.
        let _ = sender.try_send(result);
    });
    if let Err(e) = started {
        return Err(Failure::NotStarted(e.to_string()));
    }
    receiver.recv_timeout(limit).unwrap_or(Err(Failure::TimedOut))
}

/// Runs `work` here and turns a panic into a failure.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Failure::Panicked(text)
    })
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Panicked(text) => write!(f, "the database panicked: {text}"),
            Self::TimedOut => write!(f, "the database did not answer in time"),
            Self::NotStarted(why) => write!(f, "cannot start a thread: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        let failed = within(Duration::from_secs(5), || -> u8 { panic!("page {} is odd", 7) });
        assert_eq!(failed, Err(Failure::Panicked("page 7 is odd".into())));
    }

    #[test]
    fn work_that_hangs_is_left_to_itself() {
        let failed = within(Duration::from_millis(20), || thread::sleep(Duration::from_millis(300)));
        assert_eq!(failed, Err(Failure::TimedOut));
    }
}
