//! Whole passes with the real kinds of the datapath and of BGP, on targets in memory: what is announced, when, and what
//! it stands on. The decision is compared with one that was written on its own, from the words of the file's reference.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(dead_code, reason = "the shared world has more than is used here")]

mod world;

use async_trait::async_trait;
use netd::facts::{Address, Facts, Link, Mac, Neighbour, NextHop, Route, RouteAction};
use netd::fake::{FakeTarget, Fault};
use netd::health::Verdicts;
use netd::health::verdict::{BackendId, Group, Unhealthy};
use netd::kinds::{attachment, bgp_instance, bgp_path, bgp_peer, service, vip};
use netd::ledger::Ledger;
use netd::reconcile::{ReadFacts, Reconciler, Setup};
use netd::report::{Reason, Report};
use netd::target::{KindEntry, Target};
use netd_core::render::{self, Colour, Limits};
use netd_core::{Action, Key, KindName, Observation, Outcome, Step};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KINDS: [KindName; 6] =
    [service::NAME, vip::NAME, attachment::NAME, bgp_instance::NAME, bgp_path::NAME, bgp_peer::NAME];

/// The node as the tests make it, and what was done to it.
#[derive(Clone, Default)]
struct Node {
    fakes: BTreeMap<KindName, FakeTarget>,
    facts: Arc<Mutex<Facts>>,
    log: Arc<Mutex<Vec<String>>>,
    /// What was done in a wrong order.
    wrong: Arc<Mutex<Vec<String>>>,
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
    fn new() -> Self {
        let fakes = KINDS.iter().map(|kind| (*kind, FakeTarget::default())).collect();
        let node = Self { fakes, ..Self::default() };
        *node.facts.lock().unwrap() = facts();
        node
    }

    fn reconciler(&self) -> Reconciler {
        let entry = |name, desired: netd_desired, carries_traffic| KindEntry {
            name,
            guarded: false,
            carries_traffic,
            desired,
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

    fn has(&self, kind: KindName, key: &str) -> bool {
        self.fakes[kind].world().owned.contains_key(key)
    }

    fn keys(&self, kind: KindName) -> BTreeSet<String> {
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

    fn took(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// Says what is known of the backends of the VIPs: those of `sick`, unhealthy for so long.
    fn verdicts(&self, file: &File) {
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
    let eth0 = Link {
        index: 2,
        name: "eth0".into(),
        mac: Some(Mac([2; 6])),
        mtu: 1500,
        up: true,
        kind: String::new(),
        xdp: None,
    };
    let known = Neighbour { mac: Some(Mac([3; 6])), valid: true, ..Neighbour::default() };
    let route = Route {
        destination: "0.0.0.0/0".parse().unwrap(),
        table: 254,
        metric: 0,
        protocol: 2,
        action: RouteAction::Forward(vec![NextHop { link: 2, via: Some(ip("10.0.0.254")), weight: 1 }]),
        source: None,
        mtu: None,
    };
    let own = Address { link: 2, address: ip("10.0.0.11"), prefix_len: 24, usable: true, global: true };
    Facts {
        node: "lb".into(),
        links: BTreeMap::from([(2, eth0)]),
        addresses: vec![own],
        routes: vec![route],
        neighbours: BTreeMap::from([((2, ip("10.0.0.254")), known)]),
        ..Facts::default()
    }
}

fn vip_of(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}

fn backend_of(number: u8) -> IpAddr {
    IpAddr::from([10, 1, 0, number])
}

/// What a random file says, and what is known of its backends.
#[derive(Clone, Debug)]
struct File {
    services: BTreeMap<u8, Service>,
    /// For how many seconds a backend has been unhealthy.
    sick: BTreeMap<u8, u64>,
    has_bgp: bool,
    floor: u8,
}

#[derive(Clone, Debug)]
struct Service {
    vip: u8,
    /// Whether the file makes it active.
    backends: BTreeMap<u8, bool>,
}

impl File {
    fn text(&self) -> String {
        let mut out =
            String::from("version = 1\nallow_empty = true\n[load_balancer]\ndevices = [\"eth0\"]\n");
        for (name, Service { vip, backends }) in &self.services {
            let backend = |(number, is_active): (&u8, &bool)| {
                let state = if *is_active { "active" } else { "maintenance" };
                format!("{{ address = \"{}\", state = \"{state}\" }}", backend_of(*number))
            };
            let backends: Vec<String> = backends.iter().map(backend).collect();
            let _ = writeln!(
                out,
                "[[services]]\nname = \"s{name}\"\nvips = [\"{}\"]\nports = [{{ protocol = \"tcp\", port = {} }}]\n\
                 backends = [{}]\nhealth_check = {{ kind = \"tcp\" }}",
                vip_of(*vip),
                8000 + u16::from(*name),
                backends.join(", ")
            );
        }
        if self.has_bgp {
            let _ = writeln!(
                out,
                "[bgp]\nasn = 64512\nfloor = {}\n[[bgp.peers]]\naddress = \"10.0.0.1\"\nasn = 64513",
                self.floor
            );
        }
        out
    }

    /// What is to be announced, told from the reference page: `before` is what is announced already.
    fn announced(&self, before: &BTreeSet<String>) -> BTreeSet<String> {
        if !self.has_bgp {
            return BTreeSet::new();
        }
        // For each VIP that has an active backend: for how long its last healthy one has been gone.
        let mut vips: BTreeMap<u8, Option<u64>> = BTreeMap::new();
        for service in self.services.values() {
            let active: Vec<u8> =
                service.backends.iter().filter(|(_, active)| **active).map(|(number, _)| *number).collect();
            if active.is_empty() {
                continue;
            }
            let gone = match active.iter().all(|number| self.sick.contains_key(number)) {
                true => active.iter().map(|number| self.sick[number]).min(),
                false => None,
            };
            vips.entry(service.vip)
                .and_modify(|other| *other = other.zip(gone).map(|(one, other)| one.min(other)))
                .or_insert(gone);
        }
        let healthy = vips.values().filter(|gone| gone.is_none()).count();
        let is_believed = healthy * 100 >= usize::from(self.floor) * vips.len();
        let is_announced = |(vip, gone): (&u8, &Option<u64>)| {
            let prefix = format!("{}/32", vip_of(*vip));
            let is_up = match gone {
                None => true,
                Some(_) if !is_believed => true,
                Some(seconds) if *seconds < 5 => before.contains(&prefix),
                Some(_) => false,
            };
            is_up.then_some(prefix)
        };
        vips.iter().filter_map(is_announced).collect()
    }
}

fn file() -> impl Strategy<Value = File> {
    let service = (1..5_u8, proptest::collection::btree_map(1..6_u8, any::<bool>(), 1..4))
        .prop_map(|(vip, backends)| Service { vip, backends });
    let services = proptest::collection::btree_map(1..6_u8, service, 0..5);
    let sick = proptest::collection::btree_map(1..6_u8, prop_oneof![0..5_u64, 5..60_u64], 0..6);
    let floor = prop_oneof![Just(0), Just(50), 1..101_u8];
    (services, sick, prop::bool::weighted(0.9), floor).prop_map(|(services, sick, has_bgp, floor)| File {
        services,
        sick,
        has_bgp,
        floor,
    })
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn pass(reconciler: &mut Reconciler, node: &Node, file: &File) -> Report {
    node.verdicts(file);
    reconciler.pass(&world::text(&file.text()), Reason::Asked, None).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn b9_b10_what_is_announced_is_what_the_reference_says_and_never_before_its_time(
        files in proptest::collection::vec(file(), 1..5),
    ) {
        run(async {
            let node = Node::new();
            let mut reconciler = node.reconciler();
            for file in &files {
                let before = node.keys(bgp_path::NAME);
                pass(&mut reconciler, &node, file).await;
                prop_assert_eq!(&*node.wrong.lock().unwrap(), &Vec::<String>::new(), "{:?}", node.took());
                prop_assert_eq!(node.keys(bgp_path::NAME), file.announced(&before), "{}", file.text());
                node.took();
                pass(&mut reconciler, &node, file).await;
                prop_assert_eq!(node.took(), Vec::<String>::new(), "a second pass has nothing to do");
            }
            reconciler.tear_down().await;
            prop_assert_eq!(&*node.wrong.lock().unwrap(), &Vec::<String>::new());
            Ok(())
        })?;
    }

    #[test]
    fn b9_whatever_fails_nothing_is_announced_that_the_datapath_does_not_take(
        files in proptest::collection::vec(file(), 1..4),
        faults in proptest::collection::vec((0..3_usize, 0..6_usize), 1..5),
    ) {
        run(async {
            let node = Node::new();
            let mut reconciler = node.reconciler();
            for file in &files {
                for (kind, after) in &faults {
                    let mut world = node.fakes[KINDS[*kind]].world();
                    world.next = std::iter::repeat_n(None, *after).collect();
                    world.next.push_back(Some(Fault::Fail("the kernel said no".into())));
                }
                pass(&mut reconciler, &node, file).await;
                prop_assert_eq!(&*node.wrong.lock().unwrap(), &Vec::<String>::new(), "{:?}", node.took());
            }
            for fake in node.fakes.values() {
                fake.world().next.clear();
            }
            let last = files.last().unwrap();
            let before = node.keys(bgp_path::NAME);
            pass(&mut reconciler, &node, last).await;
            prop_assert_eq!(node.keys(bgp_path::NAME), last.announced(&before));
            Ok(())
        })?;
    }
}

fn two_services() -> File {
    let service = |vip: u8| Service { vip, backends: BTreeMap::from([(vip, true)]) };
    let services = BTreeMap::from([(1, service(1)), (2, service(2))]);
    File { services, sick: BTreeMap::new(), has_bgp: true, floor: 50 }
}

#[test]
fn b9_a_vip_is_announced_after_its_datapath_and_withdrawn_before_it_goes() {
    run(async {
        let (node, mut file) = (Node::new(), two_services());
        let mut reconciler = node.reconciler();
        pass(&mut reconciler, &node, &file).await;
        let up = [
            "create service/192.0.2.1:8001/tcp",
            "create service/192.0.2.2:8002/tcp",
            "create vip/192.0.2.1",
            "create vip/192.0.2.2",
            "create attachment/eth0",
            "create bgp_instance/managed",
            "create bgp_path/192.0.2.1/32",
            "create bgp_path/192.0.2.2/32",
            "create bgp_peer/10.0.0.1",
        ];
        assert_eq!(node.took(), up);
        file.services.remove(&1);
        pass(&mut reconciler, &node, &file).await;
        let down =
            ["delete bgp_path/192.0.2.1/32", "delete vip/192.0.2.1", "delete service/192.0.2.1:8001/tcp"];
        assert_eq!(node.took(), down);
        reconciler.tear_down().await;
        let all = [
            "delete bgp_peer/10.0.0.1",
            "delete bgp_path/192.0.2.2/32",
            "delete bgp_instance/managed",
            "delete attachment/eth0",
            "delete vip/192.0.2.2",
            "delete service/192.0.2.2:8002/tcp",
        ];
        assert_eq!(node.took(), all);
    });
}

#[test]
fn b9_a_service_that_fails_keeps_its_vip_from_being_announced_and_no_other() {
    run(async {
        let (node, file) = (Node::new(), two_services());
        let faults = [Fault::Fail("full".into()), Fault::Fail("full".into())];
        let key = Key::new("192.0.2.1:8001/tcp");
        node.fakes[service::NAME].world().faults.insert(key, faults.into());
        let mut reconciler = node.reconciler();
        let report = pass(&mut reconciler, &node, &file).await;
        assert_eq!(node.keys(bgp_path::NAME), ["192.0.2.2/32".to_owned()].into());
        let waits = report.not_ready.iter().find(|one| one.key == "192.0.2.1/32").unwrap();
        assert_eq!(waits.message, "create: it waits for service/192.0.2.1:8001/tcp");
        pass(&mut reconciler, &node, &file).await;
        assert_eq!(node.keys(bgp_path::NAME).len(), 2);
    });
}

#[test]
fn b1_b3_trouble_with_gobgpd_stays_with_bgp() {
    run(async {
        let (node, mut file) = (Node::new(), two_services());
        let mut reconciler = node.reconciler();
        pass(&mut reconciler, &node, &file).await;
        for kind in [bgp_instance::NAME, bgp_path::NAME, bgp_peer::NAME] {
            node.fakes[kind].world().blind = Some("gobgpd did not answer within 2 s".into());
        }
        node.took();
        file.services.remove(&1);
        file.services.insert(3, Service { vip: 3, backends: BTreeMap::from([(3, true)]) });
        let report = pass(&mut reconciler, &node, &file).await;
        let expected = [
            "create service/192.0.2.3:8003/tcp",
            "create vip/192.0.2.3",
            "delete vip/192.0.2.1",
            "delete service/192.0.2.1:8001/tcp",
        ];
        assert_eq!(node.took(), expected);
        let unread = report.kinds[bgp_path::NAME].unread.as_deref();
        assert_eq!(unread, Some("gobgpd did not answer within 2 s"));
        for kind in [bgp_instance::NAME, bgp_path::NAME, bgp_peer::NAME] {
            node.fakes[kind].world().blind = None;
        }
        pass(&mut reconciler, &node, &file).await;
        assert_eq!(node.took(), ["create bgp_path/192.0.2.3/32", "delete bgp_path/192.0.2.1/32"]);
    });
}

#[test]
fn an_announcement_that_fails_does_not_keep_services_from_being_removed() {
    run(async {
        let (node, mut file) = (Node::new(), two_services());
        let mut reconciler = node.reconciler();
        pass(&mut reconciler, &node, &file).await;
        node.took();
        file.services.remove(&1);
        file.services.insert(3, Service { vip: 3, backends: BTreeMap::from([(3, true)]) });
        let key = Key::new("192.0.2.3/32");
        let faults = [Fault::Fail("hung".into()), Fault::Fail("hung".into())];
        node.fakes[bgp_path::NAME].world().faults.insert(key, faults.into());
        pass(&mut reconciler, &node, &file).await;
        assert!(
            !node.has(service::NAME, "192.0.2.1:8001/tcp") && node.has(service::NAME, "192.0.2.3:8003/tcp")
        );
    });
}

#[test]
fn b2_what_a_gobgpd_forgot_is_told_again_paths_before_peers() {
    run(async {
        let (node, file) = (Node::new(), two_services());
        let mut reconciler = node.reconciler();
        pass(&mut reconciler, &node, &file).await;
        node.took();
        for kind in [bgp_instance::NAME, bgp_path::NAME, bgp_peer::NAME] {
            node.fakes[kind].world().owned.clear();
        }
        pass(&mut reconciler, &node, &file).await;
        let expected = [
            "create bgp_instance/managed",
            "create bgp_path/192.0.2.1/32",
            "create bgp_path/192.0.2.2/32",
            "create bgp_peer/10.0.0.1",
        ];
        assert_eq!(node.took(), expected);
    });
}

#[test]
fn b7_what_somebody_else_announces_is_a_conflict_and_stays() {
    run(async {
        let (node, file) = (Node::new(), two_services());
        let holder = "announced by somebody else through the same gobgpd";
        node.fakes[bgp_path::NAME].world().foreign.insert(Key::new("192.0.2.1/32"), holder.into());
        let mut reconciler = node.reconciler();
        let report = pass(&mut reconciler, &node, &file).await;
        let conflict = report.not_ready.iter().find(|one| one.key == "192.0.2.1/32").unwrap();
        assert_eq!(conflict.message, format!("held by {holder}"));
        assert_eq!(node.keys(bgp_path::NAME), ["192.0.2.2/32".to_owned()].into());
    });
}

#[test]
fn the_time_of_a_withdrawal_makes_a_pass() {
    run(async {
        let (node, mut file) = (Node::new(), two_services());
        let mut reconciler = node.reconciler();
        pass(&mut reconciler, &node, &file).await;
        file.sick.insert(1, 3);
        let report = pass(&mut reconciler, &node, &file).await;
        assert_eq!(report.next_try_ms, Some(2_000));
        file.sick.insert(1, 5);
        let report = pass(&mut reconciler, &node, &file).await;
        assert_eq!((report.next_try_ms, node.keys(bgp_path::NAME).len()), (None, 1));
    });
}

#[test]
fn a_plan_reads_like_a_sentence() {
    run(async {
        let (node, file) = (Node::new(), two_services());
        node.verdicts(&file);
        let rule = "[[bgp.announcements]]\ncommunities = [\"64512:100\"]\n";
        let reading = world::text(&format!("{}{rule}", file.text()));
        let plan = node.reconciler().preview(&reading).await.unwrap().plan;
        let text = render::text(&plan, &[], Colour::Never, Limits::NONE);
        assert!(text.contains("  + announce 192.0.2.1/32 to 10.0.0.1 (community 64512:100)\n"), "{text}");
        assert!(text.contains("  + bgp_instance managed  AS 64512, router identifier 10.0.0.11\n"), "{text}");
        assert!(text.contains("  + bgp_peer 10.0.0.1  AS 64513, ipv4\n"), "{text}");
    });
}
