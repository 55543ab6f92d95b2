//! Decides, without doing, what a pass works towards: the file that was just read, or the one in force; and whether
//! a plan has to be allowed first.

use super::document::{Document, Verdict};
use super::look;
use super::lowering::{Planning, order};
use super::towards::{Given, held, plan_towards, renumbers};
use crate::allocation::{self, Held};
use crate::facts::Facts;
use crate::kinds::bgp_path;
use crate::target::KindEntry;
use netd_core::{Action, Brake, Desired, KindName, Observed, Plan, PlanId};
use netd_schema::Config;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// The file in force.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    pub(crate) document: Document,
    /// Its number in the history.
    pub(crate) number: u64,
    /// Some guarded kind could not be read when it was accepted, so its deletes were not judged.
    pub(crate) is_unjudged: bool,
    /// What its services and egress policies with a pool were given.
    pub(crate) addresses: Held,
    given: Arc<OnceLock<Arc<Given>>>,
    all: Arc<OnceLock<Arc<Held>>>,
}

impl InForce {
    pub(crate) fn new(document: Document, number: u64, is_unjudged: bool, addresses: Held) -> Self {
        Self { document, number, is_unjudged, addresses, given: Arc::default(), all: Arc::default() }
    }

    /// What its services have, named or given; made when it is first asked for.
    pub(crate) fn held(&self) -> Arc<Held> {
        let all = || Arc::new(allocation::in_force(&self.document.config, &self.addresses));
        Arc::clone(self.all.get_or_init(all))
    }

    /// The file with its addresses, those that its services have.
    pub(crate) fn given(&self) -> Arc<Given> {
        let held = || if self.addresses.is_empty() { Arc::default() } else { self.held() };
        let given = || Arc::new(Given::of(&self.document.config, held()));
        Arc::clone(self.given.get_or_init(given))
    }
}

/// A view of the node.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) facts: Arc<Facts>,
    pub(crate) observed: Observed,
}

/// What a pass does.
#[derive(Debug)]
pub(crate) struct Decision {
    /// The file that comes into force, before anything of it is applied.
    pub(crate) accept: Option<Document>,
    /// What is worked towards; `None` is the removal of everything.
    pub(crate) given: Option<Arc<Given>>,
    /// Whether deletes of the file in force stay unjudged after this pass.
    pub(crate) is_unjudged: bool,
    /// What is wanted.
    pub(crate) desired: Desired,
    /// The way there.
    pub(crate) plan: Plan,
    /// Kinds of which nothing is deleted in this pass.
    pub(crate) withheld: BTreeSet<KindName>,
}

/// What a pass does, and what waits for an operator's word.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    /// `None`: nothing was ever accepted, and nothing is now.
    pub(crate) decision: Option<Decision>,
    /// What is not done unless it is allowed.
    pub(crate) held_back: Option<Braked>,
    /// Why nothing can be decided.
    pub(crate) unknown: Option<String>,
}

/// A plan that is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Braked {
    pub(crate) plan: PlanId,
    pub(crate) brakes: Vec<Brake>,
}

/// What the pass works towards.
pub(crate) fn decide(
    planning: &mut Planning<'_>,
    verdict: &Verdict,
    in_force: Option<&InForce>,
    look: &Look,
    allowed: Option<&str>,
) -> Decided {
    let mut held_back = None;
    let is_new = |document: &&Document| in_force.is_none_or(|now| now.document.sha256 != document.sha256);
    if let Some(candidate) = verdict.said.as_ref().ok().filter(is_new) {
        let held = match held(&candidate.config, in_force, look) {
            Ok(held) => held,
            Err(why) => return Decided { unknown: Some(why), ..Decided::default() },
        };
        let given = Arc::new(Given::of(&candidate.config, held));
        let (desired, plan) = plan_towards(planning, &given, look);
        let brakes = brakes(planning.kinds, &plan, &given.resolved);
        if brakes.is_empty() || allowed == Some(plan.id().as_str()) {
            let is_unjudged = is_guarded_kind_unread(planning.kinds, &plan);
            let (accept, given) = (Some(candidate.clone()), Some(given));
            let withheld = BTreeSet::new();
            let decision = Decision { accept, given, is_unjudged, desired, plan, withheld };
            return Decided { decision: Some(decision), ..Decided::default() };
        }
        held_back = Some(Braked { plan: plan.id(), brakes });
    }
    let Some(in_force) = in_force else { return Decided { held_back, ..Decided::default() } };
    let (decision, withheld) = keep(planning, in_force, look, allowed);
    Decided { decision: Some(decision), held_back: held_back.or(withheld), unknown: None }
}

impl Decision {
    /// The removal of everything that is owned.
    pub(crate) fn towards_nothing(kinds: &[KindEntry], look: &Look) -> Self {
        let desired = look::nothing(kinds);
        let plan = netd_core::plan(&order(kinds), &desired, &look.observed);
        Self { accept: None, given: None, is_unjudged: false, desired, plan, withheld: BTreeSet::new() }
    }

    /// What is wanted and what is left to do, after another look.
    pub(crate) fn again(&self, planning: &mut Planning<'_>, look: &Look) -> (Desired, Plan) {
        match &self.given {
            Some(given) => {
                let (desired, mut plan) = plan_towards(planning, given, look);
                withhold(&mut plan, &self.withheld);
                (desired, plan)
            }
            None => {
                let again = Self::towards_nothing(planning.kinds, look);
                (again.desired, again.plan)
            }
        }
    }
}

/// The way towards the file in force. Its deletes were judged when it was accepted, as far as they could be.
fn keep(
    planning: &mut Planning<'_>,
    in_force: &InForce,
    look: &Look,
    allowed: Option<&str>,
) -> (Decision, Option<Braked>) {
    let mut held_back = None;
    let given = in_force.given();
    let (desired, mut plan) = plan_towards(planning, &given, look);
    let (kinds, resolved) = (planning.kinds, Arc::clone(&given.resolved));
    let mut decision = Decision {
        accept: None,
        given: Some(given),
        is_unjudged: in_force.is_unjudged,
        desired,
        plan: Plan::default(),
        withheld: BTreeSet::new(),
    };
    if in_force.is_unjudged {
        let brakes = brakes(kinds, &plan, &resolved);
        if brakes.is_empty() || allowed == Some(plan.id().as_str()) {
            decision.is_unjudged = is_guarded_kind_unread(kinds, &plan);
        } else {
            decision.withheld = brakes.iter().map(kind_of).collect();
            held_back = Some(Braked { plan: plan.id(), brakes });
            withhold(&mut plan, &decision.withheld);
        }
    }
    decision.plan = plan;
    (decision, held_back)
}

/// What about a plan has to be allowed; a file that says that it may be empty is believed.
pub(crate) fn brakes(kinds: &[KindEntry], plan: &Plan, config: &Config) -> Vec<Brake> {
    let guarded: Vec<KindName> = kinds.iter().filter(|kind| kind.guarded).map(|kind| kind.name).collect();
    let mut brakes = plan.brakes(&guarded);
    brakes.retain(|brake| !(config.allow_empty && matches!(brake, Brake::NothingLeft { .. })));
    let is_of_paths = |brake: &Brake| match brake {
        Brake::ManyDeletes { kind, .. } | Brake::NothingLeft { kind, .. } => *kind == bgp_path::NAME,
        Brake::Renumber { .. } => false,
    };
    if brakes.iter().any(is_of_paths) && bgp_path::is_only_elsewhere(plan, config) {
        brakes.retain(|brake| !is_of_paths(brake));
    }
    brakes.extend(renumbers(plan));
    brakes
}

/// Takes the deletes of these kinds out of the plan.
fn withhold(plan: &mut Plan, kinds: &BTreeSet<KindName>) {
    plan.steps.retain(|step| !(matches!(step.action, Action::Delete { .. }) && kinds.contains(step.id.kind)));
}

fn is_guarded_kind_unread(kinds: &[KindEntry], plan: &Plan) -> bool {
    let is_guarded = |name: KindName| kinds.iter().any(|kind| kind.guarded && kind.name == name);
    plan.unread.iter().any(|unread| is_guarded(unread.kind))
}

fn kind_of(brake: &Brake) -> KindName {
    match brake {
        Brake::ManyDeletes { kind, .. } | Brake::NothingLeft { kind, .. } => kind,
        // No deletes are withheld for it: it is about a file that is not in force.
        Brake::Renumber { .. } => allocation::NAME,
    }
}
