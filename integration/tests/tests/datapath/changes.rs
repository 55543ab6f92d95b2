//! Each setting is changed under traffic: the plan shows it, `apply` puts it in force, and nothing else notices.

use crate::{NOTHING, WEB, at, ping, servers, try_connect, web};
use netd_integration_tests::bed::vips;
use netd_integration_tests::desired::{Service, file_with};
use netd_integration_tests::echo::{Flow, Port, Servers};
use netd_integration_tests::{Bed, Lab};
use std::io::ErrorKind;
use std::net::SocketAddr;

/// The VIPs' and the port of a service that is in every file as it is.
fn steady() -> [SocketAddr; 2] {
    vips(11).map(|vip| SocketAddr::new(vip, 5353))
}

/// A file with lines for `[load_balancer]`, for service `web`, and for its end.
fn text(settings: &str, lines: &[&str], end: &str) -> String {
    let service = lines.iter().fold(web(2), |service, line| service.with(line));
    let other = Service::new("steady", 11).port("udp", 5353, 5353).backend(1).backend(2);
    format!("{}\n{end}\n", file_with(&format!("devices = [\"eth0\"]\n{settings}"), &[service, other]))
}

/// A change, what the plan says about it, and how it shows.
struct Change {
    to: String,
    planned: &'static str,
    is_in_force: fn(&Bed) -> bool,
}

fn change(to: String, planned: &'static str, is_in_force: fn(&Bed) -> bool) -> Change {
    Change { to, planned, is_in_force }
}

fn serves(bed: &Bed) -> bool {
    at(WEB).into_iter().all(|to| bed.connect(to).is_ok())
}

fn is_refused(bed: &Bed, to: SocketAddr) -> bool {
    try_connect(&bed.client, to) == Err(ErrorKind::ConnectionRefused)
}

fn changes() -> Vec<Change> {
    let line = |line: &str| text("", &[line], "");
    let setting = |line: &str| text(line, &[], "");
    let pool = "[[ip_pools]]\nname = \"public\"\nranges = [\"192.0.2.0/24\"]\nunassigned = \"reject\"";
    vec![
        change(line("affinity = \"3h\""), "affinity", serves),
        change(line("algorithm = \"random\""), "algorithm", serves),
        change(line("ping = false"), "ping", |bed| ping(&bed.client, vips(10)[0], "56").code == Some(1)),
        change(line("unknown_port = \"reject\""), "unknown ports", |bed| is_refused(bed, at(NOTHING)[0])),
        change(line("no_backend = \"drop\""), "no backend", serves),
        change(line("source_ranges = { deny = [\"10.1.2.3/32\"] }"), "source", |bed| {
            bed.connect(at(WEB)[0]).is_err() && bed.connect(at(WEB)[1]).is_ok()
        }),
        change(line("backend_family = \"ipv6\""), "fd00::1", serves),
        change(line("mode = \"dsr-gue\""), "mode", |bed| {
            serves(bed) && bed.netd(&["explain", "tcp 10.1.2.3:4242 > 192.0.2.10:80"]).out.contains("GUE")
        }),
        change(line("hash_names = \"cilium-1.10\""), "hash names", serves),
        change(line("table_size = 4093"), "table size", serves),
        change(setting("hop_limit = 9"), "hop limit", serves),
        change(setting("outer_dscp = 46"), "outer DSCP", serves),
        change(setting("outer_ecn = \"clear\""), "outer ECN", serves),
        change(setting("gue_port = 6635"), "GUE port", serves),
        change(setting("icmp_errors_per_second = 5"), "ICMP errors", serves),
        change(text("", &[], pool), "pool/public", |bed| is_refused(bed, SocketAddr::new(vips(77)[0], WEB))),
    ]
}

/// A bed in which netd has been, so that ways to backends are known; servers, and flows through the steady service.
fn start(lab: &Lab) -> (Bed, [Servers; 2], [Flow; 2]) {
    let bed = Bed::new(lab, 2);
    let servers = [servers(&bed), Servers::start(&bed, &steady().map(Port::Udp))];
    bed.write(&text("", &[], ""));
    bed.start_ok().kill();
    let flows = steady().map(|to| Flow::start(&bed, to));
    (bed, servers, flows)
}

fn assert_nothing_to_do(bed: &Bed, when: &str) {
    let said = bed.netd(&["plan"]);
    assert_eq!(said.code, Some(0), "{when}: {said:?}");
}

#[test]
fn every_setting_is_planned_applied_and_undone_under_traffic() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers, flows) = start(&lab);
    for Change { to, planned, is_in_force } in changes() {
        bed.write(&to);
        let said = bed.netd(&["plan"]);
        assert!(said.code == Some(2) && said.out.contains(planned), "not {planned}: {said:?}");
        assert!(!said.out.contains("192.0.2.11"), "{planned} is about another service, too: {said:?}");
        bed.apply();
        assert_nothing_to_do(&bed, planned);
        assert!(is_in_force(&bed), "{planned} is not in force");
        bed.write(&text("", &[], ""));
        let said = bed.netd(&["plan"]);
        assert!(said.code == Some(2) && said.out.contains(planned), "not {planned}: {said:?}");
        bed.apply();
        assert_nothing_to_do(&bed, planned);
        assert!(serves(&bed), "after {planned} was undone");
    }
    flows.map(Flow::end).iter().for_each(|tally| tally.assert_whole());
}

#[test]
fn a_daemon_that_is_killed_or_stopped_with_a_setting_in_force_plans_nothing() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers, flows) = start(&lab);
    for Change { to, planned, is_in_force } in changes() {
        bed.write(&to);
        let netd = bed.start_ok();
        netd.kill();
        assert_nothing_to_do(&bed, planned);
        let before = bed.kernel_state();
        let netd = bed.start_ok();
        assert_nothing_to_do(&bed, planned);
        assert_eq!(bed.kernel_state(), before, "{planned}");
        netd.stop();
        assert_nothing_to_do(&bed, planned);
        assert!(is_in_force(&bed), "{planned} is not in force");
    }
    flows.map(Flow::end).iter().for_each(|tally| tally.assert_whole());
}
