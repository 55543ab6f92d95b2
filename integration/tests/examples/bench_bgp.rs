//! How fast ten thousand prefixes are announced: through netd's target, and by the bare stream of paths, which is the
//! fastest way into gobgpd; and what a pass over them costs in which nothing, or one of them, has changed.
//!
//! `cargo run --release -p netd-integration-tests --example bench_bgp [COUNT]`
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark stops at the first thing that is wrong")]

use netd::facts::{Facts, FactsReader};
use netd::kinds::bgp_instance::{self, InstanceSpec, InstanceTarget};
use netd::kinds::bgp_path::{self, PathSpec, PathTarget, Recipients};
use netd::speaker::{self, Speaker};
use netd::target::Target;
use netd_core::{Action, Key, Outcome, ResourceId, Spec, Step};
use netd_gobgp::Announcement;
use netd_integration_tests::Lab;
use netd_lab::installed;
use netd_schema::Gobgpd;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Even: whoever comes second finds a daemon whose memory has grown already.
const ROUNDS: usize = 6;

fn main() {
    let count = std::env::args().nth(1).map_or(10_000, |text| text.parse().unwrap());
    let Some(lab) = Lab::new().filter(|_| installed(&[("gobgpd", "gobgpd")])) else { return };
    let node = lab.namespace("bench");
    let folder = tempfile::TempDir::new().unwrap();
    let mut rounds: Vec<Round> = Vec::new();
    for number in 0..ROUNDS {
        rounds.push(node.run_async(|| round(folder.path(), count, number % 2 == 0)));
    }
    let of = |pick: fn(&Round) -> Duration| median(rounds.iter().map(pick).collect());
    let (ours, bare) = (of(|round| round.ours), of(|round| round.bare));
    let rate = |time: Duration| f64::from(count) / time.as_secs_f64() / 1000.0;
    println!("| prefixes | netd | bare stream | ratio | nothing changed | one changed | listed whole |");
    println!(
        "| {count} | {ours:.1?} ({:.0}k/s) | {bare:.1?} ({:.0}k/s) | {:.2} | {:.2?} | {:.2?} | {:.1?} |",
        rate(ours),
        rate(bare),
        bare.as_secs_f64() / ours.as_secs_f64(),
        of(|round| round.nothing),
        of(|round| round.one),
        of(|round| round.listed),
    );
}

struct Round {
    ours: Duration,
    bare: Duration,
    nothing: Duration,
    one: Duration,
    listed: Duration,
}

async fn round(folder: &Path, count: u32, is_bare_first: bool) -> Round {
    let facts = FactsReader::new("bench".into()).read().await.unwrap();
    let mut bare = Duration::ZERO;
    if is_bare_first {
        bare = alone(folder, count, &facts).await;
    }
    let mut round = ours(folder, count, &facts).await;
    if !is_bare_first {
        bare = alone(folder, count, &facts).await;
    }
    round.bare = bare;
    round
}

async fn ours(folder: &Path, count: u32, facts: &Facts) -> Round {
    let speaker: speaker::Shared = Arc::new(Mutex::new(Speaker::new(folder, None)));
    let mut instance = InstanceTarget::new(Arc::clone(&speaker));
    let mut paths = PathTarget::new(speaker);
    made(&mut instance, &[instance_step(|to| Action::Create { to })], facts).await;
    paths.observe(facts).await.unwrap();
    let steps: Vec<Step> = (0..count).map(|number| path_step(number, None)).collect();
    let began = Instant::now();
    made(&mut paths, &steps, facts).await;
    let ours = began.elapsed();
    let (nothing, found) = looked(&mut paths, facts).await;
    assert_eq!(found, count as usize);
    let began = Instant::now();
    made(&mut paths, &[path_step(7, Some(1))], facts).await;
    let one = began.elapsed();
    // Another netd knows nothing yet.
    let speaker: speaker::Shared = Arc::new(Mutex::new(Speaker::new(folder, None)));
    InstanceTarget::new(Arc::clone(&speaker)).observe(facts).await.unwrap();
    let (listed, _) = looked(&mut PathTarget::new(speaker), facts).await;
    made(&mut instance, &[instance_step(|from| Action::Delete { from })], facts).await;
    Round { ours, bare: Duration::ZERO, nothing, one, listed }
}

/// How long the bare stream takes.
async fn alone(folder: &Path, count: u32, facts: &Facts) -> Duration {
    let mut instance = InstanceTarget::new(Arc::new(Mutex::new(Speaker::new(folder, None))));
    made(&mut instance, &[instance_step(|to| Action::Create { to })], facts).await;
    let client = speaker::client_of(folder).await.unwrap().unwrap();
    let announcements: Vec<_> = (0..count).map(|number| Announcement::plain(prefix(number))).collect();
    let began = Instant::now();
    client.announce(&announcements).await.unwrap();
    let took = began.elapsed();
    made(&mut instance, &[instance_step(|from| Action::Delete { from })], facts).await;
    took
}

/// /32 prefixes from 64.0.0.0 on.
fn prefix(number: u32) -> ipnetwork::IpNetwork {
    ipnetwork::IpNetwork::from(std::net::IpAddr::from(Ipv4Addr::from((64 << 24) + number)))
}

fn instance_step(action: impl Fn(Arc<dyn Spec>) -> Action) -> Step {
    let spec = InstanceSpec {
        gobgpd: Gobgpd::Managed,
        asn: 64_512,
        router_id: [10, 0, 0, 1].into(),
        is_router_id_given: true,
        listen_port: None,
    };
    Step { id: ResourceId { kind: bgp_instance::NAME, key: spec.key() }, action: action(Arc::new(spec)) }
}

fn path_step(number: u32, med: Option<u32>) -> Step {
    let spec = PathSpec {
        prefix: prefix(number),
        next_hop: None,
        communities: [].into(),
        large_communities: [].into(),
        local_preference: None,
        med,
        prepend: Vec::new(),
        to: Recipients::All([].into()),
        besides: [].into(),
    };
    let id = ResourceId { kind: bgp_path::NAME, key: Key::new(spec.prefix.to_string()) };
    Step { id, action: Action::Create { to: Arc::new(spec) } }
}

async fn made(target: &mut impl Target, steps: &[Step], facts: &Facts) {
    let outcomes = target.apply(steps, facts).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Applied), "{:?}", outcomes.first());
}

/// How long a look takes, and how much it finds.
async fn looked(target: &mut PathTarget, facts: &Facts) -> (Duration, usize) {
    let began = Instant::now();
    let found = target.observe(facts).await.unwrap().owned.len();
    (began.elapsed(), found)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
