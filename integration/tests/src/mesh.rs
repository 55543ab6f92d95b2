//! Three nodes with a pod each: two on one link, the third behind a router.
//!
//! ```text
//!   a  eth0 10.0.0.1, 2001:db8::1   --- br0 10.0.0.254, 2001:db8::fe    wire  to-c 10.0.9.254, 2001:db8:9::fe
//!   b  eth0 10.0.0.2, 2001:db8::2   --- br0                                   |
//!                                                   c  eth0 10.0.9.3, 2001:db8:9::3
//!   pod of node N  eth0 10.244.N.2, fd00:244:N::2 --- lxc1 of the node
//! ```

#![allow(clippy::panic, reason = "the scaffolding of tests says what went wrong and stops")]
#![allow(clippy::unwrap_used, reason = "the scaffolding of tests says what went wrong and stops")]

use crate::Site;
use crate::bed;
use crate::lab::{Lab, Namespace};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What the nodes are called in the file.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(20);

/// At which pods answer.
const ECHO_PORT: u16 = 7;

/// A node, the place of its netd, and its pod.
pub struct Node {
    /// Where its netd lives.
    pub site: Site,
    /// The node.
    pub machine: Namespace,
    /// Its pod.
    pub pod: Namespace,
}

/// The machines.
pub struct Mesh {
    /// a, b and c.
    pub nodes: [Node; 3],
    /// The link of a and b, and the router before c.
    pub wire: Namespace,
    folder: PathBuf,
}

impl Mesh {
    /// Machines on which no netd was yet.
    #[must_use]
    pub fn new(lab: &Lab) -> Self {
        let instance = format!("m{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("{}-{instance}", bed::PREFIX));
        std::fs::create_dir(&folder).unwrap();
        let bpf = folder.join("bpf");
        netd_bpf::mount_bpffs_if_missing(&bpf).unwrap();
        let wire = lab.namespace("wire");
        settle(&wire);
        wire.ip(&["link", "add", "br0", "type", "bridge"]);
        wire.sysctl("net/ipv6/conf/br0/accept_dad", "0");
        wire.ip(&["link", "set", "br0", "up"]);
        let nodes = [1, 2, 3].map(|number| {
            let (machine, pod) = machines(lab, &wire, number);
            let name = NAMES[number - 1];
            let place = folder.join(name);
            std::fs::create_dir(&place).unwrap();
            let site = Site::new(&machine, name, format!("{instance}{name}"), place, (bpf.clone(), name));
            Node { site, machine, pod }
        });
        for (device, v4, v6) in
            [("br0", "10.0.0.254/24", "2001:db8::fe/64"), ("to-c", "10.0.9.254/24", "2001:db8:9::fe/64")]
        {
            wire.ip(&["addr", "add", v4, "dev", device]);
            wire.ip(&["addr", "add", v6, "dev", device, "nodad"]);
        }
        Self { nodes, wire, folder }
    }

    /// Puts a file on every node whose `[network]` has these lines.
    pub fn write(&self, network: &str) {
        for node in &self.nodes {
            node.site.write(&file(network));
        }
    }

    /// Has every node be as the file says; each says that there is nothing to do then.
    pub fn apply(&self, network: &str) {
        self.write(network);
        for node in &self.nodes {
            node.site.apply();
        }
        self.assert_done();
    }

    /// Asserts that no node's plan has anything to do.
    pub fn assert_done(&self) {
        for node in &self.nodes {
            let said = node.site.netd(&["plan"]);
            assert!(said.code == Some(0) && said.out.contains("Nothing to do"), "{said:?}");
        }
    }

    /// Asserts that packets of UDP and a transfer by TCP come through between every two of these nodes' pods, in both
    /// families.
    pub fn assert_reach(&self, pairs: &[(usize, usize)]) {
        for &(from, to) in pairs {
            for address in addresses(to) {
                let pod = SocketAddr::new(address, ECHO_PORT);
                let answered = self.echoing(to, || self.nodes[from].pod.run(|| ask(pod)));
                assert!(answered, "{} to {pod}", NAMES[from]);
                self.transfer(from, pod, to);
            }
        }
    }

    /// Sends half a mebibyte by TCP from one pod to another; it has to come whole.
    fn transfer(&self, from: usize, to: SocketAddr, pod: usize) {
        const BYTES: usize = 512 * 1024;
        let listener = self.nodes[pod].pod.run(|| bound(|| TcpListener::bind(to)));
        let taken = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            bytes.len()
        });
        let sent = self.nodes[from].pod.run(|| {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(&vec![7; BYTES])
        });
        assert!(sent.is_ok(), "{} to {to}: {sent:?}", NAMES[from]);
        assert_eq!(taken.join().unwrap(), BYTES, "{} to {to}", NAMES[from]);
    }

    /// Runs `work` while a node's pod sends back what comes to it by UDP.
    pub fn echoing<T>(&self, node: usize, work: impl FnOnce() -> T) -> T {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for address in addresses(node) {
                let own = SocketAddr::new(address, ECHO_PORT);
                let socket = self.nodes[node].pod.run(|| bound(|| UdpSocket::bind(own)));
                socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                let stop = &stop;
                scope.spawn(move || {
                    let mut buffer = [0; 2048];
                    while !stop.load(Ordering::Relaxed) {
                        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                            // Without a route back it is as good as lost.
                            let _ = socket.send_to(&buffer[..length], from);
                        }
                    }
                });
            }
            let stopping = Stop(&stop);
            let value = work();
            drop(stopping);
            value
        })
    }

    /// Sends a packet every millisecond from a node's pod to another's, in both families, while `work` goes on: how many
    /// were sent, and how many came back.
    pub fn stream(&self, from: usize, to: usize, work: impl FnOnce()) -> (usize, usize) {
        let stop = AtomicBool::new(false);
        self.echoing(to, || {
            std::thread::scope(|scope| {
                let stop = &stop;
                let senders = addresses(to).map(|address| {
                    let pod = &self.nodes[from].pod;
                    scope.spawn(move || pod.run(|| count(SocketAddr::new(address, ECHO_PORT), stop)))
                });
                let stopping = Stop(stop);
                work();
                drop(stopping);
                let counts = senders.map(|sender| sender.join().unwrap());
                (counts[0].0 + counts[1].0, counts[0].1 + counts[1].1)
            })
        })
    }

    /// What tcpdump reads of the first packet on a node's eth0 that a filter takes while `work` goes on.
    #[must_use]
    pub fn seen(&self, node: usize, filter: &str, work: impl FnOnce()) -> String {
        let mut command = self.nodes[node].machine.command("timeout");
        command.args(["20", "tcpdump", "-n", "-l", "-c", "1", "-i", "eth0", filter]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().contains("listening on")), "tcpdump does not listen");
        work();
        // It writes how many packets it saw to nobody.
        std::thread::spawn(move || said.count());
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A socket; the one before it may be held a moment longer by a process that another test is just starting.
///
/// # Panics
///
/// If the address is not free in time.
pub fn bound<S>(bind: impl Fn() -> std::io::Result<S>) -> S {
    let until = Instant::now() + PATIENCE;
    loop {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            said => return said.unwrap(),
        }
    }
}

impl Node {
    /// The name of netd's tunnel device.
    #[must_use]
    pub fn tunnel(&self) -> Option<String> {
        let links = self.machine.ip(&["-o", "link", "show"]);
        let alias = format!("alias netd:{}", self.site.instance());
        let line = links.lines().find(|line| line.contains(&alias))?;
        Some(line.split(": ").nth(1)?.split('@').next()?.to_owned())
    }

    /// Links, addresses, routes and rules of all tables, as `ip` prints them.
    #[must_use]
    pub fn configuration(&self) -> String {
        let words: [&[&str]; 5] = [
            &["-d", "link", "show"],
            &["addr", "show"],
            &["route", "show", "table", "all"],
            &["-6", "route", "show", "table", "all"],
            &["rule", "show"],
        ];
        words.map(|words| self.machine.ip(words)).concat()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        for Node { site, machine, pod: _ } in &self.nodes {
            let _ = std::fs::remove_dir_all(site.runtime_dir());
            let _ = std::fs::remove_file(machine.run(bed::netns_lock));
        }
        bed::remove(&self.folder);
    }
}

/// Ends what watches this when it is dropped, also by a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The addresses of a node's pod; nodes count from 0.
#[must_use]
pub fn addresses(node: usize) -> [IpAddr; 2] {
    let number = node + 1;
    [format!("10.244.{number}.2"), format!("fd00:244:{number}::2")].map(|text| text.parse().unwrap())
}

/// The file of all nodes.
#[must_use]
pub fn file(network: &str) -> String {
    let mut text = "version = 1\n".to_owned();
    for (name, number) in NAMES.into_iter().zip(1..) {
        let [v4, v6] = node_addresses(number);
        let _ = write!(
            text,
            "\n[[nodes]]\nname = \"{name}\"\naddresses = [\"{v4}\", \"{v6}\"]\n\
             pod_cidrs = [\"10.244.{number}.0/24\", \"fd00:244:{number}::/64\"]\n"
        );
    }
    format!("{text}\n[network]\n{network}\n")
}

fn node_addresses(number: usize) -> [String; 2] {
    match number {
        3 => ["10.0.9.3".into(), "2001:db8:9::3".into()],
        _ => [format!("10.0.0.{number}"), format!("2001:db8::{number}")],
    }
}

fn settle(machine: &Namespace) {
    bed::settle(machine);
    machine.sysctl("net/ipv4/ip_forward", "1");
    machine.sysctl("net/ipv6/conf/all/forwarding", "1");
}

/// A node on the wire, and a pod behind it.
fn machines(lab: &Lab, wire: &Namespace, number: usize) -> (Namespace, Namespace) {
    let name = NAMES[number - 1];
    let (machine, pod) = (lab.namespace(name), lab.namespace(&format!("pod-{name}")));
    settle(&machine);
    bed::settle(&pod);
    let device = format!("to-{name}");
    wire.veth(&device, &machine, "eth0");
    let (v4_router, v6_router) = if number == 3 {
        ("10.0.9.254", "2001:db8:9::fe")
    } else {
        wire.ip(&["link", "set", &device, "master", "br0"]);
        ("10.0.0.254", "2001:db8::fe")
    };
    let [v4, v6] = node_addresses(number);
    machine.ip(&["addr", "add", &format!("{v4}/24"), "dev", "eth0"]);
    machine.ip(&["addr", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"]);
    machine.ip(&["route", "add", "default", "via", v4_router]);
    machine.ip(&["route", "add", "default", "via", v6_router]);
    machine.veth("lxc1", &pod, "eth0");
    machine.ip(&["addr", "add", "169.254.1.1/32", "dev", "lxc1"]);
    machine.ip(&["addr", "add", "fe80::1/64", "dev", "lxc1", "nodad"]);
    let [pod_v4, pod_v6] = addresses(number - 1);
    pod.ip(&["addr", "add", &format!("{pod_v4}/32"), "dev", "eth0"]);
    pod.ip(&["addr", "add", &format!("{pod_v6}/128"), "dev", "eth0", "nodad"]);
    pod.ip(&["route", "add", "169.254.1.1", "dev", "eth0"]);
    pod.ip(&["route", "add", "default", "via", "169.254.1.1"]);
    pod.ip(&["route", "add", "default", "via", "fe80::1", "dev", "eth0"]);
    for address in [pod_v4, pod_v6] {
        machine.ip(&["route", "add", &address.to_string(), "dev", "lxc1"]);
    }
    (machine, pod)
}

/// Whether an answer comes; packets may be lost while neighbours are asked for.
fn ask(to: SocketAddr) -> bool {
    let socket = UdpSocket::bind(any(to)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let sent = socket.send_to(b"ask", to);
        if sent.is_ok() && socket.recv(&mut [0; 8]).is_ok() {
            return true;
        }
    }
    false
}

/// Sends numbered packets until it is stopped: how many, and how many of them came back.
fn count(to: SocketAddr, stop: &AtomicBool) -> (usize, usize) {
    let socket = UdpSocket::bind(any(to)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let (mut sent, mut back) = (0usize, std::collections::HashSet::new());
    let mut buffer = [0; 8];
    let mut take = |back: &mut std::collections::HashSet<[u8; 8]>| {
        while socket.recv(&mut buffer).is_ok_and(|length| length == buffer.len()) {
            back.insert(buffer);
        }
    };
    while !stop.load(Ordering::Relaxed) {
        // A packet that has no way counts as sent: it is lost.
        let _ = socket.send_to(&sent.to_be_bytes(), to);
        sent += 1;
        take(&mut back);
        std::thread::sleep(Duration::from_millis(1));
    }
    let until = Instant::now() + Duration::from_secs(3);
    while back.len() < sent && Instant::now() < until {
        take(&mut back);
        std::thread::sleep(Duration::from_millis(1));
    }
    (sent, back.len())
}

fn any(to: SocketAddr) -> SocketAddr {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    any.parse().unwrap()
}
