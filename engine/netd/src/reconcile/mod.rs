//! One pass: what the file says and what the node is and has, the difference, and closing it.
//!
//! ```text
//!   reading ─ document ─┐                                   ┌─ apply ─ look again ─┐
//!   facts ── look ──────┼─ decide (pure): towards what? ─ plan                     ├─ status, record → Report
//!   observed ───────────┘                                   └──── at most twice ───┘
//! ```
//!
//! `decide` holds every rule about the file and the brakes, `status` every rule about what is reported; this file
//! only walks the stages.

mod apply;
mod decide;
mod document;
mod drift;
mod finish;
mod look;
mod lowering;
mod record;
mod status;
mod towards;
mod turns;

pub use apply::Progress;
pub use finish::log_refusal;
pub use look::ReadFacts;
#[cfg(test)]
pub(crate) use towards::renumbers;

use crate::allocation::AddressReport;
use crate::clock::{self, Stopwatch};
use crate::egress::{EgressReport, OwnerReport};
use crate::facts::Facts;
use crate::ledger::{Acceptance, Ledger};
use crate::pins::Fleeting;
use crate::report::{Reason, Report, ResourceReport, Stages, Word, micros};
use crate::source::Reading;
use crate::target::KindEntry;
use apply::{Manner, Outcomes};
use decide::{Decided, Decision, InForce, Look};
use document::{Documents, Verdict};
use drift::Settled;
use finish::{Walk, log_outcomes, recall};
use lowering::{Memory, Planning, named, order};
use netd_core::{Backoff, Brake, Plan};
use netd_schema::Config;
use record::Records;
use status::Standing;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use towards::Given;
use turns::Turns;

/// Changes are applied at most this often in one pass: once, and once more for what the first time brought to light.
const ROUNDS_MAX: usize = 2;

/// What a reconciler works with.
pub struct Setup {
    /// The name by which the node finds itself in the file.
    pub node: String,
    /// The instance of netd.
    pub instance: String,
    /// Where the file is.
    pub config: String,
    /// The kinds, from the ground up.
    pub kinds: Vec<KindEntry>,
    /// Reads what the node is.
    pub facts: Box<dyn ReadFacts>,
    /// What is remembered.
    pub ledger: Ledger,
}

/// Makes passes.
pub struct Reconciler {
    setup: Setup,
    documents: Documents,
    in_force: Option<InForce>,
    /// Why the last good file is not in force, if so.
    unusable: Option<String>,
    records: Records,
    memory: Memory,
    settled: Settled,
    turns: Turns,
    /// For what no resource stands for: a node or a kind that cannot be read, a key that somebody else holds.
    backoff: Backoff,
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    report: Report,
    stop: Arc<AtomicBool>,
    fleeting: Option<Fleeting>,
    complete: Box<dyn Fn(&mut Report) + Send + Sync>,
    progress: Box<dyn Fn(Progress) + Send + Sync>,
    settled_on: Box<SettledOn>,
}

/// Is told what a pass worked towards, and what the node is after it; without a file after a teardown.
pub type SettledOn = dyn Fn(Option<&Config>, &Facts) + Send + Sync;

/// What would be done, and nothing done.
#[derive(Debug)]
pub struct Preview {
    /// The way towards the file that was read.
    pub plan: Plan,
    /// What about it has to be allowed first.
    pub brakes: Vec<Brake>,
    /// The SHA-256 of the file that the plan leads to.
    pub sha256: String,
    /// Doubts about the file, rendered; empty if there are none.
    pub doubts: String,
}

impl Reconciler {
    /// Starts from the last good file, if there is one.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let mut documents = Documents::default();
        let (in_force, unusable) = match recall(&mut documents, &setup.ledger) {
            Ok(in_force) => (in_force, None),
            Err(why) => (None, Some(why)),
        };
        let turns = Turns::of(&setup.node, &setup.instance);
        Self {
            setup,
            documents,
            in_force,
            unusable,
            records: Records::default(),
            memory: Memory::default(),
            settled: Settled::default(),
            turns,
            backoff: Backoff::default(),
            clock: Box::new(clock::awake),
            report: Report::default(),
            stop: Arc::default(),
            fleeting: None,
            complete: Box::new(|_| ()),
            progress: Box::new(|_| ()),
            settled_on: Box::new(|_, _| ()),
        }
    }

    /// Reports this where resources that it is about are wanted.
    pub fn warn_of_pins(&mut self, fleeting: Option<Fleeting>) {
        self.fleeting = fleeting;
    }

    /// Has this add to each report what no kind's resources say.
    pub fn complete_reports(&mut self, complete: impl Fn(&mut Report) + Send + Sync + 'static) {
        self.complete = Box::new(complete);
    }

    /// Calls this for each group of changes.
    pub fn on_progress(&mut self, progress: impl Fn(Progress) + Send + Sync + 'static) {
        self.progress = Box::new(progress);
    }

    /// Calls this at the end of each pass that saw the node and had something to work towards.
    pub fn on_settled(&mut self, settled_on: impl Fn(Option<&Config>, &Facts) + Send + Sync + 'static) {
        self.settled_on = Box::new(settled_on);
    }

    /// Tells the time that retries are timed by: from any moment on, and never backwards.
    pub fn on_clock(&mut self, clock: impl Fn() -> Duration + Send + Sync + 'static) {
        self.clock = Box::new(clock);
    }

    /// Setting this makes a pass stop before its next group of changes.
    #[must_use]
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// The history and the records.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.setup.ledger
    }

    /// The file in force, with the addresses that it has given; before any pass it is the last good one.
    #[must_use]
    pub fn in_force(&self) -> Option<Arc<Config>> {
        self.in_force.as_ref().map(|now| Arc::clone(&now.given().resolved))
    }

    /// The name by which the node finds itself in the file.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.setup.node
    }

    /// Gives the world back, for whoever starts again with it.
    #[must_use]
    pub fn into_setup(self) -> Setup {
        self.setup
    }

    /// Every wanted resource, as the last pass left it.
    #[must_use]
    pub fn resources(&self) -> Vec<ResourceReport> {
        status::all(&self.settled.desired, &self.settled.standing)
    }

    /// Plans towards what `reading` says, and changes nothing anywhere.
    ///
    /// # Errors
    ///
    /// Why there is no plan: the file with its mistakes, or the node that cannot be read.
    pub async fn preview(&mut self, reading: &Reading) -> Result<Preview, String> {
        let document = self.documents.document(reading)?;
        let look = self.look().await?;
        let held = towards::held(&document.config, self.in_force.as_ref(), &look)?;
        let given = Given::of(&document.config, held);
        let mut planning = Planning { kinds: &self.setup.kinds, memory: &mut self.memory };
        let (_, plan) = towards::plan_towards(&mut planning, &given, &look);
        let is_judged = self
            .in_force
            .as_ref()
            .is_some_and(|now| now.document.sha256 == document.sha256 && !now.is_unjudged);
        let brakes = match is_judged {
            true => Vec::new(),
            false => decide::brakes(&self.setup.kinds, &plan, &given.resolved),
        };
        Ok(Preview { plan, brakes, sha256: document.sha256.to_string(), doubts: document.doubts })
    }

    /// Which addresses the services of what `reading` says have, or would get.
    ///
    /// # Errors
    ///
    /// As for [`Reconciler::preview`].
    pub async fn addresses(&mut self, reading: &Reading) -> Result<AddressReport, String> {
        let document = self.documents.document(reading)?;
        // Where a file is in force the node is not asked.
        let held = match &self.in_force {
            Some(now) => now.held(),
            None => towards::held(&document.config, None, &self.look().await?)?,
        };
        Ok(Given::of(&document.config, held).report(document.sha256.to_string()))
    }

    /// How the egress policies in force stand; before any file was accepted, those of what `reading` says.
    ///
    /// # Errors
    ///
    /// As for [`Reconciler::preview`].
    pub async fn egress(&mut self, reading: &Reading) -> Result<EgressReport, String> {
        let look = self.look().await?;
        let given = self.given(reading, &look)?;
        let facts = named(&given.resolved, &look.facts);
        EgressReport::of(&given.resolved, &facts, &look.observed)
    }

    /// The egress policy in force that packets belong to, and how it stands; as for [`Reconciler::egress`].
    ///
    /// # Errors
    ///
    /// As for [`Reconciler::preview`].
    pub async fn egress_of(
        &mut self,
        reading: &Reading,
        from: IpAddr,
        to: IpAddr,
    ) -> Result<Option<OwnerReport>, String> {
        let look = self.look().await?;
        let given = self.given(reading, &look)?;
        let facts = named(&given.resolved, &look.facts);
        OwnerReport::of(&given.resolved, &facts, &look.observed, from, to)
    }

    /// The file in force with its addresses; before any was accepted, what `reading` says.
    fn given(&mut self, reading: &Reading, look: &Look) -> Result<Arc<Given>, String> {
        if let Some(now) = &self.in_force {
            return Ok(now.given());
        }
        let document = self.documents.document(reading)?;
        let held = towards::held(&document.config, None, look)?;
        Ok(Arc::new(Given::of(&document.config, held)))
    }

    /// Plans the removal of everything that is owned.
    ///
    /// # Errors
    ///
    /// Why the node cannot be read.
    pub async fn preview_teardown(&mut self) -> Result<Plan, String> {
        let look = self.look().await?;
        let kinds = &self.setup.kinds;
        Ok(netd_core::plan(&order(kinds), &look::nothing(kinds), &look.observed))
    }

    /// One pass. `allowed` is the identifier of a plan that an operator allows although it is held back.
    pub async fn pass(&mut self, reading: &Reading, reason: Reason, allowed: Option<&str>) -> Report {
        let mut walk = Walk::start(reason);
        let ahead = self.documents.begin(reading);
        let look = self.look_timed(&mut walk.took, &mut walk.watch).await;
        walk.took.parse_us = micros(self.documents.end(ahead).await);
        let verdict = self.documents.consider(reading);
        walk.watch.lap();
        let look = match look {
            Ok(look) => look,
            Err(why) => return self.finish_blind(&verdict, walk, &why),
        };
        let Decided { decision, held_back, unknown } = self.decide(&verdict, &look, allowed);
        if let Some(why) = unknown {
            return self.finish_blind(&verdict, walk, &why);
        }
        walk.took.plan_us = micros(walk.watch.lap());
        let Some(decision) = decision else {
            return self.finish(&verdict, walk, held_back, Settled::default());
        };
        self.come_into_force(&decision);
        if reason == Reason::Asked {
            self.turns.forget();
        }
        let settled = self.close(decision, look, &mut walk).await;
        self.finish(&verdict, walk, held_back, settled)
    }

    fn decide(&mut self, verdict: &Verdict, look: &Look, allowed: Option<&str>) -> Decided {
        let planning = &mut Planning { kinds: &self.setup.kinds, memory: &mut self.memory };
        decide::decide(planning, verdict, self.in_force.as_ref(), look, allowed)
    }

    /// Ends what ends by itself.
    pub async fn tend(&mut self) {
        look::tend(&mut self.setup.kinds).await;
    }

    /// The next look at the node asks the kernel for everything, also for what it should have announced.
    pub fn forget_facts(&mut self) {
        self.setup.facts.forget();
    }

    /// How the node stands against what `reading` says, without changing or remembering anything.
    pub async fn survey(&mut self, reading: &Reading) -> Report {
        let mut walk = Walk::start(Reason::Asked);
        let verdict = self.documents.consider(reading);
        let look = match self.look_timed(&mut walk.took, &mut walk.watch).await {
            Ok(look) => look,
            Err(why) => return self.finish_blind(&verdict, walk, &why),
        };
        let Decided { decision, held_back, unknown } = self.decide(&verdict, &look, None);
        if let Some(why) = unknown {
            return self.finish_blind(&verdict, walk, &why);
        }
        let settled = decision.map_or_else(Settled::default, |decision| {
            walk.notes = status::notes(&decision.desired, &look.observed);
            let standing = Standing::of(&decision.plan, &Outcomes::new());
            Settled { desired: decision.desired, standing, withheld: decision.withheld }
        });
        self.finish(&verdict, walk, held_back, settled)
    }

    /// Removes everything that is owned, in tear-down order.
    pub async fn tear_down(&mut self) -> Report {
        let mut walk = Walk::start(Reason::Asked);
        let verdict = Verdict::unseen();
        let look = match self.look_timed(&mut walk.took, &mut walk.watch).await {
            Ok(look) => look,
            Err(why) => return self.finish_blind(&verdict, walk, &why),
        };
        let decision = Decision::towards_nothing(&self.setup.kinds, &look);
        self.settled = Settled::default();
        self.turns.forget();
        let mut settled = self.close(decision, look, &mut walk).await;
        if settled.standing.word() == Word::Ok {
            settled.standing.unread = look::dismantle(&mut self.setup.kinds).await;
        }
        // Whether a file was ever in force does not matter to what is gone.
        let word = if settled.standing.word() == Word::Ok { Word::TornDown } else { Word::Degraded };
        let mut report = self.finish(&verdict, walk, None, settled);
        report.word = word;
        report
    }

    /// Reads facts and every kind.
    async fn look(&mut self) -> Result<Look, String> {
        self.look_timed(&mut Stages::default(), &mut Stopwatch::start()).await
    }

    async fn look_timed(&mut self, took: &mut Stages, watch: &mut Stopwatch) -> Result<Look, String> {
        let mut facts = look::read_facts(self.setup.facts.as_mut()).await?;
        facts.node.clone_from(&self.setup.node);
        let facts = Arc::new(facts);
        took.facts_us = micros(watch.lap());
        if let Some(in_force) = &self.in_force {
            self.setup.kinds.iter_mut().for_each(|kind| kind.target.aim(&in_force.document.config));
        }
        let observed = look::observe(&mut self.setup.kinds, &facts).await;
        took.observe_us = micros(watch.lap());
        Ok(Look { facts, observed })
    }

    /// What is accepted is remembered before it is applied, so that a crash converges on it.
    fn come_into_force(&mut self, decision: &Decision) {
        if decision.accept.is_none() {
            self.setup.ledger.retry();
        }
        if let Some(document) = &decision.accept {
            let addresses = decision.given.as_ref().map(|given| given.addresses()).unwrap_or_default();
            let (create, update, delete) = decision.plan.counts();
            let summary = format!("{create} to create, {update} to update, {delete} to delete");
            let is_unjudged = decision.is_unjudged;
            let number = self.setup.ledger.accept(Acceptance {
                text: &document.text,
                sha256: document.sha256,
                source: &document.source,
                summary: &summary,
                is_unjudged,
                addresses: &addresses,
            });
            tracing::info!(number, sha256 = %document.sha256, changes = summary, "a new file is in force");
            self.in_force = Some(InForce::new(document.clone(), number, is_unjudged, addresses));
            self.documents.keep_only(&document.sha256);
            if let Some(given) = &decision.given {
                self.memory.keep_only(&given.resolved);
            }
            self.backoff.reset();
            self.turns.forget();
        }
        if let Some(in_force) = &mut self.in_force {
            in_force.is_unjudged = decision.is_unjudged;
            if !decision.is_unjudged {
                self.setup.ledger.judged();
            }
        }
    }

    /// Applies, looks again, and applies what that brings to light.
    async fn close(&mut self, mut decision: Decision, mut look: Look, walk: &mut Walk) -> Settled {
        let mut desired = std::mem::take(&mut decision.desired);
        let mut plan = std::mem::take(&mut decision.plan);
        self.settled.note_drift(&plan, &mut self.report.drift);
        let now = (self.clock)();
        let mut waiting = self.turns.hold(&mut plan, &self.settled, &look.facts, now);
        let mut outcomes = Outcomes::new();
        let mut blind = None;
        while !plan.is_empty() && walk.rounds < ROUNDS_MAX && !self.stop.load(Ordering::Relaxed) {
            walk.rounds += 1;
            walk.watch.lap();
            let manner = Manner { stop: &self.stop, progress: &*self.progress, waiting: &waiting.steps };
            let done = apply::apply(&mut self.setup.kinds, &plan, &look.facts, manner).await;
            walk.took.apply_us += micros(walk.watch.lap());
            let has_progressed = walk.count(&done);
            log_outcomes(&done);
            outcomes.extend(done);
            self.setup.facts.touched();
            match self.look().await {
                Ok(again) => look = again,
                Err(why) => {
                    blind = Some(why);
                    break;
                }
            }
            let planning = &mut Planning { kinds: &self.setup.kinds, memory: &mut self.memory };
            (desired, plan) = decision.again(planning, &look);
            waiting.take_from(&mut plan);
            walk.took.verify_us += micros(walk.watch.lap());
            if !has_progressed {
                break;
            }
        }
        waiting.put_back(&mut plan);
        let mut standing = Standing::of(&plan, &outcomes);
        waiting.stand(&mut standing);
        if let Some(why) = blind {
            standing.unread = order(&self.setup.kinds).into_iter().map(|kind| (kind, why.clone())).collect();
        }
        let is_open = self.turns.learn(&plan, &standing, &outcomes, &waiting, now);
        walk.needs_look = is_open || standing.needs_look(&plan);
        walk.notes = status::notes(&desired, &look.observed);
        walk.turns_in = finish::turns_in(&desired);
        (self.settled_on)(decision.given.as_deref().map(|given| &*given.resolved), &look.facts);
        walk.watch.lap();
        self.records.keep(&self.setup.ledger, &desired, &standing, &outcomes);
        walk.took.verify_us += micros(walk.watch.lap());
        Settled { desired, standing, withheld: decision.withheld }
    }
}
