//! Processes, told apart also when their numbers are used again.

use super::arguments;
use netd_daemons::is_started_as;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// One life of a process: its number, and when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it began, in clock ticks since boot.
    pub began: u64,
}

impl Identity {
    /// The process that has this number now.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything; after it come the state, the third field, and the rest, of which the
        // 20th is the number of threads and the 22nd the beginning.
        let mut rest = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = rest.next()?;
        let threads: u32 = rest.nth(16)?.parse().ok()?;
        let began = rest.nth(1)?.parse().ok()?;
        // The first thread may be done for while others still hold what the process had open.
        let is_over = matches!(state, "Z" | "X") && threads <= 1;
        (!is_over).then_some(Self { pid, began })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Asks it to end.
    pub(super) fn terminate(self) {
        self.signal(Signal::TERM);
    }

    /// Ends it.
    pub(super) fn kill(self) {
        self.signal(Signal::KILL);
    }

    fn signal(self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(handle) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return };
        // The handle is that of whoever has the number now; it stays that one's if the number changes hands.
        if self.is_alive()
            && let Err(error) = pidfd_send_signal(&handle, signal)
        {
            tracing::warn!(pid = self.pid, %error, "gobgpd cannot be sent a signal");
        }
    }
}

/// Whether a process is a gobgpd that was told to listen on this socket, and on nothing else.
pub(super) fn is_daemon_at(pid: u32, socket: &Path) -> bool {
    let own = || fs::metadata(format!("/proc/{pid}")).is_ok_and(|about| about.uid() == geteuid().as_raw());
    is_started_as(pid, "gobgpd", &arguments(socket)) && own()
}

/// All such processes.
pub(super) fn daemons_at(socket: &Path) -> Vec<Identity> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_daemon_at(*pid, socket)).filter_map(Identity::of).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_process_that_ended_is_not_taken_for_the_next_with_its_number() {
        let own = Identity::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!Identity { began: own.began + 1, ..own }.is_alive());
    }

    #[test]
    fn p12_a_process_that_is_no_gobgpd_is_not_taken_for_one() {
        assert!(!is_daemon_at(std::process::id(), Path::new("/run/x")));
        assert!(!is_daemon_at(u32::MAX, Path::new("/run/x")));
        assert!(daemons_at(Path::new("/nowhere/gobgpd.sock")).is_empty());
    }
}
