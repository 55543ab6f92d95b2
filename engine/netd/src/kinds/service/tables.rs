//! The Maglev tables of a service: as the file asks for them, and as the maps hold them.

use super::maglev::{self, Member};
use super::paths::HeldPaths;
use super::spec::ServiceSpec;
use super::target::{held, sentence};
use super::{NAME, desired, layout};
use crate::facts::Facts;
use netd_bpf::Maps;
use netd_bpf::abi::IN_USE;
use netd_schema::{Config, HashNames, HashSeed};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

/// In a table: a slot that names none of its members.
const NO_MEMBER: u16 = u16::MAX;

/// So many tables are built at most to find out what moves without each backend: a few seconds of two processors.
pub const REMOVALS_MAX: usize = 1000;

/// The table of one frontend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontendTable {
    /// The seed of the names' hash is a part of it.
    #[serde(with = "SeedForm")]
    pub seed: HashSeed,
    /// The form of the names.
    #[serde(with = "NamesForm")]
    pub names: HashNames,
    /// Whether it is the one that was written; one of the file is.
    pub intact: bool,
    /// The backends that are given flows, sorted by name: the table's own order, in which it is numbered.
    pub members: Vec<Member>,
    /// Where each of them is.
    pub sockets: Vec<SocketAddr>,
    /// For each slot the position among the members.
    pub slots: Vec<u16>,
}

/// How the daemon tells its clients a seed.
#[derive(Serialize, Deserialize)]
#[serde(remote = "HashSeed")]
struct SeedForm([u8; 12]);

/// How the daemon tells its clients the form of the names.
#[derive(Serialize, Deserialize)]
#[serde(remote = "HashNames")]
enum NamesForm {
    Cilium,
    Cilium110,
}

impl FrontendTable {
    /// `slot` gives the position in `spec.backends` for each of `members`, and `slots` are positions in `members`.
    fn new(spec: &ServiceSpec, members: Vec<(usize, Member)>, slots: &[u16]) -> Self {
        let (positions, unsorted): (Vec<usize>, Vec<Member>) = members.into_iter().unzip();
        let order = maglev::by_name(&unsorted);
        let mut place = vec![NO_MEMBER; unsorted.len()];
        for (&member, number) in order.iter().zip(0u16..) {
            place[usize::from(member)] = number;
        }
        let sorted = || order.iter().map(|&member| usize::from(member));
        Self {
            seed: spec.hash_seed,
            names: spec.policy.hash_names,
            intact: spec.intact,
            members: sorted().map(|member| unsorted[member].clone()).collect(),
            sockets: sorted().map(|member| spec.backends[positions[member]].socket()).collect(),
            slots: slots
                .iter()
                .map(|&slot| place.get(usize::from(slot)).copied().unwrap_or(NO_MEMBER))
                .collect(),
        }
    }

    /// See [`maglev::digest`].
    #[must_use]
    pub fn digest(&self) -> String {
        let order: Vec<u16> = self.members.iter().zip(0u16..).map(|(_, number)| number).collect();
        maglev::digest(&self.slots, &order)
    }

    /// How many slots each member has.
    #[must_use]
    pub fn slot_counts(&self) -> Vec<u32> {
        maglev::slot_counts(&self.slots, self.members.len())
    }

    /// For each member the share of all slots, from 0 to 1, that the others exchange among each other when it goes;
    /// `None` for more than [`REMOVALS_MAX`] members.
    #[must_use]
    pub fn disturbed_without(&self) -> Option<Vec<f64>> {
        let slots = u32::try_from(self.slots.len()).ok()?;
        if self.members.len() > REMOVALS_MAX {
            return None;
        }
        let work = u64::from(slots) * self.members.len() as u64;
        let gone: Vec<u16> = self.members.iter().zip(0u16..).map(|(_, number)| number).collect();
        Some(maglev::in_parallel(&gone, work, |&gone| {
            let mut members = self.members.clone();
            members.remove(usize::from(gone));
            let without = maglev::table(&members, slots, self.seed.names());
            if without.is_empty() {
                return 0.0;
            }
            let same = |member: u16| if member < gone { member } else { member + 1 };
            let without: Vec<u16> = without.into_iter().map(same).collect();
            maglev::disturbed(&self.slots, &without, gone)
        }))
    }

    /// The share of flows, from 0 to 1, that have another backend by the other table.
    #[must_use]
    pub fn moved(&self, other: &Self) -> f64 {
        let mut numbers = HashMap::new();
        let mut numbered = |table: &Self| -> Vec<u16> {
            let of_member: Vec<u16> = table
                .sockets
                .iter()
                .map(|&socket| {
                    let next = u16::try_from(numbers.len()).unwrap_or(NO_MEMBER);
                    *numbers.entry(socket).or_insert(next)
                })
                .collect();
            table
                .slots
                .iter()
                .map(|&slot| of_member.get(usize::from(slot)).copied().unwrap_or(NO_MEMBER))
                .collect()
        };
        let (own, others) = (numbered(self), numbered(other));
        match self.seed == other.seed {
            true => maglev::moved(&own, &others),
            false => maglev::scattered(&own, &others),
        }
    }
}

/// The tables that the file asks for, by frontend; each backend is taken to have a way.
///
/// # Errors
///
/// As [`desired`].
pub fn asked_for(config: &Config, service: &str) -> Result<BTreeMap<String, FrontendTable>, String> {
    let Some(service) = config.services.iter().find(|known| known.name == service) else {
        return Ok(BTreeMap::new());
    };
    let mut load_balancer = config.load_balancer.clone();
    load_balancer.table_size = service.table_size.unwrap_or(load_balancer.table_size);
    let only = Config { services: vec![service.clone()], load_balancer, ..Config::default() };
    let mut tables = BTreeMap::new();
    for (key, spec) in desired(&only, &Facts::default())?.table {
        let Some(spec) = spec.as_any().downcast_ref::<ServiceSpec>() else {
            return Err(format!("not a {NAME}"));
        };
        let members = spec.members(|_| true);
        let named: Vec<Member> = members.iter().map(|(_, member)| member.clone()).collect();
        let slots = maglev::table(&named, spec.table_size, spec.hash_seed.names());
        tables.insert(key.to_string(), FrontendTable::new(spec, members, &slots));
    }
    Ok(tables)
}

/// The tables that the maps hold for a service, by frontend.
///
/// # Errors
///
/// A sentence, when the maps cannot be read.
pub fn in_force(maps: &dyn Maps, service: &str) -> Result<BTreeMap<String, FrontendTable>, String> {
    let facts = Facts::default();
    let mut paths = HeldPaths::new(&facts);
    let mut tables = BTreeMap::new();
    for (key, frontend) in maps.frontends().map_err(|error| sentence(&error))? {
        let Some(held) = held(maps, &key, &frontend) else { continue };
        if maps.service_name(frontend.service).map_err(|error| sentence(&error))? != service {
            continue;
        }
        let Some(spec) = layout::spec(&key, &held, service.to_owned(), &mut paths) else { continue };
        let has_path = |at: usize| spec.backends.get(at).is_some_and(|backend| backend.path.is_some());
        let members = spec.members(has_path);
        let of_socket: HashMap<SocketAddr, u16> = members
            .iter()
            .zip(0u16..)
            .filter_map(|((position, _), member)| Some((spec.backends.get(*position)?.socket(), member)))
            .collect();
        let member = |&position: &u16| {
            let line = held.lines.get(usize::from(position)).filter(|line| line.flags & IN_USE != 0);
            line.and_then(|line| of_socket.get(&layout::socket(line, &key)).copied()).unwrap_or(NO_MEMBER)
        };
        let slots: Vec<u16> = held.ring.iter().map(member).collect();
        tables.insert(spec.key().to_string(), FrontendTable::new(&spec, members, &slots));
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::super::shift::tests::service;
    use super::super::{room, round};
    use super::*;
    use netd_bpf::FakeMaps;
    use netd_core::{Action, Outcome, ResourceId, Step};
    use std::sync::Arc;

    fn own(spec: &ServiceSpec) -> FrontendTable {
        let members = spec.members(|_| true);
        let named: Vec<Member> = members.iter().map(|(_, member)| member.clone()).collect();
        let slots = maglev::table(&named, spec.table_size, spec.hash_seed.names());
        FrontendTable::new(spec, members, &slots)
    }

    #[test]
    fn what_is_in_force_is_read_back_as_the_table_that_was_written() {
        let mut maps = FakeMaps::new(room::sized(&room::NOTHING, &room::NOTHING));
        let spec = service([9, 10, 11]);
        let id = ResourceId { kind: NAME, key: spec.key() };
        let step = Step { id, action: Action::Create { to: Arc::new(spec.clone()) } };
        let outcomes = round::apply(&mut maps, &[step]).unwrap_or_else(|_| panic!("not begun"));
        assert_eq!(outcomes, [Outcome::Applied]);
        let found = in_force(&maps, "web").unwrap();
        assert_eq!(found, BTreeMap::from([("192.0.2.10:80/tcp".to_owned(), own(&spec))]));
        assert!(in_force(&maps, "other").unwrap().is_empty());
        let told = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<BTreeMap<String, FrontendTable>>(&told).unwrap(), found);
    }

    #[test]
    fn members_are_numbered_by_name() {
        let table = own(&service([9, 10, 11]));
        let hosts: Vec<String> = table.sockets.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["10.0.0.10:80", "10.0.0.11:80", "10.0.0.9:80"]);
        assert_eq!(table.slot_counts(), [5461, 5460, 5460]);
    }

    #[test]
    fn without_its_only_backend_nothing_moves_between_others() {
        assert_eq!(own(&service([1])).disturbed_without(), Some(vec![0.0]));
        let three = own(&service([1, 2, 3])).disturbed_without().unwrap();
        assert!(three.iter().all(|share| *share > 0.0 && *share < 0.01), "{three:?}");
    }

    #[test]
    fn tables_are_compared_by_where_their_backends_are() {
        let table = own(&service([1, 2, 3]));
        assert!(table.moved(&own(&service([1, 2, 3]))) < 1e-9);
        let share = table.moved(&own(&service([1, 2, 3, 4])));
        assert!((share - 0.252).abs() < 0.001, "{share}");
    }
}
