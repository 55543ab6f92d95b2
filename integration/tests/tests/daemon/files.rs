//! What the running daemon does about files that are gone, broken, or ask for too much.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::{Bed, Lab};
use std::os::unix::fs::symlink;
use std::time::Duration;

fn service(number: u8) -> Service {
    Service::new(&format!("s{number}"), number).port("tcp", 80, 80).backend(1)
}

fn services(count: u8) -> Vec<Service> {
    (10..10 + count).map(service).collect()
}

/// Frontends in the kernel: two for each service, one per family.
fn frontends(bed: &Bed) -> usize {
    bed.frontends().len()
}

#[test]
fn c3_an_emptied_file_changes_nothing_and_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file(&services(2)));
    let _netd = bed.start_ok();
    std::fs::write(bed.config_file(), "").unwrap();
    bed.wait("refused", |report| report["word"] == "config-invalid");
    assert_eq!(frontends(&bed), 4);
    bed.write("version = 1\n");
    bed.wait("held back", |report| report["word"] == "held-back");
    assert_eq!(frontends(&bed), 4);
    bed.write("version = 1\nallow_empty = true\n");
    bed.wait_ok();
    assert_eq!(frontends(&bed), 0);
}

#[test]
fn c4_a_deleted_file_leaves_the_last_good_one_in_force() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file(&services(2)));
    let netd = bed.start_ok();
    std::fs::remove_file(bed.config_file()).unwrap();
    bed.wait("missing", |report| report["word"] == "config-missing");
    assert_eq!(frontends(&bed), 4);
    // Also over a restart, in which the pins are lost as well.
    netd.kill();
    bed.remove_pins();
    let _netd = bed.start();
    bed.wait("missing", |report| report["word"] == "config-missing");
    assert_eq!(frontends(&bed), 4);
    bed.write(&file(&services(3)));
    bed.wait_ok();
    assert_eq!(frontends(&bed), 6);
}

#[test]
fn c8_a_dangling_symlink_is_a_missing_file() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let real = bed.folder().join("real.toml");
    std::fs::write(&real, file(&services(2))).unwrap();
    symlink(&real, bed.config_file()).unwrap();
    let _netd = bed.start_ok();
    std::fs::remove_file(&real).unwrap();
    bed.wait("missing", |report| report["word"] == "config-missing");
    assert_eq!(frontends(&bed), 4);
    std::fs::write(&real, file(&services(1))).unwrap();
    bed.wait_ok();
    assert_eq!(frontends(&bed), 2);
}

#[test]
fn c6_each_swap_of_a_mounted_directory_comes_into_force() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let publish = |count: u8| {
        let folder = bed.folder().join(format!("..{count}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("desired.toml"), file(&services(count))).unwrap();
        let next = bed.folder().join("..data_tmp");
        symlink(&folder, &next).unwrap();
        std::fs::rename(next, bed.folder().join("..data")).unwrap();
    };
    publish(1);
    symlink("..data/desired.toml", bed.config_file()).unwrap();
    let _netd = bed.start_ok();
    for count in 2..8 {
        publish(count);
        bed.wait_ok();
        assert_eq!(frontends(&bed), 2 * usize::from(count));
    }
}

#[test]
fn c28_a_bad_file_at_boot_starts_from_the_last_good_one() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file(&services(2)));
    bed.start_ok().stop();
    bed.remove_pins();
    bed.write(&file(&services(2)).replace("backends", "backend"));
    let _netd = bed.start();
    let report = bed.wait("refused", |report| report["word"] == "config-invalid");
    let diagnostics = report["config"]["diagnostics"].as_str().unwrap();
    assert!(diagnostics.contains("backends") && diagnostics.contains("desired.toml:"), "{diagnostics}");
    assert_eq!(frontends(&bed), 4);
}

#[test]
fn s13_a_file_that_shrank_is_held_back_until_this_plan_is_allowed() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file(&services(10)));
    let netd = bed.start_ok();
    bed.write(&file(&services(4)));
    let report = bed.wait("held back", |report| report["word"] == "held-back");
    assert_eq!(frontends(&bed), 20);
    let stale = report["held_back"]["plan"].as_str().unwrap().to_owned();
    // A restart does not lift it.
    netd.kill();
    let _netd = bed.start();
    bed.wait("held back", |report| report["word"] == "held-back");
    // Nor does the permission for another plan.
    bed.write(&file(&services(3)));
    let report = bed.wait("held back anew", |report| {
        report["held_back"]["plan"].as_str().is_some_and(|plan| plan != stale)
    });
    let said = bed.netd(&["apply", "--allow", &stale]);
    assert_eq!((said.code, frontends(&bed)), (Some(1), 20), "{said:?}");
    let plan = report["held_back"]["plan"].as_str().unwrap();
    assert_eq!(bed.netd(&["apply", "--allow", plan]).code, Some(0));
    assert_eq!(frontends(&bed), 6);
}

#[test]
fn c1_a_file_written_slowly_in_place_is_not_read_half() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file(&services(4)));
    let _netd = bed.start_ok();
    let next = file(&services(9));
    let mut writer = std::fs::File::create(bed.config_file()).unwrap();
    // Each pause is inside a word: should it last so long that the writer seems to have given up, that is refused.
    let words = next.match_indices("backends").map(|(at, _)| at + 4);
    let (mut written, ends): (usize, Vec<usize>) = (0, words.chain([next.len()]).collect());
    for end in ends {
        std::io::Write::write_all(&mut writer, &next.as_bytes()[written..end]).unwrap();
        written = end;
        std::thread::sleep(Duration::from_millis(40));
        assert!(written == next.len() || frontends(&bed) == 8);
    }
    drop(writer);
    bed.wait_ok();
    assert_eq!(frontends(&bed), 18);
}

#[test]
fn a_rollback_puts_an_earlier_file_in_force() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file(&services(1)));
    let _netd = bed.start_ok();
    bed.write(&file(&services(3)));
    bed.wait_ok();
    let history = bed.netd(&["history", "--json"]).json();
    let numbers: Vec<u64> =
        history.as_array().unwrap().iter().map(|entry| entry["number"].as_u64().unwrap()).collect();
    let first = numbers.iter().min().unwrap().to_string();
    let said = bed.netd(&["rollback", &first, "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    bed.wait_ok();
    assert_eq!(frontends(&bed), 2);
    assert_eq!(std::fs::read_to_string(bed.config_file()).unwrap(), file(&services(1)));
}
