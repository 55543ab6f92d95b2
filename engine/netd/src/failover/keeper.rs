//! Has the kernel keep the addresses that this node holds, and no others, beside passes and beside the watch: a kernel that
//! answers late delays neither.

use crate::kinds::address::{self, Kept};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A lease is renewed so many times before it would end.
const RENEWALS_PER_LEASE: u32 = 4;

/// The kernel answers within milliseconds; a request that takes longer than this is made anew.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Works until it is dropped.
pub(super) struct Keeper {
    told: watch::Sender<Kept>,
    failing: watch::Receiver<Option<String>>,
    work: JoinHandle<()>,
}

impl Keeper {
    /// Begins with nothing to keep.
    pub(super) fn start() -> Self {
        let (told, kept) = watch::channel(Kept::default());
        let (fails, failing) = watch::channel(None);
        Self { told, failing, work: tokio::spawn(follow(kept, fails)) }
    }

    /// This is to be done from now on.
    pub(super) fn tell(&self, kept: Kept) {
        self.told.send_if_modified(|before| {
            let is_new = *before != kept;
            *before = kept;
            is_new
        });
    }

    /// Why it could not be done the last time.
    pub(super) fn failing(&self) -> Option<String> {
        self.failing.borrow().clone()
    }

    /// Returns when nothing is renewed any more.
    pub(super) async fn end(&mut self) {
        self.work.abort();
        // Aborted, as it should be.
        let _ = (&mut self.work).await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.work.abort();
    }
}

async fn follow(mut told: watch::Receiver<Kept>, fails: watch::Sender<Option<String>>) {
    loop {
        let kept = told.borrow_and_update().clone();
        let failed = keep(&kept).await.err();
        if let Some(why) = &failed {
            tracing::warn!(why, "an egress address may go, as if this node's netd were gone");
        }
        fails.send_if_modified(|before| std::mem::replace(before, failed.clone()) != failed);
        let pause = async {
            match kept.is_idle() {
                true => std::future::pending().await,
                false => tokio::time::sleep(kept.lease / RENEWALS_PER_LEASE).await,
            }
        };
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return },
            () = pause => {}
        }
    }
}

/// Has it done once, now.
///
/// # Errors
///
/// A sentence.
pub(super) async fn keep(kept: &Kept) -> Result<(), String> {
    match tokio::time::timeout(ANSWER_MAX, address::keep(kept)).await {
        Ok(done) => done,
        Err(_) => Err(format!("the kernel did not answer within {} s", ANSWER_MAX.as_secs())),
    }
}
