//! netd as the demo's person uses it: this same program, as commands and as a daemon, on the load balancer.

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::interrupt::Interrupt;
use super::topology::BALANCER;
use super::world::World;

/// What `netd plan` exits with when there is nothing to do, and when there is.
pub(super) const NOTHING_TO_DO: i32 = 0;
pub(super) const CHANGES: i32 = 2;

/// Nothing that the demo waits for takes longer, except on a machine that does something else.
const PATIENCE: Duration = Duration::from_secs(20);

/// The time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// netd on the load balancer; the daemon ends when this is dropped.
pub(super) struct Netd<'a> {
    world: &'a World,
    interrupt: &'a Interrupt,
    program: PathBuf,
    daemon: Option<Child>,
}

/// What a command printed and how it ended.
pub(super) struct Answer {
    pub(super) code: Option<i32>,
    pub(super) text: String,
}

impl Answer {
    /// The command ended with this code; else what it said.
    pub(super) fn expect(&self, code: i32) -> Result<(), String> {
        match self.code {
            Some(found) if found == code => Ok(()),
            Some(found) => Err(format!("exit code {found}, not {code}: {}", self.text.trim())),
            None => Err(format!("it was killed: {}", self.text.trim())),
        }
    }
}

impl<'a> Netd<'a> {
    pub(super) fn new(world: &'a World, interrupt: &'a Interrupt) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        Ok(Self { world, interrupt, program, daemon: None })
    }

    /// The file in force.
    pub(super) fn file(&self) -> PathBuf {
        self.world.folder().join("demo.toml")
    }

    /// Runs a command to its end.
    pub(super) fn ask(&self, arguments: &[&str]) -> anyhow::Result<Answer> {
        let output = self.command(arguments).output().context("run netd")?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text += &String::from_utf8_lossy(&output.stderr);
        Ok(Answer { code: output.status.code(), text })
    }

    /// Starts the daemon.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).context("open a log")?;
        let mut command = self.command(&["run"]);
        // Ctrl-C on the terminal is for the demo, which ends the daemon itself.
        command.stdout(log.try_clone()?).stderr(log).process_group(0);
        self.daemon = Some(command.spawn().context("start netd")?);
        Ok(())
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().context("kill netd")?;
            daemon.wait().context("wait for netd")?;
        }
        Ok(())
    }

    /// Asks the daemon to end, and waits until it has.
    pub(super) fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        let Some(mut daemon) = self.daemon.take() else { bail!("netd does not run") };
        let pid = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw).context("find the daemon")?;
        kill_process(pid, Signal::TERM).context("ask netd to end")?;
        let mut left = PATIENCE;
        loop {
            if let Some(status) = daemon.try_wait().context("wait for netd")? {
                return Ok(status);
            }
            if left.is_zero() {
                let _ = daemon.kill();
                let _ = daemon.wait();
                bail!("netd did not end in {PATIENCE:?}");
            }
            self.interrupt.pause(LOOK_EVERY)?;
            left = left.saturating_sub(LOOK_EVERY);
        }
    }

    /// Looks again and again until something is so, and says how long that took.
    pub(super) fn wait_until(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&mut Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut left = PATIENCE;
        while !is_so(self)? {
            if let Some(status) = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().ok().flatten()) {
                bail!("netd ended by itself ({status}); its log:\n{}", self.log());
            }
            if left.is_zero() {
                let plan = self.ask(&["plan"])?.text;
                bail!("{what}: not in {PATIENCE:?}; the plan:\n{plan}\nthe log:\n{}", self.log());
            }
            self.interrupt.pause(LOOK_EVERY)?;
            left = left.saturating_sub(LOOK_EVERY);
        }
        Ok(())
    }

    /// What the daemons have logged.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.world.folder().join("netd.log")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.command(BALANCER, &self.program.to_string_lossy());
        let option = |command: &mut Command, name: &str, value: &Path| {
            command.arg(name).arg(value);
        };
        command.args(arguments);
        option(&mut command, "--config", &self.file());
        option(&mut command, "--state-dir", &self.world.folder().join("state"));
        option(&mut command, "--bpf-dir", &self.world.bpf_dir());
        command.args(["--instance", &self.world.instance(), "--node", BALANCER]);
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Netd<'_> {
    fn drop(&mut self) {
        // A demo that ends early leaves no daemon.
        let _ = self.kill();
    }
}
