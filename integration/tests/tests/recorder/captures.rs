//! Captures of the file: planned, begun, over, rotated, interrupted, and stopped by a disk that is full.

use super::{DNS, bed, captures, fields, wait_for};
use netd_integration_tests::bed::vip_v4;
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::{Bed, Lab};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The bed's service, and a capture of its questions with these lines.
fn write(bed: &Bed, lines: &str) {
    let services = file(&[Service::new("web", 10).port("udp", DNS, DNS).backend(1)]);
    let filters = "filters = [\"any 0 any 53 UDP\"]";
    bed.write(&format!("{services}\n[[captures]]\nname = \"dns\"\n{filters}\n{lines}\n"));
}

fn ask(bed: &Bed, times: usize) {
    for _ in 0..times {
        assert_eq!(bed.ask_udp(SocketAddr::new(vip_v4(10), DNS)), Some(1));
    }
}

/// How the capture of the file stands.
fn dns(bed: &Bed) -> Option<Value> {
    captures(bed).into_iter().find(|capture| capture["origin"] == "file" && capture["name"] == "dns")
}

fn is_under_way(bed: &Bed) -> bool {
    dns(bed).is_some_and(|dns| dns["ended"].is_null())
}

fn folder(bed: &Bed) -> PathBuf {
    bed.state_dir().join("captures/dns")
}

/// The capture's files, the oldest first.
fn files(bed: &Bed) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(bed)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "pcapng")).collect();
    files.sort();
    files
}

fn questions(file: &Path) -> usize {
    fields(file, "udp.dstport == 53", &["frame.number"]).len()
}

#[test]
fn a_capture_of_the_file_is_planned_begun_and_not_begun_again_when_it_is_over() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    write(&bed, "packets = 4");
    let planned = bed.netd(&["plan"]);
    assert!(planned.code == Some(2) && planned.out.contains("+ capture dns"), "{planned:?}");
    let _netd = bed.start_ok();
    wait_for("recording", || is_under_way(&bed));
    assert_eq!(bed.netd(&["plan"]).code, Some(0));
    assert_eq!(
        bed.netd(&["plan", &bed.config_file().display().to_string()]).code,
        Some(0),
        "beside the daemon"
    );
    ask(&bed, 3);
    wait_for("over", || !is_under_way(&bed));
    let standing = dns(&bed).unwrap();
    assert_eq!(
        (&standing["packets"], &standing["ended"]),
        (&4.into(), &"it has all packets that were wanted".into())
    );
    let [first] = &files(&bed)[..] else { panic!("{:?}", files(&bed)) };
    assert_eq!(standing["output"], first.display().to_string());
    assert_eq!(questions(first), 4);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder(&bed)), mode(first)), (0o700, 0o600));
    assert_eq!(bed.netd(&["plan"]).code, Some(0), "over is as wanted");
    write(&bed, "packets = 4\n# The same.");
    bed.wait_ok();
    ask(&bed, 1);
    assert_eq!(files(&bed).len(), 1);
    write(&bed, "packets = 2\nsnaplen = 42");
    wait_for("begun anew", || files(&bed).len() == 2);
    ask(&bed, 1);
    wait_for("over again", || !is_under_way(&bed));
    assert_eq!(fields(&files(&bed)[1], "frame", &["frame.cap_len"]), ["42", "42"]);
}

#[test]
fn a_capture_that_leaves_the_file_ends_and_its_files_stay() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    write(&bed, "duration = \"1h\"");
    let _netd = bed.start_ok();
    wait_for("recording", || is_under_way(&bed));
    ask(&bed, 1);
    bed.write(&file(&[Service::new("web", 10).port("udp", DNS, DNS).backend(1)]));
    wait_for("ended", || dns(&bed).is_none());
    let [only] = &files(&bed)[..] else { panic!("{:?}", files(&bed)) };
    assert_eq!(questions(only), 2);
    assert_eq!(bed.netd(&["plan"]).code, Some(0));
    assert_eq!(fs::read_dir(folder(&bed)).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn files_are_turned_over_and_the_oldest_goes() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    write(&bed, "packets = 160\nfile_bytes = \"4KiB\"\nfiles = 3");
    let _netd = bed.start_ok();
    wait_for("recording", || is_under_way(&bed));
    ask(&bed, 80);
    wait_for("over", || !is_under_way(&bed));
    assert_eq!(dns(&bed).unwrap()["packets"], 160);
    let files = files(&bed);
    assert_eq!(files.len(), 3, "{files:?}");
    let number = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap()[4..10].parse::<u32>().unwrap();
    let numbers: Vec<u32> = files.iter().map(number).collect();
    assert!(numbers[0] > 1 && numbers.windows(2).all(|two| two[1] == two[0] + 1), "{numbers:?}");
    for file in &files {
        assert!((1..160).contains(&questions(file)), "{}", file.display());
        assert!(fs::metadata(file).unwrap().len() < 6 << 10);
    }
}

#[test]
fn a_capture_goes_on_in_a_new_file_after_netd_was_killed() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    write(&bed, "packets = 1000");
    let netd = bed.start_ok();
    wait_for("recording", || is_under_way(&bed));
    ask(&bed, 1);
    wait_for("written", || files(&bed).first().is_some_and(|first| questions(first) == 2));
    drop(netd);
    ask(&bed, 1);
    assert_eq!(questions(&files(&bed)[0]), 2, "what was written can be read");
    let _netd = bed.start_ok();
    wait_for("recording again", || is_under_way(&bed));
    assert_eq!(bed.netd(&["plan"]).code, Some(0));
    ask(&bed, 2);
    wait_for("written again", || files(&bed).get(1).is_some_and(|second| questions(second) == 4));
}

#[test]
fn what_a_stopped_netd_had_counts_for_the_limits_of_the_next() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    write(&bed, "packets = 6");
    let netd = bed.start_ok();
    wait_for("recording", || is_under_way(&bed));
    ask(&bed, 2);
    wait_for("counted", || dns(&bed).unwrap()["packets"] == 4);
    netd.stop();
    assert_eq!(questions(&files(&bed)[0]), 4);
    let _netd = bed.start_ok();
    wait_for("recording again", || is_under_way(&bed));
    ask(&bed, 2);
    wait_for("over", || !is_under_way(&bed));
    assert_eq!((dns(&bed).unwrap()["packets"].clone(), questions(&files(&bed)[1])), (6.into(), 2));
}

/// A disk of a few pages, which goes with the test.
struct Disk(PathBuf);

impl Disk {
    fn at(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(c"size=256k,mode=700")).unwrap();
        Self(path.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Asks until something is so.
fn ask_until(bed: &Bed, what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || {
        ask(bed, 50);
        is_so()
    });
}

#[test]
fn p7_x15_a_disk_that_is_full_ends_a_capture_of_the_file_and_no_traffic() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let _disk = Disk::at(&bed.state_dir().join("captures"));
    write(&bed, "file_bytes = \"1GiB\"");
    let netd = bed.start_ok();
    wait_for("recording", || is_under_way(&bed));
    ask_until(&bed, "over", || !is_under_way(&bed));
    let standing = dns(&bed).unwrap();
    assert!(standing["ended"].as_str().unwrap().starts_with("the disk is full"), "{standing}");
    let full = files(&bed).pop().unwrap();
    assert_eq!(standing["packets"], questions(&full), "the file up to there can be read");
    assert!(questions(&full) > 100 && standing["lost_packets"].as_u64().unwrap() > 0, "{standing}");
    ask(&bed, 1);
    assert_eq!(bed.netd(&["plan"]).code, Some(0), "it is not tried over and over");
    drop(netd);
    let _netd = bed.start_ok();
    assert_eq!(bed.netd(&["plan"]).code, Some(0));
    assert!(dns(&bed).unwrap()["ended"].as_str().unwrap().starts_with("the disk is full"), "remembered");
}

#[test]
fn p7_x15_a_client_whose_disk_is_full_says_so_and_netd_knows_why() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let _netd = bed.start_ok();
    let disk = Disk::at(&bed.folder().join("disk"));
    let output = disk.0.join("all.pcapng");
    let record = super::Record::start_at(&bed, output.clone(), &["any 0 any 53 UDP"]);
    ask_until(&bed, "over", || captures(&bed).iter().all(|capture| !capture["ended"].is_null()));
    let why = captures(&bed)[0]["ended"].as_str().unwrap().to_owned();
    assert!(why.contains("its client could not write it") && why.contains("No space left"), "{why}");
    let said = record.failed();
    assert!(said.contains("No space left"), "{said}");
    let read = std::process::Command::new("tshark").args(["-n", "-r"]).arg(&output).output().unwrap();
    assert!(String::from_utf8_lossy(&read.stdout).lines().count() > 100, "the file up to there can be read");
    ask(&bed, 1);
}
