//! A pod, its node, and a server that knows no way back to pods; the programs are on the node's device to the server.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use netd_bpf::decap::Prefix;
use netd_bpf::nat::{Nat, Outer, Ports, Rules, Size};
use netd_lab::{Lab, Namespace};

pub const PODS: [&str; 2] = ["10.244.1.2", "fd00:244:1::2"];
/// The node's addresses towards the server.
pub const NODE: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];
pub const SERVER: [&str; 2] = ["192.0.2.9", "2001:db8:1::9"];
/// Another machine on the server's link, and what is reached by either.
pub const GATEWAY: [&str; 2] = ["192.0.2.10", "2001:db8:1::10"];
pub const GATEWAY_MAC: &str = "02:00:00:00:00:aa";
pub const OUTSIDE: [&str; 2] = ["198.51.100.7", "2001:db8:9::7"];
pub const PORTS: Ports = Ports { first: 1024, last: 32_767 };
const SIZE: Size = Size { flows: 65_536, direct: 4096, fragments: 4096, has_egress: true };

/// Longer than anything takes on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub pod: Namespace,
    pub node: Namespace,
    pub server: Namespace,
    pub nat: Nat,
    /// The node's device to the server, by its index.
    pub uplink: u32,
    /// Where programs and links are pinned.
    pub pins: PathBuf,
}

/// Runs a test with a world; without root, or links of this kind, there is nothing to test: it says so and passes.
pub fn in_world(test: impl FnOnce(&mut World)) {
    let Some(lab) = Lab::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    netd_bpf::mount_bpffs_if_missing(folder.path()).unwrap();
    let unmount = Unmount(folder.path());
    if let Some(mut world) = World::new(&lab, folder.path()) {
        test(&mut world);
        world.node.run(|| Nat::detach(folder.path(), "out0")).unwrap();
    }
    drop(unmount);
}

struct Unmount<'p>(&'p Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        // That it fails is seen when the folder is removed.
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

impl World {
    fn new(lab: &Lab, pins: &Path) -> Option<Self> {
        let [pod, node, server] = ["pod", "node", "server"].map(|label| lab.namespace(label));
        node.veth("lxc1", &pod, "eth0");
        node.veth("out0", &server, "eth0");
        for (machine, device, addresses) in [
            (&pod, "eth0", ["10.244.1.2/24", "fd00:244:1::2/64"]),
            (&node, "lxc1", ["10.244.1.1/24", "fd00:244:1::1/64"]),
            (&node, "out0", ["192.0.2.1/24", "2001:db8:1::1/64"]),
            (&server, "eth0", ["192.0.2.9/24", "2001:db8:1::9/64"]),
        ] {
            for address in addresses {
                machine.ip(&["address", "add", address, "dev", device]);
            }
        }
        pod.ip(&["route", "add", "default", "via", "10.244.1.1"]);
        pod.ip(&["route", "add", "default", "via", "fd00:244:1::1"]);
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            node.sysctl(key, "1");
        }
        let uplink = index(&node, "out0");
        let mut nat = Nat::prepare(pins, SIZE, 7, None).unwrap();
        nat.complete().unwrap();
        let mut world = Self { pod, node, server, nat, uplink, pins: pins.to_owned() };
        world.set_ports(PORTS);
        let nat = &mut world.nat;
        match world.node.run(move || nat.attach("out0", uplink)) {
            Ok(()) => Some(world),
            Err(error) => {
                println!("skipped: {error}");
                None
            }
        }
    }

    /// A gateway on link that nobody hears of by itself, and a network that the node's routes lead to by the server.
    pub fn add_gateway(&self) {
        let Self { node, server, .. } = self;
        server.ip(&["link", "add", "gw0", "link", "eth0", "address", GATEWAY_MAC, "type", "macvlan"]);
        server.ip(&["link", "set", "gw0", "up"]);
        for ((outside, server_at), bits) in OUTSIDE.into_iter().zip(SERVER).zip(["32", "128"]) {
            server.ip(&["address", "add", &format!("{outside}/{bits}"), "dev", "lo"]);
            node.ip(&[
                "route",
                "add",
                if bits == "32" { "198.51.100.0/24" } else { "2001:db8:9::/64" },
                "via",
                server_at,
            ]);
        }
        for family in ["ipv4", "ipv6"] {
            // What waits for the gateway waits for as long as a test may take.
            node.sysctl(&format!("net/{family}/neigh/out0/mcast_solicit"), "1000");
        }
        for device in ["all", "out0"] {
            node.sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), "0");
        }
        for address in SERVER {
            let mut ping = node.command("ping");
            assert!(ping.args(["-q", "-c", "1", "-W", "20", address]).output().unwrap().status.success());
        }
    }

    pub fn set_ports(&mut self, ports: Ports) {
        self.set_devices(&[self.uplink], ports);
    }

    /// The same is given on each of these devices.
    pub fn set_devices(&mut self, devices: &[u32], ports: Ports) {
        let outer = Outer { v4: NODE[0].parse().ok(), v6: NODE[1].parse().ok(), ports };
        let prefix = |text: &str, bits: u8| -> Prefix { (text.parse().unwrap(), bits) };
        let rules = Rules {
            sources: [prefix("10.244.1.0", 24), prefix("fd00:244:1::", 64)].into(),
            exclude: [prefix("10.244.0.0", 16), prefix("fd00:244::", 32)].into(),
            devices: devices.iter().map(|device| (*device, outer)).collect(),
        };
        self.nat.set_rules(&rules).unwrap();
    }

    /// A server on a port of both families that says to each connection everything that it hears; who came is told.
    pub fn listen_tcp(&self, port: u16) -> mpsc::Receiver<SocketAddr> {
        let (told, heard) = mpsc::channel();
        let listener = self.server.run(|| TcpListener::bind(("::", port))).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                if told.send(canonical(stream.peer_addr().unwrap())).is_err() {
                    return;
                }
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        if stream.write_all(&buffer[..count]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        heard
    }

    /// A server on a port of both families that says every datagram back; who sent it is told.
    pub fn listen_udp(&self, port: u16) -> mpsc::Receiver<SocketAddr> {
        let (told, heard) = mpsc::channel();
        let socket = self.server.run(|| UdpSocket::bind(("::", port))).unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                if told.send(canonical(from)).is_err() {
                    return;
                }
                let _ = socket.send_to(&buffer[..count], from);
            }
        });
        heard
    }

    /// A socket of a machine, for the family of an address.
    pub fn udp(machine: &Namespace, to: &str, port: u16) -> UdpSocket {
        let any = if to.contains(':') { "::" } else { "0.0.0.0" };
        let socket = machine.run(|| UdpSocket::bind((any, port))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Waits for what has to come in the end.
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not so in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn index(machine: &Namespace, device: &str) -> u32 {
    let text = machine.ip(&["-o", "link", "show", "dev", device]);
    text.split(':').next().unwrap().trim().parse().unwrap()
}
