//! netd where its mounts are its own, as behind `ip netns exec`: what is pinned there ends with it.

use netd_integration_tests::netd::{Said, wait_until};
use netd_integration_tests::restless::Restless;
use netd_integration_tests::{Bed, Lab};
use rustix::mount::{UnmountFlags, unmount};
use serde_json::Value;
use std::fs::File;
use std::time::Duration;

/// The kernel lets go of a program a moment after its last reference.
const LETTING_GO_MAX: Duration = Duration::from_secs(10);

/// What every word about it names.
const INSTEAD: &str = "nsenter --net=/run/netns/NAME netd run";

fn bed(lab: &Lab) -> Bed {
    let bed = Bed::new(lab, 3);
    bed.write(&Restless::new(5).text());
    bed
}

/// A file for the log.
fn log(bed: &Bed) -> (File, std::path::PathBuf) {
    let path = bed.folder().join("own-mounts.log");
    (File::create(&path).unwrap(), path)
}

#[test]
fn pins_that_end_with_netd_are_warned_of_and_told_in_the_status() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab);
    // Nothing is there that a mount namespace of its own could see.
    unmount(bed.bpf_mount(), UnmountFlags::DETACH).unwrap();
    let (file, path) = log(&bed);
    let netd = bed.spawn_under(&["ip", "netns", "exec", bed.lb.name()], file);
    let report = bed.wait_ok();
    let why = report["datapath_not_durable"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains(INSTEAD) && why.contains("traffic stops"), "{report}");
    let text = bed.netd(&["status"]).out;
    assert!(text.contains(&format!("The datapath is not durable: {why}\n")), "{text}");
    let log = std::fs::read_to_string(path).unwrap();
    let warned = |line: &str| line.contains("WARN") && line.contains(INSTEAD);
    assert!(log.lines().any(warned), "{log}");
    // Which is true: the reason for the words.
    assert!(bed.lb.ip(&["link", "show", "eth0"]).contains("xdp"));
    netd.kill();
    wait_until("without a program", LETTING_GO_MAX, || !bed.lb.ip(&["link", "show", "eth0"]).contains("xdp"));
}

#[test]
fn pins_that_outlive_netd_are_not_spoken_of_whatever_its_mounts_are() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab);
    let (file, path) = log(&bed);
    let netd = bed.spawn_under(&["ip", "netns", "exec", bed.lb.name()], file);
    let report = bed.wait_ok();
    assert_eq!(report.get("datapath_not_durable"), None, "{report}");
    assert!(!std::fs::read_to_string(path).unwrap().contains(INSTEAD));
    netd.kill();
    let again = bed.start();
    assert_eq!(bed.wait_ok().get("datapath_not_durable"), None);
    again.stop();
}

#[test]
fn explain_and_maglev_ask_a_daemon_whose_pins_they_do_not_see() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab);
    unmount(bed.bpf_mount(), UnmountFlags::DETACH).unwrap();
    let (file, _) = log(&bed);
    let netd = bed.spawn_under(&["ip", "netns", "exec", bed.lb.name()], file);
    bed.wait_ok();
    // These run with the mounts of the test.
    assert!(
        std::fs::read_dir(bed.bpf_dir()).is_ok_and(|mut pins| pins.next().is_none()),
        "the pins are seen"
    );
    let services = bed.netd(&["services", "--json"]).json();
    let first = &services[0];
    let frontend = first["frontends"][0].as_str().unwrap();
    let (place, protocol) = frontend.split_once('/').unwrap();
    let packet = format!("{protocol} 10.1.2.3:4242 > {place}");
    let explained = bed.netd(&["explain", &packet, "--json"]);
    let answer = explained.json();
    assert_eq!((explained.code, &answer["evidence"]), (Some(0), &Value::from("program")), "{explained:?}");
    assert_eq!(answer["verdict"], "forward", "{answer}");
    let text: Said = bed.netd(&["explain", &packet]);
    assert!(text.out.contains("comes in by eth0") && text.out.contains("forward: to backend"), "{text:?}");
    let refused = bed.netd(&["explain", &packet, "--device", "lo"]);
    assert!(refused.code == Some(1) && refused.err.contains("the program is not on lo"), "{refused:?}");
    let service = first["service"].as_str().unwrap();
    let table = bed.netd(&["maglev", service, place, "--json"]);
    let shown = &table.json()["frontends"][0];
    assert_eq!(
        (&shown["source"], &shown["differences"]),
        (&Value::from("maps"), &serde_json::json!([])),
        "{table:?}"
    );
    netd.stop();
    // Without a daemon they look themselves.
    let said = bed.netd(&["explain", &packet]);
    assert!(said.code == Some(1) && said.err.contains("nothing is loaded"), "{said:?}");
}
