//! Decides when a pass is made: collapses whatever happened into one pass at a time, answers requests in their order,
//! and stays awake itself while a pass is under way.

mod work;

use crate::allocation::AddressReport;
use crate::clock;
use crate::egress::{EgressReport, OwnerReport};
use crate::reconcile::{Preview, Reconciler, log_refusal};
use crate::report::{Reason, Report, ResourceReport};
use crate::source::{Delivery, Reading};
use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use work::{Done, ReadDesk, answer, pass};

/// Least time between the end of a pass and one that only changes of the node or of the backends' health ask for: a
/// flapping link costs at most ten passes per second.
const FACTS_GAP: Duration = Duration::from_millis(100);

/// How long a stop waits for the step at hand. Every prefix of a plan is safe, so leaving it is too. With what the
/// store then waits for its disk, a stop takes less than two seconds.
const STOP_MAX: Duration = Duration::from_secs(1);

/// How often the loop says that it turns, when nobody asks for another interval.
const BEAT: Duration = Duration::from_secs(5);

/// How long the engine waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Everything is looked at again at this interval, whether or not anything said that it changed, and what ends
    /// by itself is ended.
    pub resync: Duration,
    /// How long the first pass waits for the first reading of the file, and a request for its own: a network file
    /// system may hang for ever.
    pub reading_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { resync: Duration::from_secs(30), reading_max: Duration::from_secs(3) }
    }
}

/// What the engine listens to.
pub struct Inputs {
    /// The readings of the file, settled.
    pub deliveries: watch::Receiver<Option<Arc<Delivery>>>,
    /// Reads the file now, for a request that wants what it says at this moment.
    pub read_now: Arc<dyn Fn() -> Reading + Send + Sync>,
    /// Has the watcher read the file and deliver it even if it says the same: it does not know what a request read.
    pub reread: Box<dyn Fn() + Send + Sync>,
    /// How long to wait for what.
    pub pace: Pace,
    /// The node may have changed.
    pub facts_changed: Arc<Notify>,
    /// What is known of the backends' health has changed.
    pub health_changed: Arc<Notify>,
    /// What clients ask for.
    pub requests: mpsc::Receiver<Request>,
    /// Becomes true when the engine is to stop.
    pub stop: watch::Receiver<bool>,
}

/// Whom the engine tells.
pub struct Outputs {
    /// The report of the last pass.
    pub reports: watch::Sender<Arc<Report>>,
    /// Called while the loop turns, at this interval.
    pub beat: Box<dyn FnMut() + Send>,
    /// The interval of `beat`; `None` for the usual one.
    pub beat_every: Option<Duration>,
}

/// What a client asks for.
pub enum Request {
    /// What would be done now. Everything is read again.
    Plan(oneshot::Sender<Result<Preview, String>>),
    /// A pass now, with this plan allowed although it is held back. Ends the rest after a teardown.
    Apply(Option<String>, oneshot::Sender<Arc<Report>>),
    /// Which service has which address. The file is read again.
    Addresses(oneshot::Sender<Result<AddressReport, String>>),
    /// How the egress policies stand. The node is looked at again.
    Egress(oneshot::Sender<Result<EgressReport, String>>),
    /// Which egress policy has packets from one address to another. The node is looked at again.
    EgressOf(IpAddr, IpAddr, oneshot::Sender<Result<Option<OwnerReport>, String>>),
    /// Every resource as the last pass left it.
    Resources(oneshot::Sender<Vec<ResourceReport>>),
    /// The removal of everything that is owned; no pass is made after it until one is asked for.
    TearDown(oneshot::Sender<Arc<Report>>),
}

/// Runs until it is told to stop.
///
/// # Errors
///
/// When a part without which it is no use ended by itself. What the engine knows is then not to be trusted, and a new process
/// has to start from the kernel.
pub async fn run(reconciler: Reconciler, inputs: Inputs, outputs: Outputs) -> Result<(), Broken> {
    let stop_flag = reconciler.stop_flag();
    let resync_at = clock::now() + inputs.pace.resync;
    let engine = Engine {
        reconciler: Some(reconciler),
        work: None,
        inputs,
        outputs,
        latest: None,
        wanted: BTreeSet::from([Reason::Startup]),
        waiting: VecDeque::new(),
        started: clock::now(),
        quiet_until: clock::now(),
        retry_at: None,
        resync_at,
        is_resync_due: false,
        was_only_asked: false,
        is_torn_down: false,
        reading: Arc::default(),
        stop_flag,
    };
    engine.turn().await
}

/// What ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A pass panicked where nothing of a target was running.
    #[error("the core of a pass panicked")]
    Pass(#[source] tokio::task::JoinError),
    /// Nobody reads the file any more.
    #[error("the watch of the desired file ended")]
    Watch,
}

struct Engine {
    /// Away while work is under way.
    reconciler: Option<Reconciler>,
    work: Option<JoinHandle<Done>>,
    inputs: Inputs,
    outputs: Outputs,
    /// What the file said last, whoever read it.
    latest: Option<Arc<Delivery>>,
    wanted: BTreeSet<Reason>,
    waiting: VecDeque<Request>,
    started: Instant,
    quiet_until: Instant,
    retry_at: Option<Instant>,
    /// Other passes do not put it off: on a busy node there is always one.
    resync_at: Instant,
    /// The next pass trusts nothing that was read before and ends what is over, whatever its reason.
    is_resync_due: bool,
    /// The last piece of work was a request that made no pass.
    was_only_asked: bool,
    is_torn_down: bool,
    /// Held by the reading of a request; one that hangs is not joined by others.
    reading: Arc<Mutex<()>>,
    stop_flag: Arc<AtomicBool>,
}

/// What woke the loop.
enum Event {
    Stop,
    Finished(Box<Done>),
    Delivered,
    Unwatched,
    Wanted(Reason),
    Asked(Request),
    Beat,
    Due,
}

impl Engine {
    async fn turn(mut self) -> Result<(), Broken> {
        let mut beats = tokio::time::interval(self.outputs.beat_every.unwrap_or(BEAT));
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.begin_what_is_due();
            let wake = tokio::time::Instant::from_std(self.next_wake());
            let event = tokio::select! {
                () = told(&mut self.inputs.stop) => Event::Stop,
                done = finished(&mut self.work) => Event::Finished(Box::new(done.map_err(Broken::Pass)?)),
                changed = self.inputs.deliveries.changed() => changed.map_or(Event::Unwatched, |()| Event::Delivered),
                () = self.inputs.facts_changed.notified() => Event::Wanted(Reason::FactsChanged),
                () = self.inputs.health_changed.notified() => Event::Wanted(Reason::HealthChanged),
                Some(request) = self.inputs.requests.recv() => Event::Asked(request),
                _ = beats.tick() => Event::Beat,
                () = tokio::time::sleep_until(wake) => Event::Due,
            };
            match event {
                Event::Stop => return self.leave().await,
                Event::Finished(done) => self.take_back(*done),
                Event::Wanted(reason) => {
                    self.wanted.insert(reason);
                }
                Event::Delivered => self.take_delivery(),
                // Edits would have no effect, and nobody would know.
                Event::Unwatched => return self.leave().await.and(Err(Broken::Watch)),
                Event::Asked(request) => self.waiting.push_back(request),
                Event::Beat => (self.outputs.beat)(),
                Event::Due => {}
            }
        }
    }

    /// Starts the next piece of work, if there is some and nothing is under way. Requests go first, in turns with passes.
    fn begin_what_is_due(&mut self) {
        let now = clock::now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.wanted.insert(Reason::Retry);
        }
        if self.resync_at <= now {
            self.resync_at = now + self.inputs.pace.resync;
            self.is_resync_due = true;
            self.wanted.insert(Reason::Resync);
        }
        let Some(reconciler) = self.reconciler.take() else { return };
        // An answer that made no pass is followed by the pass that is due: requests that never end do not put it off.
        let due = self.reason_due(now);
        let request = match self.was_only_asked && due.is_some() {
            true => None,
            false => self.waiting.pop_front(),
        };
        self.was_only_asked = request.is_some();
        if let Some(request) = request {
            let desk = ReadDesk {
                read_now: Arc::clone(&self.inputs.read_now),
                reading: Arc::clone(&self.reading),
                at_most: self.inputs.pace.reading_max,
            };
            self.work = Some(tokio::spawn(answer(reconciler, request, desk)));
            return;
        }
        let Some(reason) = due else {
            self.reconciler = Some(reconciler);
            return;
        };
        self.wanted.clear();
        let is_resync = std::mem::take(&mut self.is_resync_due);
        self.work = Some(tokio::spawn(pass(reconciler, self.latest.clone(), reason, is_resync)));
    }

    /// A reading counts unless a later one was made for a request: nothing goes back to what the file said before.
    fn take_delivery(&mut self) {
        let delivery = self.inputs.deliveries.borrow_and_update().clone();
        let before = self.latest.clone();
        if self.remember(delivery) && !says_the_same(before.as_deref(), self.latest.as_deref()) {
            self.wanted.insert(Reason::ConfigChanged);
        }
    }

    fn remember(&mut self, reading: Option<Arc<Delivery>>) -> bool {
        let Some(reading) = reading else { return false };
        let is_later = self.latest.as_ref().is_none_or(|latest| latest.at < reading.at);
        if is_later {
            self.latest = Some(reading);
        }
        is_later
    }

    /// Why a pass is to be made now; of several reasons the one that says most.
    fn reason_due(&self, now: Instant) -> Option<Reason> {
        let reason = *self.wanted.first()?;
        if self.is_torn_down || (reason == Reason::Startup && self.waits_for_first_reading(now)) {
            return None;
        }
        (!is_patient(reason) || self.quiet_until <= now).then_some(reason)
    }

    fn waits_for_first_reading(&self, now: Instant) -> bool {
        self.latest.is_none() && now < self.started + self.inputs.pace.reading_max
    }

    fn next_wake(&self) -> Instant {
        let is_idle = self.reconciler.is_some();
        let waits_for_quiet = is_idle && self.wanted.iter().copied().any(is_patient) && !self.is_torn_down;
        let waits_for_file = is_idle && self.wanted.contains(&Reason::Startup) && !self.is_torn_down;
        let quiet = waits_for_quiet.then_some(self.quiet_until);
        let first = waits_for_file.then_some(self.started + self.inputs.pace.reading_max);
        [quiet, first, self.retry_at, Some(self.resync_at)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.resync_at)
    }

    fn take_back(&mut self, done: Done) {
        let Done { reconciler, report, is_torn_down, read } = done;
        if read.is_some() {
            self.remember(read);
            (self.inputs.reread)();
        }
        self.reconciler = Some(reconciler);
        self.work = None;
        let now = clock::now();
        // Between two passes: whoever asks for plans all the time does not put off what the node needs.
        if report.is_some() {
            self.quiet_until = now + FACTS_GAP;
        }
        self.is_torn_down = is_torn_down.unwrap_or(self.is_torn_down);
        if self.is_torn_down {
            self.wanted.clear();
        }
        if let Some(report) = report {
            self.was_only_asked = false;
            self.retry_at = report.next_try_ms.map(|ms| now + Duration::from_millis(ms));
            log_refusal(&self.outputs.reports.borrow(), &report);
            self.outputs.reports.send_replace(report);
        }
    }

    /// Ends at a safe prefix of what is under way.
    async fn leave(mut self) -> Result<(), Broken> {
        self.stop_flag.store(true, Ordering::Relaxed);
        let Some(work) = self.work.take() else { return Ok(()) };
        match tokio::time::timeout(STOP_MAX, work).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(panic)) => Err(Broken::Pass(panic)),
            Err(_) => {
                tracing::warn!("the step at hand did not end in time; the next start completes it");
                Ok(())
            }
        }
    }
}

/// Whether the reason can come at any rate, and waits for [`FACTS_GAP`].
fn is_patient(reason: Reason) -> bool {
    matches!(reason, Reason::FactsChanged | Reason::HealthChanged)
}

/// Returns when the engine is to stop, also because nobody is left to say so.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The end of the work under way; never, when there is none.
async fn finished(work: &mut Option<JoinHandle<Done>>) -> Result<Done, tokio::task::JoinError> {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// Whether two readings give the same to go by, whenever they were made.
fn says_the_same(one: Option<&Delivery>, other: Option<&Delivery>) -> bool {
    match (one.map(|one| &one.reading), other.map(|other| &other.reading)) {
        (Some(Reading::Text(one)), Some(Reading::Text(other))) => {
            (&one.sha256, &one.warnings) == (&other.sha256, &other.warnings)
        }
        (one, other) => one == other,
    }
}
