//! Ctrl-C and its like end the demo between two steps, so that it can clean up.

use anyhow::{Context as _, bail};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long a signal may go unnoticed while the demo waits.
const NOTICE: Duration = Duration::from_millis(25);

/// Knows whether the demo was told to end.
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on, for as long as the process lives.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let told = Arc::new(AtomicBool::new(false));
        let tell = told.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (interrupt, terminate, hangup) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            )
        };
        let listener = std::thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(first_of(interrupt, terminate, hangup));
            tell.store(true, Ordering::Relaxed);
        });
        listener.context("start a thread")?;
        Ok(Self(told))
    }

    /// Waits.
    ///
    /// # Errors
    ///
    /// The demo was told to end.
    pub(super) fn pause(&self, time: Duration) -> anyhow::Result<()> {
        let mut left = time;
        loop {
            if self.0.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            if left.is_zero() {
                return Ok(());
            }
            let slice = left.min(NOTICE);
            std::thread::sleep(slice);
            left -= slice;
        }
    }
}

async fn first_of(
    mut interrupt: tokio::signal::unix::Signal,
    mut terminate: tokio::signal::unix::Signal,
    mut hangup: tokio::signal::unix::Signal,
) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
