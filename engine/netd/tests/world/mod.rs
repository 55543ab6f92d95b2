//! A world in memory for whole passes: three kinds whose wants follow from the file, and targets that can be told to
//! fail, to be unreadable, to panic, and to die after so many operations.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "tests; not every test file uses all of it")]

use async_trait::async_trait;
use netd::facts::Facts;
use netd::fake::link;
use netd::ledger::Ledger;
use netd::reconcile::{ReadFacts, Reconciler, Setup};
use netd::source::{Reading, SourceText, Stamp};
use netd::target::{KindEntry, Target};
use netd_core::{Action, DesiredKind, FieldChange, Key, KindName, Observation, Outcome, Step};
use netd_schema::Config;
use netd_state::Digest;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

pub const ROUTE: KindName = "route";
pub const SERVICE: KindName = "service";
pub const ATTACHMENT: KindName = "attachment";
pub const ORDER: [KindName; 3] = [ROUTE, SERVICE, ATTACHMENT];

/// What the fake kinds want, as one text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Text(pub String);

impl netd_core::Described for Text {
    fn summary(&self) -> String {
        self.0.clone()
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        match self == observed {
            true => Vec::new(),
            false => vec![FieldChange::changed("is", &observed.0, &self.0)],
        }
    }
}

#[derive(Default)]
pub struct World {
    pub owned: BTreeMap<(KindName, String), String>,
    pub foreign: BTreeMap<(KindName, String), String>,
    pub failing: Vec<(KindName, String)>,
    pub unread: Vec<KindName>,
    pub panicking: Vec<KindName>,
    pub links: Vec<String>,
    pub facts_fail: bool,
    /// Every operation since the last look at this list.
    pub ops: Vec<String>,
    /// So many operations more, then death.
    pub ops_left: Option<usize>,
    pub died: Arc<Notify>,
    /// The time that retries are timed by.
    pub now: Duration,
    /// How often a target was asked to end what is over.
    pub tends: usize,
    /// The kinds whose resources take each other's places.
    pub exchanging: Vec<KindName>,
    /// How often the next look was told to trust nothing.
    pub forgets: usize,
}

#[derive(Clone, Default)]
pub struct Shared(pub Arc<Mutex<World>>);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn reconciler(&self, ledger: Ledger) -> Reconciler {
        let mut reconciler = Reconciler::new(Setup {
            node: "a".into(),
            instance: "default".into(),
            config: "/etc/netd/desired.toml".into(),
            kinds: self.kinds(),
            facts: Box::new(self.clone()),
            ledger,
        });
        let world = self.clone();
        reconciler.on_clock(move || world.lock().now);
        reconciler
    }

    /// Lets the time of the engine's tests run.
    pub fn reconciler_in_real_time(&self, ledger: Ledger) -> Reconciler {
        let mut reconciler = self.reconciler(ledger);
        reconciler.on_clock(netd::clock::awake);
        reconciler
    }

    pub fn kinds(&self) -> Vec<KindEntry> {
        let entry = |name, guarded, desired| {
            let target = Box::new(FakeTarget { kind: name, world: self.clone() });
            KindEntry { name, guarded, carries_traffic: true, desired, again: None, target }
        };
        vec![
            entry(ROUTE, true, routes),
            entry(SERVICE, true, services),
            entry(ATTACHMENT, false, attachments),
        ]
    }
}

#[async_trait]
impl ReadFacts for Shared {
    async fn read(&mut self) -> Result<Facts, String> {
        let world = self.lock();
        if world.facts_fail {
            return Err("netlink does not answer".into());
        }
        let mut facts = Facts::default();
        for (index, name) in (1..).zip(&world.links) {
            facts.links.insert(index, link(index, name));
        }
        Ok(facts)
    }

    fn forget(&mut self) {
        self.lock().forgets += 1;
    }
}

fn routes(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    for node in config.nodes.iter().filter(|node| node.name != facts.node) {
        for prefix in &node.pod_cidrs {
            let key = Key::new(prefix.to_string());
            match node.addresses.first() {
                Some(via) if facts.link_named("eth0").is_some() => {
                    desired.table.insert(key, Arc::new(Text(format!("via {via}"))));
                }
                _ => {
                    desired.held.insert(key, "there is no device eth0".into());
                }
            }
        }
    }
    Ok(desired)
}

fn services(config: &Config, _: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    for service in &config.services {
        let backends: Vec<String> =
            service.backends.iter().map(|backend| backend.address.to_string()).collect();
        for vip in &service.vips {
            for port in &service.ports {
                let key = Key::new(format!("{vip}:{}/{}", port.port, port.protocol.name()));
                desired.table.insert(key, Arc::new(Text(backends.join(" "))));
            }
        }
    }
    Ok(desired)
}

fn attachments(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    for device in &config.load_balancer.devices {
        match facts.link_named(device) {
            Some(_) => {
                desired.table.insert(Key::new(device), Arc::new(Text("xdp".into())));
            }
            None => {
                desired.held.insert(Key::new(device), "the device does not exist".into());
            }
        }
    }
    Ok(desired)
}

struct FakeTarget {
    kind: KindName,
    world: Shared,
}

#[async_trait]
impl Target for FakeTarget {
    async fn observe(&mut self, _: &Facts) -> Result<Observation, String> {
        let world = self.world.lock();
        if world.panicking.contains(&self.kind) {
            panic!("a bug in {}", self.kind);
        }
        if world.unread.contains(&self.kind) {
            return Err("the dump was interrupted".into());
        }
        let mut observation = Observation::default();
        for ((_, key), spec) in world.owned.iter().filter(|((kind, _), _)| *kind == self.kind) {
            observation.owned.insert(Key::new(key), Arc::new(Text(spec.clone())));
        }
        for ((_, key), holder) in world.foreign.iter().filter(|((kind, _), _)| *kind == self.kind) {
            observation.foreign.insert(Key::new(key), holder.clone());
        }
        Ok(observation)
    }

    fn exchanges(&self) -> bool {
        self.world.lock().exchanging.contains(&self.kind)
    }

    async fn apply(&mut self, steps: &[Step], _: &Facts) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for step in steps {
            let outcome = self.world.lock().apply(self.kind, step);
            match outcome {
                Some(outcome) => outcomes.push(outcome),
                None => {
                    let died = Arc::clone(&self.world.lock().died);
                    died.notify_one();
                    std::future::pending::<()>().await;
                }
            }
        }
        outcomes
    }

    async fn tend(&mut self) -> Result<(), String> {
        self.world.lock().tends += 1;
        Ok(())
    }
}

impl World {
    /// `None`: the process dies before this operation.
    fn apply(&mut self, kind: KindName, step: &Step) -> Option<Outcome> {
        match &mut self.ops_left {
            Some(0) => return None,
            Some(left) => *left -= 1,
            None => {}
        }
        let key = step.id.key.as_str();
        let is_failing =
            self.failing.iter().any(|(failing, part)| *failing == kind && (part.is_empty() || part == key));
        if is_failing {
            self.ops.push(format!("{} {}: refused", step.action.word(), step.id));
            return Some(Outcome::Failed("the kernel said no".into()));
        }
        self.ops.push(format!("{} {}", step.action.word(), step.id));
        let place = (kind, key.to_owned());
        match &step.action {
            Action::Create { to } | Action::Update { to, .. } => {
                if let Some(holder) = self.foreign.get(&place) {
                    return Some(Outcome::Conflict(holder.clone()));
                }
                let spec = to.as_any().downcast_ref::<Text>().unwrap();
                self.owned.insert(place, spec.0.clone());
            }
            Action::Delete { .. } => {
                self.owned.remove(&place);
            }
        }
        Some(Outcome::Applied)
    }
}

/// A file with this content.
pub fn text(content: &str) -> Reading {
    let stamp = Stamp { device: 0, inode: 0, size: 0, modified: (0, 0), changed: (0, 0) };
    Reading::Text(SourceText {
        bytes: content.as_bytes().to_vec(),
        sha256: Digest::of(content).to_string(),
        path: "/etc/netd/desired.toml".into(),
        real_path: "/etc/netd/desired.toml".into(),
        stamp,
        warnings: Vec::new(),
    })
}

pub fn kind_named(name: &str) -> KindName {
    ORDER.into_iter().find(|kind| *kind == name).unwrap_or_else(|| panic!("there is no kind {name}"))
}
