//! The way to a backend changes while traffic runs: its address, its next hop, its route.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_integration_tests::bed::{backend_v4, backend_v6, vips};
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::echo::{Port, Servers};
use netd_integration_tests::netd::wait_until;
use netd_integration_tests::{Bed, Lab};
use std::net::SocketAddr;
use std::time::Duration;

/// What the kernel says about a neighbour is in the maps at once, that is, before everything is looked at again after
/// half a minute, also on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn bed(lab: &Lab, backends: usize) -> (Bed, Servers) {
    let bed = Bed::new(lab, backends);
    let servers = Servers::start(&bed, &vips(10).map(|vip| Port::Udp(SocketAddr::new(vip, 53))));
    bed.write(&file(&[Service::new("dns", 10).port("udp", 53, 53).backend(1)]));
    (bed, servers)
}

fn answers(bed: &Bed) -> bool {
    vips(10).iter().all(|vip| bed.ask_udp(SocketAddr::new(*vip, 53)) == Some(1))
}

#[test]
fn k28_traffic_follows_a_backend_whose_mac_changes() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab, 1);
    let _netd = bed.start_ok();
    assert!(answers(&bed));
    // As machines that take over an address do, the backend announces its new one.
    bed.backends[0].sysctl("net/ipv4/conf/eth0/arp_notify", "1");
    bed.backends[0].sysctl("net/ipv6/conf/eth0/ndisc_notify", "1");
    for last in ["01", "02"] {
        bed.backends[0].ip(&["link", "set", "eth0", "address", &format!("02:00:00:00:77:{last}")]);
        let digits = format!("77, {last}]");
        wait_until("in the maps", SOON, || bed.frontends().iter().all(|line| line.contains(&digits)));
        wait_until("answered", SOON, || answers(&bed));
    }
}

#[test]
fn k28_a_next_hop_that_answers_late_is_used_as_soon_as_it_does() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab, 1);
    bed.backends[0].ip(&["link", "set", "eth0", "down"]);
    let _netd = bed.start();
    let report = bed.wait("known", |report| report["kinds"]["service"]["desired"] == 2);
    assert!(report["notes"].to_string().contains("10.0.0.1"), "{report:#}");
    assert!(!answers(&bed));
    bed.backends[0].ip(&["link", "set", "eth0", "up"]);
    bed.backends[0].ip(&["addr", "replace", &format!("{}/128", backend_v6(1)), "dev", "eth0", "nodad"]);
    for family in ["-4", "-6"] {
        let via = if family == "-4" { "10.0.0.254" } else { "fd00::fe" };
        bed.backends[0].ip(&[family, "route", "replace", "default", "via", via, "dev", "eth0", "onlink"]);
        let (to, from) = match family {
            "-4" => (backend_v4(1).to_string(), "10.0.0.254"),
            _ => (backend_v6(1).to_string(), "fd00::fe"),
        };
        bed.lb.ip(&[family, "route", "replace", &to, "dev", "b1", "src", from]);
    }
    // The kernel asks again every five seconds at first.
    wait_until("answered", Duration::from_secs(8), || answers(&bed));
}

/// The first backend is then behind the second one, which forwards what is not for itself.
#[test]
fn a_route_that_changes_from_direct_to_a_gateway_is_followed() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab, 2);
    let netd = bed.start_ok();
    assert!(answers(&bed));
    let direct = bed.frontends();
    for (to, via) in [
        (backend_v4(1).to_string(), backend_v4(2).to_string()),
        (backend_v6(1).to_string(), backend_v6(2).to_string()),
    ] {
        bed.lb.ip(&["route", "replace", &to, "via", &via, "dev", "b2", "onlink"]);
    }
    let index = bed.lb.run(|| netd_integration_tests::bed::index_of("b2"));
    let by_gateway = format!("dev {index} ");
    wait_until("in the maps", SOON, || bed.frontends().iter().all(|line| line.contains(&by_gateway)));
    for (to, from) in [(backend_v4(1).to_string(), "10.0.0.254"), (backend_v6(1).to_string(), "fd00::fe")] {
        bed.lb.ip(&["route", "replace", &to, "dev", "b1", "src", from]);
    }
    wait_until("in the maps", SOON, || bed.frontends() == direct);
    wait_until("answered", SOON, || answers(&bed));
    netd.stop();
}
