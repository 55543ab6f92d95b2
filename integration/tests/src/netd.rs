//! netd as a process: its file, the daemon, the commands.

#![allow(clippy::panic, reason = "the scaffolding of tests says what went wrong and stops")]
#![allow(clippy::unwrap_used, reason = "the scaffolding of tests says what went wrong and stops")]

use crate::bed::Bed;
use crate::site::Site;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// So long nothing happens where all is done, less than from one resync to the next.
const QUIET: Duration = Duration::from_secs(2);

/// Longer than anything takes here, also on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The kernel takes milliseconds to take a program off a device whose link nobody holds any more; busy machines longer.
const LETTING_GO_MAX: Duration = Duration::from_secs(20);

/// Between two looks at something that is waited for.
const STEP: Duration = Duration::from_millis(20);

/// The program under test: it lies two folders above the test, which cargo built with it.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let netd = test.ancestors().nth(2).map(|folder| folder.join("netd")).unwrap();
    assert!(
        netd.exists(),
        "there is no {}: build it first, `cargo build -p netd` (or test the workspace)",
        netd.display()
    );
    netd
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Standard output, which is JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Site {
    /// Replaces the desired file by rename, as editors do.
    pub fn write(&self, text: &str) {
        let beside = self.folder().join("desired.toml.new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.config_file()).unwrap();
    }

    /// What is put before a command so that it runs in the machine's namespace; `ip netns exec` would hide pins.
    #[must_use]
    pub fn prefix(&self) -> Vec<String> {
        let net = format!("--net={}", self.netns().display());
        ["setpriv", "--pdeathsig", "KILL", "nsenter", &net, "--"].map(Into::into).into()
    }

    /// netd's path and options for this place.
    #[must_use]
    pub fn arguments(&self, command: &[&str]) -> Vec<String> {
        let mut all = vec![binary().display().to_string()];
        all.extend(command.iter().map(|&word| word.to_owned()));
        for (option, value) in [
            ("--config", self.config_file().display().to_string()),
            ("--state-dir", self.state_dir().display().to_string()),
            ("--bpf-dir", self.bpf_dir().display().to_string()),
            ("--instance", self.instance().to_owned()),
            ("--node", self.node().to_owned()),
        ] {
            all.extend([option.to_owned(), value]);
        }
        all
    }

    /// `netd COMMAND`, with what is put between the namespace's door and netd, such as a tracer.
    #[must_use]
    pub fn netd_under(&self, wrapper: &[&str], command: &[&str]) -> Command {
        let mut words = self.prefix();
        words.extend(wrapper.iter().map(|&word| word.to_owned()));
        words.extend(self.arguments(command));
        let mut made = Command::new(&words[0]);
        made.args(&words[1..]);
        // Cargo's, with which the loader would look for libraries in a dozen places first.
        made.env_remove("LD_LIBRARY_PATH");
        made
    }

    /// Runs `netd COMMAND` to its end.
    pub fn netd(&self, command: &[&str]) -> Said {
        self.netd_under(&[], command).output().unwrap().into()
    }

    /// `netd apply`; the node has to be as the file says then.
    pub fn apply(&self) -> Said {
        let said = self.netd(&["apply"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        said
    }

    /// As [`Site::apply`], after a link was let go of, which the kernel takes off its device a little later: until then
    /// it is somebody else's.
    pub fn apply_once_free(&self) {
        let mut last = None;
        let until = Instant::now() + LETTING_GO_MAX;
        while last.as_ref().is_none_or(|said: &Said| said.code != Some(0)) {
            assert!(Instant::now() < until, "{last:?}");
            last = Some(self.netd(&["apply"]));
        }
    }

    /// The report of `netd status`.
    #[must_use]
    pub fn status(&self) -> Value {
        self.netd(&["status", "--json"]).json()
    }

    /// Waits for a report that is as wanted; panics with the last one.
    pub fn wait(&self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_at_most(PATIENCE, what, is_wanted)
    }

    /// As [`Site::wait`], with another patience.
    pub fn wait_at_most(&self, patience: Duration, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + patience;
        loop {
            let said = self.netd(&["status", "--json"]);
            let report: Value = serde_json::from_str(&said.out).unwrap_or_default();
            if is_wanted(&report) {
                return report;
            }
            assert!(Instant::now() < until, "not {what} after {patience:?}: {said:?}\n{}", self.log());
            std::thread::sleep(STEP);
        }
    }

    /// Waits until the file as it is now is in force and everything is ready.
    pub fn wait_ok(&self) -> Value {
        let digest = digest(&std::fs::read(self.config_file()).unwrap());
        self.wait("as the file says", |report| {
            report["word"] == "ok" && report["config"]["in_force"]["sha256"] == digest.as_str()
        })
    }

    /// Waits until the daemon makes no pass and writes nothing to a disk for a while.
    pub fn wait_quiet(&self, netd: &Daemon) {
        let seen = || {
            let io = std::fs::read_to_string(format!("/proc/{}/io", netd.pid())).unwrap();
            let written = io.lines().find(|line| line.starts_with("write_bytes")).map(str::to_owned);
            (written, self.status()["pass"]["number"].as_u64())
        };
        let (until, mut before) = (Instant::now() + PATIENCE, seen());
        loop {
            std::thread::sleep(QUIET);
            let now = seen();
            if now == before {
                return;
            }
            assert!(Instant::now() < until, "not quiet after {PATIENCE:?}: {now:?}\n{}", self.log());
            before = now;
        }
    }

    /// The last lines of the daemon's log.
    #[must_use]
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn log_file(&self) -> PathBuf {
        self.folder().join("netd.log")
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&self) -> Daemon {
        let mut daemon = self.spawn();
        let until = Instant::now() + PATIENCE;
        while self.status_of_daemon().is_none() {
            assert!(daemon.child.try_wait().unwrap().is_none(), "netd ended: {}", self.log());
            assert!(Instant::now() < until, "netd does not answer: {}", self.log());
            std::thread::sleep(STEP);
        }
        daemon
    }

    /// Starts the daemon, waits until the file is in force.
    pub fn start_ok(&self) -> Daemon {
        let daemon = self.start();
        self.wait_ok();
        daemon
    }

    /// Starts the daemon without waiting for anything.
    pub fn spawn(&self) -> Daemon {
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        self.spawn_logging_to(log)
    }

    /// As [`Site::spawn`], with the log elsewhere.
    pub fn spawn_logging_to(&self, log: impl Into<Stdio>) -> Daemon {
        self.spawn_under(&[], log)
    }

    /// As [`Site::spawn_logging_to`], under something that leaves netd its process identifier.
    pub fn spawn_under(&self, wrapper: &[&str], log: impl Into<Stdio>) -> Daemon {
        let mut command = self.netd_under(wrapper, &["run"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Daemon { child: command.spawn().unwrap() }
    }

    /// The daemon's own report, once a pass has ended.
    fn status_of_daemon(&self) -> Option<Value> {
        // One that was killed leaves its socket behind, and without a daemon `netd status` looks for itself.
        UnixStream::connect(self.runtime_dir().join("netd.sock")).ok()?;
        let said = self.netd(&["status", "--json"]);
        let report: Value = serde_json::from_str(&said.out).ok()?;
        (report["pass"]["number"].as_u64()? > 0).then_some(report)
    }
}

impl Bed {
    /// Removes every pin while no daemon runs, as a boot does, and waits until the kernel has let go of the link.
    pub fn remove_pins(&self) {
        std::fs::remove_dir_all(self.bpf_dir()).unwrap();
        wait_until("let go", LETTING_GO_MAX, || !self.lb.ip(&["link", "show", "eth0"]).contains("xdp"));
    }
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Its process identifier.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.end(Signal::KILL);
    }

    /// SIGTERM; it has to end well, and long before systemd would kill it.
    pub fn stop(mut self) {
        let began = Instant::now();
        let status = self.end(Signal::TERM);
        assert!(status.success(), "{status}");
        assert!(began.elapsed() < Duration::from_secs(10), "stopping took {:?}", began.elapsed());
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).unwrap();
    }

    fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn end(&mut self, signal: Signal) -> std::process::ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.end(Signal::KILL);
        }
    }
}

/// The digest by which a report names a file.
#[must_use]
pub fn digest(text: &[u8]) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until something holds; panics with its name.
pub fn wait_until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < until, "not {what} after {patience:?}");
        std::thread::sleep(STEP);
    }
}
