//! The client: opens new connections all the time, keeps others open, and counts what comes back.

use anyhow::{Context as _, ensure};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::http::{self, After};
use super::tally::{Connection, Family, Tally};
use super::topology::{CLIENT, PORT, VIP_V4, VIP_V6};
use super::world::World;
use crate::clock;

/// Connections of each family that are opened once and kept.
pub(super) const KEPT_PER_FAMILY: usize = 16;

/// The time between two requests on a kept connection.
const KEPT_EVERY: Duration = Duration::from_millis(50);

/// Tasks of each family that open one new connection after the other.
const OPENERS_PER_FAMILY: usize = 3;

/// The time between two connections of such a task.
const NEW_EVERY: Duration = Duration::from_millis(8);

/// After this long without an answer a request has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Traffic through the VIPs, until this is dropped.
pub(super) struct Traffic {
    windows: Windows,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
}

impl Traffic {
    pub(super) fn start(world: &World) -> anyhow::Result<Self> {
        let windows = Windows::new();
        let (stop, stopped) = watch::channel(false);
        let counted = windows.clone();
        let thread = world.enter(CLIENT, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(counted, stopped))
        })?;
        Ok(Self { windows, stop, thread: Some(thread) })
    }

    /// Begins a new stretch of time, and returns its number for [`Traffic::tally`].
    pub(super) fn begin(&self) -> usize {
        self.windows.begin()
    }

    /// What became so far of the requests that began in this stretch.
    pub(super) fn tally(&self, window: usize) -> Tally {
        self.windows.tally(window)
    }

    /// Lets the last requests finish, and returns what became of all.
    pub(super) fn stop(mut self) -> anyhow::Result<Tally> {
        self.end()?;
        Ok(self.windows.with(|tallies| Tally::sum(tallies)))
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let _ = self.stop.send(true);
        match self.thread.take().map(std::thread::JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self.end();
        }
    }
}

/// One tally after the other, and at least one; a request counts where it began.
#[derive(Clone)]
struct Windows(Arc<Mutex<Vec<Tally>>>);

impl Windows {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(vec![Tally::default()])))
    }

    fn begin(&self) -> usize {
        self.with(|tallies| {
            tallies.push(Tally::default());
            tallies.len() - 1
        })
    }

    fn current(&self) -> usize {
        self.with(|tallies| tallies.len().saturating_sub(1))
    }

    fn tally(&self, window: usize) -> Tally {
        self.with(|tallies| tallies.get(window).cloned().unwrap_or_default())
    }

    fn count(&self, window: usize, count: impl FnOnce(&mut Tally)) {
        self.with(|tallies| {
            if let Some(tally) = tallies.get_mut(window) {
                count(tally);
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<Tally>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn run(windows: Windows, stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for (family, vip) in [(Family::V4, VIP_V4), (Family::V6, VIP_V6)] {
        let vip = SocketAddr::new(vip.parse::<IpAddr>().context("read a VIP")?, PORT);
        for _ in 0..OPENERS_PER_FAMILY {
            tasks.spawn(open_new_ones(family, vip, windows.clone(), stopped.clone()));
        }
        for _ in 0..KEPT_PER_FAMILY {
            tasks.spawn(keep_one(family, vip, windows.clone(), stopped.clone()));
        }
    }
    tasks.join_all().await;
    Ok(())
}

/// One request on each connection.
async fn open_new_ones(family: Family, vip: SocketAddr, windows: Windows, stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let (window, began) = (windows.current(), clock::now());
        let answer = timely(async {
            let mut stream = connect(vip).await?;
            http::ask(&mut stream, After::Close).await
        });
        match answer.await {
            Ok(name) => {
                windows.count(window, |tally| tally.answer(Connection::New, family, &name, began.elapsed()));
            }
            Err(error) => {
                windows.count(window, |tally| tally.failure(format!("{family}, new connection: {error:#}")));
            }
        }
        tokio::time::sleep(NEW_EVERY).await;
    }
}

/// One connection with many requests. When it fails it has failed; another one takes its place, so that a later
/// failure is seen, too.
async fn keep_one(family: Family, vip: SocketAddr, windows: Windows, stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let mut window = windows.current();
        let broke = ask_again_and_again(family, vip, &windows, &mut window, &stopped).await;
        if let Err(error) = broke {
            windows.count(window, |tally| tally.failure(format!("{family}, kept connection: {error:#}")));
            tokio::time::sleep(KEPT_EVERY).await;
        }
    }
}

async fn ask_again_and_again(
    family: Family,
    vip: SocketAddr,
    windows: &Windows,
    window: &mut usize,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut stream = timely(connect(vip)).await?;
    let mut first = None;
    while !*stopped.borrow() {
        *window = windows.current();
        let began = clock::now();
        let name = timely(http::ask(&mut stream, After::Keep)).await?;
        let backend = first.get_or_insert_with(|| name.clone());
        ensure!(*backend == name, "it moved from {backend} to {name}");
        windows.count(*window, |tally| tally.answer(Connection::Kept, family, &name, began.elapsed()));
        tokio::time::sleep(KEPT_EVERY).await;
    }
    Ok(())
}

async fn connect(vip: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(vip).await.context("connect")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn timely<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {PATIENCE:?}")))
}
