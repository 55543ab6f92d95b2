//! wireguard-go as a child of netd's own: another process on purpose, so that packets flow while netd is not there.
//!
//! Which process it is, its socket says: whoever listens there is asked for by the kernel (`SO_PEERCRED`), and has to be a
//! wireguard-go for this device in this network namespace. It ends when its device is deleted, so nothing else ends it.

use crate::userspace::socket;
use rustix::net::sockopt::socket_peercred;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The program.
const PROGRAM: &str = "wireguard-go";

/// Where it is, besides the folders of `$PATH`, which a service may not have.
const FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

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
        "{socket} is held by process {pid}, which is no wireguard-go of this network namespace: {command}"
    )]
    Foreign {
        /// The socket.
        socket: String,
        /// Who listens on it.
        pid: i32,
        /// How it was started.
        command: String,
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
    /// To be reaped, if this netd started it.
    child: Option<Child>,
    /// When the child was started, until it has been seen to listen.
    starting: Option<Instant>,
}

impl Program {
    /// The program of this device, which says what it says into a file of this folder. Nothing is started.
    #[must_use]
    pub fn new(interface: &str, folder: &Path) -> Self {
        let log = folder.join(format!("wireguard-go.{interface}.log"));
        Self { interface: interface.to_owned(), log, child: None, starting: None }
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
        self.reap();
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
        let peer =
            socket_peercred(&stream).map_err(|errno| system("ask who holds", &socket, errno.into()))?;
        let pid = peer.pid.as_raw_nonzero().get();
        let command = command(pid);
        let is_ours = command.split_first().is_some_and(|(program, arguments)| {
            Path::new(program).file_name().is_some_and(|name| name == PROGRAM)
                && arguments == self.arguments()
        });
        if is_ours && is_here(pid) {
            self.starting = None;
            return Ok(true);
        }
        if command.is_empty() {
            // It is ending: its memory is gone, its socket is not yet.
            return Ok(false);
        }
        Err(ChildError::Foreign { socket: socket.display().to_string(), pid, command: command.join(" ") })
    }

    /// Whether this netd started it and it does not listen yet. Its device may be there already.
    pub fn is_starting(&mut self) -> bool {
        self.reap();
        self.starting.is_some()
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
        if self.starting.is_none() {
            self.spawn()?;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            if self.is_running()? {
                return Ok(());
            }
            if self.child.is_none() {
                break;
            }
            if Instant::now() >= until {
                match self.starting.map(|at| at.elapsed()) {
                    Some(since) if since < STARTING_MAX => return Err(ChildError::Starting { since }),
                    Some(_) | None => break,
                }
            }
            sleep(STEP);
        }
        self.kill();
        Err(ChildError::Stillborn { said: last_words(&self.log) })
    }

    fn spawn(&mut self) -> Result<(), ChildError> {
        let program = find(PROGRAM).ok_or(ChildError::Missing)?;
        // A file and not a pipe: writing to a pipe that nobody reads any more would end it with netd.
        let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&self.log);
        let log = open().and_then(|log| log.set_len(0).and_then(|()| Ok((log.try_clone()?, log))));
        let (out, err) = log.map_err(|error| system("write to", &self.log, error))?;
        // A session of its own: what is sent to netd's terminal or group does not reach it.
        let mut command = Command::new(find("setsid").unwrap_or_else(|| "setsid".into()));
        command.arg(&program).args(self.arguments());
        command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(out).stderr(err);
        self.child = Some(command.spawn().map_err(|error| system("start", &program, error))?);
        self.starting = Some(Instant::now());
        Ok(())
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
            self.kill();
        }
    }

    fn kill(&mut self) {
        self.starting = None;
        if let Some(mut child) = self.child.take() {
            // Neither may fail for a child that has not been reaped.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Forgets a child that has ended.
    fn reap(&mut self) {
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(None))
        {
            self.child = None;
            self.starting = None;
        }
    }

    /// Removes what it left, once its device is gone.
    pub fn forget(&mut self) {
        if let Some(mut child) = self.child.take() {
            let until = Instant::now() + PATIENCE;
            while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
                sleep(STEP);
            }
        }
        // It may never have been there.
        let _ = fs::remove_file(&self.log);
    }

    /// In the foreground: it would fork otherwise, and its child would be nobody's.
    fn arguments(&self) -> [String; 2] {
        ["-f".to_owned(), self.interface.clone()]
    }
}

/// Whether a process is in the network namespace of this thread.
fn is_here(pid: i32) -> bool {
    let here = fs::read_link("/proc/thread-self/ns/net");
    let there = fs::read_link(format!("/proc/{pid}/ns/net"));
    here.is_ok_and(|here| there.is_ok_and(|there| here == there))
}

/// How a process was started; empty if it is not there any more.
fn command(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut words: Vec<String> = words.collect();
    // Each word ends with a zero, also the last.
    words.pop();
    words
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

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

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
        program.child = Some(Command::new("sleep").arg("600").spawn().unwrap());
        program.starting = Some(Instant::now());
        assert!(matches!(program.start(), Err(ChildError::Starting { .. })));
        assert!(program.is_starting() && program.child.is_some());
        program.give_up();
        assert!(!program.is_starting() && program.child.is_none());
    }
}
