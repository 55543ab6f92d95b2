//! What clients, routers and backends see of the load balancer, with tcpdump and the usual tools as the second opinion.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod answers;
mod changes;
mod choosing;
mod explain;
mod explain_odd;
mod fragments;
mod ping;
mod routers;
mod sizes;
mod strangers;
mod tags;
mod tunnels;

use netd_integration_tests::bed::{CLIENT_V4, CLIENT_V6, vip_v4, vips};
use netd_integration_tests::desired::Service;
use netd_integration_tests::echo::{Port, Servers};
use netd_integration_tests::netd::Said;
use netd_integration_tests::{Bed, Namespace};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// Where the service answers connections, and datagrams.
const WEB: u16 = 80;
const DNS: u16 = 53;

/// Where nothing answers.
const NOTHING: u16 = 81;

/// How long silence is waited for. A refusal comes at once, but busy machines take a while.
const SILENT: Duration = Duration::from_secs(2);

/// The VIPs of service `web`, with a port.
fn at(port: u16) -> [SocketAddr; 2] {
    vips(10).map(|vip| SocketAddr::new(vip, port))
}

/// Service `web`, for TCP and UDP, on the first backends.
fn web(backends: usize) -> Service {
    let service = Service::new("web", 10).port("tcp", WEB, WEB).port("udp", DNS, DNS);
    (1..=backends).fold(service, Service::backend)
}

/// Servers for [`web`] on all backends.
fn servers(bed: &Bed) -> Servers {
    let ports: Vec<Port> = at(WEB).map(Port::Tcp).into_iter().chain(at(DNS).map(Port::Udp)).collect();
    Servers::start(bed, &ports)
}

/// A command in a machine, to its end.
fn run(machine: &Namespace, words: &[&str]) -> Said {
    let output = machine.command("timeout").arg("20").args(words).output();
    output.unwrap_or_else(|error| panic!("{words:?}: {error}")).into()
}

/// Three echo requests with so many bytes.
fn ping(machine: &Namespace, to: IpAddr, bytes: &str) -> Said {
    run(machine, &["ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", "-s", bytes, &to.to_string()])
}

/// The client's address of a VIP's family.
fn client(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { CLIENT_V4 } else { CLIENT_V6 }.parse().unwrap()
}

/// What the client's end of a new connection says.
fn try_connect(machine: &Namespace, to: SocketAddr) -> Result<(), std::io::ErrorKind> {
    let stream = machine.run(|| TcpStream::connect_timeout(&to, SILENT));
    stream.map(drop).map_err(|error| error.kind())
}

/// What becomes of a datagram: it is answered, refused, or neither.
fn try_datagram(bed: &Bed, to: SocketAddr) -> Result<(), std::io::ErrorKind> {
    let socket = bed.client_udp(0, to);
    socket.set_read_timeout(Some(SILENT)).unwrap();
    socket.send(b"who?").unwrap();
    loop {
        match socket.recv(&mut [0; 16]) {
            // Whoever stops and continues a process, as a machine that is saved does, interrupts what it waits for.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            said => return said.map(drop).map_err(|error| error.kind()),
        }
    }
}

/// Nothing that tcpdump read has a wrong checksum.
fn assert_sound(packets: &[String]) {
    for packet in packets {
        for word in ["bad cksum", "bad udp cksum", "wrong icmp cksum", "incorrect"] {
            assert!(!packet.contains(word), "{word}: {packet}");
        }
    }
}

/// Those of the packets that contain all of these.
fn with<'a>(packets: &'a [String], words: &[&str]) -> Vec<&'a str> {
    let has_all = |packet: &&String| words.iter().all(|word| packet.contains(word));
    packets.iter().filter(has_all).map(String::as_str).collect()
}

/// Whether the first VIP's address is the one that tcpdump shows first.
fn is_from_vip(packet: &str) -> bool {
    packet.contains(&format!(" {} > {CLIENT_V4}", vip_v4(10)))
        || packet.contains(&format!(" {} > {CLIENT_V6}", vips(10)[1]))
}
