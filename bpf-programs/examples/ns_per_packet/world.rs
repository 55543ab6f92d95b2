//! Where the measuring happens: namespaces of this process, a BPF file system, two devices that are one another's
//! other end, and a route to the backends. All of it ends with the process.
#![allow(unsafe_code, reason = "namespaces of a process")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::thread::{CpuSet, UnshareFlags, sched_getaffinity, sched_setaffinity, unshare_unsafe};

use crate::Outcome;

/// The device of the generator and the sink, and that of the balancer.
pub const NEAR: &str = "near";
pub const FAR: &str = "far";

/// The devices' numbers, and a folder in the BPF file system.
pub struct World {
    pub near: u32,
    pub far: u32,
    folder: tempfile::TempDir,
}

impl World {
    pub fn new() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        // SAFETY: the process has one thread, and no descriptor table is unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        mount("bpf", folder.path(), "bpf", MountFlags::empty(), None)?;
        for arguments in [
            "link set lo up",
            "link add near type veth peer name far",
            "link set near address 02:00:00:00:00:01 up",
            "link set far address 02:00:00:00:00:02 up",
            "address add 192.168.0.1/24 dev far",
            "address add 2001:db8:1::1/64 dev far nodad",
            "neighbour add 192.168.0.2 lladdr 02:00:00:00:00:03 dev far nud permanent",
            "neighbour add 2001:db8:1::2 lladdr 02:00:00:00:00:03 dev far nud permanent",
            "route add 11.0.0.0/8 via 192.168.0.2",
            "route add 2001:db8::/96 via 2001:db8:1::2",
        ] {
            let output = Command::new("ip").args(arguments.split(' ')).output()?;
            if !output.status.success() {
                return Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
        }
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
        stay_on_this_cpu()?;
        Ok(Self { near: number(NEAR)?, far: number(FAR)?, folder })
    }

    /// A folder of its own for each balancer.
    pub fn root(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The folder could not be removed below it; the namespace would take it along otherwise.
        let _ = unmount(self.folder.path(), UnmountFlags::DETACH);
    }
}

fn number(device: &str) -> Outcome<u32> {
    // The files of /sys/class/net are those of the namespace that mounted it.
    let output = Command::new("ip").args(["-o", "link", "show", device]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let number = text.split(':').next().ok_or("no such device")?;
    Ok(number.trim().parse()?)
}

/// Counters, caches and what is deferred stay those of one CPU.
fn stay_on_this_cpu() -> Outcome<()> {
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|&cpu| allowed.is_set(cpu)).ok_or("no CPU")?;
    let mut one = CpuSet::new();
    one.set(last);
    Ok(sched_setaffinity(None, &one)?)
}

/// What is there before anything is made: root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
