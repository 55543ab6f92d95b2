//! Very many TCP connections at once, each of which sends a small message again and again, and what becomes of them.
//!
//! The clients are one thread. Its clock stands still while the machine does not let it run, so that a connection is not
//! blamed for a busy machine.

#![allow(clippy::panic, reason = "the scaffolding of tests says what went wrong and stops")]
#![allow(clippy::unwrap_used, reason = "the scaffolding of tests says what went wrong and stops")]

use crate::bed::Bed;
use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{LocalSet, spawn_local};

/// What a client sends; a backend puts its number before it and sends it back.
pub const MESSAGE_BYTES: usize = 4;

/// Who waits longer for an answer has stalled.
pub const STALL: Duration = Duration::from_secs(1);

/// Every connection is used about this often.
const PERIOD: Duration = Duration::from_millis(1500);

/// Connections are used in turn, a few of them every so often.
const TICK: Duration = Duration::from_millis(5);

/// The thread looks at its clock every tick: a longer pause than this was not its own.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Connections that are being made at a time.
const CONNECTING_MAX: usize = 100;

/// Ahead of the compilers and tests beside.
const NICENESS: i32 = -10;

/// Gives the calling thread, and those that it starts, all the files that the process may have, and some precedence.
///
/// # Errors
///
/// When the limit of files cannot be set.
pub fn prepare_process() -> std::io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    // A container may forbid it; then the test is only more easily disturbed.
    let _ = nice(NICENESS);
    Ok(())
}

/// Servers on all backends of a bed, in a process of their own; killed when dropped.
pub struct Backends(Child);

impl Backends {
    /// Starts `program`, which is this package's binary `backends`, and waits until it listens on these ports.
    #[must_use]
    pub fn start(program: &str, bed: &Bed, ports: &[u16]) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).stdout(Stdio::piped());
        for (machine, number) in bed.backends.iter().zip(1..) {
            machine.sysctl("net/core/somaxconn", "4096");
            machine.sysctl("net/ipv4/tcp_max_syn_backlog", "4096");
            command.arg(format!("{number}={}", machine.path().display()));
        }
        command.args(ports.iter().map(ToString::to_string));
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a crowd is told to do.
#[derive(Debug)]
pub enum Order {
    /// Lets so many of the oldest connections go, and makes new ones until it is complete again.
    Renew(usize),
    /// Says what has become of all so far.
    Tell(std::sync::mpsc::Sender<Tally>),
}

/// What became of a crowd so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Connections that are there and have been answered, by the number of their backend.
    pub alive: Vec<u8>,
    /// Connections that are being made.
    pub unborn: usize,
    /// Connections that could not be made, and why.
    pub stillborn: Vec<String>,
    /// Messages that were answered.
    pub answers: u64,
    /// Connections that ended without being asked to.
    pub broken: Vec<Broken>,
    /// Waits for more than [`STALL`]: of whom, and how long.
    pub stalls: Vec<(SocketAddr, u8, Duration)>,
    /// The longest wait for an answer of an established connection.
    pub longest: Duration,
    /// For how long the machine did not let the thread run.
    pub paused: Duration,
}

/// A connection that ended without being asked to.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Where it was to.
    pub to: SocketAddr,
    /// The number of the backend that had answered.
    pub backend: u8,
    /// What happened.
    pub how: String,
}

/// A crowd: how many connections, from where, to where. They are shared out evenly.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Connections.
    pub count: usize,
    /// Addresses of the client.
    pub from: Vec<IpAddr>,
    /// Addresses of services.
    pub to: Vec<SocketAddr>,
}

impl Crowd {
    /// Makes the connections and uses them until nobody can give orders any more. To be run in the client's namespace.
    pub async fn run(self, mut orders: mpsc::UnboundedReceiver<Order>) {
        prepare_process().unwrap();
        let here = Rc::new(Here::new(self));
        let run = async {
            here.complete();
            let pace = spawn_local(pace(Rc::clone(&here)));
            while let Some(order) = orders.recv().await {
                match order {
                    Order::Renew(count) => {
                        here.let_go(count);
                        here.complete();
                    }
                    // Who has asked may have gone.
                    Order::Tell(to) => drop(to.send(here.tell())),
                }
            }
            pace.abort();
        };
        LocalSet::new().run_until(run).await;
    }
}

/// A clock that stands still while the thread does not run.
struct Clock {
    looked: Cell<Instant>,
    now: Cell<Duration>,
    paused: Cell<Duration>,
}

impl Clock {
    fn now(&self) -> Duration {
        let looked = Instant::now();
        let gap = looked.duration_since(self.looked.replace(looked));
        self.now.set(self.now.get() + gap.min(PAUSE_MAX));
        self.paused.set(self.paused.get() + gap.saturating_sub(PAUSE_MAX));
        self.now.get()
    }
}

/// One connection.
struct Member {
    to: SocketAddr,
    /// Its next turn, or its end, has come.
    wake: Notify,
    leaves: Cell<bool>,
    /// Nobody before it has been answered.
    backend: Cell<Option<u8>>,
    /// Since when it waits for an answer.
    asked: Cell<Option<Duration>>,
}

/// The crowd as its thread sees it.
struct Here {
    crowd: Crowd,
    clock: Clock,
    connecting: Semaphore,
    members: RefCell<VecDeque<Rc<Member>>>,
    made: Cell<usize>,
    tally: RefCell<Tally>,
}

impl Here {
    fn new(crowd: Crowd) -> Self {
        let clock =
            Clock { looked: Cell::new(Instant::now()), now: Cell::default(), paused: Cell::default() };
        let connecting = Semaphore::new(CONNECTING_MAX);
        Self {
            crowd,
            clock,
            connecting,
            members: RefCell::default(),
            made: Cell::default(),
            tally: RefCell::default(),
        }
    }

    fn complete(self: &Rc<Self>) {
        while self.members.borrow().len() < self.crowd.count {
            let number = self.made.replace(self.made.get() + 1);
            let to = self.crowd.to[number % self.crowd.to.len()];
            let from: Vec<IpAddr> =
                self.crowd.from.iter().copied().filter(|from| from.is_ipv4() == to.is_ipv4()).collect();
            let from = from[number / self.crowd.to.len() % from.len()];
            let member = Rc::new(Member {
                to,
                wake: Notify::new(),
                leaves: Cell::default(),
                backend: Cell::default(),
                asked: Cell::default(),
            });
            self.members.borrow_mut().push_back(Rc::clone(&member));
            spawn_local(Rc::clone(self).live(member, from));
        }
    }

    fn let_go(&self, count: usize) {
        let mut members = self.members.borrow_mut();
        let count = count.min(members.len());
        for member in members.drain(..count) {
            member.leaves.set(true);
            member.wake.notify_one();
        }
    }

    async fn live(self: Rc<Self>, member: Rc<Member>, from: IpAddr) {
        let Err(why) = self.talk(&member, from).await else { return };
        self.members.borrow_mut().retain(|other| !Rc::ptr_eq(other, &member));
        let mut tally = self.tally.borrow_mut();
        match member.backend.get() {
            Some(backend) => {
                self.note(&mut tally, &member);
                tally.broken.push(Broken { to: member.to, backend, how: why.to_string() });
            }
            None => tally.stillborn.push(format!("{}: {why}", member.to)),
        }
    }

    /// Until it is asked to leave; the error is what broke it.
    async fn talk(&self, member: &Member, from: IpAddr) -> std::io::Result<()> {
        let mut turn = self.connecting.acquire().await.ok();
        let mut stream = connect(from, member.to).await?;
        for number in 0u32.. {
            member.asked.set(Some(self.clock.now()));
            let message = number.to_be_bytes();
            stream.write_all(&message).await?;
            let mut reply = [0; 1 + MESSAGE_BYTES];
            stream.read_exact(&mut reply).await?;
            self.check(member, message, reply)?;
            drop(turn.take());
            member.wake.notified().await;
            if member.leaves.get() {
                break;
            }
        }
        Ok(())
    }

    fn check(
        &self,
        member: &Member,
        message: [u8; MESSAGE_BYTES],
        reply: [u8; 1 + MESSAGE_BYTES],
    ) -> std::io::Result<()> {
        let mut tally = self.tally.borrow_mut();
        tally.answers += 1;
        match member.backend.get() {
            Some(backend) if backend != reply[0] => {
                return Err(std::io::Error::other(format!("backend {} answered", reply[0])));
            }
            Some(_) => self.note(&mut tally, member),
            // Making a connection takes as long as it takes.
            None => member.backend.set(Some(reply[0])),
        }
        member.asked.set(None);
        if reply[1..] == message { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Notes how long a connection has waited.
    fn note(&self, tally: &mut Tally, member: &Member) {
        let (Some(asked), Some(backend)) = (member.asked.get(), member.backend.get()) else { return };
        let waited = self.clock.now() - asked;
        tally.longest = tally.longest.max(waited);
        if waited > STALL {
            tally.stalls.push((member.to, backend, waited));
        }
    }

    fn tell(&self) -> Tally {
        let mut tally = self.tally.borrow().clone();
        for member in self.members.borrow().iter() {
            self.note(&mut tally, member);
            match member.backend.get() {
                Some(backend) => tally.alive.push(backend),
                None => tally.unborn += 1,
            }
        }
        tally.paused = self.clock.paused.get();
        tally
    }
}

async fn connect(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(to).await
}

/// Lets all members take their turns, a few at a time: after a pause, too, there is no burst.
async fn pace(here: Rc<Here>) {
    let at_once = here.crowd.count.div_ceil((PERIOD.as_millis() / TICK.as_millis()) as usize);
    let mut at = 0;
    loop {
        tokio::time::sleep(TICK).await;
        here.clock.now();
        let members = here.members.borrow();
        for _ in 0..at_once.min(members.len()) {
            at = (at + 1) % members.len();
            let member = &members[at];
            if member.asked.get().is_none() && member.backend.get().is_some() {
                member.wake.notify_one();
            }
        }
    }
}
