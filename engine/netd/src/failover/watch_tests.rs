//! Whole networks of nodes, with links that carry packets in one direction, both, or none.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::collections::BTreeSet;

pub(super) const TICK: Duration = Duration::from_millis(25);
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// Nodes with clocks of their own; those whose names begin with `gw` are gateways.
pub(super) struct Net {
    pub(super) now: Duration,
    pub(super) nodes: BTreeMap<String, Watch>,
    pub(super) seen: BTreeMap<String, Seen>,
    /// What gets lost: from whom, to whom.
    cuts: BTreeSet<(String, String)>,
    preempt: bool,
    needs: usize,
    sessions: u64,
    names: Vec<String>,
}

impl Net {
    pub(super) fn new(names: &[&str], needs: usize, preempt: bool) -> Self {
        let mut net = Self {
            now: Duration::from_secs(100),
            nodes: BTreeMap::new(),
            seen: BTreeMap::new(),
            cuts: BTreeSet::new(),
            preempt,
            needs,
            sessions: 0,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        names.iter().for_each(|name| net.start(name));
        net
    }

    pub(super) fn orders(&self, me: &str) -> Arc<Orders> {
        let is_gateway = |name: &str| name.starts_with("gw");
        let others = self.names.iter().filter(|name| *name != me && (is_gateway(me) || is_gateway(name)));
        Arc::new(Orders {
            me: me.into(),
            is_gateway: is_gateway(me),
            listens: Vec::new(),
            others: others.map(|name| (name.clone(), ([127, 0, 0, 1], 1).into())).collect(),
            gateways: self.names.iter().filter(|name| is_gateway(name)).cloned().collect(),
            interval: INTERVAL,
            patience: INTERVAL * 3,
            detection: INTERVAL * 4,
            preempt: self.preempt,
            needs: self.needs,
            key_file: None,
        })
    }

    /// Every node has a clock of its own, and a new life another one.
    pub(super) fn clock(&self, name: &str) -> Duration {
        let at = self.names.iter().position(|other| other == name).unwrap();
        self.now + Duration::from_secs(1_000) * u32::try_from(at).unwrap()
    }

    pub(super) fn start(&mut self, name: &str) {
        self.sessions += 1;
        let mut watch = Watch::new(self.orders(name), self.sessions, self.clock(name));
        watch.passed(None, self.clock(name));
        self.nodes.insert(name.into(), watch);
    }

    pub(super) fn kill(&mut self, name: &str) {
        self.nodes.remove(name);
        self.seen.remove(name);
    }

    fn cut(&mut self, from: &str, to: &str) {
        self.cuts.insert((from.into(), to.into()));
    }

    pub(super) fn cut_both(&mut self, one: &str, other: &str) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// What a node's pass finds wrong.
    pub(super) fn passed(&mut self, name: &str, wrong: Option<&str>) {
        let now = self.clock(name);
        self.nodes.get_mut(name).unwrap().passed(wrong, now);
    }

    pub(super) fn deliver(&mut self, message: &Message, to: &str) -> Option<Message> {
        if self.cuts.contains(&(message.from.clone(), to.to_owned())) {
            return None;
        }
        let now = self.clock(to);
        self.nodes.get_mut(to)?.take(message, now)
    }

    pub(super) fn ask(&mut self, name: &str, away: Option<Duration>) {
        let now = self.clock(name);
        let Some(watch) = self.nodes.get_mut(name) else { return };
        watch.leave(away.map_or(Leaving::Not, |away| Leaving::Until(now + away)));
        let orders = Arc::clone(&watch.orders);
        let questions: Vec<(String, Message)> =
            orders.others.keys().map(|to| (to.clone(), watch.question(to, now))).collect();
        for (to, question) in questions {
            let Some(answer) = self.deliver(&question, &to) else { continue };
            self.deliver(&answer, name);
        }
    }

    /// Lets so much time pass; says at every step whether it is so, and panics if not.
    pub(super) fn pass_while(&mut self, time: Duration, is_so: impl Fn(&Self) -> bool) {
        let until = self.now + time;
        while self.now < until {
            self.now += TICK;
            let names = self.names.clone();
            if self.now.as_millis().is_multiple_of(INTERVAL.as_millis()) {
                names.iter().for_each(|name| self.ask(name, None));
            }
            for name in &names {
                let now = self.clock(name);
                if let Some(watch) = self.nodes.get_mut(name) {
                    self.seen.insert(name.clone(), watch.look(now));
                }
            }
            assert!(is_so(self), "{:?} at {:?}", self.seen, self.now);
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.pass_while(time, |_| true);
    }

    /// Whom a node would choose, by rank and then by the last of the names.
    pub(super) fn choice(&self, name: &str) -> Option<&str> {
        let alive = &self.seen.get(name)?.alive;
        alive
            .iter()
            .min_by_key(|(name, rank)| (**rank, std::cmp::Reverse(*name)))
            .map(|(name, _)| name.as_str())
    }

    pub(super) fn holders(&self) -> Vec<&str> {
        let names = self.names.iter().map(String::as_str);
        names.filter(|name| self.choice(name) == Some(name) && self.nodes.contains_key(*name)).collect()
    }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);

#[test]
fn those_that_start_together_agree_and_nobody_takes_anything_before_the_detection_time() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass_while(INTERVAL * 3, |net| net.holders().is_empty());
    net.pass(SECOND);
    assert_eq!(net.holders(), ["gw-2"]);
    assert_eq!([net.choice("gw-1"), net.choice("pods")], [Some("gw-2"); 2]);
}

#[test]
fn a_gateway_that_dies_is_followed_within_the_detection_time_and_takes_back_what_it_had() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    net.kill("gw-2");
    net.pass(INTERVAL * 5);
    assert_eq!(net.holders(), ["gw-1"]);
    assert_eq!(net.choice("pods"), Some("gw-1"));
    net.start("gw-2");
    net.pass(SECOND);
    assert_eq!(net.holders(), ["gw-2"]);
}

#[test]
fn without_preemption_one_that_comes_back_stands_behind_and_so_does_the_next() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, false);
    net.pass(SECOND);
    let first = net.holders()[0].to_owned();
    let second = if first == "gw-1" { "gw-2" } else { "gw-1" };
    net.kill(&first);
    net.pass(SECOND);
    assert_eq!(net.holders(), [second]);
    net.start(&first);
    net.pass_while(SECOND, |net| net.holders() == [second]);
    net.kill(second);
    net.pass(SECOND);
    net.start(second);
    net.pass_while(SECOND, |net| net.holders() == [first.as_str()]);
}

#[test]
fn two_gateways_that_do_not_hear_each_other_agree_by_a_third_node() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    net.cut_both("gw-1", "gw-2");
    net.pass_while(SECOND * 5, |net| net.holders() == ["gw-2"]);
    assert_eq!(net.seen["gw-1"].peers["gw-2"], Peer::HeardByOthers);
    assert_eq!(net.seen["pods"].peers["gw-2"], Peer::Answers);
}

#[test]
fn a_way_that_carries_packets_in_one_direction_only_is_none() {
    for (from, to) in [("gw-2", "pods"), ("pods", "gw-2")] {
        let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
        net.pass(SECOND);
        net.cut(from, to);
        net.pass(SECOND);
        assert_eq!(net.seen["pods"].peers["gw-2"], Peer::HeardByOthers, "{from} to {to}");
        // Now nobody hears it.
        net.cut(if from == "gw-2" { "gw-2" } else { "gw-1" }, if from == "gw-2" { "gw-1" } else { "gw-2" });
        net.pass(SECOND);
        assert_eq!(net.holders(), ["gw-1"], "{from} to {to}");
        assert!(matches!(net.seen["gw-2"].standing, Standing::Alone { hears: 1, needs: 2 }));
    }
}

#[test]
fn at_no_moment_two_have_an_address_when_one_is_cut_off_or_comes_back() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    for other in ["gw-1", "pods"] {
        net.cut_both("gw-2", other);
    }
    net.pass_while(SECOND, |net| net.holders().len() <= 1);
    assert_eq!(net.holders(), ["gw-1"]);
    net.cuts.clear();
    // While it takes back, the other one hears of it within an interval.
    net.pass(SECOND * 2);
    assert_eq!(net.holders(), ["gw-2"]);
}

#[test]
fn of_two_parts_of_a_network_only_the_larger_one_has_the_address() {
    let names = ["gw-1", "gw-2", "pods-1", "pods-2", "pods-3"];
    let mut net = Net::new(&names, 3, true);
    net.pass(SECOND);
    for one in ["gw-2", "pods-1"] {
        for other in ["gw-1", "pods-2", "pods-3"] {
            net.cut_both(one, other);
        }
    }
    net.pass_while(SECOND, |net| net.holders().len() <= 1);
    assert_eq!(net.holders(), ["gw-1"]);
    assert_eq!(net.choice("pods-2"), Some("gw-1"));
    assert_eq!(net.choice("pods-1"), None);
}

#[test]
fn without_a_quorum_both_of_two_that_do_not_hear_each_other_have_it() {
    let mut net = Net::new(&["gw-1", "gw-2"], 1, true);
    net.pass(SECOND);
    net.cut_both("gw-1", "gw-2");
    net.pass(SECOND);
    assert_eq!(net.holders(), ["gw-1", "gw-2"]);
    net.cuts.clear();
    net.pass(INTERVAL * 2);
    assert_eq!(net.holders(), ["gw-2"]);
}

#[test]
fn a_gateway_that_said_it_will_be_back_is_waited_for_and_not_longer() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, false);
    net.pass(SECOND);
    let holder = net.holders()[0].to_owned();
    let other = if holder == "gw-1" { "gw-2" } else { "gw-1" };
    net.pass(TICK);
    net.ask(&holder, Some(SECOND * 10));
    net.kill(&holder);
    net.pass_while(SECOND * 5, |net| net.holders().is_empty());
    net.start(&holder);
    net.pass(SECOND);
    // It is where it was, although the other one was there all the time.
    assert_eq!(net.holders(), [holder.as_str()]);
    net.pass(TICK);
    net.ask(&holder, Some(SECOND * 10));
    net.kill(&holder);
    net.pass(SECOND * 11);
    assert_eq!(net.holders(), [other]);
}

#[test]
fn who_asks_one_that_goes_hears_that_it_goes_and_waits_no_longer_for_it() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    net.now += TICK;
    net.ask("gw-2", Some(SECOND * 10));
    net.now += SECOND / 2;
    let now = net.clock("gw-1");
    let question = net.nodes["gw-1"].question("gw-2", now);
    let answer = net.deliver(&question, "gw-2").unwrap();
    assert_eq!((answer.state, answer.away_ms), (State::Away, 9_500));
    net.deliver(&answer, "gw-1");
    net.kill("gw-2");
    net.pass_while(SECOND * 9, |net| net.holders().is_empty());
    net.pass(SECOND * 2);
    assert_eq!(net.holders(), ["gw-1"]);
}

#[test]
fn one_that_says_it_stays_after_all_is_missed_like_any_other() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    net.now += TICK;
    net.ask("gw-2", Some(SECOND * 10));
    net.now += TICK;
    net.ask("gw-2", None);
    net.kill("gw-2");
    net.pass(INTERVAL * 6);
    assert_eq!(net.holders(), ["gw-1"]);
}

#[test]
fn a_farewell_has_reached_all_when_every_node_that_lives_has_answered() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    net.cut("gw-2", "pods");
    net.now += TICK;
    let sent = net.clock("gw-2");
    net.ask("gw-2", Some(SECOND * 10));
    let is_answered = |net: &Net| net.nodes["gw-2"].is_answered_since(sent, net.clock("gw-2"));
    assert!(!is_answered(&net), "the node without addresses has not heard it");
    net.cuts.clear();
    net.now += TICK;
    net.ask("gw-2", Some(SECOND * 10));
    assert!(is_answered(&net));
}

#[test]
fn a_farewell_does_not_wait_for_the_dead_and_needs_a_quorum_and_somebody_at_all() {
    for (needs, reaches) in [(1, true), (2, true), (3, false)] {
        let mut net = Net::new(&["gw-1", "gw-2", "pods"], needs, true);
        net.pass(SECOND);
        net.kill("pods");
        let sent = net.clock("gw-2") + TICK;
        net.now += TICK + INTERVAL * 4;
        net.ask("gw-2", Some(SECOND * 10));
        let is_answered = |net: &Net| net.nodes["gw-2"].is_answered_since(sent, net.clock("gw-2"));
        assert_eq!(is_answered(&net), reaches, "{needs} needed");
        net.now += INTERVAL * 4;
        assert!(!is_answered(&net), "nobody is left");
    }
}

#[test]
fn one_that_is_back_before_it_was_missed_keeps_its_place() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, false);
    net.pass(SECOND);
    let holder = net.holders()[0].to_owned();
    net.kill(&holder);
    net.pass(INTERVAL);
    net.start(&holder);
    let other = if holder == "gw-1" { "gw-2" } else { "gw-1" };
    net.pass_while(SECOND, |net| net.choice(other) == Some(&holder));
    assert_eq!(net.holders(), [holder.as_str()]);
}

#[test]
fn one_that_keeps_losing_its_quorum_waits_longer_each_time_and_a_minute_at_most() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    let mut waits = Vec::new();
    for _ in 0..12 {
        net.cut_both("gw-2", "gw-1");
        net.cut_both("gw-2", "pods");
        net.pass(SECOND);
        net.cuts.clear();
        let began = net.now;
        while net.holders() != ["gw-2"] {
            net.pass(TICK);
        }
        waits.push(net.now - began);
    }
    assert!(waits.is_sorted() && waits[5] > waits[0] * 10, "{waits:?}");
    assert!(waits[11] < SETTLING_MAX + SECOND, "{waits:?}");
}

#[test]
fn what_is_sent_again_or_for_somebody_else_proves_nothing() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    let now = net.clock("gw-2");
    let recorded = net.nodes["gw-2"].question("gw-1", now);
    let mut leaving = net.nodes["gw-2"].clone();
    leaving.leave(Leaving::Until(now + SECOND * 30));
    let farewell = leaving.question("gw-1", now);
    net.deliver(&recorded, "gw-1");
    net.kill("gw-2");
    net.pass(SECOND);
    for message in [&recorded, &farewell] {
        net.deliver(message, "gw-1");
        net.deliver(message, "pods");
    }
    net.pass(INTERVAL);
    assert_eq!(net.holders(), ["gw-1"]);
    let forged =
        Message { own: Moment { session: 99, at_us: u64::MAX }, echo: Moment::default(), ..recorded };
    net.deliver(&forged, "gw-1");
    net.pass(INTERVAL);
    assert_eq!(net.holders(), ["gw-1"]);
}

#[test]
fn nodes_with_different_lists_of_gateways_go_by_what_they_hear_themselves() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 1, true);
    let mut orders = Orders::clone(&net.orders("pods"));
    orders.gateways.push("gw-9".into());
    let now = net.clock("pods");
    net.nodes.get_mut("pods").unwrap().adopt(Arc::new(orders), now);
    net.pass(SECOND);
    net.cut_both("gw-1", "gw-2");
    net.pass(SECOND);
    assert_eq!(net.seen["gw-1"].peers["gw-2"], Peer::Gone);
    assert_eq!(net.seen["pods"].peers["gw-2"], Peer::Answers);
}
