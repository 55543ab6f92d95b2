//! How long a connection may take: so long, unless its answer has no end of its own.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The deadline of a connection.
#[derive(Clone, Default)]
pub(super) struct Deadline(Arc<AtomicBool>);

impl Deadline {
    /// The connection may take as long as its client stays.
    pub(super) fn lift(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Does the work, for at most so long unless that is lifted by then.
    pub(super) async fn keep(&self, limit: Duration, work: impl Future<Output = ()>) {
        let mut work = pin!(work);
        if tokio::time::timeout(limit, &mut work).await.is_err() && self.0.load(Ordering::Relaxed) {
            work.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_at_its_deadline() {
        Deadline::default().keep(Duration::from_millis(1), std::future::pending()).await;
    }

    #[tokio::test]
    async fn work_whose_deadline_is_lifted_is_done_to_its_end() {
        let (deadline, is_done) = (Deadline::default(), AtomicBool::new(false));
        let work = async {
            deadline.lift();
            tokio::time::sleep(Duration::from_millis(50)).await;
            is_done.store(true, Ordering::Relaxed);
        };
        deadline.keep(Duration::from_millis(1), work).await;
        assert!(is_done.load(Ordering::Relaxed));
    }
}
