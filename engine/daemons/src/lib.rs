//! Programs that netd starts and that outlive it: found, started in a session of their own, and known again by the words
//! with which they were started.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where programs are, besides the folders of `$PATH`, which a service may not have.
const FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// Between two looks at a program that is to end.
const STEP: Duration = Duration::from_millis(10);

/// What the system refused.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Refused {
    /// What was tried.
    pub what: String,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// A program, as far as this netd started it: an earlier one may have.
#[derive(Debug, Default)]
pub struct Started {
    /// To be reaped.
    child: Option<Child>,
    /// When it was started, until it has been seen to listen.
    since: Option<Instant>,
}

impl Started {
    /// A program that was started just now.
    #[must_use]
    pub fn of(child: Child) -> Self {
        Self { child: Some(child), since: Some(Instant::now()) }
    }

    /// Starts a program, which says what it says into `log`, from its beginning.
    ///
    /// # Errors
    ///
    /// What the system refused.
    pub fn begin(program: &Path, arguments: &[String], log: &Path) -> Result<Self, Refused> {
        let refused =
            |what: &str, path: &Path, source| Refused { what: format!("{what} {}", path.display()), source };
        let open = || -> io::Result<(File, File)> {
            // A file and not a pipe: writing to a pipe that nobody reads any more would end it with netd.
            let log = OpenOptions::new().append(true).create(true).mode(0o600).open(log)?;
            log.set_len(0)?;
            Ok((log.try_clone()?, log))
        };
        let (out, err) = open().map_err(|error| refused("write to", log, error))?;
        // A session of its own: what is sent to netd's terminal or group does not reach it.
        let mut command = Command::new(find("setsid").unwrap_or_else(|| "setsid".into()));
        command.arg(program).args(arguments);
        command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(out).stderr(err);
        command.spawn().map(Self::of).map_err(|error| refused("start", program, error))
    }

    /// Forgets a program that has ended. To be called before its state is asked for.
    pub fn reap(&mut self) {
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(None))
        {
            *self = Self::default();
        }
    }

    /// Whether this netd started it and it has not been found to have ended.
    #[must_use]
    pub fn is_child(&self) -> bool {
        self.child.is_some()
    }

    /// How long ago it was started, if it has not been seen to listen yet.
    #[must_use]
    pub fn starting(&self) -> Option<Duration> {
        self.since.map(|since| since.elapsed())
    }

    /// Is told that it has been seen to listen.
    pub fn listens(&mut self) {
        self.since = None;
    }

    /// Ends it, if this netd started it.
    pub fn kill(&mut self) {
        if let Some(mut child) = std::mem::take(self).child {
            // Neither may fail for a child that has not been reaped.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until it ends, at most so long, and forgets it.
    pub fn wait(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        while self.is_child() && Instant::now() < until {
            self.reap();
            if self.is_child() {
                sleep(STEP);
            }
        }
        *self = Self::default();
    }
}

/// Where a program is.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The words with which a process was started; none if it is not there any more, or ending.
#[must_use]
pub fn command(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut words: Vec<String> = words.collect();
    // Each word ends with a zero, also the last.
    words.pop();
    words
}

/// What a process is called, without how it was started; empty if it is not there any more.
#[must_use]
pub fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Whether a process was started as this program, wherever it is, with these words behind.
#[must_use]
pub fn is_started_as(pid: u32, program: &str, arguments: &[String]) -> bool {
    let command = command(pid);
    command.split_first().is_some_and(|(first, rest)| {
        Path::new(first).file_name().is_some_and(|name| name == program) && rest == arguments
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_program_is_started_apart_and_known_again_by_its_words() {
        let dir = tempfile::TempDir::new().unwrap();
        let log = dir.path().join("log");
        let words = ["600".to_owned()];
        let mut started = Started::begin(&find("sleep").unwrap(), &words, &log).unwrap();
        let pid = started.child.as_ref().unwrap().id();
        let until = Instant::now() + PATIENCE;
        // Until then it is the program that makes the session.
        while !is_started_as(pid, "sleep", &words) {
            assert!(Instant::now() < until, "{:?}", command(pid));
            sleep(STEP);
        }
        assert!(!is_started_as(pid, "sleep", &[]) && !is_started_as(pid, "sh", &words));
        assert!(started.starting().is_some());
        started.listens();
        assert!(started.is_child() && started.starting().is_none());
        started.kill();
        assert!(!started.is_child() && command(pid).is_empty());
    }

    #[test]
    fn what_a_program_says_is_in_its_log_from_the_beginning() {
        let dir = tempfile::TempDir::new().unwrap();
        let log = dir.path().join("log");
        for said in ["a long word", "short"] {
            let mut started = Started::begin(&find("echo").unwrap(), &[said.to_owned()], &log).unwrap();
            started.wait(PATIENCE);
            assert_eq!(fs::read_to_string(&log).unwrap(), format!("{said}\n"));
        }
        assert!(find("a-program-that-nobody-has").is_none());
        let nowhere = Started::begin(Path::new("/x"), &[], Path::new("/nowhere/log")).unwrap_err();
        assert_eq!(nowhere.to_string(), "write to /nowhere/log");
    }
}
