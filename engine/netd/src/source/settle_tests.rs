//! The decisions of `settle` on a clock that the tests turn.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use proptest::prelude::*;

use super::settle::{Hint, Observation, Pace, Reason, Settle, Step, Verdict};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A file whose content is a letter, watched from time 0; content 'a' was delivered at 0.
fn watching_a() -> Settle<char> {
    let mut settle = Settle::new(Pace::default());
    assert_eq!(settle.next(ms(0)), Step::Read(Reason::Asked));
    assert_eq!(settle.observed(ms(0), Observation::Solid('a')), Verdict::Deliver);
    settle
}

fn read_at(settle: &mut Settle<char>, at: u64, reason: Reason, found: Observation<char>) -> Verdict {
    assert_eq!(settle.next(ms(at)), Step::Read(reason), "at {at} ms");
    settle.observed(ms(at), found)
}

#[test]
fn the_first_reading_is_delivered_even_when_the_file_is_missing() {
    let mut settle = Settle::new(Pace::default());
    assert_eq!(read_at(&mut settle, 0, Reason::Asked, Observation::Doubtful('m')), Verdict::Deliver);
}

#[test]
fn whole_content_is_read_and_delivered_at_once() {
    let mut settle = watching_a();
    settle.stirred(ms(1000), Hint::Complete);
    let reason = Reason::Stirred(Hint::Complete);
    assert_eq!(read_at(&mut settle, 1000, reason, Observation::Solid('b')), Verdict::Deliver);
}

#[test]
fn c1_a_writer_that_pauses_is_not_read_before_it_closes() {
    let mut settle = watching_a();
    for at in [1000, 1400, 1800, 2200] {
        settle.stirred(ms(at), Hint::Writing);
        assert_eq!(settle.next(ms(at)), Step::WaitUntil(ms(at + 500)));
    }
    settle.stirred(ms(2201), Hint::Complete);
    let reason = Reason::Stirred(Hint::Complete);
    assert_eq!(read_at(&mut settle, 2201, reason, Observation::Solid('b')), Verdict::Deliver);
}

#[test]
fn c1_a_poll_does_not_read_what_is_being_written() {
    let mut settle = watching_a();
    // The poll is due at 4,700.
    settle.stirred(ms(4500), Hint::Writing);
    assert_eq!(settle.next(ms(4700)), Step::WaitUntil(ms(5000)));
}

#[test]
fn c1_a_write_that_is_never_closed_is_read_after_silence() {
    let mut settle = watching_a();
    settle.stirred(ms(1000), Hint::Writing);
    assert_eq!(settle.next(ms(1499)), Step::WaitUntil(ms(1500)));
    let reason = Reason::Stirred(Hint::Writing);
    assert_eq!(read_at(&mut settle, 1500, reason, Observation::Solid('b')), Verdict::Deliver);
}

#[test]
fn c21_a_writer_that_never_pauses_is_read_after_the_maximum() {
    let mut settle = watching_a();
    for at in 1000..11_000 {
        settle.stirred(ms(at), Hint::Writing);
        assert!(matches!(settle.next(ms(at)), Step::WaitUntil(_)), "at {at} ms");
    }
    settle.stirred(ms(11_000), Hint::Writing);
    assert_eq!(settle.next(ms(11_000)), Step::Read(Reason::Stirred(Hint::Writing)));
    settle.stirred(ms(11_000), Hint::Writing);
    assert_eq!(settle.observed(ms(11_000), Observation::Solid('b')), Verdict::Deliver);
}

#[test]
fn a_reading_during_which_the_file_changed_is_made_again() {
    let mut settle = watching_a();
    settle.stirred(ms(1000), Hint::Complete);
    assert_eq!(settle.next(ms(1000)), Step::Read(Reason::Stirred(Hint::Complete)));
    settle.stirred(ms(1001), Hint::Complete);
    assert_eq!(settle.observed(ms(1001), Observation::Solid('b')), Verdict::Keep);
    assert_eq!(settle.next(ms(1001)), Step::WaitUntil(ms(1011)));
    let reason = Reason::Stirred(Hint::Complete);
    assert_eq!(read_at(&mut settle, 1011, reason, Observation::Solid('c')), Verdict::Deliver);
}

#[test]
fn a_changed_permission_does_not_spoil_a_reading() {
    let mut settle = watching_a();
    settle.stirred(ms(1000), Hint::Complete);
    assert_eq!(settle.next(ms(1000)), Step::Read(Reason::Stirred(Hint::Complete)));
    settle.stirred(ms(1001), Hint::Touched);
    assert_eq!(settle.observed(ms(1001), Observation::Solid('b')), Verdict::Deliver);
}

#[test]
fn whole_content_is_read_at_once_although_its_predecessor_is_tidied_away_behind_it() {
    let mut settle = watching_a();
    settle.stirred(ms(1000), Hint::Complete);
    settle.stirred(ms(1000), Hint::Unclear);
    assert_eq!(settle.next(ms(1000)), Step::Read(Reason::Stirred(Hint::Complete)));
}

#[test]
fn c3_c4_what_an_editor_leaves_for_a_moment_is_not_believed() {
    let mut settle = watching_a();
    settle.stirred(ms(1000), Hint::Unclear);
    let reason = Reason::Stirred(Hint::Unclear);
    assert_eq!(read_at(&mut settle, 1050, reason, Observation::Doubtful('m')), Verdict::Keep);
    settle.stirred(ms(1100), Hint::Complete);
    let reason = Reason::Stirred(Hint::Complete);
    assert_eq!(read_at(&mut settle, 1100, reason, Observation::Solid('b')), Verdict::Deliver);
}

#[test]
fn c4_a_file_that_stays_away_is_missing_after_half_a_second() {
    let mut settle = watching_a();
    settle.stirred(ms(1000), Hint::Unclear);
    let reason = Reason::Stirred(Hint::Unclear);
    assert_eq!(read_at(&mut settle, 1050, reason, Observation::Doubtful('m')), Verdict::Keep);
    assert_eq!(settle.next(ms(1060)), Step::WaitUntil(ms(1550)));
    assert_eq!(read_at(&mut settle, 1550, Reason::Confirming, Observation::Doubtful('m')), Verdict::Deliver);
    assert!(matches!(settle.next(ms(1560)), Step::WaitUntil(_)));
}

#[test]
fn c7_what_only_a_poll_saw_must_still_be_there_a_little_later() {
    let mut settle = watching_a();
    assert_eq!(settle.next(ms(4699)), Step::WaitUntil(ms(4700)));
    assert_eq!(read_at(&mut settle, 4700, Reason::Poll, Observation::Solid('b')), Verdict::Keep);
    assert_eq!(read_at(&mut settle, 4900, Reason::Confirming, Observation::Solid('c')), Verdict::Keep);
    assert_eq!(read_at(&mut settle, 5100, Reason::Confirming, Observation::Solid('c')), Verdict::Deliver);
}

#[test]
fn c7_content_that_differs_at_each_poll_is_still_delivered() {
    let mut settle = watching_a();
    let mut now = 4700;
    let mut verdict = read_at(&mut settle, now, Reason::Poll, Observation::Solid('b'));
    for content in ('c'..='z').cycle() {
        if verdict == Verdict::Deliver {
            break;
        }
        now += 200;
        verdict = read_at(&mut settle, now, Reason::Confirming, Observation::Solid(content));
    }
    assert_eq!(now, 6700);
}

#[test]
fn c19_after_lost_events_the_content_must_be_found_twice() {
    let mut settle = watching_a();
    settle.stirred(ms(1000), Hint::Lost);
    let reason = Reason::Stirred(Hint::Lost);
    assert_eq!(read_at(&mut settle, 1050, reason, Observation::Solid('b')), Verdict::Keep);
    assert_eq!(read_at(&mut settle, 1250, Reason::Confirming, Observation::Solid('b')), Verdict::Deliver);
}

#[test]
fn c27_known_content_is_delivered_only_when_asked_for() {
    let mut settle = watching_a();
    settle.stirred(ms(1000), Hint::Complete);
    let reason = Reason::Stirred(Hint::Complete);
    assert_eq!(read_at(&mut settle, 1000, reason, Observation::Solid('a')), Verdict::Keep);
    settle.ask();
    assert_eq!(read_at(&mut settle, 1100, Reason::Asked, Observation::Solid('a')), Verdict::Deliver);
}

#[test]
fn readings_that_disagree_are_repeated_and_in_the_end_reported() {
    let mut settle = watching_a();
    settle.stirred(ms(1000), Hint::Complete);
    let mut now = 1000;
    let reason = Reason::Stirred(Hint::Complete);
    while read_at(&mut settle, now, reason, Observation::Unstable('u')) == Verdict::Keep {
        now += 10;
    }
    assert_eq!(now, 3000);
    assert_eq!(read_at(&mut settle, 3100, reason, Observation::Solid('b')), Verdict::Deliver);
}

#[test]
fn a_question_is_answered_even_when_the_first_reading_was_unstable() {
    let mut settle = watching_a();
    settle.ask();
    assert_eq!(read_at(&mut settle, 1000, Reason::Asked, Observation::Unstable('u')), Verdict::Keep);
    assert_eq!(read_at(&mut settle, 1010, Reason::Asked, Observation::Solid('a')), Verdict::Deliver);
}

#[test]
fn reading_costs_at_most_a_fifth_of_the_time() {
    let mut settle = watching_a();
    settle.stirred(ms(1000), Hint::Complete);
    assert!(matches!(settle.next(ms(1000)), Step::Read(_)));
    assert_eq!(settle.observed(ms(1300), Observation::Solid('a')), Verdict::Keep);
    settle.stirred(ms(1301), Hint::Complete);
    assert_eq!(settle.next(ms(1301)), Step::WaitUntil(ms(2500)));
}

/// Something that happens to the file of the property below.
#[derive(Clone, Debug)]
struct Change {
    after_ms: u64,
    content: u32,
    hint: Option<Hint>,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let hint = prop::option::weighted(
        0.8,
        prop::sample::select(vec![Hint::Complete, Hint::Writing, Hint::Unclear, Hint::Lost, Hint::Touched]),
    );
    let change = (prop::sample::select(vec![0_u64, 1, 1, 5, 40, 120, 700, 3000]), 0..6_u32, hint);
    let change = change.prop_map(|(after_ms, content, hint)| Change { after_ms, content, hint });
    prop::collection::vec(change, 1..300)
}

/// Runs the changes through, with readings that take `cost_ms`; contents under 2 are doubtful ones.
fn deliveries(changes: &[Change], cost_ms: u64) -> Vec<(u64, u32)> {
    const TAIL_MS: u64 = 12_000;
    let mut settle = Settle::new(Pace::default());
    let mut ahead = changes.iter().peekable();
    let (mut now, mut content, mut found) = (0, 9, Vec::new());
    let mut change_at = ahead.peek().map(|change| change.after_ms);
    let mut end = None;
    // One change or one millisecond at a time; readings see the content of their end.
    let mut pass_time = |settle: &mut Settle<u32>, now: u64, content: &mut u32| {
        while change_at.is_some_and(|at| at <= now) {
            let change = ahead.next().unwrap();
            *content = change.content;
            if let Some(hint) = change.hint {
                settle.stirred(ms(change_at.unwrap()), hint);
            }
            change_at = ahead.peek().map(|next| change_at.unwrap() + next.after_ms);
        }
        change_at.is_none()
    };
    loop {
        let over = pass_time(&mut settle, now, &mut content);
        if over && now > *end.get_or_insert(now + TAIL_MS) {
            return found;
        }
        match settle.next(ms(now)) {
            Step::Read(_) => {
                let at_begin = content;
                now += cost_ms;
                pass_time(&mut settle, now, &mut content);
                let seen = match content {
                    _ if content != at_begin => Observation::Unstable(100),
                    0..2 => Observation::Doubtful(content),
                    _ => Observation::Solid(content),
                };
                let identity = if content == at_begin { content } else { 100 };
                if settle.observed(ms(now), seen) == Verdict::Deliver {
                    found.push((now, identity));
                }
            }
            Step::WaitUntil(due) => {
                assert!(due > ms(now), "a wait that is over already");
                now = (now + 1).max(now.min(u64::try_from(due.as_millis()).unwrap()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c21_c27_the_last_content_wins_no_content_comes_twice_in_a_row_and_ten_come_in_a_second(
        changes in changes(), cost_ms in 0..4_u64,
    ) {
        let found = deliveries(&changes, cost_ms);
        prop_assert_eq!(found.last().map(|(_, content)| *content), changes.last().map(|last| last.content));
        for pair in found.windows(2) {
            prop_assert_ne!(pair[0].1, pair[1].1);
            prop_assert!(pair[1].0 - pair[0].0 >= 100, "{:?}", pair);
        }
    }
}

#[test]
fn c21_a_thousand_rewrites_a_second_give_ten_deliveries_a_second_for_a_minute() {
    let rewrites: Vec<Change> =
        (0..60_000).map(|n| Change { after_ms: 1, content: 10 + n, hint: Some(Hint::Complete) }).collect();
    let found = deliveries(&rewrites, 0);
    assert!((500..=601).contains(&found.len()), "{} deliveries", found.len());
    assert!(found.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 300), "starved");
    assert_eq!(found.last().unwrap().1, 10 + 59_999);
}
