//! Health checks against real backends: what is found, what it does to new flows, and through which way it is found.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod filters;
mod paths;
mod unit;
mod web;

use netd_integration_tests::bed::{CLIENT_V4, CLIENT_V6, backend_v4, backend_v6, vips};
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::netd::wait_until;
use netd_integration_tests::{Arrival, Bed, Lab};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;
use web::Web;

/// Where clients come, and what the backends listen at: they answer clients themselves.
const PORT: u16 = 80;

/// Short, so that three failures are there soon.
const PACE: &str = "interval = \"500ms\", timeout = \"450ms\", rise = 2, fall = 3";

/// How long a client waits.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// `fall` and `rise` times the interval take two seconds at most; a busy machine takes longer.
const SOON: Duration = Duration::from_secs(30);

fn bed(lab: &Lab, arrivals: &[Arrival]) -> Bed {
    let bed = Bed::with(lab, arrivals);
    give_routes(&bed);
    bed
}

/// The lb's way to the world, and so to the VIPs, is by the client.
fn give_routes(bed: &Bed) {
    bed.lb.ip(&["route", "add", "default", "via", CLIENT_V4]);
    bed.lb.ip(&["route", "add", "default", "via", CLIENT_V6]);
}

/// A file with one service, on all backends of the bed, that is checked.
fn checked(bed: &Bed, check: &str) -> String {
    let mut service = Service::new("web", 10).port("tcp", PORT, PORT);
    for number in 1..=bed.backends.len() {
        service = service.backend(number);
    }
    let key = format!("name = \"web\"\nhealth_check = {{ {check}, {PACE} }}");
    file(&[service]).replace("name = \"web\"", &key)
}

/// A server on a backend, at the VIPs.
fn web(bed: &Bed, number: usize) -> Web {
    Web::start(&bed.backends[number - 1], number, &vips(10).map(|vip| SocketAddr::new(vip, PORT)))
}

/// A new flow of the client: which backend answers.
fn get(bed: &Bed, vip: IpAddr) -> Option<char> {
    let to = SocketAddr::new(vip, PORT);
    let mut stream = bed.client.run(|| TcpStream::connect_timeout(&to, ANSWER_MAX)).ok()?;
    stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.chars().last()
}

/// Who answers new flows, over both families; `-` where nobody does. That chance leaves one of three out in sixty flows
/// happens once in ten thousand million times.
fn answering(bed: &Bed) -> String {
    let mut seen = BTreeSet::new();
    for _ in 0..30 {
        seen.extend(vips(10).map(|vip| get(bed, vip).unwrap_or('-')));
    }
    seen.into_iter().collect()
}

/// What the report says about backends, for both VIPs.
fn notes(report: &Value) -> Vec<String> {
    let notes = report["notes"].as_array().unwrap();
    notes.iter().map(|note| format!("{}: {}", note["key"], note["note"].as_str().unwrap())).collect()
}

/// Waits until something is said about the backends of both VIPs.
fn wait_for_note(bed: &Bed, words: &str) -> Vec<String> {
    let says = |report: &Value| notes(report).iter().filter(|note| note.contains(words)).count() == 2;
    notes(&bed.wait_at_most(SOON, words, says))
}

/// Waits until nothing is said about the backends any more.
fn wait_for_silence(bed: &Bed) {
    bed.wait_at_most(SOON, "without a note", |report| notes(report).is_empty());
}

#[test]
fn a_backend_that_is_down_gets_no_new_flows_until_it_is_back() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab, &[Arrival::Decapsulate; 3]);
    let _others = [web(&bed, 1), web(&bed, 3)];
    let second = web(&bed, 2);
    bed.write(&checked(&bed, "kind = \"http\", path = \"/healthz\""));
    let _netd = bed.start_ok();
    wait_until("checked", SOON, || second.checks() > 3);
    assert_eq!(answering(&bed), "123");
    drop(second);
    let notes = wait_for_note(&bed, "is unhealthy since ");
    assert!(notes.iter().all(|note| note.ends_with(": connection refused")), "{notes:?}");
    assert!(notes[0].contains(&format!("backend {} is", backend_v4(2))), "{notes:?}");
    assert!(notes[1].contains(&format!("backend {} is", backend_v6(2))), "{notes:?}");
    assert_eq!(answering(&bed), "13");
    let services = bed.netd(&["services", "--json"]).json().to_string();
    assert_eq!(services.matches("quarantined").count(), 2, "{services}");
    let text = bed.netd(&["status"]).out;
    assert!(text.contains("is unhealthy since") && text.contains("health-changed"), "{text}");
    let _second = web(&bed, 2);
    wait_for_silence(&bed);
    assert_eq!(answering(&bed), "123");
}

#[test]
fn b10_when_all_are_down_all_stay_in_force() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab, &[Arrival::Decapsulate; 2]);
    let webs = [web(&bed, 1), web(&bed, 2)];
    bed.write(&checked(&bed, "kind = \"tcp\", floor = 60"));
    let _netd = bed.start_ok();
    assert_eq!(answering(&bed), "12");
    drop(webs);
    wait_for_note(&bed, "0 of 2 backends are healthy, less than the floor of 60 %: all stay in force");
    // Only one is back: half of them is below the floor, too, and both are still given flows.
    let _first = web(&bed, 1);
    wait_for_note(&bed, "1 of 2 backends are healthy");
    assert_eq!(answering(&bed), "-1");
}

#[test]
fn checks_go_through_the_tunnel_unless_they_are_to_go_directly() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab, &[Arrival::Decapsulate, Arrival::Leave]);
    let first = web(&bed, 1);
    // The second answers at its own address, and takes nothing out of the tunnel.
    let own: [IpAddr; 2] = [backend_v4(2).into(), backend_v6(2).into()];
    let second = Web::start(&bed.backends[1], 2, &own.map(|own| SocketAddr::new(own, PORT)));
    bed.write(&checked(&bed, "kind = \"http\", path = \"/healthz\""));
    let _netd = bed.start_ok();
    let notes = wait_for_note(&bed, "is unhealthy since ");
    assert!(notes.iter().all(|note| note.ends_with(": no answer within 450ms")), "{notes:?}");
    assert_eq!((second.checks(), answering(&bed).as_str()), (0, "1"));
    assert!(first.checks() > 0);
    // The first does not listen at its own address.
    bed.write(&checked(&bed, "kind = \"http\", path = \"/healthz\", via = \"direct\""));
    bed.wait_ok();
    let direct = format!("backend {} is unhealthy since", backend_v4(1));
    let says = |report: &Value| notes_say(report, &direct) && !notes_say(report, "10.0.0.2");
    bed.wait_at_most(SOON, &direct, says);
    assert!(second.checks() > 0);
}

fn notes_say(report: &Value, words: &str) -> bool {
    notes(report).iter().any(|note| note.contains(words))
}

#[test]
fn echo_requests_go_through_the_tunnel_of_both_families() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab, &[Arrival::Decapsulate; 2]);
    let set = |value: &str| {
        bed.backends[0].sysctl("net/ipv4/icmp_echo_ignore_all", value);
        bed.backends[0].sysctl("net/ipv6/icmp/echo_ignore_all", value);
    };
    set("1");
    bed.write(&checked(&bed, "kind = \"icmp\""));
    let _netd = bed.start_ok();
    let notes = wait_for_note(&bed, "is unhealthy since ");
    assert!(notes[0].contains(&backend_v4(1).to_string()), "{notes:?}");
    assert!(notes.iter().all(|note| note.ends_with(": no answer within 450ms")), "{notes:?}");
    set("0");
    wait_for_silence(&bed);
}

#[test]
fn a_backend_that_is_down_stays_out_of_force_over_a_restart() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab, &[Arrival::Decapsulate; 3]);
    let _others = [web(&bed, 1), web(&bed, 3)];
    bed.write(&checked(&bed, "kind = \"tcp\""));
    let netd = bed.start_ok();
    wait_for_note(&bed, "is unhealthy since ");
    netd.kill();
    // Nobody checks now, and what was found stays.
    let planned = bed.netd(&["plan"]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert_eq!(answering(&bed), "13");
    let _netd = bed.start_ok();
    assert_eq!(answering(&bed), "13");
    wait_for_note(&bed, ": connection refused");
    assert_eq!(answering(&bed), "13");
}

#[test]
fn without_a_route_to_the_vip_backends_are_checked_directly_and_it_is_said() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&checked(&bed, "kind = \"tcp\", floor = 0"));
    let _netd = bed.start_ok();
    let notes = wait_for_note(&bed, "is checked directly: its probes do not find the tunnel: no route to");
    assert_eq!(notes.len(), 2, "{notes:?}");
    wait_for_note(&bed, ": connection refused");
}
