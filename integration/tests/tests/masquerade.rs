//! netd with `[masquerade]`: pods reach a server that has no route to them, through edits, kills and a teardown.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_integration_tests::bed::{Bed, backend_v4, backend_v6};
use netd_integration_tests::{Arrival, Lab, Namespace, Site};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Longer than anything takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);
const PORT: u16 = 8080;

/// A pod on a backend's machine, and the lb's as a server.
struct World {
    bed: Bed,
    site: Site,
    pod: Namespace,
}

impl World {
    fn new(lab: &Lab) -> Self {
        let bed = Bed::with(lab, &[Arrival::Bare]);
        let site = bed.on_backend(1);
        let (node, pod) = (&bed.backends[0], lab.namespace("pod"));
        node.veth("lxc1", &pod, "eth0");
        for (machine, device, addresses) in [
            (node, "lxc1", ["10.244.1.1/24", "fd00:244:1::1/64"]),
            (&pod, "eth0", ["10.244.1.2/24", "fd00:244:1::2/64"]),
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
        Self { bed, site, pod }
    }

    /// A connection from the pod to the server, and whence the server sees it come.
    fn connect(&self, listener: &TcpListener) -> Option<(Talk, SocketAddr)> {
        let to = listener.local_addr().unwrap();
        let near = self.pod.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(3))).ok()?;
        let (far, from) = listener.accept().unwrap();
        near.set_read_timeout(Some(PATIENCE)).unwrap();
        Some((Talk { near, far }, from))
    }

    fn listeners(&self) -> [TcpListener; 2] {
        let server = &self.bed.lb;
        let text = server.ip(&["-o", "address", "show", "scope", "global"]);
        let own = |v6: bool| -> IpAddr {
            let addresses = text.split_whitespace().filter_map(|word| word.split('/').next()?.parse().ok());
            let near = |address: &IpAddr| {
                let to = if v6 { IpAddr::from(backend_v6(1)) } else { IpAddr::from(backend_v4(1)) };
                address.is_ipv6() == v6 && begins_alike(*address, to)
            };
            addresses.into_iter().find(near).unwrap()
        };
        [false, true].map(|v6| {
            let at = (own(v6), PORT);
            server.run(|| TcpListener::bind(at)).unwrap()
        })
    }
}

/// Whether two addresses are on the machines' common link.
fn begins_alike(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one.octets()[..3] == other.octets()[..3],
        (IpAddr::V6(one), IpAddr::V6(other)) => one.segments()[..4] == other.segments()[..4],
        _ => false,
    }
}

/// Both ends of a connection.
struct Talk {
    near: TcpStream,
    far: TcpStream,
}

impl Talk {
    fn goes_on(&mut self) {
        for text in [&b"question"[..], b"and another"] {
            self.near.write_all(text).unwrap();
            let mut heard = vec![0; text.len()];
            self.far.read_exact(&mut heard).unwrap();
            self.far.write_all(&heard).unwrap();
            self.near.read_exact(&mut heard).unwrap();
            assert_eq!(heard, text);
        }
    }
}

fn section(more: &str) -> String {
    let source = "source = [\"10.244.1.0/24\", \"fd00:244:1::/64\"]";
    format!("version = 1\n\n[masquerade]\ndevices = [\"eth0\"]\n{source}\n{more}\n")
}

fn node() -> [IpAddr; 2] {
    [backend_v4(1).into(), backend_v6(1).into()]
}

#[test]
fn a_plan_says_what_is_done_and_after_it_there_is_nothing_to_do() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let site = &world.site;
    site.write(&section(""));
    let plan = site.netd(&["plan"]);
    let [v4, v6] = node();
    let line =
        format!("+ masquerade eth0  {v4} and {v6}, ports 1024-32767; from 10.244.1.0/24, fd00:244:1::/64");
    assert!(plan.code == Some(2) && plan.out.contains(&line), "{plan:?}");
    site.apply();
    let plan = site.netd(&["plan"]);
    assert_eq!(plan.code, Some(0), "{plan:?}");
    site.write(&section("ports = \"2000-2999\"\nexclude = [\"10.0.0.0/8\"]\nflows = 4096"));
    let plan = site.netd(&["plan"]);
    for line in ["ports 2000-2999", "+ exclude 10.0.0.0/8", "room for flows: 262144 → 4096"] {
        assert!(plan.out.contains(line), "{line} in {}", plan.out);
    }
    site.apply();
    let plan = site.netd(&["plan"]);
    assert_eq!(plan.code, Some(0), "{plan:?}");
}

#[test]
fn p1_p19_flows_go_on_through_edits_and_kills_and_end_with_the_section() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let site = &world.site;
    site.write(&section(""));
    let mut netd = site.start_ok();
    let listeners = world.listeners();
    let mut talks = Vec::new();
    for (listener, node) in listeners.iter().zip(node()) {
        let (talk, from) = world.connect(listener).unwrap();
        assert_eq!(from.ip(), node);
        assert!((1024..=32_767).contains(&from.port()), "{from}");
        talks.push(talk);
    }
    talks.iter_mut().for_each(Talk::goes_on);
    let status = site.netd(&["status"]);
    assert!(status.out.contains(" of 262144 flows ("), "{status:?}");
    for edit in ["ports = \"40000-41000\"", "flows = 4096", "exclude = [\"198.51.100.0/24\"]"] {
        site.write(&section(edit));
        site.wait_ok();
        talks.iter_mut().for_each(Talk::goes_on);
        netd.kill();
        talks.iter_mut().for_each(Talk::goes_on);
        netd = site.start_ok();
        talks.iter_mut().for_each(Talk::goes_on);
    }
    site.write("version = 1\nallow_empty = true\n");
    site.wait_ok();
    assert!(!site.bpf_dir().join("nat").exists());
    assert!(world.connect(&listeners[0]).is_none(), "a pod without another address is answered");
    drop(netd);
    let said = site.netd(&["teardown", "--yes", "--state"]);
    assert_eq!(said.code, Some(0), "{said:?}");
}
