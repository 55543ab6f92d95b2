//! The kernel's own devices: read as they were set, changed without touching anything else. Skipped where the kernel has no
//! WireGuard; `make test-6.1` runs these on one that has.
#![allow(clippy::unwrap_used, reason = "tests")]

mod pair;

use ipnetwork::IpNetwork;
use netd_lab::{Lab, Namespace};
use netd_wireguard::{
    Access, Change, Error, Kernel, PeerChange, PeerConfig, PrivateKey, PublicKey, Wanted, changes,
};
use std::collections::BTreeSet;
use std::net::SocketAddr;

const DEVICE: &str = "wg0";

/// A machine with a device that has a key and a port.
fn device() -> Option<(Namespace, PublicKey)> {
    let lab = Lab::new()?;
    let machine = lab.namespace("wg");
    if let Err(Error::Unsupported) = machine.run(|| Kernel::open().map(|_| ())) {
        eprintln!("SKIPPED: this kernel has no WireGuard");
        return None;
    }
    machine.ip(&["link", "add", DEVICE, "type", "wireguard"]);
    let key = PrivateKey::generate();
    let public = key.public();
    let change = Change { private_key: Some(key), port: Some(51_871), mark: Some(0xe00), peers: Vec::new() };
    machine.run(|| Kernel::open().unwrap().change(DEVICE, &change)).unwrap();
    machine.ip(&["link", "set", DEVICE, "up"]);
    Some((machine, public))
}

fn key(number: u16) -> PublicKey {
    let mut bytes = [9; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

fn config(number: u16, prefixes: &[String]) -> PeerConfig {
    let allowed_ips: BTreeSet<IpNetwork> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    let endpoint: SocketAddr = format!("[2001:db8::{number:x}]:51871").parse().unwrap();
    PeerConfig { endpoint: Some(endpoint), allowed_ips, keepalive: 25, preshared_key: None }
}

fn own(number: u16) -> Vec<String> {
    vec![format!("10.{}.{}.0/24", number >> 8, number & 255), format!("fd00:{number:x}::/64")]
}

/// Brings the peers to what is wanted, and says how many changes that took.
fn bring(machine: &Namespace, wanted: &Wanted) -> usize {
    machine.run(|| {
        let mut kernel = Kernel::open().unwrap();
        let peers = changes(&kernel.read(DEVICE).unwrap(), wanted);
        let count = peers.len();
        kernel.change(DEVICE, &Change { peers, ..Change::default() }).unwrap();
        count
    })
}

#[test]
fn a_device_is_read_as_it_was_set() {
    let Some((machine, public)) = device() else { return };
    let read = machine.run(|| Kernel::open().unwrap().read(DEVICE)).unwrap();
    assert_eq!((read.port, read.mark, read.public_key), (51_871, 0xe00, Some(public)));
    assert!(read.peers.is_empty());
    let absent = machine.run(|| Kernel::open().unwrap().read("lo"));
    assert!(matches!(absent, Err(Error::Absent)), "{absent:?}");
}

#[test]
fn w8_w14_a_thousand_peers_are_made_in_pieces_and_only_what_differs_is_sent() {
    let Some((machine, _)) = device() else { return };
    let mut wanted: Wanted =
        (1..=1000).map(|number| (key(number), Some(config(number, &own(number))))).collect();
    assert_eq!(bring(&machine, &wanted), 1000);
    let read = machine.run(|| Kernel::open().unwrap().read(DEVICE)).unwrap();
    assert_eq!(read.peers.len(), 1000);
    let peer = &read.peers[&key(777)];
    let as_set = config(777, &own(777));
    assert_eq!((peer.endpoint, &peer.allowed_ips), (as_set.endpoint, &as_set.allowed_ips));
    assert_eq!(bring(&machine, &wanted), 0);
    wanted.insert(key(5), Some(config(1005, &own(5))));
    assert_eq!(bring(&machine, &wanted), 1);
    wanted.insert(key(5), None);
    assert_eq!(bring(&machine, &wanted), 1);
    let read = machine.run(|| Kernel::open().unwrap().read(DEVICE)).unwrap();
    assert_eq!(read.peers.len(), 999);
}

#[test]
fn w6_an_address_moves_and_one_that_nobody_gets_goes_and_the_others_stay() {
    let Some((machine, _)) = device() else { return };
    let prefixes = |all: &[&str]| all.iter().map(|prefix| (*prefix).to_owned()).collect::<Vec<_>>();
    let set = |one: &[&str], two: &[&str]| {
        let peers = [(key(1), Some(config(1, &prefixes(one)))), (key(2), Some(config(2, &prefixes(two))))];
        bring(&machine, &Wanted::from(peers));
        let read = machine.run(|| Kernel::open().unwrap().read(DEVICE)).unwrap();
        assert_eq!(read.peers.keys().copied().collect::<Vec<_>>(), [key(1), key(2)]);
        for (number, wanted) in [(1, one), (2, two)] {
            let has: Vec<String> =
                read.peers[&key(number)].allowed_ips.iter().map(ToString::to_string).collect();
            assert_eq!(has, wanted, "peer {number}");
        }
    };
    set(&["10.1.0.0/24", "10.9.0.0/24", "fd00:1::/64"], &["10.2.0.0/24"]);
    set(&["10.1.0.0/24", "fd00:1::/64"], &["10.2.0.0/24", "10.9.0.0/24"]);
    set(&["10.1.0.0/24"], &["10.2.0.0/24"]);
}

#[test]
fn w9_a_port_that_is_taken_is_said_and_the_old_one_stays() {
    let Some((machine, _)) = device() else { return };
    let said = machine.run(|| {
        let _taken = std::net::UdpSocket::bind("0.0.0.0:40000").unwrap();
        Kernel::open().unwrap().change(DEVICE, &Change { port: Some(40_000), ..Change::default() })
    });
    assert!(matches!(said, Err(Error::PortInUse(40_000))), "{said:?}");
    let read = machine.run(|| Kernel::open().unwrap().read(DEVICE)).unwrap();
    assert_eq!(read.port, 51_871);
}

#[test]
fn a_peer_that_is_not_there_is_not_made_by_a_change_of_it() {
    let Some((machine, _)) = device() else { return };
    let settings = netd_wireguard::Settings {
        keepalive: Some(1),
        ..netd_wireguard::Settings::of(netd_wireguard::Presence::Existing)
    };
    let peers = vec![PeerChange::Set(key(1), settings), PeerChange::Remove(key(2))];
    machine.run(|| Kernel::open().unwrap().change(DEVICE, &Change { peers, ..Change::default() })).unwrap();
    let read = machine.run(|| Kernel::open().unwrap().read(DEVICE)).unwrap();
    assert!(read.peers.is_empty());
}
