//! Two load balancers behind a router that reaches VIPs through both of them.
//!
//! ```text
//!   client            router                          lb-1, lb-2
//!   eth0 10.1.2.3 --- c0 10.1.2.1      r1 10.2.1.1 --- eth0 10.2.1.2, fd02:1::2
//!        2001:db8::1     2001:db8::ff  r2 10.2.2.1 --- eth0 10.2.2.2, fd02:2::2
//!                     10.0.0.254       b1 ------------ backend1 10.0.0.1, fd00::1
//!                     fd00::fe         b2 ------------ backend2 10.0.0.2, fd00::2
//! ```
//!
//! Backends answer the client directly. The router spreads flows by addresses and ports.

#![allow(clippy::panic, reason = "the scaffolding of tests says what went wrong and stops")]
#![allow(clippy::unwrap_used, reason = "the scaffolding of tests says what went wrong and stops")]

use crate::bed::{self, CLIENT_V4, CLIENT_V6, LB_V4, LB_V6, TUNNEL_MTU, TUNNEL_V4};
use crate::lab::{Lab, Namespace};
use crate::{Arrival, Site};
use netd_bpf::links::{self, OwnedLink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The machines, and a place for a netd on each of the two.
pub struct Pair {
    /// Sends to VIPs.
    pub client: Namespace,
    /// Between all of them.
    pub router: Namespace,
    /// The load balancers, each with the place of its netd.
    pub balancers: Vec<(Namespace, Site)>,
    /// `backends[0]` is backend 1.
    pub backends: Vec<Namespace>,
    folder: PathBuf,
    _links: Vec<OwnedLink>,
}

impl Pair {
    /// Machines with two backends.
    #[must_use]
    pub fn new(lab: &Lab) -> Self {
        let instance = format!("t{}-p{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("{}-{instance}", bed::PREFIX));
        std::fs::create_dir(&folder).unwrap();
        let bpf = folder.join("bpf");
        netd_bpf::mount_bpffs_if_missing(&bpf).unwrap();
        let (client, router) = (lab.namespace("client"), lab.namespace("router"));
        let mut pair =
            Self { client, router, balancers: Vec::new(), backends: Vec::new(), folder, _links: Vec::new() };
        pair.wire_client();
        for number in 1..=2 {
            pair.add_balancer(lab, &instance, &bpf, number);
            let (machine, link) = bed::behind(lab, &pair.router, number, Arrival::Decapsulate);
            pair._links.extend(link);
            pair.backends.push(machine);
        }
        pair
    }

    /// A folder of its own, removed with the pair.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn wire_client(&self) {
        let Self { client, router, .. } = self;
        for machine in [client, router] {
            bed::settle(machine);
        }
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/fib_multipath_hash_policy", "1"),
            ("net/ipv6/fib_multipath_hash_policy", "1"),
        ] {
            router.sysctl(key, value);
        }
        router.ip(&["addr", "add", &format!("{TUNNEL_V4}/32"), "dev", "lo"]);
        router.veth("c0", client, "eth0");
        bed::no_checksum_offload(client, "eth0");
        router.ip(&["addr", "add", &format!("{LB_V4}/24"), "dev", "c0"]);
        router.ip(&["addr", "add", &format!("{LB_V6}/64"), "dev", "c0", "nodad"]);
        client.ip(&["addr", "add", &format!("{CLIENT_V4}/24"), "dev", "eth0"]);
        client.ip(&["addr", "add", &format!("{CLIENT_V6}/64"), "dev", "eth0", "nodad"]);
        client.ip(&["route", "add", "default", "via", LB_V4]);
        client.ip(&["route", "add", "default", "via", LB_V6]);
    }

    fn add_balancer(&mut self, lab: &Lab, instance: &str, bpf: &Path, number: usize) {
        let name = format!("lb-{number}");
        let machine = lab.namespace(&name);
        bed::settle(&machine);
        let device = format!("r{number}");
        self.router.veth(&device, &machine, "eth0");
        self.router.ip(&["link", "set", &device, "mtu", TUNNEL_MTU]);
        machine.ip(&["link", "set", "eth0", "mtu", TUNNEL_MTU]);
        // An end of a veth without a program does not see what the other end's sends back.
        let index = self.router.run(|| bed::index_of(&device));
        self._links.push(self.router.run(|| links::attach_pass(index)).unwrap());
        let [(router_v4, own_v4), (router_v6, own_v6)] = addresses(number);
        self.router.ip(&["addr", "add", &format!("{router_v4}/24"), "dev", &device]);
        self.router.ip(&["addr", "add", &format!("{router_v6}/64"), "dev", &device, "nodad"]);
        machine.ip(&["addr", "add", &format!("{own_v4}/24"), "dev", "eth0"]);
        machine.ip(&["addr", "add", &format!("{own_v6}/64"), "dev", "eth0", "nodad"]);
        machine.ip(&["route", "add", "default", "via", &router_v4]);
        machine.ip(&["route", "add", "default", "via", &router_v6]);
        let folder = self.folder.join(&name);
        std::fs::create_dir(&folder).unwrap();
        let site = Site::new(&machine, &name, format!("{instance}-{number}"), folder, (bpf.into(), &name));
        self.balancers.push((machine, site));
    }
}

/// The router's address and the balancer's on the link between them, in both families; balancers count from 1.
#[must_use]
pub fn addresses(number: usize) -> [(String, String); 2] {
    [
        (format!("10.2.{number}.1"), format!("10.2.{number}.2")),
        (format!("fd02:{number}::1"), format!("fd02:{number}::2")),
    ]
}

impl Drop for Pair {
    fn drop(&mut self) {
        for (machine, site) in &self.balancers {
            let _ = std::fs::remove_dir_all(site.runtime_dir());
            let _ = std::fs::remove_file(machine.run(bed::netns_lock));
        }
        bed::remove(&self.folder);
    }
}
