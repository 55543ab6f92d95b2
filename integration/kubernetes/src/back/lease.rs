//! Who speaks: the one adapter that holds the lease, and only as long as nobody else can hold it.

use super::{Complaints, why};
use crate::run::Metrics;
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Which lease, and who asks for it.
#[derive(Clone, Debug)]
pub struct LeaseName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who asks for it: no two adapters may say the same.
    pub identity: String,
    /// How long it lasts when it is not renewed; whole seconds.
    pub lasts: Duration,
}

impl Default for LeaseName {
    fn default() -> Self {
        let (namespace, name) = ("netd-system".to_owned(), "netd-kubernetes".to_owned());
        Self { namespace, name, identity: String::new(), lasts: Duration::from_secs(15) }
    }
}

/// So many times it is renewed while it lasts.
const RENEWALS: u32 = 5;

/// Writing ends when so many parts of the time that the lease lasts have passed of [`RENEWALS`]: clocks do not run alike.
const HELD: u32 = 4;

/// What there is to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nobody has ever held it.
    Create,
    /// It is free, or whoever held it is gone.
    Take,
    /// It is ours.
    Renew,
    /// Somebody else holds it.
    Wait,
}

/// What is to be done about the lease, which nobody has touched for so long, as far as one can see from here: clocks of other
/// machines decide nothing.
fn step(lease: Option<&LeaseSpec>, me: &str, untouched: Duration) -> Step {
    let Some(lease) = lease else { return Step::Create };
    let seconds = u64::try_from(lease.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
    match lease.holder_identity.as_deref().unwrap_or_default() {
        "" => Step::Take,
        holder if holder == me => Step::Renew,
        _ if untouched >= Duration::from_secs(seconds) => Step::Take,
        _ => Step::Wait,
    }
}

/// Until when it is ours; `None` where it is not.
type Until = Option<Instant>;

/// The lease, as the work sees it.
pub(super) struct Lease {
    until: watch::Receiver<Until>,
    identity: String,
}

impl Lease {
    /// Asks for it from now on.
    pub(super) fn start(name: LeaseName, client: kube::Client, metrics: Arc<Metrics>) -> Self {
        let (sender, until) = watch::channel(None);
        let identity = name.identity.clone();
        let api = Api::namespaced(client, &name.namespace);
        let asking = Asking { name, api, until: sender, seen: None, metrics };
        tokio::spawn(asking.work());
        Self { until, identity }
    }

    /// Who asks for it.
    pub(super) fn identity(&self) -> String {
        self.identity.clone()
    }

    /// Does the work if the lease is held, and breaks it off when it is not held any more.
    pub(super) async fn while_held(&self, work: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.is_lost() => {}
            () = work => {}
        }
    }

    async fn is_lost(&self) {
        let mut until = self.until.clone();
        loop {
            let now = *until.borrow_and_update();
            let Some(end) = now.filter(|end| *end > Instant::now()) else { return };
            tokio::select! {
                () = sleep_until(end) => {}
                changed = until.changed() => if changed.is_err() { return }
            }
        }
    }
}

/// Asks for the lease again and again.
struct Asking {
    name: LeaseName,
    api: Api<Object>,
    until: watch::Sender<Until>,
    /// The version of the lease that was seen last, and since when.
    seen: Option<(Option<String>, Instant)>,
    metrics: Arc<Metrics>,
}

impl Asking {
    async fn work(mut self) {
        let mut complaints = Complaints::new(Arc::clone(&self.metrics));
        let pause = self.name.lasts / RENEWALS;
        while !self.until.is_closed() {
            let started = Instant::now();
            let done = timeout(pause, self.turn()).await;
            let until = match &done {
                Ok(Ok(true)) => Some(started + self.name.lasts * HELD / RENEWALS),
                Ok(Ok(false)) => None,
                // Nobody else has it before its time is over.
                Ok(Err(_)) | Err(_) => self.until.borrow().filter(|until| *until > started),
            };
            let done = done.unwrap_or_else(|_| Err("the server does not answer in time".to_owned()));
            complaints.hear("lease", done.map(drop));
            let was_held = self.until.send_replace(until).is_some();
            if was_held != until.is_some() {
                tracing::info!(
                    lease = self.name.name,
                    is_held = until.is_some(),
                    "who writes to the cluster"
                );
            }
            self.metrics.leads(until.is_some());
            sleep(pause).await;
        }
    }

    /// Whether the lease is ours.
    async fn turn(&mut self) -> Result<bool, String> {
        let found = self.api.get_opt(&self.name.name).await.map_err(|error| why(&error))?;
        let version = found.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => Instant::now(),
        };
        self.seen = Some((version, since));
        let spec = found.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let step = step(spec.as_ref(), &self.name.identity, since.elapsed());
        let params = PostParams { field_manager: Some(super::MANAGER.to_owned()), ..PostParams::default() };
        let done = match (step, found) {
            (Step::Wait, _) => return Ok(false),
            (Step::Create, _) | (Step::Take | Step::Renew, None) => {
                let name = Some(self.name.name.clone());
                let metadata = ObjectMeta { name, ..ObjectMeta::default() };
                let lease = Object { metadata, spec: Some(self.ours(None, step)) };
                self.api.create(&params, &lease).await
            }
            // The version that was read comes back with it: of two that take it at once, one does.
            (Step::Take | Step::Renew, Some(mut lease)) => {
                lease.spec = Some(self.ours(spec, step));
                self.api.replace(&self.name.name, &params, &lease).await
            }
        };
        match done {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(why(&error)),
        }
    }

    fn ours(&self, before: Option<LeaseSpec>, step: Step) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let before = before.unwrap_or_default();
        let is_new = step != Step::Renew;
        LeaseSpec {
            holder_identity: Some(self.name.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.name.lasts.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: if is_new { now.clone() } else { before.acquire_time },
            renew_time: now,
            lease_transitions: Some(before.lease_transitions.unwrap_or(0).saturating_add(i32::from(is_new))),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a13_a_lease_is_taken_only_where_nobody_can_hold_it() {
        let seconds = Duration::from_secs;
        assert_eq!(step(None, "a", seconds(0)), Step::Create);
        assert_eq!(step(Some(&lease("a")), "a", seconds(99)), Step::Renew);
        assert_eq!(step(Some(&lease("b")), "a", seconds(14)), Step::Wait);
        assert_eq!(step(Some(&lease("b")), "a", seconds(15)), Step::Take);
        assert_eq!(step(Some(&lease("")), "a", seconds(0)), Step::Take);
    }
}
