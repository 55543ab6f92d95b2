//! A gobgpd of netd's own: started, found again, stopped. It is another process on purpose: sessions stay up when netd
//! ends, is killed, or is replaced.
//!
//! Which process it is, its socket says: whoever listens there is asked for by the kernel (`SO_PEERCRED`), and has to
//! be a gobgpd that was told to listen there. There is no file with a number in it that could be stale.

mod log;
mod process;

pub use log::{Level, Line, Tail};
pub use process::Identity;

use crate::Endpoint;
use netd_daemons::{Refused, Started, command, find, name};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// How long a start is waited for; it takes a tenth of a second. Whoever waits has other things to do, and can ask again.
const PATIENCE: Duration = Duration::from_secs(3);

/// From its start to its socket: longer than a slow disk takes to read the program for the first time.
const STARTING_MAX: Duration = Duration::from_secs(30);

/// It says goodbye to its peers when it is told to end; then it is killed.
const ENDING_MAX: Duration = Duration::from_secs(2);

/// Between two looks at something that is waited for.
const STEP: Duration = Duration::from_millis(20);

/// A daemon that has lived this long may be started again at once.
const SETTLED: Duration = Duration::from_secs(60);

/// The longest pause before a daemon that keeps dying is started again.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It is not installed.
    #[error("there is no gobgpd in $PATH: on Debian, `apt-get install gobgpd` brings it")]
    Missing,
    /// Something else has the socket.
    #[error("{socket} is held by process {pid} ({program}), which is no gobgpd of this netd")]
    Foreign {
        /// The socket.
        socket: String,
        /// Who listens on it.
        pid: u32,
        /// What it is called. Not how it was started: that may hold secrets.
        program: String,
    },
    /// It died again and again.
    #[error("gobgpd ended {times} times in a row; it is started again in {} s", wait.as_secs().max(1))]
    Pausing {
        /// How often it was started in vain.
        times: usize,
        /// How long it is left alone.
        wait: Duration,
    },
    /// It does not listen yet.
    #[error("gobgpd was started {} s ago and does not listen yet", since.as_secs())]
    Starting {
        /// How long ago it was started.
        since: Duration,
    },
    /// It ended at once, or never listened.
    #[error("gobgpd does not come up: {said}")]
    Stillborn {
        /// What it said last.
        said: String,
    },
    /// The system refused something.
    #[error("{what}")]
    System {
        /// What was tried.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What listens on the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The daemon.
    Running(Identity),
    /// Nobody.
    Absent,
}

/// The daemon in its folder.
#[derive(Debug)]
pub struct Managed {
    socket: PathBuf,
    log: PathBuf,
    /// The daemon as a child process.
    started: Started,
    /// When it was started, the latest last; only those that count for a pause.
    starts: VecDeque<Instant>,
}

impl Managed {
    /// The daemon whose socket and log are in this folder, which is the instance's own. Nothing is started.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let (socket, log) = (folder.join("gobgpd.sock"), folder.join("gobgpd.log"));
        Self { socket, log, started: Started::default(), starts: VecDeque::new() }
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.socket.clone())
    }

    /// What it says goes into this file.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Looks who is there.
    ///
    /// # Errors
    ///
    /// [`ChildError::Foreign`], [`ChildError::System`].
    pub async fn look(&mut self) -> Result<Standing, ChildError> {
        self.started.reap();
        let connecting = timeout(ENDING_MAX, UnixStream::connect(&self.socket));
        let stream = match connecting.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if is_absence(&error) => return Ok(Standing::Absent),
            Ok(Err(error)) => return Err(self.system("connect to", &self.socket, error)),
            Err(_) => return Err(self.system("connect to", &self.socket, io::ErrorKind::TimedOut.into())),
        };
        let credentials =
            stream.peer_cred().map_err(|error| self.system("ask who holds", &self.socket, error))?;
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
        match process::is_daemon_at(pid, &self.socket).then(|| Identity::of(pid)).flatten() {
            Some(identity) => {
                self.started.listens();
                Ok(Standing::Running(identity))
            }
            // It is ending: its memory is gone, its sockets are not yet.
            None if pid != 0 && command(pid).is_empty() => Ok(Standing::Absent),
            None => Err(ChildError::Foreign {
                socket: self.socket.display().to_string(),
                pid,
                program: name(pid),
            }),
        }
    }

    /// Starts it, unless it is there, and waits a little until it listens. To be called again as long as it is starting.
    ///
    /// # Errors
    ///
    /// Any of [`ChildError`].
    pub async fn start(&mut self) -> Result<Identity, ChildError> {
        if let Standing::Running(identity) = self.look().await? {
            return Ok(identity);
        }
        if self.started.starting().is_none() {
            self.launch().await?;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            if let Standing::Running(identity) = self.look().await? {
                return Ok(identity);
            }
            if !self.started.is_child() {
                break;
            }
            if Instant::now() >= until {
                match self.started.starting() {
                    Some(since) if since < STARTING_MAX => return Err(ChildError::Starting { since }),
                    Some(_) | None => break,
                }
            }
            sleep(STEP).await;
        }
        self.started.kill();
        Err(ChildError::Stillborn { said: log::last_words(&self.log) })
    }

    async fn launch(&mut self) -> Result<(), ChildError> {
        let program = find("gobgpd").ok_or(ChildError::Missing)?;
        self.mind_the_pause()?;
        for orphan in process::daemons_at(&self.socket) {
            // It lives, and nobody can reach it: somebody removed its socket. Killed, its peers keep what it told them.
            orphan.kill();
            self.wait_for_end(orphan).await;
        }
        self.spawn(&program)
    }

    fn spawn(&mut self, program: &Path) -> Result<(), ChildError> {
        if let Err(error) = std::fs::remove_file(&self.socket)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(self.system("remove", &self.socket, error));
        }
        self.started = Started::begin(program, &arguments(&self.socket), &self.log)?;
        self.starts.push_back(Instant::now());
        Ok(())
    }

    /// After a daemon that lived long there is no pause, then 1, 2, 4 … seconds.
    fn mind_the_pause(&mut self) -> Result<(), ChildError> {
        let Some(last) = self.starts.back() else { return Ok(()) };
        if last.elapsed() >= SETTLED {
            self.starts.clear();
            return Ok(());
        }
        let times = self.starts.len();
        let pause = pause_after(times);
        match pause.checked_sub(last.elapsed()) {
            Some(wait) if !wait.is_zero() => Err(ChildError::Pausing { times, wait }),
            Some(_) | None => Ok(()),
        }
    }

    /// Ends it, in good order if it can still do that, and removes what it leaves. There may be none.
    ///
    /// # Errors
    ///
    /// As [`Managed::look`].
    pub async fn stop(&mut self) -> Result<(), ChildError> {
        self.look().await?;
        // Also one that does not listen yet, or that nobody can reach any more.
        for identity in process::daemons_at(&self.socket) {
            identity.terminate();
            if !self.wait_for_end(identity).await {
                identity.kill();
                self.wait_for_end(identity).await;
            }
        }
        self.starts.clear();
        for file in [&self.socket, &self.log] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.system("remove", file, error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    async fn wait_for_end(&mut self, identity: Identity) -> bool {
        let until = Instant::now() + ENDING_MAX;
        while Instant::now() < until {
            self.started.reap();
            if !identity.is_alive() {
                return true;
            }
            sleep(STEP).await;
        }
        false
    }

    fn system(&self, what: &str, path: &Path, source: io::Error) -> ChildError {
        ChildError::System { what: format!("{what} {}", path.display()), source }
    }
}

impl From<Refused> for ChildError {
    fn from(Refused { what, source }: Refused) -> Self {
        Self::System { what, source }
    }
}

/// How long a daemon is left alone that was started this often and did not stay.
fn pause_after(times: usize) -> Duration {
    match u32::try_from(times).unwrap_or(u32::MAX) {
        0 | 1 => Duration::ZERO,
        times => Duration::from_secs(1 << (times - 2).min(5)).min(PAUSE_MAX),
    }
}

/// How a daemon for this socket is started: without its usual listeners, which anybody could use.
fn arguments(socket: &Path) -> [String; 3] {
    ["--api-hosts".into(), format!("unix://{}", socket.display()), "--pprof-disable".into()]
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_keeps_dying_is_left_alone_ever_longer() {
        let pauses: Vec<u64> = (0..9).map(|times| pause_after(times).as_secs()).collect();
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn b13_a_daemon_listens_on_its_socket_and_nowhere_else() {
        let expected = ["--api-hosts", "unix:///run/netd/a/gobgpd.sock", "--pprof-disable"];
        assert_eq!(arguments(Path::new("/run/netd/a/gobgpd.sock")), expected);
    }
}
