//! Measures the whole engine on 10,000 services with 10 backends each: reading the file, bringing it up, changing one
//! backend, doing nothing. Run it as root from a release build:
//!
//! ```text
//! cargo build --release -p netd && cargo run --release -p netd-integration-tests --example bench_engine
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement that fails says why and stops")]

use netd_bpf::abi::{self, FrontendKey, LINE_BYTES, TCP, WIDE_SLOTS};
use netd_bpf::{Datapath, Maps};
use netd_integration_tests::bed::backend_v4;
use netd_integration_tests::netd::Daemon;
use netd_integration_tests::{Bed, Lab};
use serde_json::Value;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const SERVICES: u32 = 10_000;
const BACKENDS_EACH: u32 = 10;

/// How often a backend is changed; the median counts.
const CHANGES: usize = 20;

/// Longer than the slowest bring-up that is worth waiting for.
const PATIENCE: Duration = Duration::from_secs(180);

fn main() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    // All backends are behind one router, as they are in a routed network.
    bed.lb.ip(&["route", "add", "10.128.0.0/9", "via", &backend_v4(1).to_string(), "dev", "b1", "onlink"]);
    let text = desired(None);
    println!(
        "file: {:.1} MB, {SERVICES} services, {} backends",
        text.len() as f64 / 1e6,
        SERVICES * BACKENDS_EACH
    );

    row("parse the file (netd_schema::parse)", median((0..5).map(|_| parse(&text)).collect()));

    bed.write(&text);
    let began = Instant::now();
    let netd = bed.spawn();
    let report = bed.wait_at_most(PATIENCE, "up", |report| report["word"] == "ok" && is_of_daemon(&bed));
    row("cold bring-up: start to status ok", began.elapsed());
    stages("  the pass that applied", &report["last_change"]["took"]);
    memory(&netd, "  after bring-up");

    let mut datapath = Datapath::open(&bed.bpf_dir()).unwrap().unwrap();
    rings(datapath.maps());

    let (change, parse) = changes(&bed, datapath.maps());
    row("one backend changed: rename to map entry, median", change);
    row("  parse the file, between the changes", parse);
    println!(
        "{:58} {:>10.2}",
        "  relative to parsing (goal: 2 at most)",
        change.as_secs_f64() / parse.as_secs_f64()
    );

    nothing(&bed);
    memory(&netd, "at the end");
    netd.stop();
    assert_eq!(bed.netd(&["teardown", "--yes"]).code, Some(0));
}

/// The file; `changed` is a service whose first backend has another weight.
fn desired(changed: Option<(u32, u16)>) -> String {
    let mut text = String::from("version = 1\n\n[load_balancer]\ndevices = [\"eth0\"]\n");
    for service in 0..SERVICES {
        let _ = write!(
            text,
            "\n[[services]]\nname = \"service-{service}\"\nvips = [\"{}\"]\nports = [{{ protocol = \"tcp\", port = 80 }}]\n\
             backends = [\n",
            vip(service)
        );
        for backend in 0..BACKENDS_EACH {
            let address = Ipv4Addr::from_bits(0x0a80_0000 + 1 + service * BACKENDS_EACH + backend);
            let weight = match changed {
                Some((at, weight)) if at == service && backend == 0 => format!(", weight = {weight}"),
                _ => String::new(),
            };
            let _ = writeln!(text, "  {{ address = \"{address}\"{weight} }},");
        }
        text.push_str("]\n");
    }
    text
}

fn vip(service: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xac10_0000 + service)
}

fn parse(text: &str) -> Duration {
    let began = Instant::now();
    let parsed = netd_schema::parse("desired.toml", text.as_bytes());
    let took = began.elapsed();
    assert!(parsed.is_ok(), "the file has mistakes");
    took
}

/// A weight is changed in a service here and there: how long that takes, and how long parsing does beside it.
fn changes(bed: &Bed, maps: &mut dyn Maps) -> (Duration, Duration) {
    let (mut all, mut took, mut parses) = (Vec::new(), Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let service = (change as u32 * 7919) % SERVICES;
        let key = FrontendKey { address: vip(service).into(), port: 80, protocol: TCP };
        let before = entry(maps, &key);
        let text = desired(Some((service, 50 + change as u16)));
        let beside = bed.folder().join("next.toml");
        parses.push(parse(&text));
        std::fs::write(&beside, text).unwrap();
        let began = Instant::now();
        std::fs::rename(&beside, bed.config_file()).unwrap();
        while entry(maps, &key) == before {
            assert!(began.elapsed() < PATIENCE, "the change does not arrive: {}", bed.log());
            // The processors belong to netd.
            std::thread::sleep(Duration::from_millis(2));
        }
        all.push(began.elapsed());
        let report = bed.wait_ok();
        took.push(report["last_change"]["took"].clone());
    }
    all.sort();
    println!("{:58} {:?} .. {:?}", "  fastest and slowest change", all[0], all[CHANGES - 1]);
    for stage in STAGES {
        let of_stage =
            took.iter().map(|took| Duration::from_micros(took[stage].as_u64().unwrap_or(0))).collect();
        row(&format!("    {stage}, median"), median(of_stage));
    }
    (median(all), median(parses))
}

fn entry(maps: &dyn Maps, key: &FrontendKey) -> abi::Frontend {
    maps.frontend(key).unwrap().unwrap()
}

/// A pass that finds everything as it should be.
fn nothing(bed: &Bed) {
    let mut total = Vec::new();
    let mut last = Value::Null;
    for _ in 0..5 {
        let report = bed.netd(&["apply", "--json"]).json();
        assert_eq!(report["pass"]["applied"], 0);
        total.push(Duration::from_micros(report["pass"]["took"]["total_us"].as_u64().unwrap()));
        last = report["pass"]["took"].clone();
    }
    row("a pass with nothing to do, median", median(total));
    stages("  the last one", &last);
}

fn rings(maps: &mut dyn Maps) {
    let capacity = maps.capacity();
    let frontends = maps.frontends().unwrap();
    let lines = |slots: u32, flags: u32| u64::from(abi::ring_lines(slots, flags & WIDE_SLOTS != 0));
    let used: u64 = frontends.iter().map(|(_, entry)| lines(entry.slots, entry.flags)).sum();
    let mib = |lines: u64| lines as f64 * LINE_BYTES as f64 / (1 << 20) as f64;
    println!("{:58} {:>7.1} MiB", "rings in use", mib(used));
    println!("{:58} {:>7.1} MiB", "rings as allocated", mib(u64::from(capacity.ring_lines)));
    println!("{:58} {:>7.1} MiB", "  64 KiB for each would be", f64::from(SERVICES) / 16.0);
    println!("{:58} {:>7.1} MiB", "backend lines as allocated", mib(u64::from(capacity.backend_lines)));
}

fn memory(netd: &Daemon, when: &str) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", netd.pid())).unwrap();
    for field in ["VmHWM", "VmRSS", "RssAnon"] {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        println!(
            "{:58} {}",
            format!("{when}: {field}"),
            line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
        );
    }
}

const STAGES: [&str; 7] =
    ["parse_us", "facts_us", "observe_us", "plan_us", "apply_us", "verify_us", "total_us"];

fn stages(what: &str, took: &Value) {
    let each: Vec<String> = STAGES.iter().map(|stage| format!("{stage} {}", took[stage])).collect();
    println!("{what}: {}", each.join(", "));
}

fn is_of_daemon(bed: &Bed) -> bool {
    std::os::unix::net::UnixStream::connect(bed.runtime_dir().join("netd.sock")).is_ok()
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

fn row(what: &str, took: Duration) {
    println!("{what:58} {:>7.1} ms", took.as_secs_f64() * 1e3);
}
