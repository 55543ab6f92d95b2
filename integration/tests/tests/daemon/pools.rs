//! Addresses from pools, as clients see them: they are given, and they stay.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_integration_tests::bed::{backend_v4, backend_v6, vips};
use netd_integration_tests::echo::{Flow, Port, Servers};
use netd_integration_tests::{Bed, Lab};
use std::net::SocketAddr;

const WEB: u16 = 80;

/// Where flows of datagrams go.
const ECHO: u16 = 53;

fn at(number: u8) -> [SocketAddr; 2] {
    vips(number).map(|vip| SocketAddr::new(vip, WEB))
}

/// Servers at the VIPs of these numbers.
fn servers(bed: &Bed, numbers: &[u8]) -> Servers {
    let mut ports: Vec<Port> = numbers.iter().flat_map(|number| at(*number)).map(Port::Tcp).collect();
    ports.extend(vips(10).map(|vip| Port::Udp(SocketAddr::new(vip, ECHO))));
    Servers::start(bed, &ports)
}

/// The addresses from one number to another, of both families.
fn ranges(from: u8, to: u8) -> String {
    let [v4, v6] = [0, 1].map(|family| format!("\"{}-{}\"", vips(from)[family], vips(to)[family]));
    format!("{v4}, {v6}")
}

/// A file with one pool, and services that get their addresses from it.
fn file(ranges: &str, services: &[&str]) -> String {
    let (v4, v6) = (backend_v4(1), backend_v6(1));
    let service = |name: &&str| {
        format!(
            "\n# About {name}.\n[[services]]\nname = \"{name}\"\npool = \"public\" # both families\n\
             ports = [{{ protocol = \"tcp\", port = {WEB} }}, {{ protocol = \"udp\", port = {ECHO} }}]\n\
             backends = [{{ address = \"{v4}\" }}, {{ address = \"{v6}\" }}]\n"
        )
    };
    let services: String = services.iter().map(service).collect();
    format!(
        "version = 1\n[load_balancer]\ndevices = [\"eth0\"]\n\n[[ip_pools]]\nname = \"public\"\nranges = [{ranges}]\n{services}"
    )
}

fn assert_served(bed: &Bed, number: u8, when: &str) {
    for to in at(number) {
        assert_eq!(bed.ask_tcp(to), 1, "{to} {when}");
    }
}

#[test]
fn an_address_that_was_given_stays_whatever_becomes_of_pool_process_and_memory() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed, &[10, 11]);
    bed.write(&file(&ranges(10, 20), &["web"]));
    let netd = bed.start_ok();
    assert_served(&bed, 10, "at first");
    let flows = vips(10).map(|vip| Flow::start(&bed, SocketAddr::new(vip, ECHO)));

    // A range that comes first, and a service that is first by its name.
    let edited = file(&format!("{}, {}", ranges(1, 3), ranges(10, 20)), &["web", "a"]);
    bed.write(&edited);
    let report = bed.wait_ok();
    assert_served(&bed, 10, "after the pool was edited");
    let notes = report["notes"].to_string();
    assert!(notes.contains("would give it 192.0.2.2: `netd allocate --write`"), "{notes}");
    netd.kill();

    let netd = bed.start_ok();
    assert_served(&bed, 10, "after a kill");
    netd.kill();
    std::fs::remove_dir_all(bed.state_dir().join("db")).unwrap();
    let netd = bed.start_ok();
    assert_served(&bed, 10, "without the database");
    netd.stop();
    std::fs::remove_dir_all(bed.state_dir()).unwrap();
    let said = bed.netd(&["plan"]);
    assert_eq!(said.code, Some(0), "without any memory the datapath knows: {said:?}");
    let _netd = bed.start_ok();
    assert_served(&bed, 10, "without any memory");
    flows.map(Flow::end).iter().for_each(|tally| tally.assert_whole());
}

#[test]
fn a_renumbering_waits_to_be_allowed_and_clients_notice_nothing_before() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed, &[10, 30]);
    bed.write(&file(&ranges(10, 20), &["web"]));
    let _netd = bed.start_ok();
    let flows = vips(10).map(|vip| Flow::start(&bed, SocketAddr::new(vip, ECHO)));
    bed.write(&file(&ranges(30, 40), &["web"]));
    let report = bed.wait("held back", |report| report["word"] == "held-back");
    let brakes = report["held_back"]["brakes"].to_string();
    assert!(
        brakes.contains("it would RENUMBER web/ipv4 from 192.0.2.10 to 192.0.2.30, and 1 more"),
        "{brakes}"
    );
    let said = bed.netd(&["plan"]);
    let line = "RENUMBER: 192.0.2.10 cannot stay, because it is in no pool that the service may use; 192.0.2.30 takes its place";
    assert!(said.code == Some(2) && said.out.contains(line), "{said:?}");
    let said = bed.netd(&["allocate", "--write"]);
    assert!(said.code == Some(1) && said.err.contains("web cannot keep the address"), "{said:?}");
    assert_eq!(bed.netd(&["apply"]).code, Some(1));
    assert_served(&bed, 10, "while it is held back");
    flows.map(Flow::end).iter().for_each(|tally| tally.assert_whole());
    let plan = report["held_back"]["plan"].as_str().unwrap();
    let said = bed.netd(&["apply", "--allow", plan]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_served(&bed, 30, "once it is allowed");
    assert!(at(10).iter().all(|to| bed.connect(*to).is_err()));
}

#[test]
fn addresses_are_written_into_the_file_and_nothing_changes_by_that() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed, &[10, 11]);
    let before = file(&ranges(10, 11), &["web", "mail", "zoo"]);
    bed.write(&before);
    let _netd = bed.start();
    let report = bed.wait("pending", |report| report["word"] == "pending");
    let waits = report["not_ready"].to_string();
    assert!(waits.contains("pool public is exhausted: 2 of 2 IPv6 addresses are taken"), "{waits}");
    assert_served(&bed, 10, "although another service has no address");
    assert_served(&bed, 11, "although another service has no address");
    let report = bed.netd(&["allocate", "--json"]).json();
    assert_eq!(report["pools"][0]["ipv4"], serde_json::json!({ "total": 2, "used": 2, "free": 0 }));
    assert_eq!(report["services"][0]["service"], "mail");
    let text = bed.netd(&["allocate"]).out;
    for part in ["public  ipv4", "mail      192.0.2.10", "zoo has no ipv4 address: pool public is exhausted"]
    {
        assert!(text.contains(part), "{part} in\n{text}");
    }

    let said = bed.netd(&["allocate", "--write", "--dry-run"]);
    assert!(
        said.code == Some(0) && said.out.contains("+vips = [\"192.0.2.11\", \"2001:db8:100::11\"]"),
        "{said:?}"
    );
    assert_eq!(std::fs::read_to_string(bed.config_file()).unwrap(), before);
    let said = bed.netd(&["allocate", "--write"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let after = std::fs::read_to_string(bed.config_file()).unwrap();
    let line = "pool = \"public\" # both families\nvips = [\"192.0.2.10\", \"2001:db8:100::10\"]\n";
    assert!(after.contains("# About mail.\n") && after.contains(line), "{after}");
    assert_eq!(bed.netd(&["plan"]).code, Some(0), "nothing is left to do");
    let said = bed.netd(&["allocate", "--write"]);
    assert!(said.out.starts_with("The file names every address already"), "{said:?}");
    assert_served(&bed, 10, "after it was written");
}
