//! wireguard-go as a child of netd's own: another process on purpose, so that packets flow while netd is not there.
//!
//! Which process it is, its socket says: whoever listens there is asked for by the kernel (`SO_PEERCRED`), and has to be a
//! wireguard-go for this device in this network namespace. It ends when its device is deleted, so nothing else ends it.

use crate::userspace::socket;
use netd_daemons::{Refused, Started, command, find, is_started_as, name};
use rustix::net::sockopt::socket_peercred;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The program.
const PROGRAM: &str = "wireguard-go";

/// How long a start is waited for; it takes some hundredths of a second. Whoever waits has other things to do, and can
/// ask again.
const PATIENCE: Duration = Duration::from_secs(3);

/// From its start to its socket: longer than a slow disk takes to read the program for the first time.
const STARTING_MAX: Duration = Duration::from_secs(30);

/// Between two looks at something that is waited for.
const STEP: Duration = Duration::from_millis(10);

/// So much of what it said last is told.
const LAST_WORDS_BYTES: u64 = 400;

/// Its log is emptied once it is longer: it says every five seconds that a peer cannot be reached, in a file in memory.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It is not installed.
    #[error(
        "there is no wireguard-go in $PATH, which would be WireGuard without the kernel's: on Debian, `apt-get install \
         wireguard-go` brings it"
    )]
    Missing,
    /// The name of the device is in use, in this or in another network namespace.
    #[error(
        "{socket} is held by process {pid} ({program}), which is no wireguard-go of this network namespace"
    )]
    Foreign {
        /// The socket.
        socket: String,
        /// Who listens on it.
        pid: u32,
        /// What it is called. Not how it was started: that may hold secrets.
        program: String,
    },
    /// It does not listen yet.
    #[error("wireguard-go was started {} s ago and does not listen yet", since.as_secs())]
    Starting {
        /// How long ago it was started.
        since: Duration,
    },
    /// It ended at once, or never listened.
    #[error("wireguard-go does not come up: {said}")]
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

/// The program of one device.
#[derive(Debug)]
pub struct Program {
    interface: String,
    log: PathBuf,
    started: Started,
}

impl Program {
    /// The program of this device, which says what it says into a file of this folder. Nothing is started.
    #[must_use]
    pub fn new(interface: &str, folder: &Path) -> Self {
        let log = folder.join(format!("wireguard-go.{interface}.log"));
        Self { interface: interface.to_owned(), log, started: Started::default() }
    }

    /// Whose program it is.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Whether it runs.
    ///
    /// # Errors
    ///
    /// [`ChildError::Foreign`], [`ChildError::System`].
    pub fn is_running(&mut self) -> Result<bool, ChildError> {
        self.started.reap();
        let socket = socket(&self.interface);
        let stream = match UnixStream::connect(&socket) {
            Ok(stream) => stream,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(system("connect to", &socket, error)),
        };
        let pid = holder(&stream).map_err(|error| system("ask who holds", &socket, error))?;
        if is_program_of(pid, &self.interface) {
            self.started.listens();
            return Ok(true);
        }
        if command(pid).is_empty() {
            // It is ending: its memory is gone, its socket is not yet.
            return Ok(false);
        }
        Err(ChildError::Foreign { socket: socket.display().to_string(), pid, program: name(pid) })
    }

    /// Whether this netd started it and it does not listen yet. Its device may be there already.
    pub fn is_starting(&mut self) -> bool {
        self.started.reap();
        self.started.starting().is_some()
    }

    /// Starts it, unless it is there, and waits a little until it listens. The device is there then. To be called again as
    /// long as it is starting.
    ///
    /// # Errors
    ///
    /// Any of [`ChildError`].
    pub fn start(&mut self) -> Result<(), ChildError> {
        if self.is_running()? {
            return Ok(());
        }
        if self.started.starting().is_none() {
            let program = find(PROGRAM).ok_or(ChildError::Missing)?;
            self.started = Started::begin(&program, &self.arguments(), &self.log)?;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            if self.is_running()? {
                return Ok(());
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
            sleep(STEP);
        }
        self.started.kill();
        Err(ChildError::Stillborn { said: last_words(&self.log) })
    }

    /// Empties its log if that has grown long. It goes on at the beginning.
    pub fn shorten_log(&self) {
        let is_long = fs::metadata(&self.log).is_ok_and(|about| about.len() > LOG_BYTES_MAX);
        if is_long && let Ok(log) = OpenOptions::new().write(true).open(&self.log) {
            // At the next look then.
            let _ = log.set_len(0);
        }
    }

    /// Ends it if it is starting: nobody waits for it any more.
    pub fn give_up(&mut self) {
        if self.is_starting() {
            self.started.kill();
        }
    }

    /// Removes what it left, once its device is gone.
    pub fn forget(&mut self) {
        self.started.wait(PATIENCE);
        // It may never have been there.
        let _ = fs::remove_file(&self.log);
    }

    fn arguments(&self) -> [String; 2] {
        arguments(&self.interface)
    }
}

/// In the foreground: it would fork otherwise, and its child would be nobody's.
fn arguments(interface: &str) -> [String; 2] {
    ["-f".to_owned(), interface.to_owned()]
}

/// Which process listens.
fn holder(stream: &UnixStream) -> io::Result<u32> {
    Ok(socket_peercred(stream)?.pid.as_raw_nonzero().get().unsigned_abs())
}

/// Whether a process is the program of this device in the network namespace of this thread.
fn is_program_of(pid: u32, interface: &str) -> bool {
    is_started_as(pid, PROGRAM, &arguments(interface)) && is_here(pid)
}

/// Whether who listens is the program of this device in the network namespace of this thread. Nobody else is told a key, or
/// believed: sockets are in one folder for all namespaces.
pub(crate) fn is_held_by_program(stream: &UnixStream, interface: &str) -> io::Result<bool> {
    Ok(is_program_of(holder(stream)?, interface))
}

impl From<Refused> for ChildError {
    fn from(Refused { what, source }: Refused) -> Self {
        Self::System { what, source }
    }
}

/// Whether a process is in the network namespace of this thread.
fn is_here(pid: u32) -> bool {
    let here = fs::read_link("/proc/thread-self/ns/net");
    let there = fs::read_link(format!("/proc/{pid}/ns/net"));
    here.is_ok_and(|here| there.is_ok_and(|there| here == there))
}

/// The last line that is no frame around a hint.
fn last_words(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let is_said = |line: &&str| line.contains(|c: char| c.is_ascii_alphabetic());
    text.lines().rev().find(is_said).map_or("it says nothing".to_owned(), |line| line.trim().to_owned())
}

fn system(what: &str, path: &Path, source: io::Error) -> ChildError {
    ChildError::System { what: format!("{what} {}", path.display()), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::process::Command;

    #[test]
    fn a_long_log_is_emptied_and_a_short_one_stays() {
        let dir = tempfile::TempDir::new().unwrap();
        let program = Program::new("wg-long", dir.path());
        let length = || fs::metadata(&program.log).unwrap().len();
        let file = File::create(&program.log).unwrap();
        for (before, after) in [(LOG_BYTES_MAX, LOG_BYTES_MAX), (LOG_BYTES_MAX + 1, 0)] {
            file.set_len(before).unwrap();
            program.shorten_log();
            assert_eq!(length(), after);
        }
    }

    #[test]
    fn a_program_that_does_not_listen_yet_is_left_to_start_until_it_is_given_up() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut program = Program::new("netd-test-slow", dir.path());
        program.started = Started::of(Command::new("sleep").arg("600").spawn().unwrap());
        assert!(matches!(program.start(), Err(ChildError::Starting { .. })));
        assert!(program.is_starting() && program.started.is_child());
        program.give_up();
        assert!(!program.is_starting() && !program.started.is_child());
    }
}
