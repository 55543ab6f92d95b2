//! Asks and answers: the sockets and the timers, and the leases of addresses.

use super::carried::Carried;
use super::message::{self, Message};
use super::seen::{Seen, Standing};
use super::watch::{AWAY_MAX, Watch};
use super::{Board, Orders, secret};
use crate::clock;
use crate::egress;
use crate::kinds::address;
use netd_schema::{Config, EgressFailover};
use ring::hmac;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// So many looks at the time for one question: what is over is found that much sooner.
const LOOKS_PER_QUESTION: u32 = 4;

/// A lease is renewed so many times before it would end.
const RENEWALS_PER_LEASE: u32 = 4;

/// So many datagrams are read before the time is looked at again.
const BURST: usize = 256;

/// A node that goes says so again after this time, until all have answered.
const FAREWELL_WAIT: Duration = Duration::from_millis(60);

/// It says so for a detection time, in which who is dead is found to be, and for this time at most: the service manager
/// does not wait for ever.
pub const FAREWELL_MAX: Duration = Duration::from_millis(2_500);

/// What the file that is in force asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    orders: Arc<Orders>,
    config: Arc<Config>,
    lease: Duration,
}

/// Gives the task that follows from a file, if it is another one than before; `None` where nobody is watched.
pub fn order(to: &watch::Sender<Option<Task>>, config: Option<&Config>, me: &str) {
    to.send_if_modified(|before| {
        let failover = config.and_then(|config| config.egress_failover.as_ref());
        let now = config.zip(failover).and_then(|(config, failover)| {
            let orders = Orders::of(config, me)?;
            let is_same = before
                .as_ref()
                .is_some_and(|task| *task.orders == orders && task.config.egress == config.egress);
            // Only what egress policies say is read of it.
            let kept = || {
                let egress = config.egress.clone();
                Arc::new(Config { egress, egress_failover: Some(failover.clone()), ..Config::default() })
            };
            let lease = EgressFailover::lease(failover);
            match before {
                Some(task) if is_same => Some(task.clone()),
                _ => Some(Task { orders: Arc::new(orders), config: kept(), lease }),
            }
        });
        let is_new = now != *before;
        if is_new {
            *before = now;
        }
        is_new
    });
}

/// Follows the tasks, and puts up what is seen, until `stop` says so; then takes leave: gateways that will be back soon are
/// not missed.
pub async fn run(
    board: Arc<Board>,
    mut tasks: watch::Receiver<Option<Task>>,
    runtime_dir: impl AsRef<Path>,
    mut stop: watch::Receiver<bool>,
) {
    let carried = Carried::new(runtime_dir.as_ref());
    let mut known = carried.read();
    let session = session();
    let mut watching: Option<Watching> = None;
    loop {
        let task = tasks.borrow_and_update().clone();
        watching = match (task, watching) {
            (None, None) => None,
            (None, Some(_)) => {
                board.put(None);
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
            changed = tasks.changed() => if changed.is_err() { return },
            () = now.go_on(&board, &carried, &mut known) => {}
            () = told(&mut stop) => {
                now.leave().await;
                return;
            }
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

struct Watching {
    task: Task,
    watch: Watch,
    /// By family, IPv4 first: a socket, once its address is there.
    sockets: [Option<UdpSocket>; 2],
    key: Result<Option<hmac::Key>, String>,
    hindrance: Option<String>,
    /// The addresses that are this node's, by what was seen last.
    held: Option<BTreeSet<IpAddr>>,
    renewed: Option<Duration>,
}

impl Watching {
    fn begin(task: Task, session: u64) -> Self {
        let watch = Watch::new(Arc::clone(&task.orders), session, clock::since_boot());
        let key = key(&task.orders);
        Self { task, watch, sockets: [None, None], key, hindrance: None, held: None, renewed: None }
    }

    fn adopt(mut self, task: Task) -> Self {
        if self.task.orders.listens != task.orders.listens {
            self.sockets = [None, None];
        }
        self.watch.adopt(Arc::clone(&task.orders), clock::since_boot());
        self.key = key(&task.orders);
        Self { task, held: None, ..self }
    }

    /// Asks and answers until it is dropped.
    async fn go_on(&mut self, board: &Board, carried: &Carried, known: &mut Option<BTreeMap<String, u32>>) {
        let mut looks = tokio::time::interval(self.task.orders.interval / LOOKS_PER_QUESTION);
        // One that was late does not catch up.
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0;
        loop {
            let [v4, v6] = &self.sockets;
            let is_time = tokio::select! {
                _ = looks.tick() => true,
                () = readable(v4.as_ref()) => false,
                () = readable(v6.as_ref()) => false,
            };
            if is_time {
                if count == 0 {
                    self.open();
                    self.ask();
                }
                count = (count + 1) % LOOKS_PER_QUESTION;
            }
            self.hear();
            if !is_time {
                continue;
            }
            let mut seen = self.watch.look(clock::since_boot());
            seen.hindrance.clone_from(&self.hindrance);
            if seen.standing == Standing::Starting {
                let all = || self.task.orders.gateways.iter().map(|name| (name.clone(), 0)).collect();
                seen.alive = known.clone().unwrap_or_else(all);
            } else if known.as_ref() != Some(&seen.alive) {
                carried.write(&seen.alive);
                *known = Some(seen.alive.clone());
            }
            if board.put(Some(&seen)) {
                let standing = &seen.standing;
                tracing::info!(%standing, alive = ?seen.alive, "what is known of the egress gateways has changed");
                self.held = None;
            }
            let held = match self.held.take() {
                Some(held) => held,
                // Another lease, or another address: the kernel may hold it for less than the time to the next renewal.
                None => {
                    self.renewed = None;
                    self.addresses(&seen)
                }
            };
            self.renew(&held, self.task.lease / RENEWALS_PER_LEASE, self.task.lease).await;
            self.held = Some(held);
        }
    }

    /// The addresses that are this node's, as far as it may have any.
    fn addresses(&self, seen: &Seen) -> BTreeSet<IpAddr> {
        if seen.standing != Standing::Ready {
            return BTreeSet::new();
        }
        let me = self.task.orders.me.as_str();
        let shared = self.task.config.egress.iter().filter(|policy| egress::is_shared(policy));
        let own =
            shared.filter(|policy| egress::in_force(policy, Some(seen)).is_some_and(|it| it.node == me));
        own.flat_map(|policy| &policy.ips).copied().collect()
    }

    async fn renew(&mut self, held: &BTreeSet<IpAddr>, at_least_after: Duration, lease: Duration) {
        let now = clock::since_boot();
        if held.is_empty() || self.renewed.is_some_and(|at| now.saturating_sub(at) < at_least_after) {
            return;
        }
        self.renewed = Some(now);
        if let Err(why) = address::renew(held, lease).await {
            tracing::warn!(why, "an egress address may go, as if this node's netd were gone");
        }
    }

    /// Opens what is not open; the node's addresses may come later than netd.
    fn open(&mut self) {
        self.hindrance = self.key.as_ref().err().cloned();
        for address in &self.task.orders.listens {
            let [v4, v6] = &mut self.sockets;
            let socket = if address.is_ipv4() { v4 } else { v6 };
            if socket.is_none() {
                match bind(*address) {
                    Ok(bound) => *socket = Some(bound),
                    Err(error) => self.hindrance = Some(format!("listen at {address}: {error}")),
                }
            }
        }
    }

    /// Asks everybody.
    fn ask(&self) {
        let Ok(key) = &self.key else { return };
        let now = clock::since_boot();
        for (name, at) in &self.task.orders.others {
            self.send(&self.watch.question(name, now), *at, key.as_ref());
        }
    }

    /// What does not fit the socket's queue is lost, as on any network.
    fn send(&self, message: &Message, to: SocketAddr, key: Option<&hmac::Key>) {
        let [v4, v6] = &self.sockets;
        if let Some(socket) = if to.is_ipv4() { v4 } else { v6 } {
            let _ = socket.try_send_to(&message.encode(key), to);
        }
    }

    /// Takes what has come, and answers.
    fn hear(&mut self) {
        let mut buffer = [0; message::BYTES_MAX + 1];
        for at in 0..self.sockets.len() {
            for _ in 0..BURST {
                let Some(Some(socket)) = self.sockets.get(at) else { break };
                let Ok((length, from)) = socket.try_recv_from(&mut buffer) else { break };
                let bytes = buffer.get(..length).unwrap_or_default();
                self.take(bytes, from);
            }
        }
    }

    fn take(&mut self, bytes: &[u8], from: SocketAddr) {
        let Ok(key) = &self.key else { return };
        let Some(message) = Message::decode(bytes, key.as_ref()) else { return };
        // Only from where the file says that the node is.
        if self.task.orders.others.get(&message.from) != Some(&from) {
            return;
        }
        let answer = self.watch.take(&message, clock::since_boot());
        if let (Some(answer), Ok(key)) = (answer, &self.key) {
            self.send(&answer, from, key.as_ref());
        }
    }

    /// Says that this node goes and will be back; once the others know, its addresses stay for that long.
    async fn leave(&mut self) {
        let seen = self.watch.look(clock::since_boot());
        let held = self.addresses(&seen);
        if held.is_empty() {
            return;
        }
        // So that they last as long as the farewell.
        self.renewed = None;
        self.renew(&held, Duration::ZERO, self.task.lease).await;
        let began = clock::since_boot();
        let back = began + AWAY_MAX;
        self.watch.leave(Some(back));
        while clock::since_boot().saturating_sub(began) < self.task.orders.detection.min(FAREWELL_MAX) {
            self.ask();
            tokio::time::sleep(FAREWELL_WAIT).await;
            self.hear();
            let now = clock::since_boot();
            if self.watch.is_answered_since(began, now) {
                self.renew(&held, Duration::ZERO, back.saturating_sub(now)).await;
                return;
            }
        }
        tracing::warn!("not every node knows that this gateway will be back: another one takes over");
        // Those that know need not wait for it.
        self.watch.leave(None);
        self.ask();
    }
}

fn key(orders: &Orders) -> Result<Option<hmac::Key>, String> {
    orders.key_file.as_deref().map(secret::read).transpose()
}

fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Never, without a socket.
async fn readable(socket: Option<&UdpSocket>) {
    match socket {
        // An error is found by reading.
        Some(socket) => drop(socket.readable().await),
        None => std::future::pending().await,
    }
}
