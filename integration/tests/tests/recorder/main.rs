//! Packets of the load balancer in files, as tshark reads them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod captures;
mod packets;

use netd_integration_tests::bed::{backend_v4, backend_v6, vip_v4, vips};
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::echo::{Port, Servers};
use netd_integration_tests::{Bed, Lab};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const WEB: u16 = 80;
const DNS: u16 = 53;
const ALL: &str = "any 0 any 0 ANY";

/// For something that takes milliseconds on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(30);

fn bed(lab: &Lab) -> (Bed, Servers) {
    let bed = Bed::new(lab, 1);
    let ports = vips(10).map(|vip| Port::Tcp(SocketAddr::new(vip, WEB)));
    let ports: Vec<Port> =
        ports.into_iter().chain(vips(10).map(|vip| Port::Udp(SocketAddr::new(vip, DNS)))).collect();
    let servers = Servers::start(&bed, &ports);
    bed.write(&file(&[Service::new("web", 10).port("tcp", WEB, WEB).port("udp", DNS, DNS).backend(1)]));
    (bed, servers)
}

fn captures(bed: &Bed) -> Vec<Value> {
    bed.netd(&["records", "--json"]).json().as_array().unwrap().clone()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not {what} after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A `netd record` under way.
struct Record {
    child: Child,
    file: PathBuf,
}

impl Record {
    fn start(bed: &Bed, name: &str, arguments: &[&str]) -> Self {
        Self::start_at(bed, bed.folder().join(name), arguments)
    }

    fn start_at(bed: &Bed, file: PathBuf, arguments: &[&str]) -> Self {
        let under_way = || captures(bed).iter().filter(|capture| capture["ended"].is_null()).count();
        let before = under_way();
        let path = file.display().to_string();
        let mut command = bed.netd_under(&[], &[&["record", "--output", &path], arguments].concat());
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("recording", || under_way() > before);
        Self { child, file }
    }

    /// Ends it as Ctrl-C does: what it said.
    fn end(self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.said()
    }

    /// Waits until it fails: what it said.
    fn failed(self) -> String {
        let output = self.child.wait_with_output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// Waits until it ends by itself: what it said.
    fn said(self) -> String {
        let output = self.child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    }
}

/// Some fields of the packets that a display filter takes, with spaces between them.
fn fields(file: &Path, filter: &str, names: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-Y", filter, "-T", "fields", "-E", "separator=/s"]);
    names.iter().for_each(|name| {
        command.args(["-e", name]);
    });
    let output = command.arg("-r").arg(file).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The kernel's number of the program that the balancer's device runs.
fn program(bed: &Bed) -> u64 {
    let links: Value = serde_json::from_str(&bed.lb.ip(&["-j", "-d", "link", "show", "eth0"])).unwrap();
    links[0]["xdp"]["prog"]["id"].as_u64().unwrap()
}

#[test]
fn what_came_in_and_what_left_have_one_id_and_a_comment() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let _netd = bed.start_ok();
    let record = Record::start(&bed, "all.pcapng", &[ALL]);
    for vip in vips(10) {
        assert_eq!(bed.ask_udp_from(5000, SocketAddr::new(vip, DNS)), Some(1));
    }
    let file = record.file.clone();
    assert!(record.end().contains("Ended:  stopped"));
    for (family, backend) in [("ip", backend_v4(1).to_string()), ("ipv6", backend_v6(1).to_string())] {
        let of_client = format!("{family} && udp.srcport == 5000");
        let seen = fields(&file, &of_client, &["frame.interface_name", "frame.packet_id", "frame.comment"]);
        let [came, left] = &seen[..] else { panic!("{seen:?}") };
        let (came, left) = (came.strip_prefix("in ").unwrap(), left.strip_prefix("out ").unwrap());
        assert_eq!(came, left);
        assert!(came.ends_with(&format!("service web, backend {backend}")), "{came}");
        let outer =
            fields(&file, &format!("{of_client} && frame.interface_id == 1"), &[&format!("{family}.dst")]);
        assert!(outer[0].starts_with(&backend), "{outer:?}");
    }
}

#[test]
fn filters_choose_what_is_recorded_and_several_captures_have_their_own() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let _netd = bed.start_ok();
    let before = program(&bed);
    let web = Record::start(&bed, "web.pcapng", &["any 0 192.0.2.10/32 80 TCP"]);
    let recording = program(&bed);
    assert_ne!(recording, before);
    let dns = Record::start(&bed, "dns.pcapng", &["any 0 any 53 UDP", "--snaplen", "60"]);
    assert_eq!(program(&bed), recording, "masks change under the same program");
    for vip in vips(10) {
        assert_eq!(bed.ask_tcp(SocketAddr::new(vip, WEB)), 1);
        assert_eq!(bed.ask_udp(SocketAddr::new(vip, DNS)), Some(1));
    }
    let (web_file, dns_file) = (web.file.clone(), dns.file.clone());
    web.end();
    dns.end();
    assert!(fields(&web_file, "!(tcp.dstport == 80 && ip.dst == 192.0.2.10)", &["frame.number"]).is_empty());
    assert!(fields(&web_file, "tcp.flags.syn == 1", &["frame.number"]).len() >= 2);
    let lengths = fields(&dns_file, "frame", &["frame.cap_len"]);
    assert_eq!(lengths.len(), 4, "a question of each family, as it came and as it left");
    assert!(lengths.iter().all(|length| length.parse::<u32>().unwrap() <= 60), "{lengths:?}");
    wait_for("without the recorder", || program(&bed) == before);
    assert!(bed.netd(&["plan"]).code == Some(0), "nothing is left to do");
}

#[test]
fn captures_that_end_together_do_not_wait_for_one_another() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let _netd = bed.start_ok();
    let records: Vec<Record> = (0..12)
        .map(|number| Record::start(&bed, &format!("{number}.pcapng"), &["any 0 any 53 UDP"]))
        .collect();
    assert_eq!(bed.ask_udp(SocketAddr::new(vip_v4(10), DNS)), Some(1));
    for record in &records {
        kill_process(Pid::from_child(&record.child), Signal::INT).unwrap();
    }
    let later = Record::start(&bed, "later.pcapng", &["any 0 any 53 UDP"]);
    for record in records {
        let file = record.file.clone();
        assert!(record.said().contains("Result: 2 packets ("));
        assert_eq!(fields(&file, "udp.dstport == 53", &["frame.number"]).len(), 2);
    }
    assert_eq!(bed.ask_udp(SocketAddr::new(vip_v4(10), DNS)), Some(1));
    assert!(later.end().contains("Result: 2 packets ("));
}

#[test]
fn limits_end_a_capture_with_what_was_wanted() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let _netd = bed.start_ok();
    let record =
        Record::start(&bed, "three.pcap", &["any 0 any 53 UDP", "--packets", "3", "--format", "pcap"]);
    let file = record.file.clone();
    for _ in 0..4 {
        assert_eq!(bed.ask_udp(SocketAddr::new(vip_v4(10), DNS)), Some(1));
    }
    let said = record.said();
    assert!(said.contains("Result: 3 packets (") && said.contains("all packets that were wanted"), "{said}");
    assert_eq!(fields(&file, "udp.dstport == 53", &["frame.number"]).len(), 3);
    let timed = bed.folder().join("timed.pcapng").display().to_string();
    let said = bed.netd(&["record", "--output", &timed, ALL, "--duration", "1s"]);
    assert!(said.code == Some(0) && said.err.contains("its time is over"), "{said:?}");
}

#[test]
fn a_capture_streams_to_tshark() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let _netd = bed.start_ok();
    let mut record = bed
        .netd_under(&[], &["record", "--output", "-", "--packets", "2", "any 0 any 53 UDP"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-l", "-r", "-", "-T", "fields", "-e", "frame.interface_name"]);
    let tshark = tshark.stdin(record.stdout.take().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    wait_for("recording", || !captures(&bed).is_empty());
    assert_eq!(bed.ask_udp(SocketAddr::new(vip_v4(10), DNS)), Some(1));
    let read = tshark.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(read.stdout).unwrap(), "in\nout\n");
    assert!(record.wait().unwrap().success());
}

#[test]
fn a_client_that_is_gone_ends_its_capture_and_no_other() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let _netd = bed.start_ok();
    let before = program(&bed);
    let mut killed = Record::start(&bed, "killed.pcapng", &[ALL]);
    let other = Record::start(&bed, "other.pcapng", &[ALL]);
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    wait_for("over", || captures(&bed).iter().any(|capture| capture["ended"] == "the client went away"));
    assert_eq!(bed.ask_udp(SocketAddr::new(vip_v4(10), DNS)), Some(1));
    let file = other.file.clone();
    other.end();
    assert_eq!(fields(&file, "udp.dstport == 53", &["frame.number"]).len(), 2);
    wait_for("without the recorder", || program(&bed) == before);
}

#[test]
fn a_killed_daemon_leaves_a_file_that_can_be_read_and_traffic_as_it_was() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let netd = bed.start_ok();
    let before = program(&bed);
    let mut record = Record::start(&bed, "cut.pcapng", &["any 0 192.0.2.10 53 UDP"]);
    let dns = SocketAddr::new(vip_v4(10), DNS);
    assert_eq!(bed.ask_udp(dns), Some(1));
    wait_for("written", || fields(&record.file, "udp.dstport == 53", &["frame.number"]).len() == 2);
    drop(netd);
    assert!(!record.child.wait().unwrap().success());
    assert_eq!(bed.ask_udp(dns), Some(1));
    assert!(fields(&record.file, "udp.dstport == 53", &["frame.number"]).len() >= 2);
    let _netd = bed.start_ok();
    wait_for("without the recorder", || program(&bed) == before);
    assert_eq!(bed.ask_udp(dns), Some(1));
    let again = Record::start(&bed, "again.pcapng", &[ALL]);
    assert_eq!(bed.ask_udp(dns), Some(1));
    let file = again.file.clone();
    again.end();
    assert_eq!(fields(&file, "udp.dstport == 53", &["frame.number"]).len(), 2);
}

#[test]
fn what_cannot_be_recorded_is_refused_and_leaves_no_file() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let out = bed.folder().join("out.pcapng");
    let path = out.display().to_string();
    let refused = |arguments: &[&str], why: &str| {
        let said = bed.netd(&[&["record", "--output", &path], arguments].concat());
        assert!(said.code == Some(1) && said.err.contains(why), "{said:?}");
        assert!(!out.exists(), "{arguments:?}");
    };
    refused(&[ALL], "no netd is running");
    let _netd = bed.start_ok();
    refused(&["10.0.0.0/8 0 2001:db8::/32 80 TCP"], "different families");
    refused(&["any 0 any 90-80 TCP"], "is 80-90 meant?");
    refused(&[ALL, "--snaplen", "0"], "snap length of 0");
    let many: Vec<String> = (8..=24).map(|bits| format!("10.0.0.0/{bits} 0 any 0 ANY")).collect();
    refused(&many.iter().map(String::as_str).collect::<Vec<_>>(), "17 masks of IPv4, at most 16");
    assert!(captures(&bed).is_empty());
    std::fs::write(&out, "mine").unwrap();
    let said = bed.netd(&["record", "--output", &path, ALL]);
    assert!(said.code == Some(1) && said.err.contains("exists"), "{said:?}");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "mine");
}
