//! Nodes with pods whose packets are to be encrypted: the file of each, what is heard on the wire, and who answers whom.

use netd_integration_tests::mesh::{self, Mesh};
use netd_integration_tests::netd::wait_until;
use netd_integration_tests::{Lab, Namespace};
use netd_lab::installed;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longer than anything takes here; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What of the pods' packets is seen on the wire if it is not encrypted, in a tunnel or not.
const CLEAR: &str = "(ip and net 10.244.0.0/16) or (ip6 and net fd00:244::/32) or udp port 8472";

/// What the wire says to itself is heard besides: what was on it before is heard then, too.
const MARKER: &str = "udp and src 10.0.0.254 and dst 10.0.0.254";

/// What of the nodes' own packets.
pub const CLEAR_PINGS: &str = "icmp or (icmp6 and (ip6[40] = 128 or ip6[40] = 129))";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The addresses of the nodes a, b and c.
pub const ADDRESSES: [[&str; 2]; 3] =
    [["10.0.0.1", "2001:db8::1"], ["10.0.0.2", "2001:db8::2"], ["10.0.9.3", "2001:db8:9::3"]];

/// The first nodes of a mesh; the others are nobody to them.
pub struct Nodes {
    pub mesh: Mesh,
    count: usize,
}

impl Nodes {
    /// So many nodes; `None` where they cannot be had here.
    pub fn new(count: usize) -> Option<Self> {
        let lab = Lab::new()?;
        let programs = [("wireguard-go", "wireguard-go"), ("wg", "wireguard-tools")];
        installed(&programs).then(|| Self { mesh: Mesh::new(&lab), count })
    }

    /// The nodes.
    pub fn all(&self) -> Vec<Node<'_>> {
        self.mesh.nodes.iter().take(self.count).enumerate().map(|(at, node)| Node { at, node }).collect()
    }

    /// The first two.
    pub fn two(&self) -> [Node<'_>; 2] {
        [0, 1].map(|at| Node { at, node: &self.mesh.nodes[at] })
    }

    /// The file of a node: the same for all, but for the device's name.
    pub fn text(&self, of: &Node<'_>, settings: &str, keys: &[Option<String>]) -> String {
        let mut text =
            format!("version = 1\n\n[wireguard]\ninterface = \"{}\"\n{settings}\n", of.interface());
        for (other, key) in self.all().iter().zip(keys) {
            let (name, number, [v4, v6]) = (other.node.site.node(), other.at + 1, ADDRESSES[other.at]);
            text += &format!(
                "\n[[nodes]]\nname = \"{name}\"\naddresses = [\"{v4}\", \"{v6}\"]\n\
                 pod_cidrs = [\"10.244.{number}.0/24\", \"fd00:244:{number}::/64\"]\n"
            );
            if let Some(key) = key {
                text += &format!("wireguard = {{ public_key = \"{key}\" }}\n");
            }
        }
        text
    }

    /// Writes each node's file, and gives each node's key to all.
    pub fn write(&self, settings: &str) -> Vec<Option<String>> {
        let none = vec![None; self.count];
        let key = |of: &Node<'_>| {
            of.node.site.write(&self.text(of, settings, &none));
            let said = of.node.site.netd(&["wireguard", "pubkey"]);
            assert_eq!(said.code, Some(0), "{said:?}");
            Some(said.out.trim().to_owned())
        };
        let keys: Vec<Option<String>> = self.all().iter().map(key).collect();
        for of in self.all() {
            of.node.site.write(&self.text(&of, settings, &keys));
        }
        keys
    }

    /// Records what is on the wire in clear.
    pub fn listen(&self, filter: Option<&str>) -> Listening<'_> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = self.mesh.nodes[0].site.folder().join(format!("clear-{number}"));
        let out = File::create(&file).unwrap();
        let mut command = self.mesh.wire.command("tcpdump");
        // At once: else packets wait up to a second for others, and those of the end are never written.
        let filter = format!("({}) or ({MARKER})", filter.unwrap_or(CLEAR));
        command.args(["-n", "-l", "--immediate-mode", "-Z", "root", "-i", "any", &filter]);
        let errors = file.with_extension("err");
        let child = command.stdout(out).stderr(File::create(&errors).unwrap()).spawn().unwrap();
        wait_until("listening", PATIENCE, || {
            std::fs::read_to_string(&errors).unwrap().contains("listening on")
        });
        Listening { child, file, wire: &self.mesh.wire }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for of in self.all() {
            // With its device, a program ends; it would hold the namespace otherwise. One that was killed leaves its
            // socket behind, and so does that of the other device of a test.
            for letter in ["", "b", "x"] {
                let name = format!("{}{letter}", of.interface());
                if letter != "x" {
                    let _ = of.node.machine.try_ip(&["link", "del", &name]);
                }
                let _ = std::fs::remove_file(format!("/var/run/wireguard/{name}.sock"));
            }
        }
    }
}

/// A node.
pub struct Node<'m> {
    pub at: usize,
    pub node: &'m mesh::Node,
}

impl Node<'_> {
    /// The device, which is called unlike every other: a program's socket is the same in all namespaces.
    pub fn interface(&self) -> &str {
        self.node.site.instance()
    }

    /// Its device's name for the keys that come next, or that were.
    pub fn second(&self) -> String {
        format!("{}b", self.interface())
    }

    /// When the last handshake with the only peer of a device was, in seconds since 1970; 0: never.
    pub fn last_handshake(&self, interface: &str) -> u64 {
        let said = self.wg(&["show", interface, "latest-handshakes"]);
        said.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Whether the pod gets an answer to a ping.
    pub fn reaches(&self, to: &str) -> bool {
        ping(&self.node.pod, to)
    }

    /// The addresses of its pod.
    pub fn pods(&self) -> [String; 2] {
        mesh::addresses(self.at).map(|address| address.to_string())
    }

    /// What `wg` says.
    pub fn wg(&self, words: &[&str]) -> String {
        let mut command = self.node.machine.command("wg");
        let output = command.args(words).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until the pod reaches these.
    pub fn wait_for(&self, pods: &[String]) {
        for pod in pods {
            wait_until("answered", PATIENCE, || self.reaches(pod));
        }
    }
}

/// Whether a machine gets an answer to a ping.
pub fn ping(machine: &Namespace, to: &str) -> bool {
    let mut command = machine.command("ping");
    command.args(["-q", "-c", "1", "-W", "1", to]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().success()
}

/// What is heard on the wire.
pub struct Listening<'w> {
    child: Child,
    file: PathBuf,
    wire: &'w Namespace,
}

impl Listening<'_> {
    /// Ends when all that was on the wire until now is heard, and gives the packets.
    pub fn end(mut self) -> String {
        let socket = self.wire.run(|| UdpSocket::bind("10.0.0.254:0").unwrap());
        let itself = socket.local_addr().unwrap();
        let own = format!("10.0.0.254.{} > ", itself.port());
        let heard = || std::fs::read_to_string(&self.file).unwrap();
        wait_until("heard to the end", PATIENCE, || {
            socket.send_to(b"marker", itself).unwrap();
            heard().contains(&own)
        });
        let heard = heard();
        self.stop();
        heard.lines().filter(|line| !line.contains(&own)).map(|line| format!("{line}\n")).collect()
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends so many bytes from one pod to another by TCP; all of them arrive.
pub fn transfer(from: &Namespace, to: &Namespace, address: &str, bytes: usize) {
    let address: IpAddr = address.parse().unwrap();
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let server = scope.spawn(move || {
            to.run(|| {
                let listener = TcpListener::bind((address, 0)).unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut sink = Vec::new();
                stream.read_to_end(&mut sink).unwrap();
                sink.len()
            })
        });
        let target = told.recv().unwrap();
        from.run(|| {
            let mut stream = TcpStream::connect_timeout(&target, PATIENCE).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&vec![7; bytes]).unwrap();
        });
        assert_eq!(server.join().unwrap(), bytes);
    });
}
