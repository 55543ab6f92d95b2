//! Network namespaces for tests, and routers in them: made, wired with veth pairs, entered by a thread of their own, removed on drop.
//!
//! ```no_run
//! use netd_lab::Lab;
//!
//! let Some(lab) = Lab::new() else { return };
//! let left = lab.namespace("left");
//! let right = lab.namespace("right");
//! left.veth("eth0", &right, "eth0");
//! left.ip(&["addr", "add", "10.0.0.1/24", "dev", "eth0"]);
//! let routes = left.run(|| std::fs::read_to_string("/proc/thread-self/net/route"));
//! ```
//!
//! Everything panics with the reason: this is the scaffolding of tests, and a test has nothing better to do.

#![allow(clippy::panic, reason = "the scaffolding of tests says what went wrong and stops")]

mod bird;
mod frr;
mod process;

pub use bird::Bird;
pub use frr::Frr;
pub use process::{Running, installed};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// Namespaces of these tests begin with this, then the process identifier: leftovers of killed runs are told by it.
const PREFIX: &str = "netdtest";

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

static NEXT: AtomicU32 = AtomicU32::new(0);
static SWEEP: Once = Once::new();

/// The permission to make namespaces; there is one when the process may.
pub struct Lab(());

impl Lab {
    /// A lab, or `None` after printing why there can be none: not root, or no `ip` command.
    #[must_use]
    pub fn new() -> Option<Self> {
        if let Some(reason) = missing() {
            eprintln!("SKIPPED: {reason}");
            return None;
        }
        SWEEP.call_once(sweep);
        Some(Self(()))
    }

    /// A new network namespace whose loopback is up. `label` makes its name readable in `ip netns`.
    #[must_use]
    pub fn namespace(&self, label: &str) -> Namespace {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{label}", std::process::id());
        must(Command::new("ip").args(["netns", "add", &name]));
        let path = PathBuf::from(NAMES).join(&name);
        let file = File::open(&path).unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
        let namespace = Namespace { name, file };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }
}

/// A network namespace, removed when dropped.
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// The name by which `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file to pass to `nsenter --net=` or setns(2).
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(NAMES).join(&self.name)
    }

    /// Runs `ip` with these arguments in the namespace and returns what it printed; panics if it fails.
    pub fn ip(&self, arguments: &[&str]) -> String {
        must(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// As [`Namespace::ip`], when failing is an answer: what `ip` said on standard error.
    ///
    /// # Errors
    ///
    /// What `ip` printed when it did not succeed.
    pub fn try_ip(&self, arguments: &[&str]) -> Result<String, String> {
        attempt(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// A command that will run in the namespace, with the mounts of the caller (`ip netns exec` would hide
    /// /sys/fs/bpf).
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Makes a veth pair, one end here and one in `peer`, and sets both up.
    ///
    /// IPv6 duplicate address detection is turned off on both, so that addresses can be used at once.
    pub fn veth(&self, device: &str, peer: &Namespace, peer_device: &str) {
        let ends = ["link", "add", device, "type", "veth", "peer", "name", peer_device, "netns", &peer.name];
        self.ip(&ends);
        for (namespace, device) in [(self, device), (peer, peer_device)] {
            namespace.sysctl(&format!("net/ipv6/conf/{device}/accept_dad"), "0");
            namespace.ip(&["link", "set", device, "up"]);
        }
    }

    /// Writes a file below /proc/sys in the namespace.
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/{key}");
        self.run(|| std::fs::write(&path, value)).unwrap_or_else(|error| panic!("write {path}: {error}"));
    }

    /// Runs `work` on a thread of its own inside the namespace and waits for it. Threads that it starts, also those
    /// of a runtime that it builds, are inside too. A panic goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.file.as_fd(), kind)
                    .unwrap_or_else(|error| panic!("enter {}: {error}", self.name));
                work()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// As [`Namespace::run`], for a future: it is driven by a runtime of one thread inside the namespace.
    pub fn run_async<T: Send, F: Future<Output = T>>(&self, work: impl FnOnce() -> F + Send) -> T {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|error| panic!("build a runtime: {error}"));
            runtime.block_on(work())
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Why no namespaces can be made here; `None` if they can.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("tests against the kernel need root (CAP_NET_ADMIN and CAP_SYS_ADMIN)".into());
    }
    match Command::new("ip").arg("-V").output() {
        Ok(_) => None,
        Err(error) => Some(format!("the command `ip` of iproute2 cannot be run: {error}")),
    }
}

/// Removes the namespaces of runs that were killed before they could.
fn sweep() {
    let Ok(names) = std::fs::read_dir(NAMES) else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let mut parts = name.split('-');
        if parts.next() != Some(PREFIX) {
            continue;
        }
        let alive = parts.next().is_some_and(|pid| PathBuf::from(format!("/proc/{pid}")).exists());
        if !alive {
            remove(&name);
        }
    }
}

fn remove(name: &str) {
    if let Err(reason) = attempt(Command::new("ip").args(["netns", "del", name])) {
        eprintln!("{reason}");
    }
}

fn must(command: &mut Command) -> String {
    attempt(command).unwrap_or_else(|reason| panic!("{reason}"))
}

fn attempt(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match status.success() {
        true => Ok(String::from_utf8_lossy(&stdout).into_owned()),
        false => Err(format!("{command:?}: {status}: {}", String::from_utf8_lossy(&stderr).trim())),
    }
}
