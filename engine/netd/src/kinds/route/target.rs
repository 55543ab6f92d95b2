//! netd's routes in the kernel: found in the facts, changed in batches.

use super::wire::{Beside, adding, deleting};
use super::{PROTOCOL, RouteSpec, Way, is_received, key, key_of, metric};
use crate::facts::{
    Facts, Link, NextHop, Route, RouteAction, TABLE_MAIN, Tunnel, links, routes_of, same_device,
};
use crate::netlink::{Answer, Channel, Connection, Request};
use crate::target::Target;
use async_trait::async_trait;
use netd_core::{Action, Key, Observation, Outcome, Step};
use netlink_packet_route::route::RouteProtocol;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// The target of routes: the kernel's tables.
#[derive(Default)]
pub struct RouteTarget {
    /// Away while changes are under way; made anew when they were cancelled.
    channel: Option<Channel>,
    /// As `channel`, for what is looked at before.
    connection: Option<Connection>,
    origin: Origin,
}

/// Where routes of netd's come from; the kernel tells them apart by their metric and their table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Origin {
    /// The file.
    #[default]
    File,
    /// The file, for what is encrypted: every other table than the main one is of these alone, and of that its guards.
    Encrypted,
    /// BGP peers.
    Peers,
}

#[async_trait]
impl Target for RouteTarget {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        Ok(observe(facts, self.origin))
    }

    fn exchanges(&self) -> bool {
        self.origin == Origin::Encrypted
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let jobs: Vec<Job> = steps.iter().map(Job::new).collect();
        let count = jobs.len();
        let failed = |reason: String| vec![Outcome::Failed(reason); count];
        let links = match self.links().await {
            Ok(links) => links,
            Err(reason) => return failed(reason),
        };
        let channel = self.channel.take();
        let work = tokio::task::spawn_blocking(move || {
            let mut channel = match channel {
                Some(channel) => channel,
                None => Channel::open().map_err(|error| format!("open netlink: {error}"))?,
            };
            let (outcomes, lost) = run(&mut channel, &jobs, &links);
            // After a lost answer a late one could still arrive: such a socket is not used again.
            Ok((outcomes, (!lost).then_some(channel)))
        });
        match work.await {
            Ok(Ok((outcomes, channel))) => {
                self.channel = channel;
                outcomes
            }
            Ok(Err(reason)) => failed(reason),
            Err(error) => failed(format!("changing routes ended early: {error}")),
        }
    }
}

impl RouteTarget {
    /// The target of routes that BGP peers sent.
    #[must_use]
    pub fn received() -> Self {
        Self { origin: Origin::Peers, ..Self::default() }
    }

    /// The target of routes for what is encrypted.
    #[must_use]
    pub fn encrypted() -> Self {
        Self { origin: Origin::Encrypted, ..Self::default() }
    }

    /// The links now: later than the facts.
    async fn links(&mut self) -> Result<BTreeMap<u32, Link>, String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open().map_err(|error| format!("open netlink: {error}"))?,
        };
        let links = links(&mut connection).await.map_err(|error| format!("read links: {error}"))?;
        self.connection = Some(connection);
        Ok(links)
    }
}

/// What the facts say about routes of ours, and about others where ours would be.
fn observe(facts: &Facts, origin: Origin) -> Observation {
    let mut specs: BTreeMap<Key, RouteSpec> = BTreeMap::new();
    let mut observation = Observation::default();
    let all = facts.routes.iter().chain(&facts.routes_elsewhere);
    for route in all.filter(|route| origin_of(route) == origin) {
        let key = || key(route.destination, route.table);
        let mut found = |way: Way| match specs.entry(key_of(route.destination, route.table, way.purpose())) {
            Entry::Occupied(spec) => spec.into_mut().surplus.push(way),
            Entry::Vacant(place) => {
                let (prefix, table, protocol) = (route.destination, route.table, route.protocol);
                place.insert(RouteSpec { prefix, way, table, protocol, surplus: Vec::new() });
            }
        };
        let (ours, tunnel) = match &route.action {
            RouteAction::Forward(hops) if route.protocol == PROTOCOL => (hops.as_slice(), None),
            RouteAction::Tunnel(hop, tunnel) if route.protocol == PROTOCOL => {
                (std::slice::from_ref(hop), Some(*tunnel))
            }
            RouteAction::Discard if is_refusal_of_ours(route) => {
                found(Way { metric: route.metric, ..Way::refusal() });
                continue;
            }
            RouteAction::Forward(_) | RouteAction::Tunnel(..) | RouteAction::Discard | RouteAction::Other => {
                if route.metric == metric(route.destination) {
                    observation.foreign.insert(key(), holder(route));
                }
                continue;
            }
        };
        for hop in ours {
            let device = match facts.links.get(&hop.link) {
                Some(link) => link.name.clone(),
                None => format!("interface {}", hop.link),
            };
            let (metric, mtu, source) = (route.metric, route.mtu, route.source);
            found(Way { via: hop.via, device, ifindex: hop.link, tunnel, mtu, source, metric });
        }
    }
    for (key, spec) in specs {
        observation.owned.insert(key, Arc::new(spec));
    }
    observation
}

fn origin_of(route: &Route) -> Origin {
    match is_received(route) {
        true => Origin::Peers,
        false if route.table == TABLE_MAIN && !is_guard(route) => Origin::File,
        false => Origin::Encrypted,
    }
}

fn is_refusal_of_ours(route: &Route) -> bool {
    route.protocol == PROTOCOL && [Way::refusal().metric, Way::guard().metric].contains(&route.metric)
}

fn is_guard(route: &Route) -> bool {
    route.protocol == PROTOCOL && route.metric == Way::guard().metric
}

/// Names who made a route, in the words of `ip route`.
fn holder(route: &Route) -> String {
    let number = route.protocol;
    match RouteProtocol::from(number) {
        RouteProtocol::Other(_) | RouteProtocol::Unspec => format!("a route of protocol {number}"),
        known => format!("a route of protocol {known} ({number})"),
    }
}

/// One step, with its spec's type back.
enum Job {
    Create(RouteSpec),
    Update {
        from: RouteSpec,
        to: RouteSpec,
    },
    Delete(RouteSpec),
    /// A spec of another kind: a mistake of the caller.
    Unknown,
}

impl Job {
    fn new(step: &Step) -> Self {
        let typed = |spec: &Arc<dyn netd_core::Spec>| spec.as_any().downcast_ref::<RouteSpec>().cloned();
        let job = match &step.action {
            Action::Create { to } => typed(to).map(Self::Create),
            Action::Update { from, to } => {
                typed(from).zip(typed(to)).map(|(from, to)| Self::Update { from, to })
            }
            Action::Delete { from } => typed(from).map(Self::Delete),
        };
        job.unwrap_or(Self::Unknown)
    }

    /// What is sent first: everything but the removal of what an update leaves behind.
    fn first(&self, links: &BTreeMap<u32, Link>) -> Result<Vec<Request>, Outcome> {
        match self {
            Self::Create(to) | Self::Update { to, .. } if to.way.is_refusal() => {}
            Self::Create(to) | Self::Update { to, .. } => {
                same_device(links, to.way.ifindex, &to.way.device).map_err(Outcome::Failed)?;
            }
            Self::Delete(_) => {}
            Self::Unknown => return Err(Outcome::Failed("this is not a route".into())),
        }
        Ok(self.unchecked())
    }

    fn unchecked(&self) -> Vec<Request> {
        match self {
            Self::Create(to) => vec![adding(to, Beside::Nothing)],
            Self::Update { from, to } if needs_stand_in(from, to) => {
                vec![adding(&stand_in(to), Beside::Nothing)]
            }
            Self::Update { from, to } if ways(from).any(|way| *way == to.way) => Vec::new(),
            Self::Update { to, .. } => vec![adding(to, Beside::Ours)],
            Self::Delete(from) => ways(from).map(|way| deleting(from, way)).collect(),
            Self::Unknown => Vec::new(),
        }
    }

    /// What is sent once the new way of an update is there.
    fn second(&self) -> Vec<Request> {
        match self {
            Self::Update { from, to } => {
                let needs_stand_in = needs_stand_in(from, to);
                let old = ways(from).filter(|way| needs_stand_in || **way != to.way);
                let mut requests: Vec<Request> = old.map(|way| deleting(from, way)).collect();
                if needs_stand_in {
                    let stand_in = stand_in(to);
                    requests.extend([adding(to, Beside::Nothing), deleting(&stand_in, &stand_in.way)]);
                }
                requests
            }
            Self::Create(_) | Self::Delete(_) | Self::Unknown => Vec::new(),
        }
    }
}

/// Whether the kernel cannot tell the new way from an old one when that is deleted: of IPv6 routes it compares device, router
/// and metric only, and takes the first that fits, into whichever tunnel it leads.
fn needs_stand_in(from: &RouteSpec, to: &RouteSpec) -> bool {
    let Way { mtu, source, tunnel, .. } = to.way;
    let looks_the_same = |way: &Way| Way { mtu, source, tunnel, ..way.clone() } == to.way;
    to.prefix.is_ipv6() && ways(from).any(|way| *way != to.way && looks_the_same(way))
}

/// What carries the packets while the old way goes and the new one comes: the new one, behind both.
fn stand_in(to: &RouteSpec) -> RouteSpec {
    let way = Way { metric: to.way.metric.saturating_add(1), ..to.way.clone() };
    RouteSpec { way, surplus: Vec::new(), ..to.clone() }
}

fn ways(spec: &RouteSpec) -> impl Iterator<Item = &Way> {
    std::iter::once(&spec.way).chain(&spec.surplus)
}

/// Does the jobs: one outcome each, and whether an answer of the kernel was lost.
fn run(channel: &mut Channel, jobs: &[Job], links: &BTreeMap<u32, Link>) -> (Vec<Outcome>, bool) {
    let mut work = Work { channel, tables: BTreeMap::new(), lost: false };
    let mut outcomes = work.first(jobs, links);
    work.second(jobs, &mut outcomes);
    (outcomes, work.lost)
}

struct Work<'c> {
    channel: &'c mut Channel,
    /// Tables by number, each read once when an answer makes it needed.
    tables: BTreeMap<u32, Result<Vec<Route>, String>>,
    lost: bool,
}

impl Work<'_> {
    /// Everything but the removal of what updates leave behind.
    fn first(&mut self, jobs: &[Job], links: &BTreeMap<u32, Link>) -> Vec<Outcome> {
        let mut requests = Vec::with_capacity(jobs.len());
        let mut counts = Vec::with_capacity(jobs.len());
        for job in jobs {
            let first = job.first(links);
            counts.push(first.as_ref().map_or(0, Vec::len));
            requests.push(first);
        }
        let flat: Vec<Request> = requests
            .iter_mut()
            .flat_map(|first| first.as_mut().map(std::mem::take).unwrap_or_default())
            .collect();
        let mut answers = self.change(&flat).into_iter();
        let mut outcomes = Vec::with_capacity(jobs.len());
        for ((job, prepared), count) in jobs.iter().zip(requests).zip(counts) {
            let mut outcome = prepared.err().unwrap_or(Outcome::Applied);
            for answer in answers.by_ref().take(count) {
                let came = self.judge(job, answer);
                if came != Outcome::Applied {
                    outcome = came;
                }
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// What is removed once the new way of an update is there; without it the old one stays.
    fn second(&mut self, jobs: &[Job], outcomes: &mut [Outcome]) {
        let (mut owners, mut requests) = (Vec::new(), Vec::new());
        for (at, (job, outcome)) in jobs.iter().zip(outcomes.iter()).enumerate() {
            if *outcome == Outcome::Applied {
                requests.extend(job.second());
                owners.resize(requests.len(), at);
            }
        }
        for (at, answer) in owners.into_iter().zip(self.change(&requests)) {
            let Some(outcome) = outcomes.get_mut(at) else { continue };
            match answer {
                Answer::Done => {}
                Answer::Refused(Errno::SRCH) => {
                    *outcome = Outcome::Failed("what it replaces was not there any more as ours".into());
                }
                Answer::Refused(error) | Answer::Lost(error) => {
                    *outcome = failure("remove the old way", error)
                }
            }
        }
    }

    fn change(&mut self, requests: &[Request]) -> Vec<Answer> {
        let answers = self.channel.change(requests);
        self.lost |= answers.iter().any(|answer| matches!(answer, Answer::Lost(_)));
        answers
    }

    /// What an answer to a first request means.
    fn judge(&mut self, job: &Job, answer: Answer) -> Outcome {
        match (job, answer) {
            (_, Answer::Done) | (Job::Delete(_), Answer::Refused(Errno::SRCH)) => Outcome::Applied,
            (Job::Create(to) | Job::Update { to, .. }, Answer::Refused(Errno::EXIST)) => {
                let channel = &mut *self.channel;
                let table = self.tables.entry(to.table).or_insert_with(|| {
                    routes_of(channel, to.table).map_err(|error| format!("read routes: {error}"))
                });
                match table {
                    Ok(routes) => already_there(to, routes),
                    Err(reason) => Outcome::Failed(reason.clone()),
                }
            }
            (Job::Delete(_), Answer::Refused(error)) => failure("delete", error),
            (_, Answer::Refused(error)) => failure("add", error),
            (_, Answer::Lost(error)) => failure("the kernel's answer was lost", error),
        }
    }
}

fn failure(what: &str, error: Errno) -> Outcome {
    Outcome::Failed(format!("{what}: {}", std::io::Error::from(error)))
}

/// Something has the prefix and the metric: ours as wanted, ours otherwise, or somebody else's.
fn already_there(to: &RouteSpec, routes: &[Route]) -> Outcome {
    let same = |route: &&Route| route.destination == to.prefix && route.metric == to.way.metric;
    let mut others = None;
    let is_wanted = |hop: &NextHop, tunnel: Option<Tunnel>, mtu: Option<u32>| {
        (hop.link, hop.via, tunnel, mtu) == (to.way.ifindex, to.way.via, to.way.tunnel, to.way.mtu)
    };
    for route in routes.iter().filter(same) {
        let is_there = match &route.action {
            RouteAction::Forward(hops) => hops.iter().any(|hop| is_wanted(hop, None, route.mtu)),
            RouteAction::Tunnel(hop, tunnel) => is_wanted(hop, Some(*tunnel), route.mtu),
            RouteAction::Discard => is_refusal_of_ours(route) && to.way.is_refusal(),
            RouteAction::Other => false,
        };
        if route.protocol != PROTOCOL || matches!(route.action, RouteAction::Discard | RouteAction::Other) {
            others = Some(route);
        }
        if is_there && route.protocol == PROTOCOL {
            return Outcome::Applied;
        }
    }
    match others {
        Some(route) => Outcome::Conflict(holder(route)),
        None => Outcome::Failed("it was changed since it was last looked at".into()),
    }
}
