#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::health::check::{Member, Pace, Question, Target};
use std::time::Duration;

fn backend(last: u8) -> BackendId {
    BackendId { address: IpAddr::from([10, 0, 0, last]), port: None }
}

fn check(last: u8) -> Check {
    Check {
        target: Target { backend: backend(last).address, vip: None, gue_port: None, port: 80 },
        question: Question::Tcp,
        pace: Pace { interval: Duration::from_secs(1), timeout: Duration::from_secs(1), rise: 2, fall: 2 },
    }
}

fn group(service: &str) -> Group {
    Group { service: service.into(), vip: "192.0.2.1".parse().unwrap() }
}

fn wanted_of(services: &[(&str, &[Check])]) -> Wanted {
    let mut wanted = Wanted::default();
    for (service, checks) in services {
        let member = |check: &Check| {
            let id = BackendId { address: check.target.backend, port: None };
            (id, Member { check: check.clone(), ports: vec![80] })
        };
        wanted.checks.extend(checks.iter().cloned());
        wanted.groups.insert(group(service), checks.iter().map(member).collect());
    }
    wanted
}

fn wanted(backends: &[u8]) -> Wanted {
    let checks: Vec<Check> = backends.iter().map(|&last| check(last)).collect();
    wanted_of(&[("web", &checks)])
}

fn unhealthy(board: &Board) -> Vec<u8> {
    let verdicts = board.verdicts();
    let of = |id: &BackendId| match id.address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => 0,
    };
    verdicts.unhealthy.get(&group("web")).map(|found| found.keys().map(of).collect()).unwrap_or_default()
}

fn answer(board: &Board, last: u8, answers: &str) {
    for answer in answers.chars() {
        let answer = match answer {
            '+' => Answer::Good,
            '?' => Answer::Hindered("no socket".into()),
            _ => Answer::Bad("refused".into()),
        };
        board.take(&check(last), answer, None, 1000);
    }
}

/// Whether somebody was told since the last time.
async fn is_told(board: &Board) -> bool {
    tokio::time::timeout(Duration::from_millis(1), board.changed().notified()).await.is_ok()
}

#[tokio::test]
async fn a_verdict_is_told_once() {
    let board = Board::default();
    board.assign(&wanted(&[1, 2]));
    answer(&board, 1, "+");
    assert!(!is_told(&board).await);
    answer(&board, 2, "+");
    assert!(is_told(&board).await, "all are healthy, as was assumed, and now it is known");
    answer(&board, 1, "-");
    assert!(!is_told(&board).await);
    answer(&board, 1, "-");
    assert!(is_told(&board).await);
    answer(&board, 1, "---");
    assert!(!is_told(&board).await);
    assert_eq!(unhealthy(&board), [1]);
    answer(&board, 1, "++");
    assert!(is_told(&board).await);
    assert_eq!(unhealthy(&board), [0u8; 0]);
}

#[tokio::test]
async fn nothing_changes_before_each_backend_of_a_vip_was_judged() {
    let board = Board::default();
    board.assign(&wanted(&[1, 2, 3]));
    answer(&board, 1, "--");
    answer(&board, 2, "-");
    answer(&board, 3, "+");
    assert_eq!((unhealthy(&board).len(), is_told(&board).await), (0, false));
    answer(&board, 2, "-");
    assert_eq!((unhealthy(&board), is_told(&board).await), (vec![1, 2], true));
}

#[test]
fn a_vip_is_unjudged_until_each_of_its_backends_was_judged() {
    let board = Board::default();
    board.assign(&wanted(&[1, 2]));
    answer(&board, 1, "--");
    assert!(board.verdicts().unjudged.contains(&group("web")));
    answer(&board, 2, "+");
    assert!(board.verdicts().unjudged.is_empty());
    board.assign(&wanted_of(&[("new", &[check(1)]), ("web", &[check(1), check(2)])]));
    assert!(
        board.verdicts().unjudged.is_empty(),
        "what is known of a backend is known of every VIP that has it"
    );
}

#[test]
fn how_long_a_backend_has_been_unhealthy_counts_from_the_first_look() {
    let board = Board::default();
    board.assign(&wanted(&[1, 2]));
    answer(&board, 1, "--");
    answer(&board, 2, "+");
    let lasts = || board.verdicts().unhealthy_for.get(&group("web")).cloned().unwrap_or_default();
    let first = lasts()[&backend(1)];
    std::thread::sleep(Duration::from_millis(2));
    assert!(lasts()[&backend(1)] >= first + Duration::from_millis(2));
    assert!(!lasts().contains_key(&backend(2)));
    answer(&board, 1, "++");
    assert!(lasts().is_empty());
}

#[test]
fn what_was_out_of_force_at_the_start_stays_so_until_the_first_round_is_over() {
    let board = Board::default();
    let carried = |last: u8| ("web".to_owned(), backend(last).address, 80);
    board.seed([carried(1), carried(2)].into());
    board.assign(&wanted(&[1, 2, 3]));
    assert_eq!(unhealthy(&board), [1, 2]);
    answer(&board, 1, "++");
    answer(&board, 2, "-");
    assert_eq!(unhealthy(&board), [1, 2]);
    answer(&board, 3, "+");
    assert_eq!(unhealthy(&board), [2]);
}

#[test]
fn a_backend_that_cannot_be_checked_does_not_keep_the_others_waiting() {
    let board = Board::default();
    board.assign(&wanted(&[1, 2]));
    answer(&board, 1, "--");
    answer(&board, 2, "?");
    assert_eq!(unhealthy(&board), [1]);
    let verdicts = board.verdicts();
    assert_eq!(verdicts.remarks[&group("web")][&backend(2)], "is not checked: no socket");
    answer(&board, 2, "+");
    assert!(board.verdicts().remarks.is_empty());
}

#[test]
fn a_new_backend_is_in_force_at_once_and_the_others_stay_as_they_are() {
    let board = Board::default();
    board.assign(&wanted(&[1, 2]));
    answer(&board, 1, "--");
    answer(&board, 2, "+");
    board.assign(&wanted(&[1, 2, 3]));
    assert_eq!(unhealthy(&board), [1]);
    answer(&board, 2, "--");
    assert_eq!(unhealthy(&board), [1, 2]);
}

#[test]
fn a_check_that_is_changed_begins_with_what_held() {
    let board = Board::default();
    board.assign(&wanted(&[1]));
    answer(&board, 1, "--");
    let slower = Check { pace: Pace { rise: 1, ..check(1).pace }, ..check(1) };
    board.assign(&wanted_of(&[("web", std::slice::from_ref(&slower))]));
    assert_eq!(unhealthy(&board), [1]);
    board.take(&slower, Answer::Good, None, 2000);
    assert_eq!(unhealthy(&board), [0u8; 0]);
}

#[test]
fn one_check_speaks_of_the_backends_of_every_service_that_shares_it() {
    let board = Board::default();
    board.assign(&wanted_of(&[("api", &[check(1)]), ("web", &[check(1), check(2)])]));
    answer(&board, 1, "--");
    answer(&board, 2, "+");
    let verdicts = board.verdicts();
    assert!(["api", "web"].iter().all(|name| verdicts.unhealthy[&group(name)].contains_key(&backend(1))));
    // What a service that comes later shares with an earlier one is known already.
    board.assign(&wanted_of(&[("new", &[check(1)]), ("web", &[check(1), check(2)])]));
    assert!(board.verdicts().unhealthy[&group("new")].contains_key(&backend(1)));
}

#[test]
fn answers_to_checks_that_are_gone_are_not_counted() {
    let board = Board::default();
    board.assign(&wanted(&[1]));
    board.assign(&Wanted::default());
    answer(&board, 1, "--");
    assert_eq!(board.verdicts(), Verdicts::default());
}
