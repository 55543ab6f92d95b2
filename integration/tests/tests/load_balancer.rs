//! The load balancer as its clients and backends see it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_integration_tests::bed::{vip_v4, vips};
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::echo::{Port, Servers};
use netd_integration_tests::{Bed, Lab};
use std::net::SocketAddr;

#[test]
fn tcp_and_udp_reach_backends_over_both_families() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let inner = |port| vips(10).map(|vip| SocketAddr::new(vip, port));
    let ports: Vec<Port> = inner(80).map(Port::Tcp).into_iter().chain(inner(53).map(Port::Udp)).collect();
    let _servers = Servers::start(&bed, &ports);
    let service = Service::new("web", 10).port("tcp", 80, 80).port("udp", 53, 53).backend(1).backend(2);
    bed.write(&file(&[service]));
    let _netd = bed.start_ok();
    for vip in vips(10) {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..30 {
            seen.insert(bed.ask_tcp(SocketAddr::new(vip, 80)));
            seen.insert(bed.ask_udp(SocketAddr::new(vip, 53)).unwrap() + 10);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 11, 12], "{vip}");
    }
    assert!(bed.connect(SocketAddr::new(vip_v4(11), 80)).is_err());
}
