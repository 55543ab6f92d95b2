//! Every tunnel that balancers make is opened.

use crate::{Backends, DNS, WEB, at, counts, pins, section, web};
use netd_integration_tests::desired::{file, file_with};
use netd_integration_tests::echo::{Flow, exchange};
use netd_integration_tests::{Lab, bed};
use std::collections::BTreeSet;

#[test]
fn tcp_and_udp_come_out_of_tunnels_of_every_kind() {
    let Some(lab) = Lab::new() else { return };
    let backends = Backends::new(&lab, 2);
    let _netds = backends.start(&section(""));
    let bed = &backends.bed;
    bed.write(&file(&[web(2)]));
    let _balancer = bed.start_ok();
    for keys in [
        "",
        "backend_family = \"ipv4\"",
        "backend_family = \"ipv6\"",
        "mode = \"dsr-gue\"",
        "mode = \"dsr-gue\"\nbackend_family = \"ipv6\"",
    ] {
        bed.write(&file(&[web(2).with(keys)]));
        bed.wait_ok();
        for to in at(WEB) {
            let answered: BTreeSet<u8> = (0..20).map(|_| bed.ask_tcp(to)).collect();
            assert_eq!(answered, [1, 2].into(), "{keys}, {to}");
            exchange(&bed.connect(to).unwrap().0, 1 << 20).unwrap();
        }
        for to in at(DNS) {
            assert!(bed.ask_udp(to).is_some(), "{keys}, {to}");
            // In fragments on both ways, each in a tunnel of its own on the first.
            let socket = bed.client_udp(0, to);
            socket.send(&[0x5a; 4000]).unwrap();
            assert_eq!(socket.recv(&mut [0; 8000]).unwrap(), 4001, "{keys}, {to}");
        }
    }
    let counts = counts(&backends.sites[0]);
    assert!(counts.packets > 1000 && counts.bytes > 1 << 20, "{counts:?}");
    assert_eq!((counts.strangers, counts.malformed, counts.congested), (0, 0, 0));
}

#[test]
fn the_gue_port_is_that_of_both_files() {
    let Some(lab) = Lab::new() else { return };
    let backends = Backends::new(&lab, 1);
    let _netds = backends.start(&section("gue_port = 7777"));
    let bed = &backends.bed;
    let settings = |port| format!("devices = [\"eth0\"]\ngue_port = {port}");
    let gue = || [web(1).with("mode = \"dsr-gue\"")];
    bed.write(&file_with(&settings(7777), &gue()));
    let _balancer = bed.start_ok();
    backends.assert_answers();
    bed.write(&file_with(&settings(6081), &gue()));
    bed.wait_ok();
    backends.assert_silent();
    backends.sites[0].write(&section("gue_port = 6081"));
    backends.sites[0].wait_ok();
    backends.assert_answers();
}

/// The whole file, with the services in it, on every node.
#[test]
fn the_vips_of_the_files_services_need_not_be_said_again() {
    let Some(lab) = Lab::new() else { return };
    let backends = Backends::new(&lab, 1);
    let bed = &backends.bed;
    let from = format!("from = [\"{}/32\", \"{}/128\"]", bed::TUNNEL_V4, bed::TUNNEL_V6);
    let whole = file_with("", &[web(1)]) + &format!("\n[decap]\ndevices = [\"eth0\"]\n{from}\n");
    // The default route of the backend leaves by the device that decapsulates, so that nothing balances there.
    let _netds = backends.start(&whole);
    let report = backends.sites[0].status();
    assert_eq!(report["kinds"]["decap"]["ready"], 1, "{report:#}");
    assert_eq!(report["kinds"]["attachment"]["desired"], 0, "{report:#}");
    bed.write(&file(&[web(1)]));
    let _balancer = bed.start_ok();
    backends.assert_answers();
}

#[test]
fn packets_are_not_lost_while_rules_change() {
    let Some(lab) = Lab::new() else { return };
    let backends = Backends::new(&lab, 1);
    let _netds = backends.start(&section(""));
    let bed = &backends.bed;
    bed.write(&file(&[web(1)]));
    let _balancer = bed.start_ok();
    let flows = at(DNS).map(|to| Flow::start(bed, to));
    let site = &backends.sites[0];
    let wider = section("").replace("from = [", "from = [\"10.66.0.0/16\", ");
    for text in [wider.clone(), section("gue_port = 7777"), wider, section("")] {
        site.write(&text);
        site.wait_ok();
    }
    // An address that comes and goes is a rule, too.
    let machine = &bed.backends[0];
    machine.ip(&["addr", "add", "10.0.0.77/32", "dev", "eth0"]);
    site.wait("known", |_| site.netd(&["plan"]).code == Some(0));
    machine.ip(&["addr", "del", "10.0.0.77/32", "dev", "eth0"]);
    site.wait_ok();
    // Another program with other maps takes the link over.
    std::fs::remove_dir_all(pins(site).join("g1")).unwrap();
    site.apply();
    for flow in flows {
        flow.end().assert_whole();
    }
}
