//! netd's policies in the daemon: which routes come in from its peers, and which go out to whom.
//!
//! They stand beside whatever others have assigned, and say nothing about foreign peers or paths:
//!
//! - routes of a peer whose routes nobody asked for are not taken into the table;
//! - routes of other peers are not handed on to netd's peers: a load balancer is no transit;
//! - a path that is for some peers only goes to these, and nobody sees the marks that say so.
//!
//! A path is marked, instead of listed in a set of prefixes, because the daemon withdraws a path from a peer that may
//! not have it any more only if the path itself has changed.

mod besides;

use crate::Client;
use crate::api::{self, conditions::RouteType, match_set};
use crate::call::{all, answered};
use crate::error::Error;
use crate::path::{LargeCommunity, MARK_ASN, RESTRICTED, Recipient};
use crate::peer_wire::MARK;
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The name by which the daemon knows its own table.
const GLOBAL: &str = "global";

/// netd's peers, and those of them whose routes nobody asked for.
const PEERS: &str = "netd:peers";
const UNASKED: &str = "netd:unasked";
/// Marks of paths that are for some peers only.
const SOME: &str = "netd:some";
const MARKS: &str = "netd:marks";

/// The policies: what comes in, what goes out to whom, and what is left over. The second grows by a statement for
/// each peer; the third must come after all of these.
const IMPORT: &str = "netd:import";
const EXPORT: &str = "netd:export";
const REST: &str = "netd:rest";

/// No peer has this address; it is there because a condition on an empty set would hold for everybody.
const NOBODY: &str = "0.0.0.0/32";

/// What of it the daemon has.
#[derive(Debug, Default)]
struct Held {
    sets: BTreeSet<(i32, String)>,
    policies: BTreeMap<String, BTreeSet<String>>,
    /// Those of policies, and those that were left over when their policy was shortened.
    statements: BTreeMap<String, api::Statement>,
    assigned: BTreeSet<(i32, String)>,
}

impl Client {
    /// Puts netd's policies into the daemon, as far as they are not there yet. To be called once in each life of it,
    /// after it was started, and before peers and announcements are added.
    ///
    /// # Errors
    ///
    /// Any of a call.
    pub async fn prepare(&self) -> Result<(), Error> {
        let held = self.held().await?;
        let neighbours = |name: &str| defined(api::DefinedType::Neighbor, name, vec![NOBODY.into()]);
        let marks =
            |name: &str, pattern: String| defined(api::DefinedType::LargeCommunity, name, vec![pattern]);
        let sets = [
            neighbours(PEERS),
            neighbours(UNASKED),
            marks(SOME, pattern(RESTRICTED)),
            marks(MARKS, format!("^{MARK_ASN}:")),
        ];
        for set in sets {
            if !held.sets.contains(&(set.defined_type, set.name.clone())) {
                self.define(set).await?;
            }
        }
        for policy in [import(), export(), rest()] {
            self.extend(&held, policy).await?;
        }
        for (direction, names) in
            [(api::PolicyDirection::Import, &[IMPORT][..]), (api::PolicyDirection::Export, &[EXPORT, REST])]
        {
            for name in names {
                if !held.assigned.contains(&(direction.into(), (*name).to_owned())) {
                    self.assign(direction, name).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes netd's policies out of the daemon, once its peers and paths are gone.
    ///
    /// # Errors
    ///
    /// Any of a call.
    pub async fn unprepare(&self) -> Result<(), Error> {
        let held = self.held().await?;
        for (direction, name) in held.assigned.iter().filter(|(_, name)| name.starts_with(MARK)) {
            let assignment = api::PolicyAssignment {
                name: GLOBAL.into(),
                direction: *direction,
                policies: vec![policy(name, Vec::new())],
                ..Default::default()
            };
            let request = api::DeletePolicyAssignmentRequest { assignment: Some(assignment), all: false };
            answered("take a policy back", self.api().delete_policy_assignment(request)).await?;
        }
        for name in held.policies.keys().filter(|name| name.starts_with(MARK)) {
            let policy = Some(policy(name, Vec::new()));
            let request = api::DeletePolicyRequest { policy, preserve_statements: true, all: true };
            answered("delete a policy", self.api().delete_policy(request)).await?;
        }
        for name in held.statements.keys().filter(|name| name.starts_with(MARK)) {
            self.undo_statement(name).await?;
        }
        for (kind, name) in &held.sets {
            let kind = api::DefinedType::try_from(*kind).unwrap_or_default();
            self.undefine(defined(kind, name, Vec::new()), Whole::Yes).await?;
        }
        Ok(())
    }

    /// Adds what of a policy is not there yet.
    async fn extend(&self, held: &Held, mut policy: api::Policy) -> Result<(), Error> {
        if let Some(known) = held.policies.get(&policy.name) {
            policy.statements.retain(|statement| !known.contains(&statement.name));
            if policy.statements.is_empty() {
                return Ok(());
            }
        }
        for statement in
            policy.statements.iter().filter(|statement| held.statements.contains_key(&statement.name))
        {
            self.undo_statement(&statement.name).await?;
        }
        let request = api::AddPolicyRequest { policy: Some(policy), refer_existing_statements: false };
        answered("add a policy", self.api().add_policy(request)).await
    }

    async fn assign(&self, direction: api::PolicyDirection, name: &str) -> Result<(), Error> {
        let policy = api::Policy { name: name.to_owned(), statements: Vec::new() };
        let assignment = api::PolicyAssignment {
            name: GLOBAL.into(),
            direction: direction.into(),
            policies: vec![policy],
            // What holds for all the rest stays as it is.
            default_action: api::RouteAction::None.into(),
        };
        let request = api::AddPolicyAssignmentRequest { assignment: Some(assignment) };
        answered("assign a policy", self.api().add_policy_assignment(request)).await
    }

    /// netd's peers as its policies know them, and whether their routes are taken in.
    pub(crate) async fn admissions(&self) -> Result<BTreeMap<IpAddr, bool>, Error> {
        let sets = self.sets(api::DefinedType::Neighbor).await?;
        let members = |name: &str| -> BTreeSet<IpAddr> {
            let listed = sets.iter().filter(|set| set.name == name).flat_map(|set| &set.list);
            listed.filter_map(|text| Some(text.parse::<IpNetwork>().ok()?.ip())).collect()
        };
        let unasked = members(UNASKED);
        let complete = |peer: &IpAddr| {
            let own = to(*peer);
            sets.iter().any(|set| set.name == own)
        };
        Ok(members(PEERS).into_iter().filter(complete).map(|peer| (peer, !unasked.contains(&peer))).collect())
    }

    /// Makes a peer known to netd's policies.
    pub(crate) async fn admit(&self, peer: IpAddr, import: bool) -> Result<(), Error> {
        let address = single(peer);
        let held = self.held().await?;
        let admissions = self.admissions().await?;
        let members = |name: &str| defined(api::DefinedType::Neighbor, name, vec![address.clone()]);
        match (admissions.get(&peer), import) {
            (Some(true) | None, false) => self.define(members(UNASKED)).await?,
            (Some(false), true) => self.undefine(members(UNASKED), Whole::No).await?,
            (Some(false), false) | (Some(true) | None, true) => {}
        }
        if !admissions.contains_key(&peer) {
            self.define(members(PEERS)).await?;
        }
        let name = to(peer);
        let own = [
            defined(api::DefinedType::LargeCommunity, &name, vec![pattern(Recipient::of(peer).mark())]),
            members(&name),
        ];
        for set in own {
            if !held.sets.contains(&(set.defined_type, set.name.clone())) {
                self.define(set).await?;
            }
        }
        let statements = vec![passing(&name)];
        self.extend(&held, api::Policy { name: EXPORT.into(), statements }).await
    }

    /// Makes netd's policies forget a peer.
    pub(crate) async fn dismiss(&self, peer: IpAddr) -> Result<(), Error> {
        let held = self.held().await?;
        let about: Vec<&String> =
            held.said().filter(|(_, of, _)| *of == peer).map(|(name, ..)| name).collect();
        for name in about.into_iter().chain([&to(peer)]) {
            self.take_back(&held, name).await?;
        }
        for name in [PEERS, UNASKED] {
            self.undefine(defined(api::DefinedType::Neighbor, name, vec![single(peer)]), Whole::No).await?;
        }
        Ok(())
    }

    /// Takes a statement and the sets that are called like it out of the daemon, as far as they are there.
    async fn take_back(&self, held: &Held, name: &str) -> Result<(), Error> {
        if held.policies.get(EXPORT).is_some_and(|statements| statements.contains(name)) {
            let statements = vec![api::Statement { name: name.to_owned(), ..Default::default() }];
            let policy = Some(api::Policy { name: EXPORT.into(), statements });
            let request = api::DeletePolicyRequest { policy, preserve_statements: false, all: false };
            answered("shorten a policy", self.api().delete_policy(request)).await?;
        }
        if held.statements.contains_key(name) {
            self.undo_statement(name).await?;
        }
        for kind in [api::DefinedType::Neighbor, api::DefinedType::LargeCommunity] {
            if held.sets.contains(&(kind.into(), name.to_owned())) {
                self.undefine(defined(kind, name, Vec::new()), Whole::Yes).await?;
            }
        }
        Ok(())
    }

    async fn held(&self) -> Result<Held, Error> {
        let mut held = Held::default();
        for kind in [api::DefinedType::Neighbor, api::DefinedType::LargeCommunity] {
            held.sets.extend(self.sets(kind).await?.into_iter().map(|set| (kind.into(), set.name)));
        }
        let call = "list policies";
        let listed = answered(call, self.api().list_policy(api::ListPolicyRequest::default())).await?;
        for policy in all(call, listed).await?.into_iter().filter_map(|answer| answer.policy) {
            let statements = policy.statements.into_iter().map(|statement| statement.name).collect();
            held.policies.insert(policy.name, statements);
        }
        let listed = self.statements().await?;
        held.statements = listed.into_iter().map(|statement| (statement.name.clone(), statement)).collect();
        for direction in [api::PolicyDirection::Import, api::PolicyDirection::Export] {
            let direction = direction.into();
            let request = api::ListPolicyAssignmentRequest { name: GLOBAL.into(), direction };
            let listed = answered(call, self.api().list_policy_assignment(request)).await?;
            for assignment in all(call, listed).await?.into_iter().filter_map(|answer| answer.assignment) {
                held.assigned.extend(assignment.policies.into_iter().map(|policy| (direction, policy.name)));
            }
        }
        Ok(held)
    }

    async fn statements(&self) -> Result<Vec<api::Statement>, Error> {
        let call = "list statements";
        let listed = answered(call, self.api().list_statement(api::ListStatementRequest::default())).await?;
        Ok(all(call, listed).await?.into_iter().filter_map(|answer| answer.statement).collect())
    }

    async fn sets(&self, kind: api::DefinedType) -> Result<Vec<api::DefinedSet>, Error> {
        let call = "list sets";
        let request = api::ListDefinedSetRequest { defined_type: kind.into(), name: String::new() };
        let listed = all(call, answered(call, self.api().list_defined_set(request)).await?).await?;
        let sets = listed.into_iter().filter_map(|answer| answer.defined_set);
        Ok(sets.filter(|set| set.name.starts_with(MARK)).collect())
    }

    async fn define(&self, set: api::DefinedSet) -> Result<(), Error> {
        let request = api::AddDefinedSetRequest { defined_set: Some(set) };
        answered("define a set", self.api().add_defined_set(request)).await
    }

    /// Removes a statement that no policy has any more: the daemon leaves it behind when it shortens a policy.
    async fn undo_statement(&self, name: &str) -> Result<(), Error> {
        let statement = Some(api::Statement { name: name.to_owned(), ..Default::default() });
        let request = api::DeleteStatementRequest { statement, all: true };
        answered("delete a statement", self.api().delete_statement(request)).await
    }

    async fn undefine(&self, set: api::DefinedSet, whole: Whole) -> Result<(), Error> {
        let request = api::DeleteDefinedSetRequest { defined_set: Some(set), all: whole == Whole::Yes };
        answered("shrink a set", self.api().delete_defined_set(request)).await
    }
}

/// Whether a set goes, or only what is named of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

fn import() -> api::Policy {
    policy(IMPORT, vec![statement("netd:unasked", neighbour(UNASKED), reject())])
}

fn export() -> api::Policy {
    let transit = |name: &str, route_type: RouteType| {
        let conditions = api::Conditions { route_type: route_type.into(), ..neighbour(PEERS) };
        statement(name, conditions, reject())
    };
    let statements = vec![
        transit("netd:no-transit-e", RouteType::External),
        transit("netd:no-transit-i", RouteType::Internal),
    ];
    policy(EXPORT, statements)
}

fn rest() -> api::Policy {
    let marked = |name: &str| api::Conditions { large_community_set: any_of(name), ..Default::default() };
    let statements = vec![
        statement("netd:for-others", marked(SOME), reject()),
        statement("netd:unmark", marked(MARKS), removing(format!("^{MARK_ASN}:"))),
    ];
    policy(REST, statements)
}

/// A path that names the peer is no longer for others when it goes there.
fn passing(name: &str) -> api::Statement {
    let conditions = api::Conditions { large_community_set: any_of(name), ..neighbour(name) };
    statement(name, conditions, removing(pattern(RESTRICTED)))
}

fn policy(name: &str, statements: Vec<api::Statement>) -> api::Policy {
    api::Policy { name: name.to_owned(), statements }
}

fn statement(name: &str, conditions: api::Conditions, actions: api::Actions) -> api::Statement {
    api::Statement { name: name.to_owned(), conditions: Some(conditions), actions: Some(actions) }
}

fn neighbour(set: &str) -> api::Conditions {
    api::Conditions { neighbor_set: any_of(set), ..Default::default() }
}

fn any_of(set: &str) -> Option<api::MatchSet> {
    Some(api::MatchSet { r#type: match_set::Type::Any.into(), name: set.to_owned() })
}

fn reject() -> api::Actions {
    api::Actions { route_action: api::RouteAction::Reject.into(), ..Default::default() }
}

fn removing(pattern: String) -> api::Actions {
    let r#type = api::community_action::Type::Remove.into();
    let action = api::CommunityAction { r#type, communities: vec![pattern] };
    api::Actions { large_community: Some(action), ..Default::default() }
}

fn defined(kind: api::DefinedType, name: &str, list: Vec<String>) -> api::DefinedSet {
    api::DefinedSet { defined_type: kind.into(), name: name.to_owned(), list, prefixes: Vec::new() }
}

fn to(peer: IpAddr) -> String {
    format!("{MARK}to:{peer}")
}

fn single(peer: IpAddr) -> String {
    IpNetwork::from(peer).to_string()
}

fn pattern(community: LargeCommunity) -> String {
    format!("^{community}$")
}
