//! A node in memory, on which every step is judged by when it is made.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::file::{File, backend_of, vip_of};
use super::world;
use async_trait::async_trait;
use netd::facts::{Address, Facts, Link, Mac, Neighbour};
use netd::fake::{FakeTarget, link, route};
use netd::health::Verdicts;
use netd::health::verdict::{BackendId, Group, Unhealthy};
use netd::kinds::{attachment, bgp_instance, bgp_path, bgp_peer, service, vip};
use netd::ledger::Ledger;
use netd::reconcile::{ReadFacts, Reconciler, Setup};
use netd::report::{Reason, Report};
use netd::target::{KindEntry, Target};
use netd_core::{Action, KindName, Observation, Outcome, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const KINDS: [KindName; 6] =
    [service::NAME, vip::NAME, attachment::NAME, bgp_instance::NAME, bgp_path::NAME, bgp_peer::NAME];

/// The node as the tests make it, and what was done to it.
#[derive(Clone, Default)]
pub struct Node {
    pub fakes: BTreeMap<KindName, FakeTarget>,
    facts: Arc<Mutex<Facts>>,
    log: Arc<Mutex<Vec<String>>>,
    /// What was done in a wrong order.
    pub wrong: Arc<Mutex<Vec<String>>>,
}

/// A fake that watches the order of what is done to all of them.
struct Watched {
    kind: KindName,
    node: Node,
}

#[async_trait]
impl Target for Watched {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        self.node.fakes.get_mut(self.kind).unwrap().observe(facts).await
    }

    async fn apply(&mut self, steps: &[Step], facts: &Facts) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for step in steps {
            self.node.judge(step);
            let line = format!("{} {}", step.action.word(), step.id);
            let mut fake = self.node.fakes[self.kind].clone();
            let outcome = fake.apply(std::slice::from_ref(step), facts).await.remove(0);
            let failed = if outcome == Outcome::Applied { "" } else { ": failed" };
            self.node.log.lock().unwrap().push(format!("{line}{failed}"));
            outcomes.push(outcome);
        }
        outcomes
    }
}

impl Node {
    pub fn new() -> Self {
        let fakes = KINDS.iter().map(|kind| (*kind, FakeTarget::default())).collect();
        let node = Self { fakes, ..Self::default() };
        *node.facts.lock().unwrap() = facts();
        node
    }

    pub fn reconciler(&self) -> Reconciler {
        let entry = |name, desired: netd_desired, carries_traffic| KindEntry {
            name,
            guarded: false,
            carries_traffic,
            desired,
            again: None,
            target: Box::new(Watched { kind: name, node: self.clone() }),
        };
        Reconciler::new(Setup {
            node: "lb".into(),
            instance: "default".into(),
            config: "/etc/netd/desired.toml".into(),
            kinds: vec![
                entry(service::NAME, service::desired, true),
                entry(vip::NAME, vip::desired, true),
                entry(attachment::NAME, attachment::desired, true),
                entry(bgp_instance::NAME, bgp_instance::desired, false),
                entry(bgp_path::NAME, bgp_path::desired, false),
                entry(bgp_peer::NAME, bgp_peer::desired, false),
            ],
            facts: Box::new(self.clone()),
            ledger: Ledger::in_memory(),
        })
    }

    pub fn has(&self, kind: KindName, key: &str) -> bool {
        self.fakes[kind].world().owned.contains_key(key)
    }

    pub fn keys(&self, kind: KindName) -> BTreeSet<String> {
        self.fakes[kind].world().owned.keys().map(ToString::to_string).collect()
    }

    /// Announced only what the datapath takes, and taken away from it only what is not announced any more.
    fn judge(&self, step: &Step) {
        let key = step.id.key.as_str();
        let address = |prefix: &str| prefix.split('/').next().unwrap().to_owned();
        let stands = |address: &str| {
            self.has(vip::NAME, address)
                && !self.keys(attachment::NAME).is_empty()
                && self
                    .keys(service::NAME)
                    .iter()
                    .any(|frontend| frontend.starts_with(&format!("{address}:")))
        };
        let is_delete = matches!(step.action, Action::Delete { .. });
        let wrong = match step.id.kind {
            bgp_path::NAME if matches!(step.action, Action::Create { .. }) => !stands(&address(key)),
            vip::NAME if is_delete => self.has(bgp_path::NAME, &format!("{key}/32")),
            attachment::NAME if is_delete => !self.keys(bgp_path::NAME).is_empty(),
            bgp_instance::NAME if is_delete => {
                !self.keys(bgp_path::NAME).is_empty() || !self.keys(bgp_peer::NAME).is_empty()
            }
            _ => false,
        };
        if wrong {
            self.wrong.lock().unwrap().push(format!("{} {}", step.action.word(), step.id));
        }
    }

    pub fn took(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// Says what is known of the backends of the VIPs: those of `sick`, unhealthy for so long.
    pub fn verdicts(&self, file: &File) {
        let mut health = Verdicts::default();
        for (name, service) in &file.services {
            let group = Group { service: format!("s{name}"), vip: vip_of(service.vip) };
            let id = |backend: &u8| BackendId { address: backend_of(*backend), port: None };
            let why = || Unhealthy { since_unix_ms: 1, why: "refused".into() };
            let unhealthy = file.sick.keys().filter(|sick| service.backends.contains_key(sick));
            let lasting = file.sick.iter().filter(|(sick, _)| service.backends.contains_key(sick));
            health.unhealthy.insert(group.clone(), unhealthy.map(|sick| (id(sick), why())).collect());
            health.unhealthy_for.insert(
                group,
                lasting.map(|(sick, seconds)| (id(sick), Duration::from_secs(*seconds))).collect(),
            );
        }
        self.facts.lock().unwrap().health = Arc::new(health);
    }
}

#[allow(non_camel_case_types, reason = "reads like the field that it is the type of")]
type netd_desired = fn(&netd_schema::Config, &Facts) -> Result<netd_core::DesiredKind, String>;

#[async_trait]
impl ReadFacts for Node {
    async fn read(&mut self) -> Result<Facts, String> {
        Ok(self.facts.lock().unwrap().clone())
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn facts() -> Facts {
    let eth0 = Link { mac: Some(Mac([2; 6])), ..link(2, "eth0") };
    let known = Neighbour { mac: Some(Mac([3; 6])), valid: true, ..Neighbour::default() };
    let route = route("0.0.0.0/0".parse().unwrap(), 2, Some(ip("10.0.0.254")));
    let own = Address {
        link: 2,
        address: ip("10.0.0.11"),
        prefix_len: 24,
        usable: true,
        temporary: false,
        global: true,
    };
    Facts {
        node: "lb".into(),
        links: BTreeMap::from([(2, eth0)]),
        addresses: vec![own],
        routes: vec![route],
        neighbours: BTreeMap::from([((2, ip("10.0.0.254")), known)]),
        ..Facts::default()
    }
}

pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub async fn pass(reconciler: &mut Reconciler, node: &Node, file: &File) -> Report {
    node.verdicts(file);
    reconciler.pass(&world::text(&file.text()), Reason::Asked, None).await
}
