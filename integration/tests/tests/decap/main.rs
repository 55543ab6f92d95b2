//! netd on the balancer, and netd with `[decap]` on the backends: nothing else opens the tunnel there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod health;
mod life;
mod strangers;
mod tunnels;

use netd_bpf::decap::Decap;
use netd_bpf::decap::abi::Counts;
use netd_integration_tests::bed::{TUNNEL_V4, TUNNEL_V6, index_of, vips};
use netd_integration_tests::desired::Service;
use netd_integration_tests::echo::{Port, Servers};
use netd_integration_tests::netd::Daemon;
use netd_integration_tests::{Arrival, Bed, Lab, Site};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the service answers connections, and datagrams.
const WEB: u16 = 80;
const DNS: u16 = 53;

/// A file for a backend, with more lines of its section.
fn section(more: &str) -> String {
    let taken = "to = [\"192.0.2.0/24\", \"2001:db8:100::/64\"]";
    format!(
        "version = 1\n\n[decap]\ndevices = [\"eth0\"]\nfrom = [\"{TUNNEL_V4}/32\", \"{TUNNEL_V6}/128\"]\n{taken}\n{more}\n"
    )
}

/// Backends on which nothing is prepared, with servers.
struct Backends {
    bed: Bed,
    sites: Vec<Site>,
    _servers: Servers,
}

impl Backends {
    fn new(lab: &Lab, count: usize) -> Self {
        let bed = Bed::with(lab, &vec![Arrival::Bare; count]);
        let sites = (1..=count).map(|number| bed.on_backend(number)).collect();
        let ports = at(WEB).map(Port::Tcp).into_iter().chain(at(DNS).map(Port::Udp));
        let _servers = Servers::start(&bed, &ports.collect::<Vec<_>>());
        Self { bed, sites, _servers }
    }

    /// Has every backend's netd put this file in force.
    fn start(&self, text: &str) -> Vec<Daemon> {
        let start = |site: &Site| {
            site.write(text);
            site.start_ok()
        };
        self.sites.iter().map(start).collect()
    }

    /// Whether both families of both protocols are answered.
    fn assert_answers(&self) {
        for to in at(WEB) {
            assert!(self.bed.ask_tcp(to) > 0, "{to}");
        }
        for to in at(DNS) {
            assert!(self.bed.ask_udp(to).is_some(), "{to}");
        }
    }

    fn assert_silent(&self) {
        for to in at(DNS) {
            assert_eq!(self.bed.ask_udp(to), None, "{to}");
        }
    }

    /// What `ip` says of a backend's device.
    fn device(&self, number: usize) -> String {
        self.bed.backends[number - 1].ip(&["link", "show", "eth0"])
    }

    fn index(&self, number: usize) -> u32 {
        self.bed.backends[number - 1].run(|| index_of("eth0"))
    }
}

/// Where a netd pins what decapsulates.
fn pins(site: &Site) -> PathBuf {
    site.bpf_dir().join("decap")
}

fn counts(site: &Site) -> Counts {
    Decap::open(&pins(site)).unwrap().unwrap().counts()
}

/// The VIPs of service `web`, with a port.
fn at(port: u16) -> [SocketAddr; 2] {
    vips(10).map(|vip| SocketAddr::new(vip, port))
}

/// Service `web`, for TCP and UDP, on the first backends.
fn web(backends: usize) -> Service {
    let service = Service::new("web", 10).port("tcp", WEB, WEB).port("udp", DNS, DNS);
    (1..=backends).fold(service, Service::backend)
}
