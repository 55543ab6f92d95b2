//! Makes the demo's network namespaces and its folder, and removes them, also those of demos that were killed.

use anyhow::{Context as _, bail, ensure};
use netd_bpf::links;
use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use super::topology;

/// Namespaces, the folder and the instance begin with this, then comes the process identifier.
const PREFIX: &str = "netd-demo";

/// Where `ip netns` keeps its names.
const NAMESPACES: &str = "/run/netns";

/// Where instances of netd have their sockets.
const RUNTIME_DIRS: &str = "/run/netd";

/// Everything that has to be gone when the demo ends; dropping it removes what is still there.
pub(super) struct World {
    pid: u32,
    folder: PathBuf,
    links: Vec<links::OwnedLink>,
}

impl World {
    /// Makes the folder, with a file system for pins in it, and the namespaces, wired.
    pub(super) fn make() -> anyhow::Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the demo makes network namespaces and loads kernel programs: run it as root (CAP_SYS_ADMIN, \
             CAP_NET_ADMIN, CAP_BPF)"
        );
        sweep();
        let pid = std::process::id();
        let mut world = Self { pid, folder: folder_of(pid), links: Vec::new() };
        std::fs::create_dir(&world.folder).with_context(|| format!("make {}", world.folder.display()))?;
        netd_bpf::mount_bpffs_if_missing(&world.bpf_dir()).context("make a place for pins")?;
        for machine in topology::machines() {
            run(Command::new("ip").args(["netns", "add", &world.namespace(machine)]))?;
            world.within(machine, move || write_sysctls(machine))?;
        }
        for machine in topology::machines() {
            let commands = topology::commands(machine, |other| world.namespace(other));
            world.ip_batch(machine, &commands).with_context(|| format!("set up {machine}"))?;
        }
        world.attach_programs()?;
        Ok(world)
    }

    /// What the machines around the load balancer need: backends take packets out of the tunnel, and the router
    /// takes frames that an XDP program sent.
    fn attach_programs(&mut self) -> anyhow::Result<()> {
        for machine in topology::backends() {
            let link =
                self.within(machine, || Ok(links::attach_decap(index_of("eth0")?, links::Mode::Native)?))?;
            self.links.push(link);
        }
        // A frame on a veth has no checksum yet when its sender leaves that to the device, and nobody would fill it
        // in after a program has sent the frame on.
        let port = topology::BALANCER;
        run(self.command(topology::ROUTER, "ethtool").args(["-K", port, "tx", "off"]))?;
        let link = self.within(topology::ROUTER, move || Ok(links::attach_pass(index_of(port)?)?))?;
        self.links.push(link);
        Ok(())
    }

    /// As [`World::enter`], to the end.
    fn within<T: Send + 'static>(
        &self,
        machine: &str,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let result = self.enter(machine, work)?.join();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The name under which several netds on one host are told apart.
    pub(super) fn instance(&self) -> String {
        format!("demo-{}", self.pid)
    }

    /// Where the demo keeps its copy of the file, netd's state and its log.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where netd pins.
    pub(super) fn bpf_dir(&self) -> PathBuf {
        self.folder.join("bpf")
    }

    /// A command that will run on a machine. It ends with the demo, however that ends.
    ///
    /// `ip netns exec` would mount /sys again, and hide pins.
    pub(super) fn command(&self, machine: &str, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--net={}", self.path(machine).display())).arg("--").arg(program);
        command
    }

    /// Runs something on a thread inside a machine; threads that it starts are inside, too.
    pub(super) fn enter<T: Send + 'static>(
        &self,
        machine: &str,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
        let path = self.path(machine);
        let namespace = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let thread = std::thread::Builder::new().name(machine.to_owned()).spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .context("enter a network namespace")?;
            work()
        });
        thread.context("start a thread")
    }

    /// Removes everything, and says what could not be removed.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        let pid = self.pid;
        drop(self);
        let left = leftovers(pid);
        ensure!(left.is_empty(), "still there: {}", left.join(", "));
        Ok(())
    }

    fn namespace(&self, machine: &str) -> String {
        format!("{PREFIX}-{}-{machine}", self.pid)
    }

    fn path(&self, machine: &str) -> PathBuf {
        Path::new(NAMESPACES).join(self.namespace(machine))
    }

    fn ip_batch(&self, machine: &str, commands: &str) -> anyhow::Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.namespace(machine), "-batch", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("run `ip` of iproute2")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(commands.as_bytes()).context("tell `ip` what to do")?;
        }
        let output = child.wait_with_output().context("wait for `ip`")?;
        ensure!(output.status.success(), "`ip` says: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        clear(self.pid);
    }
}

fn write_sysctls(machine: &str) -> anyhow::Result<()> {
    for (key, value) in topology::sysctls(machine) {
        let path = Path::new("/proc/sys").join(key);
        std::fs::write(&path, value).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The index of a device of the namespace that the thread is in.
fn index_of(device: &str) -> anyhow::Result<u32> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    rustix::net::netdevice::name_to_index(socket, device).with_context(|| format!("find {device}"))
}

/// Removes what demos left behind that were killed before they could.
fn sweep() {
    for pid in names(NAMESPACES).chain(names(&std::env::temp_dir())).filter_map(|name| pid_of(&name)) {
        if !Path::new("/proc").join(pid.to_string()).exists() {
            clear(pid);
        }
    }
}

/// Removes what one demo made. What is not there is not missed, and what cannot be removed is found by [`leftovers`].
fn clear(pid: u32) {
    for name in names(NAMESPACES).filter(|name| pid_of(name) == Some(pid)) {
        let _ = run(Command::new("ip").args(["netns", "del", &name]));
    }
    let folder = folder_of(pid);
    // The file system was mounted by this demo only, so everything that is pinned in it goes with it.
    let _ = unmount(folder.join("bpf"), UnmountFlags::DETACH);
    let _ = std::fs::remove_dir_all(folder);
    let _ = std::fs::remove_dir_all(runtime_dir(pid));
    // Works only when no other instance has anything in it.
    let _ = std::fs::remove_dir(RUNTIME_DIRS);
}

/// What of one demo is still there.
fn leftovers(pid: u32) -> Vec<String> {
    let namespaces = names(NAMESPACES).filter(|name| pid_of(name) == Some(pid));
    let mut left: Vec<String> = namespaces.map(|name| format!("namespace {name}")).collect();
    let folders = [folder_of(pid), runtime_dir(pid)].into_iter().filter(|folder| folder.exists());
    left.extend(folders.map(|folder| folder.display().to_string()));
    left.sort();
    left
}

fn folder_of(pid: u32) -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}-{pid}"))
}

fn runtime_dir(pid: u32) -> PathBuf {
    Path::new(RUNTIME_DIRS).join(format!("demo-{pid}"))
}

/// The process that a name belongs to, if it is one of a demo.
fn pid_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?.strip_prefix('-')?;
    rest.split('-').next()?.parse().ok()
}

fn names(folder: impl AsRef<Path>) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

/// Runs a command to its end and returns what it printed.
pub(super) fn run(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run `{program}`"))?;
    if !output.status.success() {
        bail!("`{program}` says: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_demos_belong_to_a_process() {
        assert_eq!(pid_of("netd-demo-42"), Some(42));
        assert_eq!(pid_of("netd-demo-42-router"), Some(42));
        for other in ["netd-demo", "netd-demo-", "netd-demo-x-router", "netdtest-42-router", "router"] {
            assert_eq!(pid_of(other), None, "{other}");
        }
    }
}
