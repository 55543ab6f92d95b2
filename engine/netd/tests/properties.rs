//! Properties of whole passes on random files and random worlds; the letters are those of the invariants.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod world;

use netd::ledger::Ledger;
use netd::reconcile::Reconciler;
use netd::report::{Reason, Report, Word};
use netd::source::Reading;
use netd_core::render;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use world::{ATTACHMENT, ORDER, ROUTE, SERVICE, Shared, text};

/// What a random file says.
#[derive(Clone, Debug)]
struct File {
    /// The pod CIDRs and their nodes.
    nodes: BTreeMap<u8, BTreeSet<u8>>,
    /// Services and their backends.
    services: BTreeMap<u8, BTreeSet<u8>>,
    devices: BTreeSet<u8>,
}

impl File {
    fn text(&self) -> String {
        let mut out = String::from("version = 1\nallow_empty = true\n");
        let devices: Vec<String> = self.devices.iter().map(|device| format!("\"eth{device}\"")).collect();
        if !devices.is_empty() {
            let _ = writeln!(out, "[load_balancer]\ndevices = [{}]", devices.join(", "));
        }
        for (node, pods) in &self.nodes {
            let pods: Vec<String> = pods.iter().map(|pod| format!("\"10.{node}.{pod}.0/24\"")).collect();
            let pods = pods.join(", ");
            let _ = writeln!(
                out,
                "[[nodes]]\nname = \"n{node}\"\naddresses = [\"10.0.0.{node}\"]\npod_cidrs = [{pods}]"
            );
        }
        for (service, backends) in &self.services {
            let backends: Vec<String> =
                backends.iter().map(|backend| format!("{{ address = \"10.1.0.{backend}\" }}")).collect();
            let backends = backends.join(", ");
            let _ = writeln!(
                out,
                "[[services]]\nname = \"s{service}\"\nvips = [\"192.0.2.{service}\"]\n\
                 ports = [{{ protocol = \"tcp\", port = 80 }}]\nbackends = [{backends}]"
            );
        }
        out
    }

    fn reading(&self) -> Reading {
        text(&self.text())
    }
}

fn file() -> impl Strategy<Value = File> {
    let nodes = btree_map(1..5_u8, btree_set(0..3_u8, 0..3), 0..4);
    let services = btree_map(1..7_u8, btree_set(1..5_u8, 1..4), 0..6);
    (nodes, services, btree_set(0..3_u8, 0..3)).prop_map(|(nodes, services, devices)| File {
        nodes,
        services,
        devices,
    })
}

/// What somebody else did: owned things that nobody asks for, and foreign holders of keys.
fn mess() -> impl Strategy<Value = Vec<(bool, u8, u8)>> {
    vec((any::<bool>(), 0..3_u8, 1..7_u8), 0..6)
}

fn make_mess(world: &Shared, mess: &[(bool, u8, u8)]) {
    let mut world = world.lock();
    for (is_foreign, kind, number) in mess {
        let place = match kind {
            0 => (ROUTE, format!("10.{number}.1.0/24")),
            1 => (SERVICE, format!("192.0.2.{number}:80/tcp")),
            _ => (ATTACHMENT, format!("eth{number}")),
        };
        match is_foreign {
            true if !world.owned.contains_key(&place) => {
                world.foreign.insert(place, "somebody".into());
            }
            false if !world.foreign.contains_key(&place) => {
                world.owned.insert(place, "changed".into());
            }
            _ => {}
        }
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn world() -> Shared {
    let world = Shared::default();
    world.lock().links = vec!["eth0".into(), "eth1".into()];
    world
}

/// A pass with whatever it needs to be allowed.
async fn pass(reconciler: &mut Reconciler, reading: &Reading) -> Report {
    let report = reconciler.pass(reading, Reason::Asked, None).await;
    match &report.held_back {
        Some(held) => reconciler.pass(reading, Reason::Asked, Some(&held.plan)).await,
        None => report,
    }
}

fn ops(world: &Shared) -> Vec<String> {
    std::mem::take(&mut world.lock().ops)
}

type Owned = BTreeMap<(&'static str, String), String>;

fn owned(world: &Shared) -> Owned {
    world.lock().owned.clone()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s1_s2_one_pass_is_enough_and_the_next_does_nothing(before in file(), after in file(), mess in mess()) {
        run(async {
            let world = world();
            let mut reconciler = world.reconciler(Ledger::in_memory());
            pass(&mut reconciler, &before.reading()).await;
            make_mess(&world, &mess);
            let report = pass(&mut reconciler, &after.reading()).await;
            prop_assert!(report.pass.rounds <= 1, "{} rounds", report.pass.rounds);
            prop_assert_eq!(report.pass.not_applied, 0);
            ops(&world);
            let records = reconciler.ledger().records();
            let again = reconciler.pass(&after.reading(), Reason::Resync, None).await;
            prop_assert_eq!(ops(&world), Vec::<String>::new());
            prop_assert_eq!(again.pass.rounds, 0);
            prop_assert_eq!(reconciler.ledger().records(), records);
            prop_assert!(reconciler.preview(&after.reading()).await.unwrap().plan.is_empty());
            Ok(())
        })?;
    }

    #[test]
    fn s3_each_changed_resource_is_touched_once_and_no_other(before in file(), after in file()) {
        run(async {
            let world = world();
            let mut reconciler = world.reconciler(Ledger::in_memory());
            pass(&mut reconciler, &before.reading()).await;
            let had = owned(&world);
            ops(&world);
            pass(&mut reconciler, &after.reading()).await;
            let has = owned(&world);
            let touched: Vec<String> =
                ops(&world).iter().map(|op| op.split_once(' ').unwrap().1.to_owned()).collect();
            let keys: BTreeSet<_> = had.keys().chain(has.keys()).collect();
            let differs = |key: &&&(&str, String)| had.get(**key) != has.get(**key);
            let expected: BTreeSet<String> =
                keys.iter().filter(differs).map(|(kind, key)| format!("{kind}/{key}")).collect();
            prop_assert_eq!(touched.len(), expected.len());
            prop_assert_eq!(touched.into_iter().collect::<BTreeSet<_>>(), expected);
            Ok(())
        })?;
    }

    #[test]
    fn s4_what_is_foreign_stays_as_it_is(before in file(), after in file(), mess in mess()) {
        run(async {
            let world = world();
            make_mess(&world, &mess);
            let foreign = world.lock().foreign.clone();
            let mut reconciler = world.reconciler(Ledger::in_memory());
            for file in [&before, &after] {
                pass(&mut reconciler, &file.reading()).await;
            }
            reconciler.tear_down().await;
            prop_assert_eq!(&world.lock().foreign, &foreign);
            prop_assert_eq!(owned(&world), Owned::new());
            let touched = |op: &String| foreign.keys().any(|(kind, key)| op.ends_with(&format!("{kind}/{key}")));
            prop_assert!(!ops(&world).iter().any(touched));
            Ok(())
        })?;
    }

    #[test]
    fn s14_what_a_plan_says_is_what_apply_does(before in file(), after in file(), mess in mess()) {
        run(async {
            let world = world();
            let mut reconciler = world.reconciler(Ledger::in_memory());
            pass(&mut reconciler, &before.reading()).await;
            make_mess(&world, &mess);
            ops(&world);
            let plan = reconciler.preview(&after.reading()).await.unwrap().plan;
            let twin = reconciler.preview(&after.reading()).await.unwrap().plan;
            prop_assert_eq!(ops(&world), Vec::<String>::new());
            prop_assert_eq!(plan.id(), twin.id());
            prop_assert_eq!(render::json(&plan, &[]).to_string(), render::json(&twin, &[]).to_string());
            let said: Vec<String> =
                plan.steps.iter().map(|step| format!("{} {}", step.action.word(), step.id)).collect();
            reconciler.pass(&after.reading(), Reason::Asked, Some(plan.id().as_str())).await;
            prop_assert_eq!(ops(&world), said);
            Ok(())
        })?;
    }

    #[test]
    fn s12_a_refused_file_changes_nothing(before in file(), garbage in "[a-z=\\[\\]\" \n]{0,40}") {
        run(async {
            let world = world();
            let mut reconciler = world.reconciler(Ledger::in_memory());
            pass(&mut reconciler, &before.reading()).await;
            let had = owned(&world);
            ops(&world);
            let reading = text(&format!("{}\nnot a key\n{garbage}", before.text()));
            let report = reconciler.pass(&reading, Reason::ConfigChanged, None).await;
            prop_assert_eq!(report.word, Word::ConfigInvalid);
            prop_assert_eq!(ops(&world), Vec::<String>::new());
            prop_assert_eq!(owned(&world), had);
            prop_assert_eq!(reconciler.ledger().store().history().len(), 1);
            Ok(())
        })?;
    }

    #[test]
    fn a_failure_that_ends_leaves_no_trace(before in file(), after in file(), kind in 0..3_usize) {
        run(async {
            let (hurt, whole) = (world(), world());
            let mut there = whole.reconciler(Ledger::in_memory());
            let mut here = hurt.reconciler(Ledger::in_memory());
            for (reconciler, file) in [(&mut there, &before), (&mut here, &before)] {
                pass(reconciler, &file.reading()).await;
            }
            pass(&mut there, &after.reading()).await;
            hurt.lock().failing.push((ORDER[kind], String::new()));
            pass(&mut here, &after.reading()).await;
            hurt.lock().failing.clear();
            let report = pass(&mut here, &after.reading()).await;
            prop_assert_eq!(owned(&hurt), owned(&whole));
            prop_assert!(report.next_try_ms.is_none());
            Ok(())
        })?;
    }
}

/// A pass that dies before operation `ops` + 1, and what the next process starts with.
async fn crash(world: &Shared, mut reconciler: Reconciler, reading: &Reading, ops: usize) -> (Ledger, bool) {
    world.lock().ops_left = Some(ops);
    let died = Arc::clone(&world.lock().died);
    let has_died = tokio::select! {
        biased;
        () = died.notified() => true,
        _ = pass(&mut reconciler, reading) => false,
    };
    world.lock().ops_left = None;
    (reconciler.into_setup().ledger, has_died)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s6_s7_p2_a_crash_before_any_operation_converges(before in file(), after in file()) {
        run(async {
            let whole = world();
            let mut reconciler = whole.reconciler(Ledger::in_memory());
            pass(&mut reconciler, &before.reading()).await;
            ops(&whole);
            pass(&mut reconciler, &after.reading()).await;
            let (expected, count) = (owned(&whole), ops(&whole).len());
            for at in 0..=count {
                let world = world();
                let mut reconciler = world.reconciler(Ledger::in_memory());
                pass(&mut reconciler, &before.reading()).await;
                let (ledger, has_died) = crash(&world, reconciler, &after.reading(), at).await;
                prop_assert_eq!(has_died, at < count);
                // A second crash, at the first operation of the recovery: it gets no further, and no worse.
                let (ledger, _) = crash(&world, world.reconciler(ledger), &after.reading(), 0).await;
                ops(&world);
                let mut reconciler = world.reconciler(ledger);
                let report = pass(&mut reconciler, &after.reading()).await;
                prop_assert_eq!(owned(&world), expected.clone());
                prop_assert_eq!(ops(&world).len(), count - at, "what was done is not done again");
                prop_assert!(report.next_try_ms.is_none());
            }
            Ok(())
        })?;
    }

    #[test]
    fn s20_the_store_is_only_a_cache(before in file(), after in file()) {
        run(async {
            let mut found = Vec::new();
            for forget in [false, true] {
                let world = world();
                let mut reconciler = world.reconciler(Ledger::in_memory());
                pass(&mut reconciler, &before.reading()).await;
                let ledger = reconciler.into_setup().ledger;
                let mut reconciler = world.reconciler(if forget { Ledger::in_memory() } else { ledger });
                ops(&world);
                pass(&mut reconciler, &after.reading()).await;
                found.push((owned(&world), ops(&world)));
            }
            prop_assert_eq!(&found[0], &found[1]);
            Ok(())
        })?;
    }

    #[test]
    fn s5_what_comes_up_comes_from_the_ground_up_and_what_goes_goes_after_it_backwards(
        before in file(), after in file()
    ) {
        run(async {
            let world = world();
            let mut reconciler = world.reconciler(Ledger::in_memory());
            pass(&mut reconciler, &before.reading()).await;
            let had = owned(&world);
            ops(&world);
            pass(&mut reconciler, &after.reading()).await;
            let has = owned(&world);
            let mut last = 0;
            for op in ops(&world) {
                let (verb, id) = op.split_once(' ').unwrap();
                let (kind, key) = id.split_once('/').unwrap();
                let place = ORDER.iter().position(|known| *known == kind).unwrap();
                let is_delete = verb == "delete";
                // Coming up is before going down; each key that both files ask for is there all the time.
                let rank = if is_delete { 2 * ORDER.len() - place } else { place };
                prop_assert!(rank >= last, "{} comes too late", op);
                last = rank;
                let id = (ORDER[place], key.to_owned());
                prop_assert!(!(is_delete && had.contains_key(&id) && has.contains_key(&id)), "{}", op);
            }
            Ok(())
        })?;
    }

    #[test]
    fn s13_no_file_deletes_more_than_a_fifth_unasked(count in 11..60_u8, kept in 0..60_u8) {
        run(async {
            let services = |count: u8| {
                (1..=count).map(|n| (n, BTreeSet::from([1]))).collect::<BTreeMap<_, _>>()
            };
            let file = |count| File { nodes: BTreeMap::new(), services: services(count), devices: BTreeSet::new() };
            let kept = kept.min(count);
            let world = world();
            let mut reconciler = world.reconciler(Ledger::in_memory());
            reconciler.pass(&file(count).reading(), Reason::Asked, None).await;
            ops(&world);
            let report = reconciler.pass(&file(kept).reading(), Reason::ConfigChanged, None).await;
            let deletes = usize::from(count - kept);
            // A file that says that it may be empty may be empty.
            let is_braked = kept > 0 && deletes > 10 && deletes * 5 > usize::from(count);
            prop_assert_eq!(report.held_back.is_some(), is_braked);
            prop_assert_eq!(ops(&world).len(), if is_braked { 0 } else { deletes });
            Ok(())
        })?;
    }
}

/// Wherever a file is cut, also between two tables, where what is left is a valid file.
#[test]
fn c2_no_beginning_of_a_file_deletes_beyond_the_guard() {
    const COUNT: u8 = 40;
    run(async {
        let services = (1..=COUNT).map(|n| (n, BTreeSet::from([1, 2]))).collect();
        let whole = File { nodes: BTreeMap::new(), services, devices: BTreeSet::from([0]) };
        let whole = whole.text().replace("allow_empty = true\n", "");
        let world = world();
        let mut reconciler = world.reconciler(Ledger::in_memory());
        reconciler.pass(&text(&whole), Reason::Asked, None).await;
        ops(&world);
        for end in 0..whole.len() {
            reconciler.pass(&text(&whole[..end]), Reason::ConfigChanged, None).await;
            let deleted = ops(&world).iter().filter(|op| op.starts_with("delete service/")).count();
            assert!(deleted <= 10, "{deleted} services are deleted when {end} bytes are left");
            reconciler.pass(&text(&whole), Reason::ConfigChanged, None).await;
            ops(&world);
        }
    });
}
