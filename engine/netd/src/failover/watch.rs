//! From messages and the time to what is known of the gateways. Pure: the time is an argument.
//!
//! A node lives, for another one, by the last moment of that one's own clock that it has sent back: both ways carried a
//! packet since. A gateway lives as long as any node that this one hears has such a proof, and the proof is not older than
//! the detection time; proofs are told with their age, so that being told of one does not make it younger.
//!
//! A gateway that hears fewer nodes than it needs gives up one interval before it counts as dead for the others. Two that
//! both hear a majority have a node in common that hears both and tells each of the other: both know the same of each
//! other, and one of them is preferred.
//!
//! A gateway that cannot do what egress needs says so by its rank, `UNABLE`: it lives, and all that are able are
//! preferred. Where none is, it is as if all were.

use super::ability::Ability;
use super::message::{Heard, Message, Moment, Purpose, State};
use super::orders::Orders;
use super::seen::{Peer, Seen, Standing, UNABLE};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A gateway that loses and regains its quorum waits so long at most before it may have addresses again.
const SETTLING_MAX: Duration = Duration::from_secs(60);

/// After this time without a loss, losses are forgotten.
const FORGETTING: Duration = Duration::from_secs(600);

/// So many times the waiting time doubles; more would not fit [`SETTLING_MAX`] with the longest detection time either.
const DOUBLINGS_MAX: u32 = 10;

/// For how long the others wait at most for a gateway that says that it will be back.
pub const AWAY_MAX: Duration = Duration::from_secs(30);

/// Whether a node goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaving {
    /// It stays.
    #[default]
    Not,
    /// It will be back by then.
    Until(Duration),
    /// It will not be back before long: nobody waits for it.
    ForGood,
}

/// What a node knows, and how it stands.
#[derive(Clone, Debug)]
pub struct Watch {
    orders: Arc<Orders>,
    /// A print of the orders' list of gateways.
    print: u64,
    session: u64,
    others: BTreeMap<String, Other>,
    own: Own,
    ability: Ability,
    /// Whether it is known what this node can do.
    has_passed: bool,
    leaving: Leaving,
}

/// Another node.
#[derive(Clone, Debug, Default)]
struct Other {
    /// The moment of its clock that it is told next.
    latest: Moment,
    /// The last moment of this node's clock that it has sent back.
    answered: Option<Duration>,
    /// The last proof that it lives and may have addresses.
    ready: Option<Duration>,
    /// When it said that it may not.
    unready: Option<Duration>,
    /// Until then it counts as alive whatever it says: it goes, and will be back.
    away_until: Option<Duration>,
    rank: u32,
}

#[derive(Clone, Copy, Debug)]
struct Own {
    standing: Standing,
    since: Duration,
    losses: u32,
    rank: u32,
    /// When others last heard this node, as they say, and the rank that they know it by.
    told: Option<(Duration, u32)>,
}

impl Own {
    fn starting(now: Duration) -> Self {
        Self { standing: Standing::Starting, since: now, losses: 0, rank: 0, told: None }
    }
}

impl Watch {
    /// One that begins to listen now. `session` is a number that no other life of this node's netd has had; not 0.
    #[must_use]
    pub fn new(orders: Arc<Orders>, session: u64, now: Duration) -> Self {
        let print = orders.print();
        let (others, own) = (BTreeMap::new(), Own::starting(now));
        let (ability, leaving) = (Ability::default(), Leaving::Not);
        let mut watch = Self { orders, print, session, others, own, ability, has_passed: false, leaving };
        watch.keep_those_of_orders();
        watch
    }

    /// Goes on by other orders, with what is known of the nodes that stay.
    pub fn adopt(&mut self, orders: Arc<Orders>, now: Duration) {
        let became_gateway = orders.is_gateway && !self.orders.is_gateway;
        self.print = orders.print();
        self.orders = orders;
        self.keep_those_of_orders();
        if became_gateway {
            self.own = Own::starting(now);
        }
        if self.orders.preempt {
            self.own.rank = 0;
        }
    }

    fn keep_those_of_orders(&mut self) {
        let mut before = std::mem::take(&mut self.others);
        let keep = |name: &String| (name.clone(), before.remove(name).unwrap_or_default());
        self.others = self.orders.others.keys().map(keep).collect();
    }

    /// The question for a node.
    #[must_use]
    pub fn question(&self, to: &str, now: Duration) -> Message {
        self.message(to, Purpose::Question, now)
    }

    /// From now on everything that this node says, answers too, says whether it goes.
    pub fn leave(&mut self, leaving: Leaving) {
        self.leaving = leaving;
    }

    /// A pass has ended, or should have: `wrong` is what keeps this node from being a gateway, if anything does.
    pub fn passed(&mut self, wrong: Option<&str>, now: Duration) {
        self.has_passed = true;
        self.ability.tell(wrong, now);
    }

    /// Whether this node, as long as it does not know yet who lives, keeps what it has from its life before: it hears
    /// as many nodes as it has to, and none of them has missed it.
    #[must_use]
    pub fn is_unmissed(&self, now: Duration) -> bool {
        let is_fresh = |(at, _)| now.saturating_sub(at) < self.orders.detection;
        let hears = self.hears(now);
        hears >= self.orders.needs && (hears == 1 || self.own.told.is_some_and(is_fresh))
    }

    /// Whether nobody has said for too long that this node lives, although somebody did: another one has its addresses by now.
    #[must_use]
    pub fn is_missed(&self, now: Duration) -> bool {
        self.own.told.is_some_and(|(at, _)| now.saturating_sub(at) >= self.orders.detection)
    }

    /// Takes a message that came from the address of the node that it says it is from; a question has an answer.
    pub fn take(&mut self, message: &Message, now: Duration) -> Option<Message> {
        let is_alive = self.is_alive(&message.from, now);
        let session = self.session;
        let other = self.others.get_mut(&message.from)?;
        let own = message.own;
        let is_later = other.latest.session != own.session || other.latest.at_us < own.at_us;
        if is_later {
            other.latest = own;
        }
        // One that was overtaken, or is sent again by somebody who has recorded it, says nothing of now.
        let echo = Duration::from_micros(message.echo.at_us);
        let is_of_now = echo <= now && other.answered.is_none_or(|answered| answered <= echo);
        if message.echo.session == session && is_later && is_of_now {
            other.answered = other.answered.max(Some(echo));
            other.hear(message, echo, now, is_alive);
            self.hear_of_others(message, echo, now);
        }
        (message.purpose == Purpose::Question).then(|| self.message(&message.from, Purpose::Answer, now))
    }

    /// What others say they hear counts from when they surely said it.
    fn hear_of_others(&mut self, message: &Message, said: Duration, now: Duration) {
        if message.gateways != self.print || message.heard.len() != self.orders.gateways.len() {
            return;
        }
        for (name, heard) in self.orders.gateways.iter().zip(&message.heard) {
            let Some(Heard { age_ms, rank, away_ms }) = *heard else { continue };
            let Some(proof) = said.checked_sub(Duration::from_millis(age_ms.into())) else { continue };
            if *name == self.orders.me {
                if self.own.told.is_none_or(|(at, _)| at < proof) {
                    self.own.told = Some((proof, rank));
                }
            } else if let Some(other) = self.others.get_mut(name) {
                let is_news = other.ready.is_none_or(|ready| ready < proof);
                if is_news && other.unready.is_none_or(|unready| unready < proof) && proof <= now {
                    (other.ready, other.rank) = (Some(proof), rank);
                    other.away_until = until(said, away_ms);
                }
            }
        }
    }

    fn message(&self, to: &str, purpose: Purpose, now: Duration) -> Message {
        let state = match self.own.standing {
            _ if !self.orders.is_gateway || self.leaving == Leaving::ForGood => State::Bystander,
            Standing::Starting => State::Starting,
            Standing::Alone { .. } | Standing::Settling => State::Bystander,
            Standing::Ready if matches!(self.leaving, Leaving::Until(_)) => State::Away,
            Standing::Ready => State::Ready,
        };
        let heard = self.orders.gateways.iter().map(|name| self.heard(name, now)).collect();
        let at_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let away_ms = match self.leaving {
            Leaving::Until(until) if state == State::Away => millis(until.saturating_sub(now)),
            Leaving::Until(_) | Leaving::Not | Leaving::ForGood => 0,
        };
        Message {
            purpose,
            state,
            from: self.orders.me.clone(),
            own: Moment { session: self.session, at_us },
            echo: self.others.get(to).map_or(Moment::default(), |other| other.latest),
            rank: self.own_rank(),
            away_ms,
            gateways: self.print,
            heard,
        }
    }

    /// What this node tells others of a gateway: only what it has heard itself.
    fn heard(&self, name: &str, now: Duration) -> Option<Heard> {
        let other = self.others.get(name)?;
        let direct = other.ready.filter(|ready| other.answered.is_some_and(|answered| *ready <= answered));
        let age = now.saturating_sub(direct?);
        let away = other.away_until.map_or(Duration::ZERO, |until| until.saturating_sub(now));
        let counts = age < self.orders.detection || !away.is_zero();
        counts.then(|| Heard { age_ms: millis(age), rank: other.rank, away_ms: millis(away) })
    }

    /// Whether all nodes that are not dead for this one have answered something that was sent at this time or later, and
    /// with them so many as a gateway has to hear: whoever could take over has heard it, or hears a node that has. Where
    /// nobody answers, nobody has heard it.
    #[must_use]
    pub fn is_answered_since(&self, sent: Duration, now: Duration) -> bool {
        let is_fresh = |at: &Duration| now.saturating_sub(*at) < self.orders.detection;
        let fresh = || self.others.values().filter_map(|other| other.answered).filter(is_fresh);
        1 + fresh().count() >= self.orders.needs.max(2) && fresh().all(|at| sent <= at)
    }

    fn is_alive(&self, name: &str, now: Duration) -> bool {
        let is_fresh = |proof: Duration| now.saturating_sub(proof) < self.orders.detection;
        self.others.get(name).is_some_and(|other| other.is_away(now) || other.ready.is_some_and(is_fresh))
    }

    /// So many nodes send back what this one sends, itself included.
    fn hears(&self, now: Duration) -> usize {
        let is_fresh = |proof: Duration| now.saturating_sub(proof) < self.orders.patience;
        1 + self.others.values().filter(|other| other.answered.is_some_and(is_fresh)).count()
    }

    /// Lets the time pass: what is known now.
    pub fn look(&mut self, now: Duration) -> Seen {
        self.stand(now);
        let is_gateway = self.orders.is_gateway && self.own.standing == Standing::Ready;
        let unable = self.ability.unable().filter(|_| is_gateway).map(str::to_owned);
        let mut seen = Seen { standing: self.own.standing, unable, ..Seen::default() };
        for name in &self.orders.gateways {
            let Some(other) = self.others.get(name) else { continue };
            let is_alive = self.is_alive(name, now);
            let answers = other.answered.is_some_and(|at| now.saturating_sub(at) < self.orders.detection);
            let peer = match (is_alive, answers) {
                (true, true) => Peer::Answers,
                (true, false) => Peer::HeardByOthers,
                (false, _) => Peer::Gone,
            };
            seen.peers.insert(name.clone(), peer);
            if is_alive {
                seen.alive.insert(name.clone(), other.rank);
            }
        }
        if is_gateway {
            seen.alive.insert(self.orders.me.clone(), self.own_rank());
        }
        seen
    }

    fn stand(&mut self, now: Duration) {
        let (hears, needs) = (self.hears(now), self.orders.needs);
        let (has_quorum, since) = (!self.orders.is_gateway || hears >= needs, self.own.since);
        let lasted = now.saturating_sub(since);
        let next = match self.own.standing {
            Standing::Starting if lasted < self.orders.detection => Standing::Starting,
            Standing::Starting if !self.has_passed => Standing::Starting,
            Standing::Starting | Standing::Settling if !has_quorum => Standing::Alone { hears, needs },
            Standing::Starting => Standing::Ready,
            Standing::Settling if lasted < self.settling() => Standing::Settling,
            Standing::Settling => Standing::Ready,
            Standing::Ready if !has_quorum => Standing::Alone { hears, needs },
            Standing::Ready => Standing::Ready,
            Standing::Alone { .. } if has_quorum => Standing::Settling,
            Standing::Alone { .. } => Standing::Alone { hears, needs },
        };
        match (self.own.standing, next) {
            (Standing::Ready, Standing::Ready) if lasted >= FORGETTING => self.own.losses = 0,
            (Standing::Ready, Standing::Alone { .. }) => self.own.losses = self.own.losses.saturating_add(1),
            (before, Standing::Ready) if before != Standing::Ready => self.own.rank = self.rank(now),
            _ => {}
        }
        self.judge(next, now);
        if std::mem::discriminant(&next) != std::mem::discriminant(&self.own.standing) {
            self.own.since = now;
        }
        self.own.standing = next;
    }

    /// Whether this node is able counts only while it may have addresses; and at once, when it has just come.
    fn judge(&mut self, next: Standing, now: Duration) {
        let lasting = match (self.own.standing, next) {
            (Standing::Starting, Standing::Ready) => Duration::ZERO,
            (_, Standing::Ready) => self.orders.detection,
            _ => return self.ability.begin(now),
        };
        if self.ability.look(lasting, now) && !self.orders.preempt {
            self.own.rank = self.behind_all(now);
        }
    }

    /// As the others know it.
    fn own_rank(&self) -> u32 {
        self.own.rank | self.ability.unable().map_or(0, |_| UNABLE)
    }

    /// Twice as long after every loss.
    fn settling(&self) -> Duration {
        let doublings = self.own.losses.saturating_sub(1).min(DOUBLINGS_MAX);
        let most = SETTLING_MAX.max(self.orders.detection);
        self.orders.detection.saturating_mul(1 << doublings).min(most)
    }

    /// Where this node ranks when it comes: where it was, if the others have not missed it and it was able; else behind all of
    /// them.
    fn rank(&self, now: Duration) -> u32 {
        if self.orders.preempt {
            return 0;
        }
        match self.own.told {
            Some((at, rank)) if now.saturating_sub(at) < self.orders.detection && rank & UNABLE == 0 => rank,
            _ => self.behind_all(now),
        }
    }

    fn behind_all(&self, now: Duration) -> u32 {
        let alive = self.others.iter().filter(|(name, _)| self.is_alive(name, now));
        alive.map(|(_, other)| (other.rank & !UNABLE) + 1).max().unwrap_or(0)
    }
}

impl Other {
    fn hear(&mut self, message: &Message, proof: Duration, now: Duration, is_alive: bool) {
        match message.state {
            State::Ready => {
                (self.ready, self.rank) = (self.ready.max(Some(proof)), message.rank);
                (self.unready, self.away_until) = (None, None);
            }
            State::Away => {
                (self.ready, self.rank) = (self.ready.max(Some(proof)), message.rank);
                (self.unready, self.away_until) = (None, until(now, message.away_ms));
            }
            // Back before it was missed: nobody has taken over. From now on it is missed like any other.
            State::Starting if is_alive => {
                (self.ready, self.away_until) = (self.ready.max(Some(proof)), None);
            }
            State::Starting | State::Bystander => {
                (self.unready, self.ready, self.away_until) = (Some(now), None, None);
            }
        }
    }

    fn is_away(&self, now: Duration) -> bool {
        self.away_until.is_some_and(|until| now < until)
    }
}

/// When a node is back that said at this time that it will be by then; `None` for one that is there.
fn until(said: Duration, away_ms: u32) -> Option<Duration> {
    (away_ms > 0).then(|| said + Duration::from_millis(away_ms.into()).min(AWAY_MAX))
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "watch_ability_tests.rs"]
mod ability_tests;
