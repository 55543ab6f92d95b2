//! Maps that another version of netd made: new ones are filled beside them, and then put in force at once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_bpf::{Datapath, Error};
use netd_integration_tests::bed::index_of;
use netd_integration_tests::restless::{self, Restless};
use netd_integration_tests::{Bed, Lab};
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
