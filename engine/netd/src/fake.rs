//! A world in memory for any kind, which can be told to fail: what scenarios are played on.

use crate::facts::{Address, Facts, Link, NextHop, Route, RouteAction, TABLE_MAIN};
use crate::target::Target;
use async_trait::async_trait;
use ipnetwork::IpNetwork;
use netd_core::{Action, Key, Observation, Outcome, Step, Table};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A link that is up, of no kind and without an Ethernet address.
#[must_use]
pub fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.into(),
        mac: None,
        mtu: 1500,
        up: true,
        kind: String::new(),
        alias: String::new(),
        xdp: None,
    }
}

/// An address on a link that anybody may talk to.
#[must_use]
pub fn address(link: u32, address: IpAddr, prefix_len: u8) -> Address {
    Address { link, address, prefix_len, usable: true, temporary: false, global: true }
}

/// A route of the kernel's own that leaves by a link, to a router if one is named.
#[must_use]
pub fn route(destination: IpNetwork, link: u32, via: Option<IpAddr>) -> Route {
    /// `RTPROT_STATIC`.
    const STATIC: u8 = 4;
    Route {
        destination,
        table: TABLE_MAIN,
        metric: 0,
        protocol: STATIC,
        action: RouteAction::Forward(vec![NextHop { link, via, weight: 1 }]),
        source: None,
        mtu: None,
    }
}

/// What goes wrong with one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not made, and reported as failed.
    Fail(String),
    /// It is made, and reported as failed: the acknowledgement was lost.
    LoseAck(String),
    /// It is not made, and reported as done: the world forgot it at once.
    Forget,
}

/// What a fake world holds, and what it was told to do wrong.
#[derive(Default)]
pub struct World {
    /// The resources that are netd's.
    pub owned: Table,
    /// The keys that something else holds, and what.
    pub foreign: BTreeMap<Key, String>,
    /// What is said of resources beside their spec.
    pub notes: BTreeMap<Key, String>,
    /// Why nothing can be observed now, if so.
    pub blind: Option<String>,
    /// Faults of steps on a key, one for each step to come.
    pub faults: BTreeMap<Key, VecDeque<Fault>>,
    /// Faults of any steps, one for each to come; `None` lets one pass.
    pub next: VecDeque<Option<Fault>>,
    /// Every step that was tried, as `create 10.244.2.0/24`, in order.
    pub log: Vec<String>,
}

/// A target on a [`World`]. Clones share the world, so that a test can look and meddle.
#[derive(Clone, Default)]
pub struct FakeTarget {
    world: Arc<Mutex<World>>,
}

impl FakeTarget {
    /// The world, to look at it and to change it as somebody else would.
    pub fn world(&self) -> MutexGuard<'_, World> {
        // A panic elsewhere already fails the test; the world itself is still whole.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Target for FakeTarget {
    async fn observe(&mut self, _facts: &Facts) -> Result<Observation, String> {
        let world = self.world();
        match &world.blind {
            Some(reason) => Err(reason.clone()),
            None => Ok(Observation {
                owned: world.owned.clone(),
                foreign: world.foreign.clone(),
                notes: world.notes.clone(),
            }),
        }
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let mut world = self.world();
        steps.iter().map(|step| world.make(step)).collect()
    }
}

impl World {
    fn make(&mut self, step: &Step) -> Outcome {
        let key = &step.id.key;
        self.log.push(format!("{} {key}", step.action.word()));
        let of_any = self.next.pop_front().flatten();
        let of_key = self.faults.get_mut(key).and_then(VecDeque::pop_front);
        match of_any.or(of_key) {
            Some(Fault::Fail(reason)) => Outcome::Failed(reason),
            Some(Fault::Forget) => Outcome::Applied,
            Some(Fault::LoseAck(reason)) => match self.change(step) {
                Outcome::Applied => Outcome::Failed(reason),
                refused => refused,
            },
            None => self.change(step),
        }
    }

    fn change(&mut self, step: &Step) -> Outcome {
        let key = &step.id.key;
        match &step.action {
            Action::Create { to } | Action::Update { to, .. } => {
                if let (Some(holder), None) = (self.foreign.get(key), self.owned.get(key)) {
                    return Outcome::Conflict(holder.clone());
                }
                self.owned.insert(key.clone(), Arc::clone(to));
            }
            Action::Delete { .. } => {
                self.owned.remove(key);
            }
        }
        Outcome::Applied
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::conformance::Subject;
    use netd_core::{Described, FieldChange, ResourceId, Spec};

    #[derive(Debug, PartialEq, serde::Serialize)]
    struct Colour(&'static str);

    impl Described for Colour {
        fn summary(&self) -> String {
            self.0.into()
        }

        fn changes(&self, observed: &Self) -> Vec<FieldChange> {
            vec![FieldChange::changed("colour", observed.0, self.0)]
        }
    }

    fn colour(name: &'static str) -> Arc<dyn Spec> {
        Arc::new(Colour(name))
    }

    fn subject(
        target: &mut FakeTarget,
    ) -> Subject<'_, impl FnMut() -> std::future::Ready<Result<Facts, String>>> {
        Subject {
            kind: "colour",
            target,
            facts: || std::future::ready(Ok(Facts::default())),
            resources: [(Key::new("sky"), colour("blue")), (Key::new("sea"), colour("green"))],
            updated: Some(colour("grey")),
        }
    }

    fn create(key: &str) -> Step {
        let id = ResourceId { kind: "colour", key: Key::new(key) };
        Step { id, action: Action::Create { to: colour("blue") } }
    }

    #[tokio::test]
    async fn the_fake_keeps_what_every_target_promises() {
        let mut target = FakeTarget::default();
        subject(&mut target).check().await.unwrap();
        target.world().foreign.insert(Key::new("sky"), "somebody".into());
        subject(&mut target).check_foreign().await.unwrap();
    }

    #[tokio::test]
    async fn the_promises_are_not_kept_by_a_world_that_forgets() {
        for forgotten in 0..9 {
            let mut target = FakeTarget::default();
            let mut faults: VecDeque<Option<Fault>> = (0..forgotten).map(|_| None).collect();
            faults.push_back(Some(Fault::Forget));
            target.world().next = faults;
            let kept = subject(&mut target).check().await;
            // Steps 2, 3 and 5 repeat what is done already, step 7 deletes what is absent.
            let harmless = [2, 3, 5, 7].contains(&forgotten);
            assert_eq!(kept.is_ok(), harmless, "step {forgotten}: {kept:?}");
        }
    }

    #[tokio::test]
    async fn k13_a_lost_acknowledgement_reports_failure_of_a_step_that_was_made() {
        let mut target = FakeTarget::default();
        target.world().faults.insert(Key::new("sky"), VecDeque::from([Fault::LoseAck("lost".into())]));
        let outcomes = target.apply(&[create("sky"), create("sea")], &Facts::default()).await;
        assert_eq!(outcomes, [Outcome::Failed("lost".into()), Outcome::Applied]);
        assert_eq!(target.world().owned.len(), 2);
    }

    #[tokio::test]
    async fn a_failed_step_is_not_made_and_does_not_keep_the_next_from_being_tried() {
        let mut target = FakeTarget::default();
        target.world().next = VecDeque::from([Some(Fault::Fail("no".into()))]);
        let outcomes = target.apply(&[create("sky"), create("sea")], &Facts::default()).await;
        assert_eq!(outcomes, [Outcome::Failed("no".into()), Outcome::Applied]);
        let world = target.world();
        assert_eq!(world.owned.keys().map(Key::as_str).collect::<Vec<_>>(), ["sea"]);
        assert_eq!(world.log, ["create sky", "create sea"]);
    }

    #[tokio::test]
    async fn a_blind_world_is_unknown_and_not_empty() {
        let mut target = FakeTarget::default();
        target.world().blind = Some("dark".into());
        assert_eq!(target.observe(&Facts::default()).await.unwrap_err(), "dark");
    }
}
