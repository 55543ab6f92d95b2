#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::health::check::{Pace, Question, Target};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Notes what it is told.
#[derive(Clone, Default)]
struct Fake {
    told: Arc<Mutex<Vec<String>>>,
    refuses: Option<u32>,
}

impl Kernel for Fake {
    fn set(&mut self, path: u16, outer: &Outer) -> Result<(), String> {
        self.told.lock().unwrap().push(format!("set {path} {}", outer.destination));
        Ok(())
    }

    fn remove(&mut self, path: u16) -> Result<(), String> {
        self.told.lock().unwrap().push(format!("remove {path}"));
        Ok(())
    }

    fn catch_on(&mut self, devices: &BTreeMap<u32, String>) -> BTreeMap<u32, String> {
        let names: Vec<&str> = devices.values().map(String::as_str).collect();
        self.told.lock().unwrap().push(format!("on {}", names.join(" ")));
        let refused = self.refuses.filter(|ifindex| devices.contains_key(ifindex));
        refused.map(|ifindex| (ifindex, "no".to_owned())).into_iter().collect()
    }
}

impl Fake {
    fn tunnels(&self) -> Tunnels {
        let fake = self.clone();
        Tunnels::new(move || Ok(Box::new(fake.clone())))
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

fn way(backend: u8, ifindex: u32) -> (Check, Way) {
    let address = IpAddr::from([10, 0, 0, backend]);
    let vip = Some(IpAddr::from([192, 0, 2, 1]));
    let target = Target { backend: address, vip, gue_port: None, port: 80 };
    let pace = Pace { interval: Duration::from_secs(1), timeout: Duration::from_secs(1), rise: 1, fall: 1 };
    let outer = Outer {
        ifindex: 9,
        destination_mac: [0; 6],
        source_mac: [0; 6],
        source: address,
        destination: address,
        gue_port: None,
        hop_limit: 64,
    };
    let way = TunnelWay { device: format!("eth{ifindex}"), ifindex, from: None, outer };
    (Check { target, question: Question::Tcp, pace }, Way::Tunnel(way))
}

fn ways(backends: &[(u8, u32)]) -> BTreeMap<Check, Way> {
    backends.iter().map(|&(backend, ifindex)| way(backend, ifindex)).collect()
}

#[test]
fn each_check_has_a_mark_and_only_what_changed_is_written() {
    let fake = Fake::default();
    let mut tunnels = fake.tunnels();
    let marks = tunnels.arrange(&ways(&[(1, 0), (2, 1)]));
    assert_eq!(marks.into_values().collect::<Vec<_>>(), [Ok(0x4e44_0000), Ok(0x4e44_0001)]);
    assert_eq!(fake.told(), ["on eth0 eth1", "set 0 10.0.0.1", "set 1 10.0.0.2"]);
    let marks = tunnels.arrange(&ways(&[(2, 1), (3, 1)]));
    assert_eq!(marks.into_values().collect::<Vec<_>>(), [Ok(0x4e44_0001), Ok(0x4e44_0002)]);
    assert_eq!(fake.told(), ["on eth1", "remove 0", "set 2 10.0.0.3"]);
}

#[test]
fn without_a_check_through_a_tunnel_the_program_is_not_loaded() {
    let mut tunnels = Tunnels::new(|| Err("it must not be loaded".into()));
    let direct = ways(&[(1, 0)]).into_keys().map(|check| (check, Way::Direct(None))).collect();
    assert!(tunnels.arrange(&direct).is_empty());
}

#[test]
fn why_there_is_no_tunnel_is_said_for_each_check_that_needs_it() {
    let mut tunnels = Tunnels::new(|| Err("no room".into()));
    let marks = tunnels.arrange(&ways(&[(1, 0)]));
    assert_eq!(marks.into_values().collect::<Vec<_>>(), [Err("no room".to_owned())]);
    let fake = Fake { refuses: Some(1), ..Fake::default() };
    let marks = fake.tunnels().arrange(&ways(&[(1, 0), (2, 1)]));
    assert_eq!(marks.into_values().collect::<Vec<_>>(), [Ok(0x4e44_0000), Err("no".to_owned())]);
}

#[test]
fn all_paths_in_use_is_a_reason() {
    let fake = Fake::default();
    let mut tunnels = fake.tunnels();
    tunnels.taken = (0..=u16::MAX).collect();
    let marks = tunnels.arrange(&ways(&[(1, 0)]));
    assert_eq!(marks.into_values().collect::<Vec<_>>(), [Err("all 65,536 paths are in use".to_owned())]);
}
