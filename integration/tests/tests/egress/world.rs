//! The machines of a mesh, and a server on the link of a and b that has no route to pods. b is the gateway.

use netd_integration_tests::mesh::{self, Mesh, bound};
use netd_integration_tests::{Lab, Namespace};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Longer than anything takes on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The addresses of Cilium's announcement, and the same in IPv6.
pub const SERVER: [&str; 2] = ["192.168.33.13", "2001:db8:33::13"];
pub const EGRESS: [&str; 2] = ["192.168.33.100", "2001:db8:33::100"];

/// Other addresses of the server's machine.
pub const OTHER: [&str; 2] = ["10.0.0.254", "2001:db8::fe"];

const GATEWAY: [&str; 2] = ["192.168.33.11/24", "2001:db8:33::11/64"];

pub struct World {
    pub mesh: Mesh,
}

/// How a datagram of a pod fared.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whence it came, as the server sees it.
    pub from: IpAddr,
    /// By which port.
    pub port: u16,
    /// The pod's own port.
    pub own_port: u16,
    /// Whether the pod heard the server's answer.
    pub is_answered: bool,
}

impl World {
    pub fn new(lab: &Lab) -> Self {
        let mesh = Mesh::new(lab);
        let [v4, v6] = SERVER;
        mesh.wire.ip(&["addr", "add", &format!("{v4}/24"), "dev", "br0"]);
        mesh.wire.ip(&["addr", "add", &format!("{v6}/64"), "dev", "br0", "nodad"]);
        let [v4, v6] = GATEWAY;
        mesh.nodes[1].machine.ip(&["addr", "add", v4, "dev", "eth0"]);
        mesh.nodes[1].machine.ip(&["addr", "add", v6, "dev", "eth0", "nodad"]);
        Self { mesh }
    }

    /// The server's machine.
    pub fn server(&self) -> &Namespace {
        &self.mesh.wire
    }

    /// Sends from a node's pod until the server has it, and until it is answered if it `waits` for that.
    pub fn ask(&self, node: usize, to: &str, waits: Waits) -> Seen {
        ask(&self.mesh.nodes[node].pod, self.server(), to, waits)
    }

    /// Sends datagrams from a node's pod until `done`: the server may see none of them.
    pub fn ask_in_vain(&self, node: usize, to: &str, count: usize, done: impl Fn() -> bool) {
        let to = SocketAddr::new(to.parse().unwrap(), 7000);
        let server = self.server().run(|| bound(|| UdpSocket::bind(to)));
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let pod = self.mesh.nodes[node].pod.run(|| UdpSocket::bind(any)).unwrap();
        for _ in 0..count {
            pod.send_to(b"question", to).unwrap();
        }
        wait_until("all are dropped", done);
        server.set_nonblocking(true).unwrap();
        assert!(server.recv(&mut [0; 64]).is_err(), "a datagram of node {node}'s pod came to {to}");
    }

    /// Whether a node says that it has dropped so many packets for want of a gateway.
    pub fn has_dropped(&self, node: usize, count: usize) -> bool {
        let said = format!("{count} packets were dropped that found no egress gateway");
        self.mesh.nodes[node].site.netd(&["status"]).out.contains(&said)
    }

    /// Sends a quarter of a mebibyte by TCP from a node's pod to the server and back: whence it came.
    pub fn transfer(&self, node: usize, to: &str) -> IpAddr {
        const BYTES: usize = 256 * 1024;
        let to = SocketAddr::new(to.parse().unwrap(), 7001);
        let listener = self.server().run(|| bound(|| TcpListener::bind(to)));
        let taken = std::thread::spawn(move || {
            let (mut stream, from) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            let mut bytes = vec![0; BYTES];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
            from.ip()
        });
        let pod = &self.mesh.nodes[node].pod;
        let mut stream = pod.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        // Less than what lies in buffers, so that it need not be read meanwhile.
        for _ in 0..BYTES / 4096 {
            stream.write_all(&[7; 4096]).unwrap();
        }
        let mut back = vec![0; BYTES];
        stream.read_exact(&mut back).unwrap();
        assert!(back.iter().all(|byte| *byte == 7));
        taken.join().unwrap()
    }

    /// Pings the server from a node's pod.
    pub fn ping(&self, node: usize, to: &str) {
        let mut ping = self.mesh.nodes[node].pod.command("ping");
        let said = ping.args(["-q", "-c", "2", "-i", "0.2", "-W", "20", to]).output().unwrap();
        assert!(said.status.success(), "{to}: {}", String::from_utf8_lossy(&said.stdout));
    }
}

/// Sends from a pod until a server has it, and until it is answered if it `waits` for that.
pub fn ask(pod: &Namespace, server: &Namespace, to: &str, waits: Waits) -> Seen {
    let to = SocketAddr::new(to.parse().unwrap(), 7000);
    let server = server.run(|| bound(|| UdpSocket::bind(to)));
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let pod = pod.run(|| UdpSocket::bind(any)).unwrap();
    for socket in [&server, &pod] {
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    }
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; 64];
    let mut seen = None;
    while Instant::now() < until {
        let _ = pod.send_to(b"question", to);
        let Ok((_, from)) = server.recv_from(&mut buffer) else { continue };
        let _ = server.send_to(b"answer", from);
        let is_answered = waits == Waits::ForAnswer && pod.recv(&mut buffer).is_ok();
        let own_port = pod.local_addr().unwrap().port();
        let found = Seen { from: from.ip(), port: from.port(), own_port, is_answered };
        if is_answered || waits == Waits::Not {
            return found;
        }
        seen = Some(found);
    }
    seen.unwrap_or_else(|| panic!("nothing of the pod comes to {to}"))
}

/// Waits for what has to come in the end.
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not so in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a question is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    ForAnswer,
    Not,
}

/// The address of a node's pod of the family of another address.
pub fn pod(node: usize, like: &str) -> IpAddr {
    let like: IpAddr = like.parse().unwrap();
    mesh::addresses(node).into_iter().find(|address| address.is_ipv4() == like.is_ipv4()).unwrap()
}

/// Pods of all nodes to the server, by node b.
pub fn policy(more: &str) -> String {
    let [server_v4, server_v6] = SERVER;
    let [v4, v6] = EGRESS;
    format!(
        "\n[[egress]]\nname = \"legacy\"\nsources = [\"10.244.0.0/16\", \"fd00:244::/32\"]\n\
         destinations = [\"{server_v4}/32\", \"{server_v6}/128\"]\nips = [\"{v4}\", \"{v6}\"]\n{more}\n"
    )
}

/// Node b as the gateway.
pub const BY_B: &str = "gateways = [{ node = \"b\" }]";
