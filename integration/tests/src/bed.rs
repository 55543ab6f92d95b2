//! A load balancer's whole surroundings: a client, the machine that netd runs on, backends that take packets out of the
//! tunnel and answer the client directly.
//!
//! ```text
//!   client                    lb                       backend1..n
//!   eth0 10.1.2.3     ---  eth0 10.1.2.1          +--- eth0 10.0.0.1, fd00::1
//!        2001:db8::1            2001:db8::ff      |
//!                          b1, b2, ...         ---+    all of 192.0.2.0/24 and 2001:db8:100::/64
//!                          10.0.0.254, fd00::fe        are local addresses there
//! ```
//!
//! The client's default route is the lb; the lb forwards what its program lets pass, so also the backends' answers.

#![allow(clippy::panic, reason = "the scaffolding of tests says what went wrong and stops")]
#![allow(clippy::unwrap_used, reason = "the scaffolding of tests says what went wrong and stops")]

use crate::lab::{Lab, Namespace};
use crate::site::Site;
use netd_bpf::links::{self, OwnedLink};
use rustix::mount::{UnmountFlags, unmount};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once};

/// The client's addresses.
pub const CLIENT_V4: &str = "10.1.2.3";
/// As [`CLIENT_V4`].
pub const CLIENT_V6: &str = "2001:db8::1";
/// The lb's addresses towards the client.
pub const LB_V4: &str = "10.1.2.1";
/// As [`LB_V4`].
pub const LB_V6: &str = "2001:db8::ff";
/// The lb's addresses towards the backends: the outer source.
pub const TUNNEL_V4: &str = "10.0.0.254";
/// As [`TUNNEL_V4`].
pub const TUNNEL_V6: &str = "fd00::fe";

/// Leaves room for an outer IPv6 header around a full packet of the client.
pub(crate) const TUNNEL_MTU: &str = "1600";

/// What the client's link takes.
const CLIENT_MTU: &str = "1500";

/// Folders of beds begin with this, then the process identifier.
pub(crate) const PREFIX: &str = "netdbed";

static NEXT: AtomicU32 = AtomicU32::new(0);
static SWEEP: Once = Once::new();

/// What a backend does with what comes in by its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Takes packets out of the tunnel.
    Decapsulate,
    /// Leaves them as they are, for a look at them from outside.
    Leave,
    /// Nothing is there but the VIPs of number 10 as addresses, and the sources of packets are looked at strictly: netd
    /// has to do the rest.
    Bare,
}

/// The machines, and a place for one instance of netd on the lb, with a bpf file system of its own. A bed is also that
/// place.
pub struct Bed {
    /// Sends to VIPs.
    pub client: Namespace,
    /// Where netd runs.
    pub lb: Namespace,
    /// `backends[0]` is backend 1.
    pub backends: Vec<Namespace>,
    site: Site,
    _links: Vec<OwnedLink>,
    client_link: Mutex<Option<OwnedLink>>,
}

impl Bed {
    /// Machines with this many backends, all of which decapsulate.
    #[must_use]
    pub fn new(lab: &Lab, backends: usize) -> Self {
        Self::with(lab, &vec![Arrival::Decapsulate; backends])
    }

    /// Machines with a backend for each of these.
    #[must_use]
    pub fn with(lab: &Lab, arrivals: &[Arrival]) -> Self {
        SWEEP.call_once(sweep);
        let instance = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("{PREFIX}-{instance}"));
        std::fs::create_dir(&folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
        let lb = lab.namespace("lb");
        let bpf = (folder.join("bpf"), "netd");
        let mut bed = Self {
            client: lab.namespace("client"),
            site: Site::new(&lb, "lb", instance, folder, bpf),
            lb,
            backends: Vec::new(),
            _links: Vec::new(),
            client_link: Mutex::default(),
        };
        netd_bpf::mount_bpffs_if_missing(&bed.bpf_mount()).unwrap();
        bed.wire_client();
        for &arrival in arrivals {
            bed.add_backend(lab, arrival);
        }
        bed
    }

    /// Takes away the program on the client's device, which bounds its MTU. Without it the client hears nothing that
    /// the balancer's program sends back in native mode.
    pub fn detach_client(&self) {
        *self.client_link.lock().unwrap() = None;
    }

    fn wire_client(&self) {
        for machine in [&self.client, &self.lb] {
            settle(machine);
        }
        self.lb.sysctl("net/ipv4/ip_forward", "1");
        self.lb.sysctl("net/ipv6/conf/all/forwarding", "1");
        self.lb.ip(&["addr", "add", &format!("{TUNNEL_V4}/32"), "dev", "lo"]);
        self.connect_client(None);
    }

    /// Makes the link between the client and the lb's eth0; again, after a test has deleted it. With an index for the
    /// lb's end, or the next that is free.
    pub fn connect_client(&self, index: Option<u32>) {
        let index = index.map(|index| index.to_string());
        let mut words = vec!["link", "add", "eth0"];
        words.extend(index.iter().flat_map(|index| ["index", index.as_str()]));
        words.extend(["type", "veth", "peer", "name", "eth0", "netns", self.client.name()]);
        self.lb.ip(&words);
        no_checksum_offload(&self.client, "eth0");
        for machine in [&self.lb, &self.client] {
            machine.ip(&["link", "set", "eth0", "up"]);
        }
        // An end of a veth without a program does not see what the other end's sends back.
        let link = self.client.run(|| attach(Arrival::Leave));
        *self.client_link.lock().unwrap() = link;
        self.lb.ip(&["addr", "add", &format!("{LB_V4}/24"), "dev", "eth0"]);
        self.lb.ip(&["addr", "add", &format!("{LB_V6}/64"), "dev", "eth0", "nodad"]);
        self.client.ip(&["addr", "add", &format!("{CLIENT_V4}/24"), "dev", "eth0"]);
        self.client.ip(&["addr", "add", &format!("{CLIENT_V6}/64"), "dev", "eth0", "nodad"]);
        self.client.ip(&["route", "add", "default", "via", LB_V4]);
        self.client.ip(&["route", "add", "default", "via", LB_V6]);
    }

    fn add_backend(&mut self, lab: &Lab, arrival: Arrival) {
        let (machine, link) = behind(lab, &self.lb, self.backends.len() + 1, arrival);
        self._links.extend(link);
        self.backends.push(machine);
    }

    /// A place for a netd on a backend; they count from 1.
    #[must_use]
    pub fn on_backend(&self, number: usize) -> Site {
        let name = format!("backend{number}");
        let folder = self.folder().join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        let instance = backend_instance(self.instance(), number);
        Site::new(&self.backends[number - 1], &name, instance, folder, (self.bpf_mount(), &name))
    }
}

/// Makes a backend behind a machine that has [`TUNNEL_V4`] on its loopback; they count from 1.
pub(crate) fn behind(
    lab: &Lab,
    router: &Namespace,
    number: usize,
    arrival: Arrival,
) -> (Namespace, Option<OwnedLink>) {
    let device = device_to(number);
    let machine = lab.namespace(&format!("backend{number}"));
    settle(&machine);
    router.veth(&device, &machine, "eth0");
    router.ip(&["link", "set", &device, "mtu", TUNNEL_MTU]);
    machine.ip(&["link", "set", "eth0", "mtu", TUNNEL_MTU]);
    let link = machine.run(|| attach(arrival));
    let (v4, v6) = (backend_v4(number).to_string(), backend_v6(number).to_string());
    machine.ip(&["addr", "add", &format!("{v4}/32"), "dev", "eth0"]);
    machine.ip(&["addr", "add", &format!("{v6}/128"), "dev", "eth0", "nodad"]);
    // The way to the client is narrower than the tunnel.
    for via in [TUNNEL_V4, TUNNEL_V6] {
        machine.ip(&["route", "add", "default", "via", via, "dev", "eth0", "onlink", "mtu", CLIENT_MTU]);
    }
    if arrival == Arrival::Bare {
        machine.sysctl("net/ipv4/conf/all/rp_filter", "1");
        for vip in vips(10) {
            machine.ip(&["addr", "add", &vip.to_string(), "dev", "lo"]);
        }
    } else {
        machine.sysctl("net/ipv6/ip_nonlocal_bind", "1");
        machine.ip(&["route", "add", "local", "192.0.2.0/24", "dev", "lo"]);
        machine.ip(&["-6", "route", "add", "local", "2001:db8:100::/64", "dev", "lo"]);
    }
    // Solicitations are answered for addresses of the device that they come in by.
    router.ip(&["addr", "add", &format!("{TUNNEL_V6}/128"), "dev", &device, "nodad"]);
    router.ip(&["route", "add", &v4, "dev", &device, "src", TUNNEL_V4]);
    router.ip(&["route", "add", &v6, "dev", &device, "src", TUNNEL_V6]);
    (machine, link)
}

fn backend_instance(instance: &str, number: usize) -> String {
    format!("{instance}-b{number}")
}

impl Deref for Bed {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        remove(self.folder());
        // There is none unless a daemon ran.
        let _ = std::fs::remove_dir_all(self.runtime_dir());
        // One that was killed leaves it.
        let _ = std::fs::remove_file(self.lb.run(netns_lock));
        for (machine, number) in self.backends.iter().zip(1..) {
            let runtime_dir = Path::new("/run/netd").join(backend_instance(self.instance(), number));
            let _ = std::fs::remove_dir_all(runtime_dir);
            let _ = std::fs::remove_file(machine.run(netns_lock));
        }
    }
}

/// By which netd has the network namespace of the calling thread to itself.
#[must_use]
pub fn netns_lock() -> PathBuf {
    let netns = std::fs::metadata("/proc/thread-self/ns/net").unwrap();
    PathBuf::from(format!("/run/netd/netns-{}-{}.lock", netns.dev(), netns.ino()))
}

/// The lb's device towards a backend; they count from 1.
#[must_use]
pub fn device_to(backend: usize) -> String {
    format!("b{backend}")
}

/// A backend's address; they count from 1.
#[must_use]
pub fn backend_v4(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(number).unwrap())
}

/// As [`backend_v4`].
#[must_use]
pub fn backend_v6(number: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::try_from(number).unwrap())
}

/// A VIP that every backend takes as its own.
#[must_use]
pub fn vip_v4(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

/// As [`vip_v4`]; written with the same digits.
#[must_use]
pub fn vip_v6(number: u8) -> IpAddr {
    let digits = u16::from_str_radix(&number.to_string(), 16).unwrap();
    Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, digits).into()
}

/// The VIPs of this number.
#[must_use]
pub fn vips(number: u8) -> [IpAddr; 2] {
    [vip_v4(number), vip_v6(number)]
}

/// The index of a device in the namespace of the calling thread.
#[must_use]
pub fn index_of(device: &str) -> u32 {
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).unwrap();
    rustix::net::netdevice::name_to_index(socket, device)
        .unwrap_or_else(|error| panic!("there is no {device}: {error}"))
}

/// A sender on a veth leaves the checksum to a device, and after a program has sent the frame on, there is none.
pub fn no_checksum_offload(machine: &Namespace, device: &str) {
    let output = machine.command("ethtool").args(["-K", device, "tx", "off"]).output().unwrap();
    assert!(output.status.success(), "ethtool: {}", String::from_utf8_lossy(&output.stderr));
}

/// Addresses are usable at once, and answers may come from addresses that routes lead elsewhere for.
pub(crate) fn settle(machine: &Namespace) {
    for key in ["net/ipv4/conf/all/rp_filter", "net/ipv4/conf/default/rp_filter"] {
        machine.sysctl(key, "0");
    }
    machine.sysctl("net/ipv6/conf/default/accept_dad", "0");
}

fn attach(arrival: Arrival) -> Option<OwnedLink> {
    let index = index_of("eth0");
    let attached = match arrival {
        Arrival::Decapsulate => links::attach_decap(index, links::Mode::Native),
        Arrival::Leave => links::attach_pass(index),
        Arrival::Bare => return None,
    };
    Some(attached.unwrap())
}

pub(crate) fn remove(folder: &Path) {
    // Netd may have mounted one over another, and tests small disks; the last unmount fails when there is none left.
    for place in ["bpf/netd", "bpf", "state/captures", "disk"] {
        while unmount(folder.join(place), UnmountFlags::DETACH).is_ok() {}
    }
    if let Err(error) = std::fs::remove_dir_all(folder) {
        eprintln!("remove {}: {error}", folder.display());
    }
}

/// Removes what killed runs left.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(&format!("{PREFIX}-t"))) else {
            continue;
        };
        let pid = rest.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            remove(&entry.path());
        }
    }
}
