//! The program comes, stays, is replaced and goes with its section of the file.

use crate::{Backends, DNS, Lab, at, counts, pins, section, web};
use netd_bpf::links;
use netd_integration_tests::bed::{index_of, no_checksum_offload};
use netd_integration_tests::desired::{file, file_with};
use netd_integration_tests::echo::Flow;
use netd_integration_tests::{Arrival, Bed};
use serde_json::Value;

/// What the report says of the decapsulation on a device that is not ready, with its phase before it.
fn word_on(report: &Value, device: &str) -> String {
    let all = report["not_ready"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|one| one["kind"] == "decap" && one["key"] == device);
    found.map_or(String::new(), |one| format!("{} {}", one["phase"], one["message"]))
}

#[test]
fn a_plan_says_what_is_done_and_after_it_there_is_nothing_to_do() {
    let Some(lab) = Lab::new() else { return };
    let backends = Backends::new(&lab, 1);
    let site = &backends.sites[0];
    site.write(&section(""));
    let plan = site.netd(&["plan"]);
    let line = "+ decap eth0  XDP, from 10.0.0.254/32, fd00::fe/128, to 192.0.2.0/24, 2001:db8:100::/64, GUE port 6080";
    assert!(plan.code == Some(2) && plan.out.contains(line), "{plan:?}");
    assert!(!pins(site).exists(), "a plan makes nothing");
    site.apply();
    let plan = site.netd(&["plan"]);
    assert_eq!(plan.code, Some(0), "{plan:?}");
    site.write(&section("gue_port = 7777").replace("192.0.2.0/24", "192.0.2.10/32"));
    let plan = site.netd(&["plan"]);
    for line in ["- to 192.0.2.0/24", "+ to 192.0.2.10/32", "~ GUE port: 6080 → 7777"] {
        assert!(plan.out.contains(line), "{line} in {}", plan.out);
    }
}

#[test]
fn p1_a_kill_leaves_it_working_and_the_next_netd_takes_it_over() {
    let Some(lab) = Lab::new() else { return };
    let backends = Backends::new(&lab, 1);
    let mut netds = backends.start(&section(""));
    let bed = &backends.bed;
    bed.write(&file(&[web(1)]));
    let _balancer = bed.start_ok();
    let site = &backends.sites[0];
    let program = || links::list(&pins(site)).unwrap();
    let before = program();
    assert_eq!((before.len(), before[0].ifindex), (1, backends.index(1)));
    let flows = at(DNS).map(|to| Flow::start(bed, to));
    for _ in 0..3 {
        netds.pop().unwrap().kill();
        backends.assert_answers();
        netds.push(site.start_ok());
        let report = site.status();
        assert_eq!((&report["pass"]["applied"], &report["drift"]["resources"]), (&0.into(), &0.into()));
        assert_eq!(program(), before);
    }
    netds.pop().unwrap().stop();
    backends.assert_answers();
    for flow in flows {
        flow.end().assert_whole();
    }
}

#[test]
fn p19_it_goes_with_its_section_and_with_a_teardown() {
    let Some(lab) = Lab::new() else { return };
    let backends = Backends::new(&lab, 1);
    let netds = backends.start(&section(""));
    let bed = &backends.bed;
    bed.write(&file(&[web(1)]));
    let _balancer = bed.start_ok();
    backends.assert_answers();
    let site = &backends.sites[0];
    site.write("version = 1\nallow_empty = true\n");
    site.wait_ok();
    assert!(!backends.device(1).contains("xdp") && !pins(site).exists());
    backends.assert_silent();
    site.write(&section(""));
    site.wait_ok();
    backends.assert_answers();
    drop(netds);
    let said = site.netd(&["teardown", "--yes", "--state"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!backends.device(1).contains("xdp"));
    assert!(!site.bpf_dir().exists() && !site.state_dir().exists());
    let said = site.netd(&["teardown"]);
    assert!(said.out.contains("There is nothing of netd's on this node."), "{said:?}");
}

#[test]
fn k24_anothers_program_is_left_alone_and_reported() {
    let Some(lab) = Lab::new() else { return };
    let backends = Backends::new(&lab, 1);
    let machine = &backends.bed.backends[0];
    let anothers = machine.run(|| links::attach_pass(index_of("eth0"))).unwrap();
    let before = backends.device(1);
    let site = &backends.sites[0];
    site.write(&section(""));
    let _netd = site.start();
    let report = site.wait("degraded", |report| report["word"] == "degraded");
    let word = word_on(&report, "eth0");
    assert!(word.contains("conflict") && word.contains("another XDP program (id "), "{word}");
    assert_eq!(backends.device(1), before);
    drop(anothers);
    site.apply_once_free();
    assert_ne!(backends.device(1), before);
}

#[test]
fn k23_what_somebody_took_away_is_put_back() {
    let Some(lab) = Lab::new() else { return };
    let backends = Backends::new(&lab, 1);
    let _netds = backends.start(&section(""));
    let site = &backends.sites[0];
    let is_attached = || links::list(&pins(site)).is_ok_and(|links| links.len() == 1);
    links::detach(&pins(site), "eth0").unwrap();
    assert!(!backends.device(1).contains("xdp"));
    let plan = site.netd(&["plan"]);
    assert!(
        plan.code == Some(2) && plan.out.contains("1 to create") || plan.out.contains("1 to update"),
        "{plan:?}"
    );
    site.apply();
    assert!(is_attached() && backends.device(1).contains("xdp"));
    // Its maps: the program is another one then, filled before it is in force.
    std::fs::remove_dir_all(pins(site).join("g1")).unwrap();
    site.apply();
    assert!(is_attached());
    assert_eq!(site.netd(&["plan"]).code, Some(0));
    assert_eq!(counts(site).packets, 0);
    backends.bed.write(&file(&[web(1)]));
    let _balancer = backends.bed.start_ok();
    backends.assert_answers();
}

#[test]
fn k5_k8_devices_come_later_and_again() {
    let Some(lab) = Lab::new() else { return };
    let backends = Backends::new(&lab, 1);
    let (site, machine) = (&backends.sites[0], &backends.bed.backends[0]);
    let both = section("").replace("\"eth0\"", "\"eth0\", \"eth7\"");
    site.write(&both);
    let _netd = site.start();
    let report = site.wait("pending", |report| report["word"] == "pending");
    assert!(word_on(&report, "eth7").contains("there is no device eth7"), "{report:#}");
    assert!(backends.device(1).contains("xdp"));
    for _ in 0..2 {
        machine.ip(&["link", "add", "eth7", "type", "veth", "peer", "name", "eth8"]);
        site.wait_ok();
        assert!(machine.ip(&["link", "show", "eth7"]).contains("xdp"));
        machine.ip(&["link", "del", "eth7"]);
        site.wait("pending", |report| report["word"] == "pending");
    }
}

#[test]
fn k27_where_the_driver_cannot_it_runs_in_the_network_stack_and_says_so() {
    let Some(lab) = Lab::new() else { return };
    let backends = Backends::new(&lab, 1);
    let (bed, machine) = (&backends.bed, &backends.bed.backends[0]);
    for (machine, device) in [(&bed.lb, "b1"), (machine, "eth0")] {
        machine.ip(&["link", "set", device, "mtu", "9000"]);
    }
    // So that the device takes what the balancer's program sends into it.
    let said = machine.command("ethtool").args(["-K", "eth0", "gro", "on"]).status().unwrap();
    assert!(said.success());
    no_checksum_offload(machine, "eth0");
    let _netds = backends.start(&section(""));
    assert!(backends.device(1).contains("xdpgeneric"), "{}", backends.device(1));
    let report = backends.sites[0].status();
    assert!(report["notes"].to_string().contains("generic mode"), "{report:#}");
    bed.write(&file(&[web(1)]));
    let _balancer = bed.start_ok();
    backends.assert_answers();
    bed.write(&file(&[web(1).with("backend_family = \"ipv6\"\nmode = \"dsr-gue\"")]));
    bed.wait_ok();
    backends.assert_answers();
}

/// What balanced on a device makes room for what decapsulates on it, and the other way round.
#[test]
fn a_device_changes_sides_in_one_edit() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::with(&lab, &[Arrival::Leave]);
    let decap = "\n[decap]\ndevices = [\"eth0\"]\nfrom = [\"10.100.0.0/16\"]\n";
    let balancing = file(&[web(1)]);
    let decapsulating = file_with("", &[web(1)]) + decap;
    bed.write(&balancing);
    let _netd = bed.start_ok();
    for _ in 0..3 {
        bed.write(&decapsulating);
        bed.wait_ok();
        assert_eq!(links::list(&pins(&bed)).unwrap().len(), 1);
        assert_eq!(links::list(&bed.bpf_dir()).unwrap(), []);
        bed.write(&balancing);
        bed.wait_ok();
        assert_eq!(links::list(&bed.bpf_dir()).unwrap().len(), 1);
        assert!(!pins(&bed).exists());
    }
    bed.write(&(balancing + decap));
    let said = bed.netd(&["validate"]);
    assert!(said.code != Some(0), "{said:?}");
    let text = said.err + &said.out;
    assert!(text.contains("the device `eth0` cannot both balance and decapsulate"), "{text}");
}
