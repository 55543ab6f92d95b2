//! Asks and answers: the sockets and the timers, and what the kernel is told of addresses.

use super::ability::Passes;
use super::carried::Carried;
use super::going;
use super::keeper::{self, Keeper};
use super::message::{self, Message};
use super::seen::{Seen, Standing};
use super::sockets::Sockets;
use super::task::Task;
use super::watch::{AWAY_MAX, Leaving, Watch};
use super::{Board, Orders, secret, wrong};
use crate::clock;
use crate::kinds::address::Kept;
use crate::report::Report;
use ring::hmac;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// So many looks at the time for one question: what is over is found that much sooner.
const LOOKS_PER_QUESTION: u32 = 4;

/// So many datagrams are read before the time is looked at again.
const BURST: usize = 256;

/// A node that goes says so again after this time, until all have answered.
const FAREWELL_WAIT: Duration = Duration::from_millis(60);

/// So many times it says that it takes the farewell back.
const TAKEN_BACK: u32 = 3;

/// It says so for a detection time, in which who is dead is found to be, and for this time at most: the service manager
/// does not wait for ever.
pub const FAREWELL_MAX: Duration = Duration::from_millis(2_500);

/// One that does not come back says so for this time at most: whoever does not hear it misses it.
const GOODBYE_MAX: Duration = Duration::from_millis(300);

/// Where the watch gets what it goes by.
pub struct Inputs {
    /// What the file in force asks for.
    pub tasks: watch::Receiver<Option<Task>>,
    /// What came of each pass.
    pub reports: watch::Receiver<Arc<Report>>,
    /// Becomes true when netd is to stop.
    pub stop: watch::Receiver<bool>,
}

/// Follows the tasks, and puts up what is seen, until it is told to stop; then takes leave: gateways that will be back soon
/// are not missed.
pub async fn run(board: Arc<Board>, inputs: Inputs, runtime_dir: impl AsRef<Path>) {
    let Inputs { mut tasks, mut reports, mut stop } = inputs;
    let carried = Carried::new(runtime_dir.as_ref());
    let known = carried.read();
    let mut memory = Memory { board, carried, known };
    let session = session();
    let mut watching: Option<Watching> = None;
    loop {
        let task = tasks.borrow_and_update().clone();
        watching = match (task, watching) {
            (None, None) => None,
            (None, Some(_)) => {
                memory.board.put(None);
                None
            }
            (Some(task), Some(before)) => Some(before.adopt(task)),
            (Some(task), None) => Some(Watching::begin(task, session)),
        };
        let Some(now) = &mut watching else {
            tokio::select! {
                changed = tasks.changed() => if changed.is_err() { return },
                () = told(&mut stop) => return,
            }
            continue;
        };
        tokio::select! {
            // First: whoever gives tasks goes at the same time.
            biased;
            () = told(&mut stop) => {
                now.leave().await;
                return;
            }
            changed = tasks.changed() => if changed.is_err() { return },
            () = now.go_on(&mut memory, &mut reports) => {}
        }
    }
}

/// Returns when netd is to stop, also because nobody is left to say so.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A number that no earlier life of this netd has had.
fn session() -> u64 {
    let now = u64::try_from(clock::since_boot().as_nanos()).unwrap_or(u64::MAX);
    xxhash_rust::xxh3::xxh3_64(
        &[now, clock::unix_ms(), u64::from(std::process::id())].map(u64::to_be_bytes).concat(),
    )
    .max(1)
}

/// What outlives a task, or netd.
struct Memory {
    board: Arc<Board>,
    carried: Carried,
    /// Which gateways lived, as it was written down last.
    known: Option<BTreeMap<String, u32>>,
}

struct Watching {
    task: Task,
    watch: Watch,
    sockets: Sockets,
    /// Where the others are: nothing that comes from elsewhere is read.
    places: BTreeSet<SocketAddr>,
    key: Result<Option<hmac::Key>, String>,
    hindrance: Option<String>,
    keeper: Keeper,
    passes: Passes,
    /// The last pass, if there was one.
    report: Option<Arc<Report>>,
    /// Since when this node is in force for which policies: seconds of Unix time.
    since: BTreeMap<String, u64>,
}

impl Watching {
    fn begin(task: Task, session: u64) -> Self {
        let now = clock::since_boot();
        let mut passes = Passes::begin(now);
        passes.ask(now);
        let orders = &task.orders;
        Self {
            watch: Watch::new(Arc::clone(orders), session, now),
            sockets: Sockets::default(),
            places: orders.others.values().copied().collect(),
            key: key(orders),
            hindrance: None,
            keeper: Keeper::start(),
            passes,
            report: None,
            since: BTreeMap::new(),
            task,
        }
    }

    fn adopt(mut self, task: Task) -> Self {
        if self.task.orders != task.orders {
            if self.task.orders.listens != task.orders.listens {
                self.sockets = Sockets::default();
            }
            self.places = task.orders.others.values().copied().collect();
            self.watch.adopt(Arc::clone(&task.orders), clock::since_boot());
            self.key = key(&task.orders);
        }
        Self { task, ..self }
    }

    /// Asks and answers until it is dropped.
    async fn go_on(&mut self, memory: &mut Memory, reports: &mut watch::Receiver<Arc<Report>>) {
        let mut looks = tokio::time::interval(self.task.orders.interval / LOOKS_PER_QUESTION);
        // One that was late does not catch up.
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0;
        loop {
            let is_time = tokio::select! {
                _ = looks.tick() => true,
                () = self.sockets.readable() => false,
            };
            if is_time {
                if count == 0 {
                    let closed = self.sockets.open(&self.task.orders.listens);
                    self.hindrance = closed.or_else(|| self.key.as_ref().err().cloned());
                    self.ask();
                }
                count = (count + 1) % LOOKS_PER_QUESTION;
            }
            self.hear();
            if is_time {
                self.learn(reports);
                self.look(memory);
            }
        }
    }

    /// Takes what came of passes, or that none ends.
    fn learn(&mut self, reports: &mut watch::Receiver<Arc<Report>>) {
        let now = clock::since_boot();
        if reports.has_changed().unwrap_or(false) || self.report.is_none() {
            let report = reports.borrow_and_update().clone();
            if report.pass.number > 0 {
                self.report = Some(report);
                self.passes.end(now);
            }
        }
        let late = self.passes.late(now);
        if self.report.is_none() && late.is_none() {
            return;
        }
        let by_report = || wrong::by_report(&self.task, self.report.as_deref()?);
        let found = late.map(str::to_owned).or_else(|| self.keeper.failing());
        let found = found.or_else(|| self.task.wrong.clone()).or_else(by_report);
        self.watch.passed(found.as_deref(), now);
    }

    fn look(&mut self, memory: &mut Memory) {
        let now = clock::since_boot();
        let mut seen = self.watch.look(now);
        seen.hindrance.clone_from(&self.hindrance);
        if seen.standing == Standing::Starting {
            let all = || self.task.orders.gateways.iter().map(|name| (name.clone(), 0)).collect();
            seen.alive = memory.known.clone().unwrap_or_else(all);
        } else if memory.known.as_ref() != Some(&seen.alive) {
            memory.carried.write(&seen.alive);
            memory.known = Some(seen.alive.clone());
        }
        let since = |policy: &str| self.since.get(policy).copied().unwrap_or_else(|| clock::unix().as_secs());
        let in_force = self.task.in_force(&seen).map(|policy| (policy.name.clone(), since(&policy.name)));
        self.since = in_force.collect();
        seen.since.clone_from(&self.since);
        self.keeper.tell(self.kept(&seen, now));
        if memory.board.put(Some(&seen)) {
            let Seen { standing, unable, alive, .. } = &seen;
            tracing::info!(%standing, ?unable, ?alive, "what is known of the egress gateways has changed");
            self.passes.ask(now);
        }
    }

    fn kept(&self, seen: &Seen, now: Duration) -> Kept {
        self.task.kept(seen, self.watch.is_unmissed(now))
    }

    /// Asks everybody.
    fn ask(&self) {
        let Ok(key) = &self.key else { return };
        let now = clock::since_boot();
        for (name, at) in &self.task.orders.others {
            self.sockets.send(&self.watch.question(name, now).encode(key.as_ref()), *at);
        }
    }

    /// Takes what has come, and answers.
    fn hear(&mut self) {
        let Self { task, watch, sockets, places, key, .. } = self;
        sockets.take(BURST, &mut [0; message::BYTES_MAX + 1], |bytes, from| {
            let Ok(key) = key else { return };
            // Before anything is worked out of it: only from where the file says that the node is.
            if !places.contains(&from) {
                return;
            }
            let Some(message) = Message::decode(bytes, key.as_ref()) else { return };
            if task.orders.others.get(&message.from) != Some(&from) {
                return;
            }
            if let Some(answer) = watch.take(&message, clock::since_boot()) {
                sockets.send(&answer.encode(key.as_ref()), from);
            }
        });
    }

    /// Says that this node goes, and whether it will be back.
    async fn leave(&mut self) {
        let goes_for_good = self.task.goes_for_good || self.goes_down().await;
        let now = clock::since_boot();
        let seen = self.watch.look(now);
        let kept = self.kept(&seen, now);
        self.keeper.end().await;
        if kept.hold.is_empty() || seen.standing != Standing::Ready {
            return;
        }
        if goes_for_good {
            self.go_for_good().await;
        } else if !self.watch.is_missed(now) {
            self.go_for_a_while(kept).await;
        }
    }

    /// Asks the service manager whether the machine goes down. Meanwhile the others are asked and answered, and leases are
    /// renewed: one that is silent for that long is missed.
    async fn goes_down(&mut self) -> bool {
        let mut asked = pin!(going::goes_down());
        loop {
            self.ask();
            match tokio::time::timeout(FAREWELL_WAIT, &mut asked).await {
                Ok(goes_down) => return goes_down,
                Err(_) => self.hear(),
            }
        }
    }

    /// Once the others know, this node's addresses stay for as long as they wait.
    async fn go_for_a_while(&mut self, kept: Kept) {
        // So that they last as long as the farewell.
        keep(&kept).await;
        let back = clock::since_boot() + AWAY_MAX;
        self.watch.leave(Leaving::Until(back));
        if self.say(self.task.orders.detection.min(FAREWELL_MAX)).await {
            let lease = back.saturating_sub(clock::since_boot());
            keep(&Kept { lease, ..kept }).await;
            return;
        }
        tracing::warn!("not every node knows that this gateway will be back: another one takes over");
        // Those that know need not wait for it. Answers were lost a moment ago, so it is said more than once.
        self.watch.leave(Leaving::Not);
        for _ in 0..TAKEN_BACK {
            self.ask();
            tokio::time::sleep(FAREWELL_WAIT).await;
        }
    }

    /// The others take over at once.
    async fn go_for_good(&mut self) {
        self.watch.leave(Leaving::ForGood);
        self.ask();
        keep(&Kept { gives_up: true, ..Kept::default() }).await;
        self.say(GOODBYE_MAX).await;
        tracing::info!("the other gateways need not wait for this one");
    }

    /// Says it again until all that live have answered; whether they have.
    async fn say(&mut self, at_most: Duration) -> bool {
        let began = clock::since_boot();
        while clock::since_boot().saturating_sub(began) < at_most {
            self.ask();
            tokio::time::sleep(FAREWELL_WAIT).await;
            self.hear();
            if self.watch.is_answered_since(began, clock::since_boot()) {
                return true;
            }
        }
        false
    }
}

async fn keep(kept: &Kept) {
    if let Err(why) = keeper::keep(kept).await {
        tracing::warn!(why, "egress addresses are not left as they should be");
    }
}

fn key(orders: &Orders) -> Result<Option<hmac::Key>, String> {
    orders.key_file.as_deref().map(secret::read).transpose()
}
