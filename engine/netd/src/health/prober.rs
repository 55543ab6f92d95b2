//! Makes the checks: each at its own pace and its own moment, at most so many at once.

use super::board::Board;
use super::check::{Check, Wanted};
use super::probe::{self, Aim, Answer};
use super::tunnels::Tunnels;
use super::way::{self, Way};
use crate::clock;
use crate::facts::Facts;
use netd_schema::Config;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// So many checks are under way at once. Each needs a file descriptor, of which a process usually may have 1,024.
const AT_ONCE_MAX: usize = 512;

/// After this time it is tried again to make a tunnel that could not be made.
const AGAIN: Duration = Duration::from_secs(30);

/// Which checks are to be made, and by which way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// What the file asks for.
    pub wanted: Wanted,
    /// The way of each check.
    pub ways: BTreeMap<Check, Way>,
}

impl Orders {
    /// What the file that is in force and the node give; without a file nothing is checked.
    #[must_use]
    pub fn of(config: Option<&Config>, facts: &Facts) -> Self {
        let Some(config) = config else { return Self::default() };
        let wanted = Wanted::of(config);
        let ways = way::ways(config, facts, &wanted.checks);
        Self { wanted, ways }
    }
}

/// Gives the orders that follow from a file and the node, if they are others than before.
pub fn order(to: &watch::Sender<Arc<Orders>>, config: Option<&Config>, facts: &Facts) {
    let now = Orders::of(config, facts);
    to.send_if_modified(|before| {
        let is_new = **before != now;
        if is_new {
            *before = Arc::new(now);
        }
        is_new
    });
}

/// Follows the orders until nobody gives any.
pub async fn run(board: Arc<Board>, mut orders: watch::Receiver<Arc<Orders>>, mut tunnels: Tunnels) {
    let permits = Arc::new(Semaphore::new(AT_ONCE_MAX));
    let mut tasks = BTreeMap::new();
    loop {
        let now = Arc::clone(&orders.borrow_and_update());
        board.assign(&now.wanted);
        let marks = tunnels.arrange(&now.ways);
        let is_whole = marks.values().all(Result::is_ok);
        // One that panicked is started anew.
        tasks.retain(|check, task: &mut Task| now.ways.contains_key(check) && !task.work.is_finished());
        for (check, way) in &now.ways {
            let errand = errand(check, way, marks.get(check));
            tasks
                .entry(check.clone())
                .and_modify(|task| task.set(&errand))
                .or_insert_with(|| Task::start(&board, &permits, check, errand));
        }
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if !is_whole => {}
        }
    }
}

/// What is done for a check when its time comes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Errand {
    /// A probe, and what is odd about its way.
    Ask(Aim, Option<String>),
    /// Nothing: the answer is known.
    Known(Answer),
}

fn errand(check: &Check, way: &Way, mark: Option<&Result<u32, String>>) -> Errand {
    let target = &check.target;
    match (way, target.vip, mark) {
        (Way::Tunnel(way), Some(vip), Some(Ok(mark))) => {
            let to = SocketAddr::new(vip, target.port);
            Errand::Ask(Aim { to, from: way.from, mark: Some(*mark) }, None)
        }
        (Way::Tunnel(_), _, Some(Err(why))) => Errand::Known(Answer::Hindered(why.clone())),
        (Way::Tunnel(_), _, _) => Errand::Known(Answer::Hindered("there is no tunnel".into())),
        (Way::Direct(remark), _, _) => {
            let to = SocketAddr::new(target.backend, target.port);
            Errand::Ask(Aim { to, from: None, mark: None }, remark.clone())
        }
        (Way::None(why), _, _) => Errand::Known(Answer::Bad(why.clone())),
    }
}

/// Makes one check again and again, until dropped.
struct Task {
    errand: watch::Sender<Errand>,
    work: JoinHandle<()>,
}

impl Task {
    fn start(board: &Arc<Board>, permits: &Arc<Semaphore>, check: &Check, errand: Errand) -> Self {
        let (errand, errands) = watch::channel(errand);
        let work = keep_asking(Arc::clone(board), Arc::clone(permits), check.clone(), errands);
        Self { errand, work: tokio::spawn(work) }
    }

    fn set(&mut self, errand: &Errand) {
        self.errand.send_if_modified(|now| {
            let is_new = now != errand;
            if is_new {
                now.clone_from(errand);
            }
            is_new
        });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.work.abort();
    }
}

async fn keep_asking(
    board: Arc<Board>,
    permits: Arc<Semaphore>,
    check: Check,
    errands: watch::Receiver<Errand>,
) {
    let pace = check.pace;
    let mut ticks = interval_at(Instant::now() + phase(&check), pace.interval);
    // A check that was late does not catch up.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // It is never closed.
        let Ok(_permit) = permits.acquire().await else { return };
        let errand = errands.borrow().clone();
        let (answer, remark) = match errand {
            Errand::Ask(aim, remark) => (probe::ask(&aim, &check.question, pace.timeout).await, remark),
            Errand::Known(answer) => (answer, None),
        };
        board.take(&check, answer, remark, clock::unix_ms());
    }
}

/// When the check is made first: somewhere in its interval, so that thousands do not come at once, nor the same ones
/// from every node.
fn phase(check: &Check) -> Duration {
    let mut hasher = DefaultHasher::new();
    (check, std::process::id(), clock::since_boot()).hash(&mut hasher);
    let interval = u64::try_from(check.pace.interval.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(hasher.finish() % interval.max(1))
}

#[cfg(test)]
#[path = "prober_tests.rs"]
mod tests;
