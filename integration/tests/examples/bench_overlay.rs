//! What a stream of TCP from pod to pod carries: directly and in the tunnel, through the network stack and past it,
//! encrypted and not, as shares of what one veth pair carries between two namespaces in the same run.
//!
//! Each way has a few rounds, in turns, so that a busy moment does not hit one way alone; shown are medians.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints, and stops when something fails"
)]

use netd_integration_tests::mesh::{self, Mesh, Node, addresses};
use netd_integration_tests::{Lab, Namespace};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);
const PORT: u16 = 5001;

/// The lines of `[network]` of each way, and what it is called; and those of `[wireguard]`, if it is encrypted.
const WAYS: [(&str, &str, Option<&str>); 7] = [
    ("direct, through the stack", "mode = \"direct\"", None),
    ("direct, past the stack", "mode = \"direct\"\npod_devices = [\"lxc*\"]", None),
    ("VXLAN, through the stack", "mode = \"vxlan\"", None),
    ("VXLAN, past the stack", "mode = \"vxlan\"\npod_devices = [\"lxc*\"]", None),
    ("WireGuard", "mode = \"direct\"", Some("mode = \"pods\"")),
    ("VXLAN in WireGuard, through the stack", "mode = \"vxlan\"", Some("mode = \"overlay\"")),
    (
        "VXLAN in WireGuard, past the stack",
        "mode = \"vxlan\"\npod_devices = [\"lxc*\"]",
        Some("mode = \"overlay\""),
    ),
];

fn main() {
    let Some(lab) = Lab::new() else { return };
    let (near, far) = (lab.namespace("near"), lab.namespace("far"));
    near.veth("eth0", &far, "eth0");
    near.ip(&["addr", "add", "192.0.2.1/24", "dev", "eth0"]);
    far.ip(&["addr", "add", "192.0.2.2/24", "dev", "eth0"]);
    let mesh = Mesh::new(&lab);
    let [_, pod_b, _] = &mesh.nodes;
    let is_encrypting = netd_lab::installed(&[("wireguard-go", "wireguard-go")]);
    let keys = is_encrypting.then(|| keys(&mesh));
    let to = SocketAddr::new(addresses(1)[0], PORT);
    let mut bare = Vec::new();
    let mut found = WAYS.map(|_| Vec::new());
    // Encrypted ones last: netd does not take all peers away without being asked.
    for is_encrypted in [false, true].into_iter().flat_map(|last| [last; ROUNDS]) {
        bare.push(throughput(&near, &far, SocketAddr::new("192.0.2.2".parse().unwrap(), PORT)));
        for ((_, network, wireguard), found) in WAYS.iter().zip(&mut found) {
            if wireguard.is_some() != is_encrypted || (is_encrypted && keys.is_none()) {
                continue;
            }
            for node in &mesh.nodes[..2] {
                node.site.write(&text(node, network, *wireguard, keys.as_ref()));
                // Node c is not on link: directly it waits, and that is no matter here.
                node.site.netd(&["apply"]);
            }
            found.push(throughput(&mesh.nodes[0].pod, &pod_b.pod, to));
        }
    }
    let sort = keys.is_some().then(|| sort_of(&mesh));
    for node in &mesh.nodes[..2] {
        // With its device, a program ends.
        let _ = node.machine.try_ip(&["link", "del", node.site.instance()]);
    }
    let bare = median(bare);
    println!("one veth pair: {:.2} Gbit/s", bare * 8e-9);
    if let Some(sort) = sort {
        println!("WireGuard is that of the {sort}");
    }
    for ((name, ..), found) in WAYS.iter().zip(found).filter(|(_, found)| !found.is_empty()) {
        let found = median(found);
        println!("{name}: {:.2} Gbit/s, {:.0} % of the veth pair", found * 8e-9, 100.0 * found / bare);
    }
}

/// The public keys of a and b, which are made with this.
fn keys(mesh: &Mesh) -> [String; 2] {
    [0, 1].map(|at| {
        let site = &mesh.nodes[at].site;
        site.write(&mesh::file(""));
        let said = site.netd(&["wireguard", "pubkey"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        said.out.trim().to_owned()
    })
}

/// The file of a node.
fn text(node: &Node, network: &str, wireguard: Option<&str>, keys: Option<&[String; 2]>) -> String {
    let text = mesh::file(network);
    let (Some(wireguard), Some(keys)) = (wireguard, keys) else { return text };
    let mut parts = text.split("\n[[nodes]]");
    let mut all = parts.next().unwrap().to_owned();
    for (at, part) in parts.enumerate() {
        let key = keys.get(at).map(|key| format!("\nwireguard.public_key = \"{key}\"")).unwrap_or_default();
        all += &format!("\n[[nodes]]{key}{part}");
    }
    // A program's device is called unlike every other on the machine.
    format!("{all}\n[wireguard]\ninterface = \"{}\"\n{wireguard}\n", node.site.instance())
}

/// Whose WireGuard it was.
fn sort_of(mesh: &Mesh) -> String {
    let said = mesh.nodes[0].site.netd(&["wireguard", "show", "--json"]).json();
    let sort = said["device"].as_str().unwrap();
    if sort == "userspace" { "program wireguard-go".to_owned() } else { sort.to_owned() }
}

/// Bytes per second of one stream.
fn throughput(from: &Namespace, at: &Namespace, to: SocketAddr) -> f64 {
    let listener = at.run(|| TcpListener::bind(to)).unwrap();
    let taken = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut bytes, mut buffer) = (0, vec![0; 256 * 1024]);
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => return bytes,
                length => bytes += length,
            }
        }
    });
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(ROUND);
            stop.store(true, Ordering::Relaxed);
        });
        let mut stream = from.run(|| TcpStream::connect(to)).unwrap();
        let chunk = vec![7; 256 * 1024];
        while !stop.load(Ordering::Relaxed) {
            stream.write_all(&chunk).unwrap();
        }
    });
    taken.join().unwrap() as f64 / began.elapsed().as_secs_f64()
}

fn median(mut found: Vec<f64>) -> f64 {
    found.sort_by(f64::total_cmp);
    found[found.len() / 2]
}
