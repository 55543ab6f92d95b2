//! How fast routes are made: 100,000 through netd's target and through `ip -batch`, in a namespace of their own.
//!
//! `cargo run --release -p netd-integration-tests --example bench_routes [COUNT]`
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark stops at the first thing that is wrong")]

use netd::facts::{FactsReader, TABLE_MAIN};
use netd::kinds::route::{NAME, PROTOCOL, RouteSpec, RouteTarget, Way};
use netd::target::Target;
use netd_core::{Action, Key, Outcome, ResourceId, Step};
use netd_integration_tests::{Lab, Namespace};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;

fn main() {
    let count = std::env::args().nth(1).map_or(100_000, |text| text.parse().unwrap());
    let Some(lab) = Lab::new() else { return };
    let (node, peer) = (lab.namespace("bench"), lab.namespace("peer"));
    node.veth("eth0", &peer, "eth0");
    node.ip(&["addr", "add", "10.0.0.1/24", "dev", "eth0"]);
    let prefixes: Vec<String> = (0..count).map(prefix).collect();

    let (mut ours, mut theirs, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (made, read) = with_netd(&node, &prefixes);
        ours.push(made);
        reads.push(read);
        node.ip(&["route", "flush", "proto", "177"]);
        theirs.push(with_ip(&node, &prefixes));
        node.ip(&["route", "flush", "proto", "177"]);
    }
    let (ours, theirs, read) = (median(ours), median(theirs), median(reads));
    println!("| routes | netd | ip -batch | ratio | facts read |");
    println!(
        "| {count} | {ours:.0?} | {theirs:.0?} | {:.2} | {read:.0?} |",
        theirs.as_secs_f64() / ours.as_secs_f64()
    );
}

/// /28 prefixes below 64.0.0.0.
fn prefix(number: u32) -> String {
    format!("{}/28", std::net::Ipv4Addr::from((64 << 24) + number * 16))
}

/// The time of one apply, and that of reading the facts afterwards.
fn with_netd(node: &Namespace, prefixes: &[String]) -> (Duration, Duration) {
    node.run_async(|| async {
        let mut reader = FactsReader::new("bench".into());
        let facts = reader.read().await.unwrap();
        let eth0 = facts.link_named("eth0").unwrap().clone();
        let step = |text: &String| {
            let prefix = text.parse().unwrap();
            let way = Way::via("10.0.0.2".parse().unwrap(), &eth0, prefix);
            let spec = RouteSpec { prefix, way, table: TABLE_MAIN, protocol: PROTOCOL, surplus: Vec::new() };
            let id = ResourceId { kind: NAME, key: Key::new(text) };
            Step { id, action: Action::Create { to: Arc::new(spec) } }
        };
        let steps: Vec<Step> = prefixes.iter().map(step).collect();
        // Both ways are measured without anybody listening to announcements.
        reader.forget();
        let started = Instant::now();
        let outcomes = RouteTarget::default().apply(&steps, &facts).await;
        let made = started.elapsed();
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Applied));
        let started = Instant::now();
        let found = reader.read().await.unwrap().routes.len();
        let read = started.elapsed();
        assert!(found > prefixes.len());
        (made, read)
    })
}

fn with_ip(node: &Namespace, prefixes: &[String]) -> Duration {
    let line = |prefix: &String| format!("route add {prefix} via 10.0.0.2 dev eth0 proto 177\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), prefixes.iter().map(line).collect::<String>()).unwrap();
    let started = Instant::now();
    node.ip(&["-batch", file.path().to_str().unwrap()]);
    started.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
