//! One piece of work of the engine at a time: a pass, or the answer to a request.

use super::Request;
use crate::clock;
use crate::reconcile::Reconciler;
use crate::report::{Reason, Report};
use crate::source::{Delivery, Reading};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// What work gives back.
pub(super) struct Done {
    pub(super) reconciler: Reconciler,
    pub(super) report: Option<Arc<Report>>,
    pub(super) is_torn_down: Option<bool>,
    /// What the file said, if it was read for this.
    pub(super) read: Option<Arc<Delivery>>,
}

impl Done {
    fn quietly(reconciler: Reconciler) -> Self {
        Self { reconciler, report: None, is_torn_down: None, read: None }
    }
}

pub(super) async fn pass(
    mut reconciler: Reconciler,
    delivery: Option<Arc<Delivery>>,
    reason: Reason,
    is_resync: bool,
) -> Done {
    if is_resync {
        reconciler.forget_facts();
    }
    let not_yet = Reading::Unreadable("the file has not been read yet".into());
    let reading = delivery.as_ref().map_or(&not_yet, |delivery| &delivery.reading);
    let report = Arc::new(reconciler.pass(reading, reason, None).await);
    if is_resync {
        reconciler.tend().await;
    }
    Done { report: Some(report), ..Done::quietly(reconciler) }
}

pub(super) async fn answer(mut reconciler: Reconciler, request: Request, desk: ReadDesk) -> Done {
    match request {
        // Nobody is there any more to take the answer, and nothing else comes of it.
        Request::Plan(to) if to.is_closed() => Done::quietly(reconciler),
        Request::Addresses(to) if to.is_closed() => Done::quietly(reconciler),
        Request::Resources(to) if to.is_closed() => Done::quietly(reconciler),
        Request::Plan(to) => {
            let now = desk.read().await;
            let _ = to.send(reconciler.preview(&now.reading).await);
            Done::quietly(reconciler)
        }
        Request::Addresses(to) => {
            let now = desk.read().await;
            let _ = to.send(reconciler.addresses(&now.reading).await);
            Done::quietly(reconciler)
        }
        Request::Egress(to) => {
            let now = desk.read().await;
            let _ = to.send(reconciler.egress(&now.reading).await);
            Done::quietly(reconciler)
        }
        Request::EgressOf(from, destination, to) => {
            let now = desk.read().await;
            let _ = to.send(reconciler.egress_of(&now.reading, from, destination).await);
            Done::quietly(reconciler)
        }
        Request::Resources(to) => {
            let _ = to.send(reconciler.resources());
            Done::quietly(reconciler)
        }
        // What was asked for is done, whether or not somebody still waits for it.
        Request::Apply(allowed, to) => {
            let now = Arc::new(desk.read().await);
            let report = Arc::new(reconciler.pass(&now.reading, Reason::Asked, allowed.as_deref()).await);
            let _ = to.send(Arc::clone(&report));
            Done { reconciler, report: Some(report), is_torn_down: Some(false), read: Some(now) }
        }
        Request::TearDown(to) => {
            let report = Arc::new(reconciler.tear_down().await);
            let _ = to.send(Arc::clone(&report));
            Done { report: Some(report), is_torn_down: Some(true), ..Done::quietly(reconciler) }
        }
    }
}

/// Reads the file for a request.
pub(super) struct ReadDesk {
    pub(super) read_now: Arc<dyn Fn() -> Reading + Send + Sync>,
    pub(super) reading: Arc<Mutex<()>>,
    pub(super) at_most: Duration,
}

impl ReadDesk {
    async fn read(self) -> Delivery {
        let Self { read_now, reading, at_most } = self;
        // Before it is read: a reading that began later knows more.
        let at = clock::now();
        let Ok(alone) = reading.try_lock_owned() else {
            let why = "an earlier reading of the file has not ended; its file system hangs".to_owned();
            return Delivery { reading: Reading::Unreadable(why), serial: 0, at };
        };
        let work = tokio::task::spawn_blocking(move || {
            let said = read_now();
            drop(alone);
            said
        });
        let reading = match tokio::time::timeout(at_most, work).await {
            Ok(Ok(reading)) => reading,
            Ok(Err(error)) => Reading::Unreadable(format!("reading the file ended early: {error}")),
            Err(_) => Reading::Unreadable(format!(
                "reading the file did not end within {} ms; its file system hangs",
                at_most.as_millis()
            )),
        };
        Delivery { reading, serial: 0, at }
    }
}
