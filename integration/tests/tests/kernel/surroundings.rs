//! What others do around netd: they rename and move devices, flush filters, flip settings of the kernel, and delete the
//! namespace's name.

use netd_integration_tests::bed::vips;
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::echo::{Port, Servers};
use netd_integration_tests::netd::wait_until;
use netd_integration_tests::{Bed, Lab};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn dns() -> Service {
    Service::new("dns", 10).port("udp", 53, 53).backend(1).backend(2)
}

fn servers(bed: &Bed) -> Servers {
    Servers::start(bed, &vips(10).map(|vip| Port::Udp(SocketAddr::new(vip, 53))))
}

fn assert_answers(bed: &Bed) {
    for vip in vips(10) {
        assert!(bed.ask_udp(SocketAddr::new(vip, 53)).is_some(), "{vip}");
    }
}

fn has_program(bed: &Bed, device: &str) -> bool {
    bed.lb.ip(&["link", "show", device]).contains("xdp")
}

/// What the report says of eth0, with its phase before it.
fn word_on_eth0(report: &Value) -> String {
    let all = report["not_ready"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|one| one["kind"] == "attachment" && one["key"] == "eth0");
    found.map_or(String::new(), |one| format!("{} {}", one["phase"], one["message"]))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

#[test]
fn k9_a_listed_device_that_was_renamed_is_missed_and_goes_on_until_it_has_its_name_again() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let _servers = servers(&bed);
    bed.write(&file(&[dns()]));
    let _netd = bed.start_ok();
    let rename = |from: &str, to: &str| {
        let batch = bed.folder().join("batch");
        let text = format!("link set {from} down\nlink set {from} name {to}\nlink set {to} up\n");
        std::fs::write(&batch, text).unwrap();
        bed.lb.ip(&["-batch", &batch.display().to_string()]);
    };
    rename("eth0", "eth9");
    bed.wait("pending", |report| word_on_eth0(report).contains("there is no device eth0"));
    assert!(has_program(&bed, "eth9"), "no traffic is lost by a name");
    rename("eth9", "eth0");
    bed.wait_ok();
    assert!(has_program(&bed, "eth0"));
    // IPv6 addresses and routes went with the device.
    assert!(bed.ask_udp(SocketAddr::new(vips(10)[0], 53)).is_some());
}

#[test]
fn k9_a_device_that_was_moved_to_another_namespace_is_missed_and_taken_back() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let _servers = servers(&bed);
    let elsewhere = lab.namespace("elsewhere");
    bed.write(&file(&[dns()]));
    let _netd = bed.start_ok();
    bed.lb.ip(&["link", "set", "eth0", "netns", elsewhere.name()]);
    bed.wait("pending", |report| word_on_eth0(report).contains("there is no device eth0"));
    wait_until("off the device that left", PATIENCE, || {
        !elsewhere.ip(&["link", "show", "eth0"]).contains("xdp")
    });
    elsewhere.ip(&["link", "set", "eth0", "netns", bed.lb.name()]);
    bed.lb.ip(&["link", "set", "eth0", "up"]);
    bed.wait_ok();
    assert!(has_program(&bed, "eth0"));
}

/// What is said of a resource of this kind that is as the file says.
fn notes(report: &Value, kind: &str) -> String {
    let all = report["notes"].as_array().cloned().unwrap_or_default();
    all.iter().filter(|note| note["kind"] == kind).map(Value::to_string).collect()
}

#[test]
fn k29_forwarding_and_reverse_path_filters_that_somebody_flips_are_told_of() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let other = "\n[network]\nmode = \"vxlan\"\n\n[[nodes]]\nname = \"lb\"\naddresses = [\"10.0.0.254\"]\n\
                 \n[[nodes]]\nname = \"other\"\naddresses = [\"10.0.0.1\"]\npod_cidrs = [\"10.244.1.0/24\"]\n\
                 \n[decap]\ndevices = [\"b1\"]\nfrom = [\"10.0.0.0/24\"]\n";
    let text = file(&[dns()]) + other;
    bed.write(&text);
    let _netd = bed.start_ok();
    let frontends = bed.frontends();
    for (name, usual, flipped, kind, words) in [
        ("net/ipv4/ip_forward", "1", "0", "link", "does not forward IPv4 packets"),
        ("net/ipv4/conf/b1/rp_filter", "0", "1", "decap", "strict reverse path filtering"),
    ] {
        for value in [usual, flipped, usual] {
            bed.lb.sysctl(name, value);
            // Nothing tells of it: without this, it is seen when everything is looked at again, twice a minute.
            bed.write(&format!("{text}# {name} {value}\n"));
            let is_told = |report: &Value| notes(report, kind).contains(words);
            let report = bed.wait_at_most(PATIENCE, name, |report| is_told(report) == (value == flipped));
            assert_eq!(report["word"], "ok", "{report:#}");
        }
    }
    assert_eq!(bed.frontends(), frontends);
}

#[test]
fn k30_flushed_filters_and_queues_do_not_matter() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let _servers = servers(&bed);
    let checked =
        dns().with("health_check = { kind = \"icmp\", interval = \"200ms\", timeout = \"150ms\", fall = 2 }");
    bed.write(&file(&[checked]));
    let _netd = bed.start_ok();
    assert_answers(&bed);
    run(bed.lb.command("nft").args(["add", "table", "inet", "others"]));
    run(bed.lb.command("nft").args(["flush", "ruleset"]));
    for device in ["eth0", "b1", "b2"] {
        for change in ["add", "del"] {
            run(bed.lb.command("tc").args(["qdisc", change, "dev", device, "clsact"]));
        }
        run(bed.lb.command("tc").args(["qdisc", "replace", "dev", device, "root", "pfifo"]));
    }
    // Several intervals of the checks: probes, which a program puts into the tunnel on the way out, still arrive.
    for _ in 0..10 {
        assert_answers(&bed);
        std::thread::sleep(Duration::from_millis(100));
    }
    bed.wait_ok();
    let backends = bed.netd(&["backends", "--json"]).json();
    assert!(backends.as_array().unwrap().iter().all(|one| one["state"] == "active"), "{backends:#}");
}

#[test]
fn k32_a_namespace_whose_name_is_deleted_goes_on_until_netd_leaves_it() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let _servers = servers(&bed);
    bed.write(&file(&[dns()]));
    let netd = bed.start_ok();
    let before = bed.frontends();
    run(Command::new("ip").args(["netns", "del", bed.lb.name()]));
    assert_answers(&bed);
    bed.write(&file(&[dns().backend_with(3, "weight = 7")]));
    wait_until("in force", PATIENCE, || bed.frontends() != before);
    assert_answers(&bed);
    netd.stop();
}
