//! What happens to netd itself: its rights, its lock, its pins, its database.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_bpf::Datapath;
use netd_integration_tests::bed::netns_lock;
use netd_integration_tests::netd::{Said, wait_until};
use netd_integration_tests::restless::{self, Restless};
use netd_integration_tests::{Bed, Lab};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{PipeReader, PipeWriter, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A bed on which netd has put a file in force, and was stopped.
fn stopped(lab: &Lab) -> Bed {
    let bed = Bed::new(lab, 3);
    bed.write(&Restless::new(5).text());
    bed.start_ok().stop();
    bed
}

/// Breaks something while netd is stopped, starts it, and loses no packet.
fn survives(damage: impl FnOnce(&Bed)) -> (Bed, Lab) {
    let lab = Lab::new().unwrap();
    let bed = stopped(&lab);
    let servers = restless::servers(&bed);
    let before = bed.kernel_state();
    let flows = restless::flows(&bed);
    damage(&bed);
    let netd = bed.start_ok();
    assert_eq!(bed.netd(&["plan"]).code, Some(0));
    assert_eq!(bed.kernel_state(), before);
    netd.stop();
    restless::assert_whole(flows);
    drop(servers);
    (bed, lab)
}

/// The files of the database, the largest last.
fn files(bed: &Bed) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(bed.state_dir().join("db")).unwrap().flatten();
    let mut files: Vec<(u64, PathBuf)> = entries
        .filter(|entry| entry.metadata().unwrap().is_file())
        .map(|entry| (entry.metadata().unwrap().len(), entry.path()))
        .collect();
    files.sort();
    files.into_iter().map(|(_, path)| path).collect()
}

#[test]
fn p9_a_deleted_database_is_rebuilt_and_no_packet_is_lost() {
    if Lab::new().is_none() {
        return;
    }
    survives(|bed| std::fs::remove_dir_all(bed.state_dir().join("db")).unwrap());
    survives(|bed| std::fs::remove_dir_all(bed.state_dir()).unwrap());
}

#[test]
fn p9_a_damaged_database_is_set_aside_and_no_packet_is_lost() {
    if Lab::new().is_none() {
        return;
    }
    let (bed, _lab) = survives(|bed| {
        for file in files(bed) {
            let mut bytes = std::fs::read(&file).unwrap();
            bytes.iter_mut().for_each(|byte| *byte ^= 0x5a);
            std::fs::write(&file, bytes).unwrap();
        }
    });
    assert!(bed.state_dir().join("quarantine").exists(), "it was not set aside");
}

#[test]
fn p3_a_truncated_database_is_no_obstacle() {
    if Lab::new().is_none() {
        return;
    }
    survives(|bed| {
        let file = std::fs::File::options().write(true).open(files(bed).pop().unwrap()).unwrap();
        file.set_len(file.metadata().unwrap().len() / 3).unwrap();
    });
}

#[test]
fn traffic_flows_while_netd_is_stopped_and_its_stop_takes_nothing_down() {
    let Some(lab) = Lab::new() else { return };
    let bed = stopped(&lab);
    let _servers = restless::servers(&bed);
    let flows = restless::flows(&bed);
    std::thread::sleep(Duration::from_millis(300));
    let netd = bed.start_ok();
    netd.stop();
    assert!(restless::assert_whole(flows) > 20);
}

#[test]
fn p19_a_teardown_removes_everything_that_is_netds_and_nothing_else() {
    let Some(lab) = Lab::new() else { return };
    let bed = stopped(&lab);
    bed.lb.ip(&["route", "add", "10.99.0.0/16", "via", "10.0.0.1", "dev", "b1", "onlink", "proto", "99"]);
    bed.lb.ip(&["neigh", "add", "10.0.0.77", "lladdr", "02:00:00:00:00:77", "dev", "b1", "nud", "permanent"]);
    let said = bed.netd(&["teardown", "--yes", "--state"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(bed.kernel_state(), "0 generations");
    assert!(!bed.lb.ip(&["link", "show", "eth0"]).contains("xdp"));
    assert!(!bed.state_dir().exists() && !bed.bpf_dir().exists());
    assert!(bed.lb.ip(&["route", "show", "proto", "99"]).contains("10.99.0.0/16"));
    assert!(bed.lb.ip(&["neigh", "show", "dev", "b1"]).contains("10.0.0.77"));
}

#[test]
fn p22_pins_that_somebody_removed_are_there_again() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = restless::servers(&bed);
    bed.write(&Restless::new(5).text());
    let _netd = bed.start_ok();
    let before = bed.kernel_state();
    std::fs::remove_dir_all(bed.bpf_dir()).unwrap();
    bed.apply_once_free();
    assert_eq!(bed.kernel_state(), before);
    for address in restless::steady() {
        assert!(bed.ask_udp(address).is_some(), "{address}");
    }
    std::fs::remove_file(bed.bpf_dir().join("links/eth0")).unwrap();
    bed.apply_once_free();
    assert_eq!(bed.kernel_state(), before);
}

#[test]
fn p22_a_bpf_file_system_is_mounted_where_there_is_none() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = restless::servers(&bed);
    rustix::mount::unmount(bed.bpf_mount(), rustix::mount::UnmountFlags::DETACH).unwrap();
    bed.write(&Restless::new(5).text());
    let _netd = bed.start_ok();
    for address in restless::steady() {
        assert!(bed.ask_udp(address).is_some(), "{address}");
    }
}

#[test]
fn k22_an_entry_that_somebody_deleted_from_a_map_is_there_again() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    bed.write(&Restless::new(5).text());
    let _netd = bed.start_ok();
    let before = bed.kernel_state();
    let mut datapath = Datapath::open(&bed.bpf_dir()).unwrap().unwrap();
    let maps = datapath.maps();
    let (key, _) = maps.frontends().unwrap()[0];
    assert!(maps.delete_frontends(&[key]).iter().all(Result::is_ok));
    // Whatever wakes netd first, such as a neighbour that the kernel asked, repairs it.
    assert_eq!(bed.netd(&["apply"]).code, Some(0));
    assert_eq!(bed.kernel_state(), before);
    // A ring that somebody scribbled in.
    let (_, frontend) = maps.frontends().unwrap()[0];
    maps.set_ring(frontend.ring, &[0xff; 64]).unwrap();
    assert_eq!(bed.netd(&["apply"]).code, Some(0));
    assert_eq!(bed.kernel_state(), before);
    assert!(bed.status()["drift"]["resources"].as_u64() >= Some(2));
}

#[test]
fn p23_the_database_is_not_believed_over_the_kernel() {
    let Some(lab) = Lab::new() else { return };
    let bed = stopped(&lab);
    let _servers = restless::servers(&bed);
    let before = bed.kernel_state();
    bed.remove_pins();
    let _netd = bed.start_ok();
    assert_eq!(bed.kernel_state(), before);
    for address in restless::steady() {
        assert!(bed.ask_udp(address).is_some(), "{address}");
    }
}

#[test]
fn p11_p12_a_second_netd_is_refused_and_a_dead_ones_lock_is_not() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    bed.write(&Restless::new(5).text());
    let netd = bed.start_ok();
    let said = bed.netd(&["run"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("another netd") && said.err.contains(&netd.pid().to_string()), "{said:?}");
    netd.kill();
    assert!(bed.state_dir().join("lock").exists());
    let _netd = bed.start_ok();
}

#[test]
fn p11_a_second_netd_in_a_network_namespace_is_told_of_the_first_whatever_its_places_are() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    bed.write(&Restless::new(5).text());
    let netd = bed.start_ok();
    let before = bed.kernel_state();
    for instance in [bed.instance(), "another"] {
        let said = beside(&bed, instance, &["run"]);
        let named = format!("(process {}, instance {})", netd.pid(), bed.instance());
        assert!(said.code == Some(1) && said.err.contains(&named), "{said:?}");
    }
    let said = beside(&bed, "another", &["apply"]);
    assert!(said.code == Some(1) && said.err.contains("another netd"), "{said:?}");
    assert!(!bed.folder().join("beside").exists(), "what is refused makes nothing");
    // Looking is not writing, and the first still answers.
    assert_eq!(beside(&bed, "another", &["plan"]).code, Some(2));
    assert_eq!(bed.status()["word"], "ok");
    assert_eq!(bed.kernel_state(), before);
    netd.stop();
    assert!(!bed.lb.run(netns_lock).exists());
}

/// `netd COMMAND` in the bed's namespace, with a state and pins of its own.
fn beside(bed: &Bed, instance: &str, command: &[&str]) -> Said {
    let netd = bed.netd_under(&[], command);
    let own = [
        ("--state-dir", bed.folder().join("beside")),
        ("--bpf-dir", bed.bpf_mount().join("beside")),
        ("--instance", instance.into()),
    ];
    let is_replaced = |word: &str| own.iter().any(|(option, _)| *option == word);
    let mut made = Command::new(netd.get_program());
    let mut words = netd.get_args();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some(option) if is_replaced(option) => drop(words.next()),
            _ => drop(made.arg(word)),
        }
    }
    for (option, value) in own {
        made.arg(option).arg(value);
    }
    made.output().unwrap().into()
}

#[test]
fn p19_a_teardown_where_nothing_is_makes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    for more in [&[][..], &["--state"]] {
        let said = bed.netd(&[&["teardown"], more].concat());
        assert!(said.code == Some(0) && said.out.contains("nothing of netd's"), "{said:?}");
        assert!(!bed.state_dir().exists() && !bed.bpf_dir().exists());
    }
}

#[test]
fn p14_a_netd_that_was_frozen_looks_again_before_it_acts() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = restless::servers(&bed);
    let mut desired = Restless::new(5);
    bed.write(&desired.text());
    let netd = bed.start_ok();
    netd.signal(Signal::STOP);
    let flows = restless::flows(&bed);
    desired.step();
    bed.write(&desired.text());
    // What it last saw is not so any more.
    bed.lb.ip(&["route", "add", "10.77.0.0/16", "dev", "b1"]);
    bed.lb.ip(&["link", "add", "late", "type", "veth", "peer", "name", "later"]);
    std::thread::sleep(Duration::from_millis(500));
    netd.signal(Signal::CONT);
    bed.wait_ok();
    assert_eq!(bed.netd(&["plan"]).code, Some(0));
    restless::assert_whole(flows);
}

#[test]
fn p24_a_log_that_nobody_reads_holds_nothing_up() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let (_unread, full) = full_pipe();
    let mut desired = Restless::new(5);
    bed.write(&desired.text());
    let netd = bed.spawn_logging_to(full);
    for _ in 0..3 {
        bed.wait_ok();
        desired.step();
        bed.write(&desired.text());
    }
    bed.wait_ok();
    netd.stop();
}

/// Far longer than the test takes: what is waited for meanwhile has not waited for the disk.
const SYNC_LASTS: Duration = Duration::from_secs(600);

/// Two resyncs, and what a busy machine adds.
const RESYNC_MAX: Duration = Duration::from_secs(90);

#[test]
fn p26_a_disk_that_does_not_answer_holds_up_nothing_and_is_reported() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = restless::servers(&bed);
    let mut desired = Restless::new(5);
    bed.write(&desired.text());
    let netd = bed.start_ok();
    let flows = restless::flows(&bed);
    let waits = bed.with_slow_disk(netd.pid(), SYNC_LASTS, || {
        for _ in 0..3 {
            desired.step();
            bed.write(&desired.text());
            bed.wait_ok();
            assert_eq!(bed.netd(&["plan"]).code, Some(0));
        }
        bed.wait("reported", |report| {
            report["state_not_durable"].as_str().is_some_and(|why| !why.is_empty())
        });
    });
    assert!(waits > 0, "nothing was synced");
    // The disk answers again, and the next resync looks.
    let last = bed.wait_at_most(RESYNC_MAX, "durable", |report| report.get("state_not_durable").is_none());
    netd.kill();
    std::fs::remove_file(bed.config_file()).unwrap();
    let _netd = bed.start();
    let in_force = |report: &Value| report["config"]["in_force"]["sha256"].clone();
    bed.wait("from the disk", |report| in_force(report) == in_force(&last));
    restless::assert_whole(flows);
}

/// A pipe that takes not one byte more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

#[test]
fn without_rights_the_missing_capabilities_are_named() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&Restless::new(5).text());
    for command in ["plan", "apply", "run", "status"] {
        let unprivileged = ["setpriv", "--reuid", "65534", "--clear-groups"];
        let output = bed.netd_under(&unprivileged, &[command]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command}: {text}");
        assert!(text.contains("CAP_NET_ADMIN") && text.contains("CAP_BPF"), "{command}: {text}");
    }
}

/// Two routes to pods, one of which somebody fights over.
const PODS: &str = "version = 1
[[nodes]]
name = \"lb\"
addresses = [\"10.1.2.1\"]
[[nodes]]
name = \"other\"
addresses = [\"10.1.2.3\"]
pod_cidrs = [\"10.244.2.0/24\", \"10.244.3.0/24\"]
";

/// Repairs come a second apart, so that the fifth is there after five; a truce takes five at first.
const FIGHT_MAX: Duration = Duration::from_secs(20);

#[test]
fn k17_a_route_that_somebody_takes_away_again_and_again_is_left_alone_for_a_while() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(PODS);
    let _netd = bed.start_ok();
    let route = |prefix: &str| bed.lb.ip(&["route", "show", prefix]);
    let (fought, other) = ("10.244.2.0/24", "10.244.3.0/24");
    let is_fought_over = |report: &serde_json::Value| report["not_ready"].to_string().contains("fought over");
    let taken = std::cell::Cell::new(0);
    let report = bed.wait_at_most(FIGHT_MAX, "fought over", |report| {
        if !is_fought_over(report) && !route(fought).is_empty() {
            bed.lb.ip(&["route", "del", fought]);
            taken.set(taken.get() + 1);
        }
        is_fought_over(report)
    });
    assert!((5..=8).contains(&taken.get()), "{taken:?}");
    assert_eq!(report["word"], "degraded");
    assert_eq!(report["not_ready"].as_array().unwrap().len(), 1, "{report:#}");
    assert!(report["not_ready"].to_string().contains(fought));
    // It is left alone now, and what nobody fights over is not.
    let is_left_alone = || route(fought).is_empty() || !is_fought_over(&bed.status());
    assert!(is_left_alone());
    bed.lb.ip(&["route", "del", other]);
    bed.wait("repaired", |_| !route(other).is_empty());
    assert!(is_left_alone());
    bed.wait_at_most(FIGHT_MAX, "as the file says", |report| report["word"] == "ok");
    assert!(!route(fought).is_empty());
}

/// How long a disk takes for each order to write.
const ORDER_TAKES: Duration = Duration::from_secs(3);

/// Two seconds, and what a busy machine adds; less than all orders of a start take.
const STOP_MAX: Duration = Duration::from_secs(10);

/// A slow disk holds up neither the datapath nor a stop. Only the process itself is there for as long as the kernel is at
/// its last order, as any process is.
#[test]
fn p18_a_stop_in_the_middle_of_an_apply_does_not_wait_for_a_slow_disk() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    bed.write(&Restless::new(5).text());
    let slow = format!("inject=fsync,fdatasync,sync_file_range,msync:delay_enter={}s", ORDER_TAKES.as_secs());
    // The tracer is nobody's parent: signals go to netd.
    let strace =
        ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync,sync_file_range,msync"];
    let log = std::fs::File::create(bed.folder().join("netd.log")).unwrap();
    let netd = bed.spawn_under(&[&strace[..], &["-e", &slow]].concat(), log);
    wait_until("attached", Duration::from_secs(60), || bed.lb.ip(&["link", "show", "eth0"]).contains("xdp"));
    netd.signal(Signal::TERM);
    wait_until("stopped", STOP_MAX, || bed.log().contains("stopped; what was applied stays"));
    drop(netd);
    bed.start_ok().stop();
    assert_eq!(bed.netd(&["plan"]).code, Some(0));
}

#[test]
fn p15_the_service_manager_hears_that_netd_is_ready_that_it_lives_and_that_it_stops() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    bed.write(&Restless::new(5).text());
    let path = bed.folder().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let hears = |word: &str| {
        let mut notice = [0; 4096];
        loop {
            let length = socket.recv(&mut notice).unwrap_or_else(|why| panic!("no {word}: {why}"));
            if String::from_utf8_lossy(&notice[..length]).lines().any(|line| line == word) {
                return;
            }
        }
    };
    let log = std::fs::File::create(bed.folder().join("netd.log")).unwrap();
    let manager = format!("NOTIFY_SOCKET={}", path.display());
    let netd = bed.spawn_under(&["env", &manager, "WATCHDOG_USEC=500000"], log);
    hears("READY=1");
    for _ in 0..3 {
        hears("WATCHDOG=1");
    }
    netd.signal(Signal::TERM);
    hears("STOPPING=1");
}

#[test]
fn the_log_can_be_lines_of_json() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    bed.write(&Restless::new(5).text());
    let log = bed.folder().join("log.json");
    let mut netd = bed.netd_under(&[], &["run", "--log-format", "json"]);
    let mut netd = netd.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    bed.wait_ok();
    netd.kill().unwrap();
    netd.wait().unwrap();
    let said = std::fs::read_to_string(log).unwrap();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let says = |word: &str| lines.iter().any(|line| line["message"] == word);
    assert!(says("started") && says("a new file is in force"), "{said}");
}
