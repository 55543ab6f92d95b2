//! netd under strace: which of its system calls change anything, and death at a chosen one of them.

#![allow(clippy::panic, reason = "the scaffolding of tests says what went wrong and stops")]
#![allow(clippy::unwrap_used, reason = "the scaffolding of tests says what went wrong and stops")]

use crate::bed::Bed;
use crate::netd::Said;
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Every system call by which netd changes something, and some by which it only may.
const CALLS: &str = "bpf,sendto,sendmsg,rename,renameat,renameat2,fsync,fdatasync,ftruncate,unlink,unlinkat,mkdir,\
                     mkdirat,pwrite64,write,openat,mount";

/// Commands of bpf(2) that change something.
const CHANGING_BPF: [&str; 9] = [
    "BPF_MAP_UPDATE",
    "BPF_MAP_DELETE",
    "BPF_MAP_CREATE",
    "BPF_LINK_CREATE",
    "BPF_LINK_UPDATE",
    "BPF_LINK_DETACH",
    "BPF_OBJ_PIN",
    "BPF_PROG_LOAD",
    "BPF_PROG_ATTACH",
];

/// Words of netlink messages that change something.
const CHANGING_NETLINK: [&str; 2] = ["RTM_NEW", "RTM_DEL"];

/// What strace wrote down.
#[derive(Debug)]
pub struct Trace {
    /// One line per call: the thread, the call with the paths of its descriptors.
    pub calls: Vec<String>,
}

impl Trace {
    fn read(bed: &Bed) -> Self {
        let text = std::fs::read_to_string(file(bed)).unwrap();
        Self { calls: text.lines().map(str::to_owned).collect() }
    }

    /// How many calls the busiest thread made: strace counts in each thread by itself.
    #[must_use]
    pub fn longest(&self) -> usize {
        let mut by_thread = std::collections::BTreeMap::<&str, usize>::new();
        for call in self.calls.iter().filter(|call| !call.contains("resumed>") && call.contains('(')) {
            *by_thread.entry(call.split_whitespace().next().unwrap_or_default()).or_default() += 1;
        }
        by_thread.into_values().max().unwrap_or(0)
    }

    /// The calls that changed the kernel, or a file of this bed other than locks.
    #[must_use]
    pub fn changes(&self, bed: &Bed) -> Vec<&str> {
        let folder = bed.folder().display().to_string();
        let runtime = bed.runtime_dir().display().to_string();
        let is_change = |call: &&String| {
            let Some((_, rest)) = call.split_once(' ') else { return false };
            let name = rest.trim_start().split('(').next().unwrap_or_default();
            let is_ours = rest.contains(&folder) || rest.contains(&runtime);
            match name {
                "bpf" => CHANGING_BPF.iter().any(|command| rest.contains(command)),
                "sendto" | "sendmsg" => CHANGING_NETLINK.iter().any(|word| rest.contains(word)),
                "openat" => {
                    is_ours && ["O_CREAT", "O_TRUNC"].iter().any(|flag| rest.contains(flag)) && !is_lock(rest)
                }
                "mkdir" | "mkdirat" => is_ours && !rest.contains("EEXIST"),
                "mount" => true,
                _ => is_ours && !is_lock(rest) && !rest.contains("netd.log"),
            }
        };
        self.calls.iter().filter(is_change).map(String::as_str).collect()
    }
}

fn is_lock(call: &str) -> bool {
    call.contains("/lock\"") || call.contains("/lock>")
}

fn file(bed: &Bed) -> std::path::PathBuf {
    bed.folder().join("trace")
}

impl Bed {
    /// Runs `netd COMMAND` and writes its calls down.
    pub fn traced(&self, command: &[&str]) -> (Said, Trace) {
        let said = self.under_strace(&[], command);
        (said, Trace::read(self))
    }

    /// Runs `netd COMMAND`, which dies when a thread of it enters its `n`th call, and says whether it died. The calls that were
    /// made until then, also.
    pub fn killed_at(&self, n: usize, command: &[&str]) -> (bool, Trace) {
        let inject = format!("inject={CALLS}:signal=SIGKILL:when={n}");
        let said = self.under_strace(&["-e", &inject], command);
        (said.code.is_none(), Trace::read(self))
    }

    fn under_strace(&self, more: &[&str], command: &[&str]) -> Said {
        let (file, calls) = (file(self).display().to_string(), format!("trace={CALLS}"));
        let mut wrapper = vec!["strace", "-f", "-y", "-qq", "-s", "256", "-o", &file, "-e", &calls];
        wrapper.extend(more);
        self.netd_under(&wrapper, command).stdin(Stdio::null()).output().unwrap().into()
    }

    /// Writes down the calls that a running process makes while `action` runs.
    pub fn traced_while(&self, pid: u32, action: impl FnOnce()) -> Trace {
        let mut command = Command::new("strace");
        let _ = std::fs::remove_file(file(self));
        command.args([
            "-f",
            "-y",
            "-qq",
            "-s",
            "256",
            "-p",
            &pid.to_string(),
            "-e",
            &format!("trace={CALLS}"),
            "-o",
        ]);
        let mut tracer = command.arg(file(self)).stdin(Stdio::null()).spawn().unwrap();
        crate::netd::wait_until("traced", Duration::from_secs(5), || is_traced(pid));
        action();
        end(&mut tracer);
        Trace::read(self)
    }
}

fn is_traced(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().all(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    })
}

fn end(tracer: &mut Child) {
    kill_process(Pid::from_child(tracer), Signal::INT).unwrap();
    tracer.wait().unwrap();
}
