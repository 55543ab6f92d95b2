//! What another version of netd left: maps beside which new ones are filled and then put in force at once, and a file that
//! this one would refuse.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_bpf::{Datapath, Error};
use netd_integration_tests::bed::index_of;
use netd_integration_tests::restless::{self, Restless};
use netd_integration_tests::{Bed, Lab};
use netd_state::{Digest, LastGood, StateDir};
use std::time::Duration;

/// A bed with traffic whose maps are not as this netd knows them; no daemon runs.
fn with_maps_of_another_version(bed: &Bed, desired: &Restless) {
    bed.write(&desired.text());
    bed.start_ok().kill();
    std::fs::remove_file(bed.bpf_dir().join("g1/limits")).unwrap();
    assert!(matches!(Datapath::open(&bed.bpf_dir()), Err(Error::Incompatible { .. })));
}

#[test]
fn p20_maps_of_another_version_stay_in_force_until_new_ones_have_everything() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = restless::servers(&bed);
    let desired = Restless::new(5);
    with_maps_of_another_version(&bed, &desired);
    let flows = restless::flows(&bed);
    let netd = bed.start_ok();
    assert_eq!(bed.netd(&["plan"]).code, Some(0));
    let datapath = Datapath::open(&bed.bpf_dir()).unwrap().unwrap();
    let links = netd_bpf::links::list(&bed.bpf_dir()).unwrap();
    assert_eq!(
        links.iter().map(|link| link.program_id).collect::<Vec<_>>(),
        [datapath.program_id().unwrap()]
    );
    assert_eq!(links[0].ifindex, bed.lb.run(|| index_of("eth0")));
    netd.stop();
    restless::assert_whole(flows);
    assert!(!bed.bpf_dir().join("g1").exists());
}

#[test]
fn p20_death_during_the_change_of_versions_costs_no_packet() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = restless::servers(&bed);
    let mut desired = Restless::new(6);
    with_maps_of_another_version(&bed, &desired);
    let flows = restless::flows(&bed);
    for pause in (5..120).step_by(5) {
        let netd = bed.spawn();
        std::thread::sleep(Duration::from_millis(pause));
        netd.kill();
    }
    desired.step();
    bed.write(&desired.text());
    bed.start_ok().stop();
    restless::assert_whole(flows);
}

#[test]
fn p20_maps_of_another_version_are_torn_down_all_the_same() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    with_maps_of_another_version(&bed, &Restless::new(7));
    assert_eq!(bed.netd(&["teardown", "--yes", "--state"]).code, Some(0));
    assert!(!bed.lb.ip(&["link", "show", "eth0"]).contains("xdp"));
    assert!(!bed.bpf_dir().join("g1").exists());
}

/// Refused since a VIP needs a backend of its family.
const OUTDATED: &str = "
[[services]]
name = \"outdated\"
vips = [\"192.0.2.200\", \"2001:db8:100::200\"]
ports = [{ protocol = \"udp\", port = 53 }]
backends = [{ address = \"10.1.0.2\" }]
";

#[test]
fn p20_a_file_that_this_version_would_refuse_stays_in_force() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = restless::servers(&bed);
    let desired = Restless::new(8);
    bed.write(&desired.text());
    bed.start_ok().stop();
    // As if the version before had accepted it.
    let text = desired.text() + OUTDATED;
    let state = StateDir::open(&bed.state_dir()).unwrap();
    let last_good = state.last_good().unwrap().unwrap();
    let (sha256, number) = (Digest::of(&text), last_good.number + 1);
    state.set_last_good(&LastGood { text: text.clone(), sha256, number, ..last_good }).unwrap();
    drop(state);
    bed.write(&text);
    bed.remove_pins();
    let _netd = bed.start();
    let report = bed.wait("refused", |report| report["word"] == "config-invalid");
    let warnings = report["config"]["warnings"].to_string();
    assert!(warnings.contains("stays in force, as another version accepted it"), "{warnings}");
    assert_eq!(report["config"]["in_force"]["number"], number);
    for address in restless::steady() {
        assert!(bed.ask_udp(address).is_some(), "{address}");
    }
    let said = bed.netd(&["status"]);
    assert!(said.out.contains("stays in force"), "{said:?}");
    bed.write(&desired.text());
    bed.wait_ok();
}
