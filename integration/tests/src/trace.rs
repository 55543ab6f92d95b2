//! netd under strace: which of its system calls change anything, and death at a chosen one of them.

#![allow(clippy::panic, reason = "the scaffolding of tests says what went wrong and stops")]
#![allow(clippy::unwrap_used, reason = "the scaffolding of tests says what went wrong and stops")]

use crate::bed::Bed;
use crate::netd::Said;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Every system call by which netd changes something, and some by which it only may.
const CALLS: &str = "bpf,sendto,sendmsg,rename,renameat,renameat2,fsync,fdatasync,ftruncate,unlink,unlinkat,mkdir,\
                     mkdirat,pwrite64,write,openat,mount";

/// System calls that wait for a disk.
const SYNCING: &str = "fsync,fdatasync,sync_file_range,msync";

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

    /// The calls that changed something, each by its name and how many of that name its thread had made with it: as
    /// strace counts when it is asked to interfere.
    #[must_use]
    pub fn moments(&self, bed: &Bed) -> BTreeSet<(String, usize)> {
        self.moments_where(|call| is_change(bed, call))
    }

    /// The calls in whose line this stands, such as `BPF_MAP_CREATE`, counted as by [`Trace::moments`].
    #[must_use]
    pub fn moments_of(&self, word: &str) -> BTreeSet<(String, usize)> {
        self.moments_where(|call| call.contains(word))
    }

    fn moments_where(&self, is_meant: impl Fn(&str) -> bool) -> BTreeSet<(String, usize)> {
        let mut counts = BTreeMap::<(&str, &str), usize>::new();
        let mut moments = BTreeSet::new();
        for (thread, call) in self.calls.iter().filter_map(|call| call.split_once(' ')) {
            let Some((name, _)) = call.trim_start().split_once('(') else { continue };
            let count = counts.entry((thread, name)).or_default();
            *count += 1;
            if is_meant(call.trim_start()) {
                moments.insert((name.to_owned(), *count));
            }
        }
        moments
    }

    /// The calls that changed the kernel, or a file of this bed other than locks.
    #[must_use]
    pub fn changes(&self, bed: &Bed) -> Vec<&str> {
        let calls = self.calls.iter().filter_map(|call| call.split_once(' '));
        calls.map(|(_, call)| call.trim_start()).filter(|call| is_change(bed, call)).collect()
    }
}

fn is_change(bed: &Bed, call: &str) -> bool {
    let ours = [bed.folder().display().to_string(), bed.runtime_dir().display().to_string()];
    let is_ours =
        ours.iter().any(|folder| call.contains(folder)) && !call.contains("netd.log") && !is_lock(call);
    // What is said to a person or a client may name this bed's files.
    let is_said = ["<pipe:", "<socket:"].iter().any(|end| call.contains(end));
    match call.split('(').next().unwrap_or_default() {
        "bpf" => CHANGING_BPF.iter().any(|command| call.contains(command)),
        "sendto" | "sendmsg" => CHANGING_NETLINK.iter().any(|word| call.contains(word)),
        "openat" => is_ours && ["O_CREAT", "O_TRUNC"].iter().any(|flag| call.contains(flag)),
        "mkdir" | "mkdirat" => is_ours && !call.contains("EEXIST"),
        "mount" => true,
        _ => is_ours && !is_said,
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

    /// Runs `netd COMMAND`, which dies when a thread of it enters its `n`th call of this name; says whether it died.
    pub fn killed_at(&self, (call, n): &(String, usize), command: &[&str]) -> bool {
        let inject = format!("inject={call}:signal=SIGKILL:when={n}");
        self.under_strace(&["-e", &inject], command).code.is_none()
    }

    /// Runs `netd COMMAND`; the `n`th call of this name that a thread of it makes fails with this error.
    pub fn refused_at(&self, (call, n): &(String, usize), error: &str, command: &[&str]) -> Said {
        self.under_strace(&["-e", &format!("inject={call}:error={error}:when={n}")], command)
    }

    fn under_strace(&self, more: &[&str], command: &[&str]) -> Said {
        let (file, calls) = (file(self).display().to_string(), format!("trace={CALLS}"));
        let mut wrapper = vec!["strace", "-f", "-y", "-qq", "-s", "256", "-o", &file, "-e", &calls];
        wrapper.extend(more);
        self.netd_under(&wrapper, command).stdin(Stdio::null()).output().unwrap().into()
    }

    /// Writes down the calls that a running process makes while `action` runs.
    pub fn traced_while(&self, pid: u32, action: impl FnOnce()) -> Trace {
        let mut tracer = self.tracer(pid, &["-e", &format!("trace={CALLS}")]);
        action();
        end(&mut tracer);
        Trace::read(self)
    }

    /// Makes a running process wait so long for each write to reach the disk, while `action` runs. Says how often it did.
    pub fn with_slow_disk(&self, pid: u32, delay: Duration, action: impl FnOnce()) -> usize {
        let inject = format!("inject={SYNCING}:delay_enter={}", delay.as_micros());
        let mut tracer = self.tracer(pid, &["-e", &format!("trace={SYNCING}"), "-e", &inject]);
        action();
        end(&mut tracer);
        Trace::read(self).calls.len()
    }

    /// Has the kernel refuse every bpf(2) of a running process with this error, while `action` runs.
    pub fn with_bpf_refused(&self, pid: u32, error: &str, action: impl FnOnce()) {
        let mut tracer = self.tracer(pid, &["-e", "trace=bpf", "-e", &format!("inject=bpf:error={error}")]);
        action();
        end(&mut tracer);
    }

    fn tracer(&self, pid: u32, more: &[&str]) -> Child {
        let _ = std::fs::remove_file(file(self));
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-qq", "-s", "256", "-p", &pid.to_string(), "-o"]);
        command.arg(file(self)).args(more);
        let tracer = command.stdin(Stdio::null()).spawn().unwrap();
        crate::netd::wait_until("traced", Duration::from_secs(10), || is_traced(pid));
        tracer
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
