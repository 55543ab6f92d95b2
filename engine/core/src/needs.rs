//! Which new resources have to wait for others, because they would stand on nothing.

use crate::plan::{Action, Held, Plan, Step};
use crate::resource::{Key, Need, Observed, Reading, ResourceId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Adds what comes up of a kind to the plan. What stands on something that is neither there nor comes up before it is
/// held; what stands on something that comes up is made only after that was.
pub(crate) fn add(plan: &mut Plan, up: Vec<Step>, needs: &BTreeMap<Key, Arc<[Need]>>, observed: &Observed) {
    if needs.is_empty() {
        plan.steps.extend(up);
        return;
    }
    let changing = plan.steps.iter().map(|step| step.id.clone()).collect();
    let ground = Ground { observed, coming: coming(plan), changing };
    for step in up {
        let is_new = matches!(step.action, Action::Create { .. });
        let stands_on = needs.get(&step.id.key).filter(|_| is_new);
        match stands_on.map_or(Ok(Vec::new()), |stands_on| ground.bears(stands_on)) {
            Err(reason) => plan.held.push(Held { id: step.id, reason }),
            Ok(open) => {
                if !open.is_empty() {
                    plan.needs.insert(step.id.clone(), open);
                }
                plan.steps.push(step);
            }
        }
    }
}

/// What is there, and what comes up before.
struct Ground<'a> {
    observed: &'a Observed,
    coming: BTreeSet<ResourceId>,
    /// What comes up, or is changed, before.
    changing: BTreeSet<ResourceId>,
}

fn coming(plan: &Plan) -> BTreeSet<ResourceId> {
    let is_new = |step: &&Step| matches!(step.action, Action::Create { .. });
    plan.steps.iter().filter(is_new).map(|step| step.id.clone()).collect()
}

impl Ground<'_> {
    /// What of the needs is still to be made; `Err` says what is missing.
    fn bears(&self, needs: &[Need]) -> Result<Vec<Vec<ResourceId>>, String> {
        let mut open = Vec::new();
        for need in needs {
            match need {
                Need::AsWanted(id) if self.changing.contains(id) => open.push(vec![id.clone()]),
                Need::One(id) | Need::AsWanted(id) if self.has(id) => {}
                Need::One(id) if self.coming.contains(id) => open.push(vec![id.clone()]),
                Need::One(id) | Need::AsWanted(id) => return Err(format!("it waits for {id}")),
                Need::AnyOf(kind) if self.has_any(kind) => {}
                Need::AnyOf(kind) => {
                    let any: Vec<ResourceId> =
                        self.coming.iter().filter(|id| id.kind == *kind).cloned().collect();
                    if any.is_empty() {
                        return Err(format!("it waits for any {kind}"));
                    }
                    open.push(any);
                }
            }
        }
        Ok(open)
    }

    fn has(&self, id: &ResourceId) -> bool {
        matches!(self.observed.0.get(id.kind), Some(Reading::Known(found)) if found.owned.contains_key(&id.key))
    }

    fn has_any(&self, kind: &str) -> bool {
        matches!(self.observed.0.get(kind), Some(Reading::Known(found)) if !found.owned.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::table;
    use crate::plan;
    use crate::resource::{Desired, DesiredKind, KindName, Observation};
    use std::fmt::Write as _;

    const GROUND: KindName = "ground";
    const ROOM: KindName = "room";
    const SIGN: KindName = "sign";

    /// A sign that stands on the ground "a" and on any room, on a node that has `owned` of each kind.
    fn planned(wanted: [&[(&str, &'static str)]; 3], owned: [Option<&[(&str, &'static str)]>; 3]) -> Plan {
        planned_with(&[Need::One(id(GROUND, "a")), Need::AnyOf(ROOM)], wanted, owned)
    }

    fn planned_with(
        needs: &[Need],
        wanted: [&[(&str, &'static str)]; 3],
        owned: [Option<&[(&str, &'static str)]>; 3],
    ) -> Plan {
        let kinds = [GROUND, ROOM, SIGN];
        let of_kind = |(kind, wanted): (&KindName, &[(&str, &'static str)])| {
            let mut desired = DesiredKind { table: table(wanted), ..DesiredKind::default() };
            if *kind == SIGN {
                desired.needs = BTreeMap::from([(Key::new("s"), needs.into())]);
            }
            (*kind, Ok(desired.into()))
        };
        let reading = |(kind, owned): (&KindName, Option<&[(&str, &'static str)]>)| {
            let reading = match owned {
                Some(owned) => {
                    Reading::Known(Observation { owned: table(owned), ..Observation::default() }.into())
                }
                None => Reading::Unknown("dark".into()),
            };
            (*kind, reading)
        };
        let desired = Desired(kinds.iter().zip(wanted).map(of_kind).collect());
        let observed = Observed(kinds.iter().zip(owned).map(reading).collect());
        plan(&kinds, &desired, &observed)
    }

    fn id(kind: KindName, key: &str) -> ResourceId {
        ResourceId { kind, key: Key::new(key) }
    }

    fn shown(plan: &Plan) -> String {
        let mut text = String::new();
        for step in &plan.steps {
            let _ = write!(text, "{} {}; ", step.action.word(), step.id);
        }
        for held in &plan.held {
            let _ = write!(text, "{}: {}; ", held.id, held.reason);
        }
        text
    }

    const A: &[(&str, &str)] = &[("a", "red")];
    const S: &[(&str, &str)] = &[("s", "red")];
    const NONE: &[(&str, &str)] = &[];

    #[test]
    fn b9_what_stands_on_something_that_comes_up_is_made_after_it() {
        let plan = planned([A, A, S], [Some(NONE), Some(NONE), Some(NONE)]);
        assert_eq!(shown(&plan), "create ground/a; create room/a; create sign/s; ");
        let open = [vec![id(GROUND, "a")], vec![id(ROOM, "a")]];
        assert_eq!(plan.needs.get(&id(SIGN, "s")).map(Vec::as_slice), Some(open.as_slice()));
    }

    #[test]
    fn what_stands_on_what_is_there_needs_nothing() {
        let plan = planned([A, A, S], [Some(A), Some(A), Some(NONE)]);
        assert_eq!(shown(&plan), "create sign/s; ");
        assert!(plan.needs.is_empty());
    }

    #[test]
    fn b9_what_would_stand_on_nothing_waits() {
        let without_ground = planned([NONE, A, S], [Some(NONE), Some(A), Some(NONE)]);
        assert_eq!(shown(&without_ground), "sign/s: it waits for ground/a; ");
        let without_room = planned([A, NONE, S], [Some(A), Some(NONE), Some(NONE)]);
        assert_eq!(shown(&without_room), "sign/s: it waits for any room; ");
        let in_the_dark = planned([A, A, S], [None, Some(A), Some(NONE)]);
        assert_eq!(shown(&in_the_dark), "sign/s: it waits for ground/a; ");
    }

    #[test]
    fn what_stands_on_something_as_it_is_wanted_comes_after_its_change() {
        let open = |need: Need| {
            let plan = planned_with(&[need], [A, NONE, S], [Some(&[("a", "blue")]), Some(NONE), Some(NONE)]);
            assert_eq!(shown(&plan), "update ground/a; create sign/s; ");
            plan.needs.get(&id(SIGN, "s")).cloned()
        };
        assert_eq!(open(Need::One(id(GROUND, "a"))), None);
        assert_eq!(open(Need::AsWanted(id(GROUND, "a"))), Some(vec![vec![id(GROUND, "a")]]));
        let ready =
            planned_with(&[Need::AsWanted(id(GROUND, "a"))], [A, NONE, S], [Some(A), Some(NONE), Some(NONE)]);
        assert_eq!((shown(&ready).as_str(), ready.needs.is_empty()), ("create sign/s; ", true));
        let without = planned_with(
            &[Need::AsWanted(id(GROUND, "a"))],
            [NONE, NONE, S],
            [Some(NONE), Some(NONE), Some(NONE)],
        );
        assert_eq!(shown(&without), "sign/s: it waits for ground/a; ");
    }

    #[test]
    fn what_is_there_stays_and_is_changed_whatever_it_stands_on() {
        let plan = planned([NONE, NONE, S], [None, None, Some(&[("s", "blue")])]);
        assert_eq!(shown(&plan), "update sign/s; ");
    }
}
