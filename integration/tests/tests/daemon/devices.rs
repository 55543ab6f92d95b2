//! Devices that come, go, change, or belong to somebody else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_bpf::links::{self, Mode};
use netd_integration_tests::bed::{index_of, vip_v4, vip_v6, vips};
use netd_integration_tests::desired::{Service, file, file_with};
use netd_integration_tests::echo::{Port, Servers};
use netd_integration_tests::netd::wait_until;
use netd_integration_tests::{Bed, Lab};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// What the node does about a device is done after so long.
const SOON: Duration = Duration::from_secs(15);

fn dns() -> Service {
    Service::new("dns", 10).port("udp", 53, 53).backend(1)
}

fn servers(bed: &Bed) -> Servers {
    Servers::start(bed, &vips(10).map(|vip| Port::Udp(SocketAddr::new(vip, 53))))
}

fn assert_answers(bed: &Bed) {
    for vip in vips(10) {
        assert_eq!(bed.ask_udp(SocketAddr::new(vip, 53)), Some(1), "{vip}");
    }
}

/// The index of the device on which netd's link of this name is; 0 if it is on none.
fn attached(bed: &Bed, device: &str) -> u32 {
    let links = links::list(&bed.bpf_dir()).unwrap();
    links.iter().find(|link| link.device == device).map_or(0, |link| link.ifindex)
}

fn index(bed: &Bed, device: &str) -> u32 {
    bed.lb.run(|| index_of(device))
}

/// What the report says of an attachment that is not ready, with its phase before it.
fn word_on(report: &Value, device: &str) -> String {
    let all = report["not_ready"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|one| one["kind"] == "attachment" && one["key"] == device);
    found.map_or(String::new(), |one| format!("{} {}", one["phase"], one["message"]))
}

#[test]
fn k5_a_device_that_is_missing_is_waited_for_and_the_others_work() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed);
    bed.write(&file_with("devices = [\"eth0\", \"eth7\"]", &[dns()]));
    let _netd = bed.start();
    let report = bed.wait("pending", |report| report["word"] == "pending");
    assert!(word_on(&report, "eth7").contains("no device eth7"), "{report:#}");
    assert_answers(&bed);
    bed.lb.ip(&["link", "add", "eth7", "type", "veth", "peer", "name", "eth8"]);
    wait_until("attached", SOON, || attached(&bed, "eth7") == index(&bed, "eth7"));
    bed.wait_ok();
}

#[test]
fn k6_k7_a_device_that_returns_under_another_index_is_attached_within_a_second() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed);
    bed.write(&file(&[dns()]));
    let _netd = bed.start_ok();
    let before = index(&bed, "eth0");
    for _ in 0..3 {
        bed.lb.ip(&["link", "del", "eth0"]);
        bed.wait("pending", |report| word_on(report, "eth0").contains("no device eth0"));
        bed.connect_client(None);
        wait_until("attached", SOON, || attached(&bed, "eth0") == index(&bed, "eth0"));
        assert_ne!(index(&bed, "eth0"), before);
        bed.wait_ok();
        assert_answers(&bed);
    }
}

#[test]
fn k8_an_index_that_another_device_got_is_not_taken_for_the_old_one() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed);
    bed.lb.ip(&["link", "del", "eth0"]);
    bed.connect_client(Some(500));
    bed.write(&file(&[dns()]));
    let _netd = bed.start_ok();
    assert_eq!(attached(&bed, "eth0"), 500);
    // At once, so that netd sees both only together.
    let batch = "link del eth0\nlink add other index 500 type veth peer name another\nlink set other up\n";
    let script = bed.folder().join("batch");
    std::fs::write(&script, batch).unwrap();
    bed.lb.ip(&["-batch", &script.display().to_string()]);
    bed.wait("pending", |report| word_on(report, "eth0").contains("no device eth0"));
    assert!(!bed.lb.ip(&["link", "show", "other"]).contains("xdp"));
    bed.connect_client(None);
    bed.wait_ok();
    assert!(!bed.lb.ip(&["link", "show", "other"]).contains("xdp"));
    assert_answers(&bed);
}

#[test]
fn k8_no_packet_is_sent_by_a_device_that_got_the_index_of_the_way_to_a_backend() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let _servers = servers(&bed);
    bed.write(&file(&[dns().backend(2)]));
    let _netd = bed.start_ok();
    let old = index(&bed, "b1");
    let lines =
        |bed: &Bed| bed.frontends().iter().filter(|line| line.contains(&format!(" dev {old} "))).count();
    assert_eq!(lines(&bed), 2);
    let batch =
        format!("link del b1\nlink add other index {old} type veth peer name another\nlink set other up\n");
    let script = bed.folder().join("batch");
    std::fs::write(&script, batch).unwrap();
    bed.lb.ip(&["-batch", &script.display().to_string()]);
    wait_until("no line names the old index", SOON, || lines(&bed) == 0);
    for _ in 0..20 {
        assert_eq!(bed.ask_udp(SocketAddr::new(vip_v4(10), 53)), Some(2));
        assert_eq!(bed.ask_udp(SocketAddr::new(vip_v6(10), 53)), Some(2));
    }
}

#[test]
fn k23_a_link_that_somebody_detached_is_attached_again() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed);
    bed.write(&file(&[dns()]));
    let _netd = bed.start_ok();
    links::detach(&bed.bpf_dir(), "eth0").unwrap();
    assert!(!bed.lb.ip(&["link", "show", "eth0"]).contains("xdp"));
    wait_until("attached", SOON, || attached(&bed, "eth0") != 0);
    let report = bed.wait_ok();
    assert!(report["drift"]["resources"].as_u64() > Some(0), "{report:#}");
    assert_answers(&bed);
}

#[test]
fn k24_anothers_program_is_left_alone_and_reported() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed);
    let anothers = bed.lb.run(|| links::attach_pass(index_of("eth0"))).unwrap();
    let before = bed.lb.ip(&["link", "show", "eth0"]);
    bed.write(&file(&[dns()]));
    let _netd = bed.start();
    let report = bed.wait("degraded", |report| report["word"] == "degraded");
    let word = word_on(&report, "eth0");
    assert!(word.contains("conflict") && word.contains("another XDP program (id "), "{word}");
    assert_eq!(bed.lb.ip(&["link", "show", "eth0"]), before);
    drop(anothers);
    bed.apply_once_free();
    assert_answers(&bed);
}

#[test]
fn k26_anothers_generic_program_is_a_conflict_too() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _anothers = bed.lb.run(|| links::attach_decap(index_of("eth0"), Mode::Generic)).unwrap();
    bed.write(&file(&[dns()]));
    let _netd = bed.start();
    let report = bed.wait("degraded", |report| report["word"] == "degraded");
    assert!(word_on(&report, "eth0").contains("conflict"), "{report:#}");
    assert!(bed.lb.ip(&["link", "show", "eth0"]).contains("xdpgeneric"));
}

#[test]
fn k25_without_native_mode_generic_is_taken_only_if_the_file_allows() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed);
    bed.lb.ip(&["link", "add", "br0", "type", "bridge"]);
    bed.write(&file_with("devices = [\"br0\"]\nmode = \"native\"", &[dns()]));
    let _netd = bed.start();
    let report = bed.wait("degraded", |report| report["word"] == "degraded");
    let word = word_on(&report, "br0");
    assert!(word.contains("failed") && word.to_lowercase().contains("native mode"), "{word}");
    assert_eq!(attached(&bed, "br0"), 0);
    bed.write(&file_with("devices = [\"br0\"]", &[dns()]));
    let report = bed.wait_ok();
    assert!(report["notes"].to_string().contains("generic mode"), "{report:#}");
    assert!(bed.lb.ip(&["link", "show", "br0"]).contains("xdpgeneric"));
    // Clients behind the bridge are served by the program on it.
    bed.lb.ip(&["link", "set", "br0", "up"]);
    bed.lb.ip(&["link", "set", "eth0", "master", "br0"]);
    bed.lb.ip(&["addr", "del", "10.1.2.1/24", "dev", "eth0"]);
    bed.lb.ip(&["addr", "del", "2001:db8::ff/64", "dev", "eth0"]);
    bed.lb.ip(&["addr", "add", "10.1.2.1/24", "dev", "br0"]);
    bed.lb.ip(&["addr", "add", "2001:db8::ff/64", "dev", "br0", "nodad"]);
    bed.wait_ok();
    assert_answers(&bed);
}

/// A veth whose other end has no program takes nothing from a program, and no counter says so.
#[test]
fn k25_a_device_that_takes_no_redirected_packets_is_named() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.lb.ip(&["link", "add", "c1", "type", "veth", "peer", "name", "c2"]);
    for device in ["c1", "c2"] {
        bed.lb.ip(&["link", "set", device, "up"]);
    }
    bed.write(&file(&[dns()]));
    let notes = || bed.status()["notes"].to_string();
    assert!(!notes().contains("redirects"), "{}", notes());
    bed.lb.ip(&["route", "replace", "10.0.0.1", "dev", "c1", "src", "10.0.0.254"]);
    let said = notes();
    assert!(said.contains("c1 does not take packets that a program redirects to it from eth0"), "{said}");
    assert!(said.contains("the other end of this veth has neither an XDP program nor GRO"), "{said}");
    let output = bed.lb.command("ethtool").args(["-K", "c2", "gro", "on"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!notes().contains("redirects"), "{}", notes());
}

#[test]
fn k27_an_mtu_that_is_too_large_for_the_driver_is_named_or_falls_back() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed);
    // A program of the client's own would bound the MTU of its link.
    bed.detach_client();
    for machine in [&bed.lb, &bed.client] {
        machine.ip(&["link", "set", "eth0", "mtu", "9000"]);
    }
    bed.write(&file_with("devices = [\"eth0\"]\nmode = \"native\"", &[dns()]));
    let _netd = bed.start();
    let report = bed.wait("degraded", |report| report["word"] == "degraded");
    let word = word_on(&report, "eth0");
    assert!(word.contains("MTU") && word.contains("3498"), "{word}");
    bed.write(&file(&[dns()]));
    let report = bed.wait_ok();
    assert!(report["notes"].to_string().contains("generic mode"), "{report:#}");
    assert_answers(&bed);
    for machine in [&bed.lb, &bed.client] {
        machine.ip(&["link", "set", "eth0", "mtu", "1500"]);
    }
    bed.write(&file_with("devices = [\"eth0\"]\nmode = \"native\"", &[dns()]));
    bed.wait_ok();
    assert!(!bed.lb.ip(&["link", "show", "eth0"]).contains("xdpgeneric"));
    assert_answers(&bed);
}
