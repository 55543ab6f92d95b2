//! How long a cluster of 5,000 services with 50,000 endpoints takes to become a file, and a change of it, and how much memory
//! the adapter needs: against a server that speaks the API's protocol, in a process of its own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints, and has nothing better to do than stop"
)]

#[path = "../tests/watch/api.rs"]
#[allow(dead_code, reason = "tests use all of it")]
mod api;

use api::Api;
use netd_kubernetes::{Back, Options, Run};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const SERVICES: u32 = 5_000;
const ENDPOINTS_OF_EACH: u32 = 10;

/// Changes of one endpoint slice, of which the median is told.
const CHANGES: u32 = 11;

/// Endpoint slices that change one after the other, as in a rollout.
const ROLLOUT: u32 = 1_000;

/// As many milliseconds does the adapter wait for quiet: nearly none where a single change is measured.
const SETTLE_OF_CHANGES: u64 = 1;
const SETTLE_OF_ROLLOUT: u64 = 500;

/// What takes longer is no measurement.
const DEADLINE: Duration = Duration::from_secs(60);

fn service(number: u32) -> Value {
    let address = format!("10.{}.{}.{}", 128 + (number >> 16), (number >> 8) & 255, number & 255);
    json!({
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80, "targetPort": 8080 }] },
        "status": { "loadBalancer": { "ingress": [{ "ip": address }] } },
    })
}

fn slice(number: u32, change: u32) -> Value {
    let address = |at: u32| {
        let host = number * ENDPOINTS_OF_EACH + at;
        format!("10.{}.{}.{}", 1 + (host >> 16) + 10 * change, (host >> 8) & 255, host & 255)
    };
    let endpoints: Vec<Value> = (0..ENDPOINTS_OF_EACH)
        .map(|at| {
            json!({
                "addresses": [address(at)],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "nodeName": format!("node-{}", at),
                "targetRef": { "kind": "Pod", "namespace": "shop", "name": format!("web-{number}-{at}") },
            })
        })
        .collect();
    json!({
        "metadata": { "labels": { "kubernetes.io/service-name": name(number) } },
        "addressType": "IPv4",
        "ports": [{ "port": 8080 }],
        "endpoints": endpoints,
    })
}

fn name(number: u32) -> String {
    format!("web-{number}")
}

/// The adapter, as a process of its own.
struct Adapter {
    process: Child,
    output: PathBuf,
}

impl Adapter {
    fn start(api: &Api, output: &Path, settle: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(&api.url).arg(output).arg(settle.to_string());
        Self { process: command.spawn().unwrap(), output: output.to_owned() }
    }

    /// Which file it is: each time it is written it is another one.
    fn inode(&self) -> u64 {
        fs::metadata(&self.output).map_or(0, |meta| meta.ino())
    }

    /// How long it takes until the file is another one than this.
    async fn is_written_after(&self, before: u64) -> Duration {
        let start = Instant::now();
        while self.inode() == before {
            assert!(start.elapsed() < DEADLINE, "nothing is written");
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        start.elapsed()
    }

    /// Mebibytes of memory: now, and at most.
    fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
        };
        (of("VmRSS:"), of("VmHWM:"))
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the child process does.
async fn adapt(url: &str, output: &str, settle: &str) {
    let run = Run {
        options: Options { egress: false, ..Options::default() },
        base: None,
        output: output.into(),
        settle: Duration::from_millis(settle.parse().unwrap()),
        idle: Duration::from_secs(60),
        absent: Duration::from_secs(30),
        listen: None,
        once: false,
        back: Back::default(),
    };
    let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
    netd_kubernetes::run(run, client).await.unwrap();
}

async fn measure() {
    let api = Api::start_with_pages(500).await;
    for number in 0..SERVICES {
        api.put("services", "shop", &name(number), service(number));
        api.put("endpointslices", "shop", &name(number), slice(number, 0));
    }
    let folder = tempfile::tempdir().unwrap();
    let adapter = Adapter::start(&api, &folder.path().join("desired.toml"), SETTLE_OF_CHANGES);
    let first = adapter.is_written_after(0).await;
    let bytes = fs::metadata(&adapter.output).unwrap().len();
    let (now, most) = adapter.memory();
    println!(
        "{SERVICES} services with {} endpoints, a file of {:.1} MB",
        SERVICES * ENDPOINTS_OF_EACH,
        bytes as f64 / 1e6
    );
    println!("  from the start to the file           {:>6} ms", first.as_millis());
    println!("  memory then, and at most             {now:>6} MiB, {most} MiB");
    let mut took = Vec::new();
    for change in 1..=CHANGES {
        let before = adapter.inode();
        api.put("endpointslices", "shop", &name(change * 400), slice(change * 400, change));
        took.push(adapter.is_written_after(before).await);
    }
    took.sort();
    let median = took[took.len() / 2];
    println!(
        "  from a change to the file, median    {:>6} ms (waiting for quiet: {SETTLE_OF_CHANGES} ms)",
        median.as_millis()
    );
    let (now, most) = adapter.memory();
    println!("  memory then, and at most             {now:>6} MiB, {most} MiB");
    drop(adapter);
    let adapter = Adapter::start(&api, &folder.path().join("rollout.toml"), SETTLE_OF_ROLLOUT);
    adapter.is_written_after(0).await;
    let (start, mut inode, mut writes) = (Instant::now(), adapter.inode(), 0);
    let (mut last, mut number) = (start, 0);
    // Until nothing was written for much longer than the adapter waits for quiet.
    while number < ROLLOUT || last.elapsed() < Duration::from_millis(4 * SETTLE_OF_ROLLOUT) {
        if number < ROLLOUT {
            api.put("endpointslices", "shop", &name(number), slice(number, 5));
            (number, last) = (number + 1, Instant::now());
        }
        if adapter.inode() != inode {
            (inode, last, writes) = (adapter.inode(), Instant::now(), writes + 1);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let all = (last - start).as_millis();
    println!("  {ROLLOUT} slices that change in a row      {writes:>6} files, the last after {all} ms");
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [url, output, settle] => adapt(url, output, settle).await,
        _ => measure().await,
    }
}
