//! One round of changes to frontends: writes new blocks beside the old ones, then turns the entries over.

use super::layout::{self, Held, NEW_COUNTER, Wanted};
use super::maglev::{Request, Tables};
use super::names::Names;
use super::rings::Previous;
use super::sources::Sources;
use super::space::Space;
use super::spec::ServiceSpec;
use super::target::{held, sentence};
use super::{NAME, rings, room};
use crate::clock;
use netd_bpf::abi::{
    self, Frontend, FrontendKey, KEEP_FLOWS, LINE_BYTES, RECORDS_ANYWHERE, WIDE_PREVIOUS, WIDE_SLOTS,
    WINDOW_OPEN,
};
use netd_bpf::{Capacity, Maps};
use netd_core::{Action, Outcome, Step};
use std::collections::{BTreeMap, HashMap};

/// Why a round of changes was not begun or not ended.
pub enum Stop {
    /// The maps are too small; these would do.
    Room(Capacity),
    /// They cannot be read or written.
    Broken(String),
}

impl From<netd_bpf::Error> for Stop {
    fn from(error: netd_bpf::Error) -> Self {
        Self::Broken(sentence(&error))
    }
}

/// A round of changes: what is in use, what is free, what was written so far.
struct Round<'a> {
    capacity: Capacity,
    entries: BTreeMap<FrontendKey, Frontend>,
    rings: Space,
    backends: Space,
    counters: Option<Space>,
    /// Read when a name is needed that the entry at hand does not have.
    names: Option<Names>,
    sources: Sources,
    /// Blocks written in this round, so that VIPs of one service share them.
    written: HashMap<Shape, Vec<(&'a ServiceSpec, Frontend)>>,
    /// Built ahead for the next steps.
    tables: Tables,
    now: u32,
}

/// For so many steps tables are built ahead, on all processors: at the usual 16,381 slots they take 8 MiB.
const STEPS_BUILT_AHEAD: usize = 256;

/// What frontends that can share a block have in common, besides their backends.
#[derive(PartialEq, Eq, Hash)]
struct Shape {
    service: String,
    port: u16,
    protocol: netd_schema::Protocol,
    is_ipv4: bool,
    before: Option<(u32, u32, u32)>,
}

/// Makes the changes. Nothing that earlier rounds let go of may still be read by packets under way.
pub fn apply(maps: &mut dyn Maps, steps: &[Step]) -> Result<Vec<Outcome>, Stop> {
    let mut round = Round::new(maps)?;
    round.check_room(maps, steps)?;
    let mut outcomes: Vec<Option<Outcome>> = vec![None; steps.len()];
    let (mut puts, mut deletes) = (Vec::new(), Vec::new());
    for (at, step) in steps.iter().enumerate() {
        if at % STEPS_BUILT_AHEAD == 0 {
            round.tables = Tables::of(steps[at..].iter().take(STEPS_BUILT_AHEAD).filter_map(new_table));
        }
        match &step.action {
            action @ (Action::Create { to } | Action::Update { to, .. }) => {
                match to.as_any().downcast_ref::<ServiceSpec>() {
                    Some(spec) => match round.write(maps, spec, found(action))? {
                        Ok(frontend) => puts.push((at, layout::key(spec), frontend)),
                        Err(why) => outcomes[at] = Some(Outcome::Failed(why)),
                    },
                    None => outcomes[at] = Some(Outcome::Failed(format!("not a {NAME}"))),
                }
            }
            Action::Delete { from } => match from.as_any().downcast_ref::<ServiceSpec>() {
                Some(spec) => deletes.push((at, layout::key(spec))),
                None => outcomes[at] = Some(Outcome::Failed(format!("not a {NAME}"))),
            },
        }
    }
    let entries: Vec<_> = puts.iter().map(|&(_, key, frontend)| (key, frontend)).collect();
    for ((at, ..), result) in puts.iter().zip(maps.put_frontends(&entries)) {
        outcomes[*at] = Some(outcome(result));
    }
    let keys: Vec<_> = deletes.iter().map(|&(_, key)| key).collect();
    for ((at, _), result) in deletes.iter().zip(maps.delete_frontends(&keys)) {
        outcomes[*at] = Some(outcome(result));
    }
    if round.sources.count() > 0 {
        let services = maps.frontends()?.into_iter().map(|(_, frontend)| frontend.service).collect();
        round.sources.end(maps, &services)?;
    }
    let unanswered = || Outcome::Failed("the map did not say what became of it".into());
    Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unanswered)).collect())
}

/// The frontend as it was found, if it is there.
fn found(action: &Action) -> Option<&ServiceSpec> {
    match action {
        Action::Update { from, .. } => from.as_any().downcast_ref::<ServiceSpec>(),
        Action::Create { .. } | Action::Delete { .. } => None,
    }
}

/// The table that a step will probably need: whether a backend's last known way is still used is seen later.
fn new_table(step: &Step) -> Option<Request> {
    let spec = room::coming(step)?;
    let is_held = found(&step.action).is_some_and(|found| found.intact && spec.has_ring_of(found));
    let has_path =
        |position: usize| spec.backends.get(position).is_some_and(|backend| backend.path.is_some());
    (!is_held).then(|| spec.request(has_path).1)
}

fn outcome(result: netd_bpf::Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::Applied,
        Err(error) => Outcome::Failed(sentence(&error)),
    }
}

impl<'a> Round<'a> {
    fn new(maps: &dyn Maps) -> Result<Self, Stop> {
        let capacity = maps.capacity();
        let entries: BTreeMap<FrontendKey, Frontend> = maps.frontends()?.into_iter().collect();
        // A damaged entry uses nothing; it is written anew.
        let all = || entries.values().filter(|entry| capacity.holds(entry));
        let rings = all().map(|entry| (entry.ring, ring_lines(entry.slots, entry.flags & WIDE_SLOTS)));
        let previous = all().filter(|entry| entry.flags & KEEP_FLOWS != 0).map(|entry| {
            (entry.previous_ring, ring_lines(entry.previous_slots, entry.flags & WIDE_PREVIOUS))
        });
        let rings = Space::new(capacity.ring_lines, rings.chain(previous));
        let blocks = all().map(|entry| (entry.backends, entry.backend_count));
        let backends = Space::new(capacity.backend_lines, blocks);
        let now = u32::try_from(clock::since_boot().as_secs()).unwrap_or(u32::MAX);
        Ok(Self {
            capacity,
            rings,
            backends,
            counters: None,
            names: None,
            sources: Sources::of(maps)?,
            written: HashMap::new(),
            tables: Tables::default(),
            now,
            entries,
        })
    }

    fn check_room(&mut self, maps: &dyn Maps, steps: &[Step]) -> Result<(), Stop> {
        let new = |step: &&Step| {
            room::coming(step).is_some_and(|spec| !self.entries.contains_key(&layout::key(spec)))
        };
        let need = room::needed(steps);
        let frontends = room::needed(steps.iter().filter(new));
        let room = self.frontends(true) + frontends.frontends_v4 <= self.capacity.frontends_v4
            && self.frontends(false) + frontends.frontends_v6 <= self.capacity.frontends_v6
            && u64::from(need.ring_lines) <= self.rings.free()
            && u64::from(need.backend_lines) <= self.backends.free()
            && self.sources.count() as u64 + u64::from(need.sources) <= u64::from(self.capacity.sources);
        if room {
            return Ok(());
        }
        let services = self.capacity.services;
        let services = self.names(maps)?.taken(services);
        Err(Stop::Room(room::larger(&self.capacity, &room::sized(&self.used(services), &need))))
    }

    /// How many entries of a family there are.
    fn frontends(&self, is_ipv4: bool) -> u32 {
        self.entries.keys().filter(|key| key.address.is_ipv4() == is_ipv4).count() as u32
    }

    fn names(&mut self, maps: &dyn Maps) -> netd_bpf::Result<&mut Names> {
        let names = match self.names.take() {
            Some(names) => names,
            None => Names::among(maps, self.entries.values())?,
        };
        Ok(self.names.insert(names))
    }

    fn used(&self, services: u32) -> Capacity {
        let lines = |capacity: u32, free: u64| u32::try_from(u64::from(capacity) - free).unwrap_or(capacity);
        let backend_lines = lines(self.capacity.backend_lines, self.backends.free());
        Capacity {
            frontends_v4: self.frontends(true),
            frontends_v6: self.frontends(false),
            ring_lines: lines(self.capacity.ring_lines, self.rings.free()),
            backend_lines,
            counters: backend_lines,
            services,
            flows: self.capacity.flows,
            fragments: self.capacity.fragments,
            sources: u32::try_from(self.sources.count()).unwrap_or(u32::MAX),
            // Written by another kind, which looks after their room itself.
            pools: self.capacity.pools / 2,
        }
    }

    /// Writes the lines and rings of a frontend and gives the entry that names them; nothing names them yet.
    fn write(
        &mut self,
        maps: &mut dyn Maps,
        spec: &'a ServiceSpec,
        found: Option<&ServiceSpec>,
    ) -> Result<Result<Frontend, String>, Stop> {
        let before = self.entries.get(&layout::key(spec)).copied();
        let shape = Shape {
            service: spec.service.clone(),
            port: spec.port,
            protocol: spec.protocol,
            is_ipv4: spec.vip.is_ipv4(),
            before: before.map(|entry| (entry.ring, entry.backends, entry.flags)),
        };
        let same = |known: &&(&ServiceSpec, Frontend)| {
            let known = known.0;
            known.backends == spec.backends
                && known.table_size == spec.table_size
                && known.hash_seed == spec.hash_seed
                && known.policy == spec.policy
        };
        if let Some((_, frontend)) = self.written.get(&shape).and_then(|blocks| blocks.iter().find(same)) {
            return Ok(Ok(*frontend));
        }
        let mut held = before.and_then(|entry| held(maps, &layout::key(spec), &entry));
        if let (Some(held), Some(found)) = (&mut held, found) {
            layout::forget_astray(held, found);
        }
        let Some(mut wanted) = layout::wanted(spec, held.as_ref(), found, &self.tables) else {
            return Ok(Err(format!("{} backends do not fit one frontend", spec.backends.len())));
        };
        let service = self.service(maps, &spec.service, before)?;
        self.sources.put(maps, service, &spec.policy)?;
        self.give_counters(maps, &mut wanted)?;
        let frontend = self.place(maps, spec, &wanted, held.as_ref(), service)?;
        self.written.entry(shape).or_default().push((spec, frontend));
        Ok(Ok(frontend))
    }

    fn place(
        &mut self,
        maps: &mut dyn Maps,
        spec: &ServiceSpec,
        wanted: &Wanted,
        held: Option<&Held>,
        service: u32,
    ) -> Result<Frontend, Stop> {
        let mut frontend = layout::frontend(spec, wanted, service);
        let wide = layout::is_wide(wanted);
        frontend.backends = self.backends.take(frontend.backend_count).ok_or_else(|| self.doubled())?;
        maps.set_backend_lines(frontend.backends, &wanted.lines)?;
        let unchanged = |held: &&Held| {
            held.intact && held.ring == wanted.ring && (held.frontend.flags & WIDE_SLOTS != 0) == wide
        };
        frontend.ring = match held.filter(unchanged) {
            Some(held) => held.frontend.ring,
            None => self.place_ring(maps, &wanted.ring, wide)?,
        };
        let Some(Previous { ring: previous, anywhere }) = &wanted.previous else { return Ok(frontend) };
        let before = held.map(|held| held.frontend).unwrap_or_default();
        frontend.flags |= if *anywhere { KEEP_FLOWS | RECORDS_ANYWHERE } else { KEEP_FLOWS };
        frontend.previous_slots = previous.len() as u32;
        frontend.previous_magic = abi::magic(frontend.previous_slots);
        // In one byte the largest position is that of no guess: a wide block has a backend there.
        let narrow = |&slot: &u16| slot < rings::NARROW_POSITIONS || slot == rings::NO_GUESS;
        let wide = wide || !previous.iter().all(narrow);
        let same = held.is_some_and(|held| {
            held.previous.as_ref() == Some(previous) && (before.flags & WIDE_PREVIOUS != 0) == wide
        });
        frontend.previous_ring = match same {
            true => before.previous_ring,
            false => self.place_ring(maps, previous, wide)?,
        };
        frontend.flags |= if wide { WIDE_PREVIOUS } else { 0 };
        if wanted.window_begins {
            frontend.flags |= WINDOW_OPEN;
            frontend.previous_since = self.now;
        } else {
            frontend.flags |= before.flags & WINDOW_OPEN;
            frontend.previous_since = before.previous_since;
        }
        Ok(frontend)
    }

    fn place_ring(&mut self, maps: &mut dyn Maps, ring: &[u16], wide: bool) -> Result<u32, Stop> {
        let bytes = abi::ring_bytes(ring, wide);
        let lines = (bytes.len() / LINE_BYTES) as u32;
        let at = self.rings.take(lines).ok_or_else(|| self.doubled())?;
        maps.set_ring(at, &bytes)?;
        Ok(at)
    }

    fn doubled(&self) -> Stop {
        let twice = |entries: u32| entries.saturating_mul(2);
        Stop::Room(Capacity {
            ring_lines: twice(self.capacity.ring_lines),
            backend_lines: twice(self.capacity.backend_lines),
            counters: twice(self.capacity.counters),
            services: twice(self.capacity.services),
            ..self.capacity
        })
    }

    /// The number of a service; `before` is the entry that is changed, whose number mostly is the one.
    fn service(&mut self, maps: &mut dyn Maps, name: &str, before: Option<Frontend>) -> Result<u32, Stop> {
        if let Some(before) = before.filter(|before| self.capacity.holds(before))
            && maps.service_name(before.service)? == name
        {
            return Ok(before.service);
        }
        let names = self.names(maps)?;
        if let Some(service) = names.known(name) {
            return Ok(service);
        }
        match names.number(maps, name) {
            Ok(service) => {
                self.sources.forget(maps, service)?;
                Ok(service)
            }
            Err(netd_bpf::Error::Full { .. }) => Err(self.doubled()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a counter to each line that has none: one that no line and no flow record names.
    fn give_counters(&mut self, maps: &mut dyn Maps, wanted: &mut Wanted) -> Result<(), Stop> {
        for line in wanted.lines.iter_mut().filter(|line| line.counter == NEW_COUNTER) {
            if self.counters.is_none() {
                self.counters = Some(self.free_counters(maps)?);
            }
            let taken = self.counters.as_mut().and_then(|space| space.take(1));
            line.counter = taken.ok_or_else(|| self.doubled())?;
            maps.clear_counter(line.counter)?;
        }
        Ok(())
    }

    fn free_counters(&self, maps: &dyn Maps) -> Result<Space, Stop> {
        let mut used: Vec<u32> = maps.flows_per_counter()?.into_keys().collect();
        for entry in self.entries.values() {
            let lines = maps.backend_lines(entry.backends, entry.backend_count).unwrap_or_default();
            used.extend(lines.iter().filter(|line| line.flags & abi::IN_USE != 0).map(|line| line.counter));
        }
        Ok(Space::new(self.capacity.counters, used.into_iter().map(|counter| (counter, 1))))
    }
}

fn ring_lines(slots: u32, wide: u32) -> u32 {
    abi::ring_lines(slots, wide != 0)
}
