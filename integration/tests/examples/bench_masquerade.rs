//! What it costs to give a packet of a pod an address of the node, beside the same by nftables: datagrams from a pod
//! through its node to a server, all on one thread, with neither, with netd's programs and with `nft ... masquerade`, round
//! by round. A veth carries a packet on the sender's own time, so that the time of sending is that of the whole way.
//!
//! Printed are the medians of the nanoseconds that a packet takes more than without translation, and their ratio.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops where it cannot measure"
)]

use netd_bpf::decap::Prefix;
use netd_bpf::nat::{Nat, Outer, Ports, Rules, Size};
use netd_integration_tests::bed::index_of;
use netd_integration_tests::{Lab, Namespace};
use std::net::UdpSocket;
use std::path::Path;
use std::time::Instant;

/// Packets of one measurement.
const PACKETS: usize = 200_000;
const ROUNDS: usize = 9;
/// Flows that the packets belong to, in turn.
const FLOWS: [usize; 2] = [1, 1000];
/// One of each family: pod, node towards the pod, node towards the server, server.
const FAMILIES: [[&str; 4]; 2] = [
    ["10.244.1.2", "10.244.1.1", "192.0.2.1", "192.0.2.9"],
    ["fd00:244:1::2", "fd00:244:1::1", "2001:db8:1::1", "2001:db8:1::9"],
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Nobody,
    Netd,
    Nftables,
}

struct World {
    pod: Namespace,
    node: Namespace,
    server: Namespace,
    nat: Nat,
    index: u32,
}

fn main() {
    let Some(lab) = Lab::new() else { return };
    let pins = tempfile::tempdir().unwrap();
    netd_bpf::mount_bpffs_if_missing(pins.path()).unwrap();
    let mut world = World::new(&lab, pins.path());
    println!("ns per packet above plain forwarding, medians of {ROUNDS} rounds of {PACKETS} packets");
    println!("{:<22} {:>8} {:>9} {:>6}", "", "netd", "nftables", "ratio");
    for (family, addresses) in ["IPv4", "IPv6"].into_iter().zip(FAMILIES) {
        for flows in FLOWS {
            let [netd, nftables] = world.compare(pins.path(), addresses[3], flows);
            let ratio = netd / nftables;
            println!("{:<22} {netd:>8.0} {nftables:>9.0} {ratio:>6.2}", format!("{family}, {flows} flows"));
        }
    }
    drop(world);
    rustix::mount::unmount(pins.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}

impl World {
    fn new(lab: &Lab, pins: &Path) -> Self {
        let [pod, node, server] = ["pod", "node", "server"].map(|label| lab.namespace(label));
        node.veth("lxc1", &pod, "eth0");
        node.veth("out0", &server, "eth0");
        for [of_pod, gateway, of_node, of_server] in FAMILIES {
            let bits = if of_pod.contains(':') { 64 } else { 24 };
            for (machine, device, address) in [
                (&pod, "eth0", of_pod),
                (&node, "lxc1", gateway),
                (&node, "out0", of_node),
                (&server, "eth0", of_server),
            ] {
                machine.ip(&["address", "add", &format!("{address}/{bits}"), "dev", device]);
            }
            pod.ip(&["route", "add", "default", "via", gateway]);
            server.ip(&["route", "add", "default", "via", of_node]);
        }
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            node.sysctl(key, "1");
        }
        let index = node.run(|| index_of("out0"));
        let mut nat = Nat::prepare(
            pins,
            Size { flows: 65_536, direct: 1024, fragments: 1024, has_egress: false },
            7,
            None,
        )
        .unwrap();
        nat.complete().unwrap();
        let prefix = |text: &str, bits: u8| -> Prefix { (text.parse().unwrap(), bits) };
        let ports = Ports { first: 1024, last: 32_767 };
        let outer = Outer { v4: FAMILIES[0][2].parse().ok(), v6: FAMILIES[1][2].parse().ok(), ports };
        let rules = Rules {
            sources: [prefix("10.244.1.0", 24), prefix("fd00:244:1::", 64)].into(),
            exclude: [prefix("10.244.0.0", 16), prefix("fd00:244::", 32)].into(),
            devices: [(index, outer)].into(),
        };
        nat.set_rules(&rules).unwrap();
        Self { pod, node, server, nat, index }
    }

    /// What netd and nftables cost more than nobody.
    fn compare(&mut self, pins: &Path, server: &str, flows: usize) -> [f64; 2] {
        let receiver = self.server.run(|| UdpSocket::bind((server, 9)).unwrap());
        let any = if server.contains(':') { "::" } else { "0.0.0.0" };
        let sockets: Vec<UdpSocket> = self.pod.run(|| {
            let connected = |_| {
                let socket = UdpSocket::bind((any, 0)).unwrap();
                socket.connect((server, 9)).unwrap();
                socket
            };
            (0..flows).map(connected).collect()
        });
        let mut times: [Vec<f64>; 3] = Default::default();
        for _ in 0..ROUNDS {
            for (by, times) in [By::Nobody, By::Netd, By::Nftables].into_iter().zip(&mut times) {
                self.have(by, pins);
                send(&sockets, flows);
                times.push(send(&sockets, PACKETS));
            }
        }
        self.have(By::Nobody, pins);
        drop(receiver);
        let [bare, netd, nftables] = times.map(median);
        [netd - bare, nftables - bare]
    }

    fn have(&mut self, by: By, pins: &Path) {
        let _ = self.node.command("nft").args(["delete", "table", "inet", "bench"]).output().unwrap();
        let (nat, index) = (&mut self.nat, self.index);
        self.node.run(move || {
            if by == By::Netd {
                nat.attach("out0", index).unwrap()
            } else {
                Nat::detach(pins, "out0").unwrap()
            }
        });
        if by == By::Nftables {
            let rule = "add table inet bench; add chain inet bench out { type nat hook postrouting priority srcnat; }; \
                        add rule inet bench out oifname out0 masquerade";
            assert!(self.node.command("nft").arg(rule).status().unwrap().success());
        }
    }
}

/// Nanoseconds of a packet.
fn send(sockets: &[UdpSocket], packets: usize) -> f64 {
    let began = Instant::now();
    for socket in sockets.iter().cycle().take(packets) {
        // A refusal that came back to an earlier packet is no matter.
        let _ = socket.send(&[7; 64]);
    }
    began.elapsed().as_nanos() as f64 / packets as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
