//! Gateways that live and cannot do their work, that start, and that go.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::tests::{INTERVAL, Net, SECOND, TICK};
use super::*;

#[test]
fn a_gateway_that_cannot_do_its_work_is_followed_and_takes_back_when_it_could_for_a_while() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    net.passed("gw-2", Some("its programs do not load"));
    net.pass_while(INTERVAL * 3, |net| net.holders() == ["gw-2"]);
    net.pass(INTERVAL * 3);
    assert_eq!(net.holders(), ["gw-1"]);
    assert_eq!([net.choice("gw-2"), net.choice("pods")], [Some("gw-1"); 2]);
    assert_eq!(net.seen["gw-2"].unable.as_deref(), Some("its programs do not load"));
    net.passed("gw-2", None);
    net.pass_while(SECOND * 9, |net| net.holders() == ["gw-1"]);
    net.pass(SECOND * 2);
    assert_eq!(net.holders(), ["gw-2"]);
}

#[test]
fn what_is_wrong_for_a_moment_moves_nothing() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    net.passed("gw-2", Some("its address was not added"));
    net.pass(INTERVAL * 2);
    net.passed("gw-2", None);
    net.pass_while(SECOND * 2, |net| net.holders() == ["gw-2"]);
}

#[test]
fn where_no_gateway_is_able_it_is_as_if_all_were() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    net.passed("gw-1", Some("no programs"));
    net.passed("gw-2", Some("no programs"));
    net.pass(SECOND);
    net.pass_while(SECOND * 5, |net| net.holders() == ["gw-2"]);
}

#[test]
fn one_that_comes_and_is_unable_takes_nothing_at_any_moment() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    net.kill("gw-2");
    net.pass(SECOND);
    net.start("gw-2");
    net.passed("gw-2", Some("no programs"));
    net.pass_while(SECOND * 5, |net| net.holders() == ["gw-1"]);
}

#[test]
fn without_preemption_one_that_is_able_again_stands_behind() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, false);
    net.pass(SECOND);
    let first = net.holders()[0].to_owned();
    let second = if first == "gw-1" { "gw-2" } else { "gw-1" };
    net.passed(&first, Some("no programs"));
    net.pass(SECOND);
    assert_eq!(net.holders(), [second]);
    net.passed(&first, None);
    net.pass_while(SECOND * 20, |net| net.holders() == [second]);
    assert_eq!(net.seen[&first].unable, None);
}

#[test]
fn one_without_a_pass_takes_nothing_and_is_not_missed() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    let orders = net.orders("gw-2");
    let watch = Watch::new(orders, 99, net.clock("gw-2"));
    net.nodes.insert("gw-2".into(), watch);
    net.pass_while(SECOND * 3, |net| net.seen["gw-2"].standing == Standing::Starting);
    assert_eq!(net.choice("gw-1"), Some("gw-2"));
    net.passed("gw-2", None);
    net.pass(INTERVAL);
    assert_eq!(net.holders(), ["gw-2"]);
}

#[test]
fn one_that_starts_keeps_what_it_has_only_as_long_as_nobody_has_missed_it() {
    for (down, needs, is_kept) in [(INTERVAL, 2, true), (SECOND, 2, false), (SECOND, 1, false)] {
        let mut net = Net::new(&["gw-1", "gw-2", "pods"], needs, true);
        net.pass(SECOND);
        net.kill("gw-2");
        net.pass(down);
        net.start("gw-2");
        let is_unmissed = |net: &Net| net.nodes["gw-2"].is_unmissed(net.clock("gw-2"));
        assert_eq!(is_unmissed(&net), needs == 1, "nobody has answered yet");
        net.pass(INTERVAL * 2);
        assert_eq!(is_unmissed(&net), is_kept, "{down:?}, {needs} needed");
    }
}

#[test]
fn one_that_goes_for_good_is_followed_at_once() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    net.now += TICK;
    net.nodes.get_mut("gw-2").unwrap().leave(Leaving::ForGood);
    let now = net.clock("gw-2");
    for to in ["gw-1", "pods"] {
        let question = net.nodes["gw-2"].question(to, now);
        net.deliver(&question, to);
    }
    net.kill("gw-2");
    net.pass(INTERVAL);
    assert_eq!((net.holders(), net.choice("pods")), (vec!["gw-1"], Some("gw-1")));
}

#[test]
fn who_knows_from_others_that_a_gateway_will_be_back_waits_no_longer_than_they() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    net.cut_both("gw-1", "gw-2");
    net.pass(SECOND);
    net.now += TICK;
    net.ask("gw-2", Some(SECOND * 5));
    net.kill("gw-2");
    net.pass_while(SECOND * 5 - INTERVAL, |net| net.holders().is_empty());
    net.pass(INTERVAL * 3);
    assert_eq!((net.holders(), net.choice("pods")), (vec!["gw-1"], Some("gw-1")));
}

#[test]
fn one_that_went_for_a_while_came_back_and_died_is_missed_like_any_other() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, true);
    net.pass(SECOND);
    assert_eq!(net.holders(), ["gw-2"]);
    net.pass(TICK);
    net.ask("gw-2", Some(SECOND * 30));
    net.start("gw-2");
    net.pass(INTERVAL * 2);
    net.kill("gw-2");
    net.pass(SECOND);
    assert_eq!(net.holders(), ["gw-1"]);
    assert_eq!(net.choice("pods"), Some("gw-1"));
}

#[test]
fn without_preemption_an_unable_gateway_that_is_started_again_stands_behind() {
    let mut net = Net::new(&["gw-1", "gw-2", "pods"], 2, false);
    net.pass(SECOND);
    let first = net.holders()[0].to_owned();
    let second = if first == "gw-1" { "gw-2" } else { "gw-1" };
    net.passed(&first, Some("no programs"));
    net.pass(SECOND);
    assert_eq!(net.holders(), [second]);
    net.start(&first);
    net.pass_while(SECOND * 5, |net| net.holders() == [second]);
}
