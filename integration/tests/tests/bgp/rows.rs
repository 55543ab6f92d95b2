//! What goes wrong with sessions, daemons and backends, and what follows from it and what does not.

use crate::world::{PATIENCE, World, announcing, kill, note_of};
use netd_gobgp::Family;
use netd_integration_tests::bed::{CLIENT_V4, CLIENT_V6, LB_V4, vip_v4, vips};
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::echo::{Port, Servers};
use netd_integration_tests::netd::wait_until;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

/// How often the peer drops its session.
const FLAPS: usize = 100;

/// Between two of them: the daemon opens a session again after seconds.
const BETWEEN_FLAPS: Duration = Duration::from_millis(100);

#[test]
fn b4_netd_killed_while_it_announces_leaves_nothing_twice_and_nothing_out() {
    const PODS: u64 = 10_000;
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    let pods = |number: u64| format!("\"{}/28\"", Ipv4Addr::from((64 << 24) + number as u32 * 16));
    let pods: Vec<String> = (0..PODS).map(pods).collect();
    let text =
        announcing("managed", &[10]).replace("asn = 64512\n", "asn = 64512\nannounce = [\"pod-cidrs\"]\n");
    bed.write(&format!(
        "{text}\n[[nodes]]\nname = \"lb\"\naddresses = [\"{LB_V4}\"]\npod_cidrs = [{}]\n",
        pods.join(", ")
    ));
    let socket = bed.runtime_dir().join("gobgpd.sock");
    let routes = || {
        let client = world.client(socket.clone())?;
        world.runtime.block_on(client.routes(Family::Ipv4)).ok()
    };
    for least in [1, PODS / 4, PODS / 2] {
        let daemon = bed.spawn();
        wait_until("announcing", PATIENCE, || routes().is_some_and(|routes| routes >= least));
        daemon.kill();
        eprintln!("killed at {:?}", routes());
    }
    let daemon = bed.start_ok();
    assert_eq!(routes(), Some(PODS));
    assert_eq!(world.announced() as u64, PODS);
    wait_until("told of all", PATIENCE, || world.frr.prefixes("ipv4") == PODS);
    daemon.stop();
}

#[test]
fn b5_a_peer_that_drops_its_session_again_and_again_makes_netd_change_nothing() {
    let Some((world, daemon)) = World::announcing(&[10, 11]) else { return };
    let bed = &world.bed;
    let (gobgpd, before) = (world.managed(), bed.status());
    for _ in 0..FLAPS {
        let _ = world.frr.show("clear bgp *");
        std::thread::sleep(BETWEEN_FLAPS);
    }
    world.told(&[10, 11]);
    let after = bed.wait_ok();
    assert!(world.frr.sessions(LB_V4).is_some_and(|sessions| sessions >= 2));
    let changes =
        |report: &Value| (report["drift"]["resources"].clone(), report["last_change"]["number"].clone());
    assert_eq!((changes(&after), world.managed()), (changes(&before), gobgpd), "{}", bed.log());
    daemon.stop();
}

#[test]
fn b6_a_wrong_as_password_or_hold_time_is_a_status_of_the_peer_and_nothing_else_changes() {
    let Some((world, daemon)) = World::announcing(&[10]) else { return };
    let (bed, right) = (&world.bed, announcing("managed", &[10]));
    let frontends = bed.frontends();
    let router = "router bgp 64513";
    let refused = |what: &str, words: &[&str]| {
        let report = bed.wait_at_most(PATIENCE, what, |report| {
            words.iter().all(|word| note_of(report, CLIENT_V4).contains(word))
        });
        assert_eq!(bed.frontends(), frontends, "{what}");
        assert!(report["not_ready"].as_array().is_some_and(Vec::is_empty), "{report}");
    };

    bed.write(&right.replace("asn = 64513", "asn = 64999"));
    refused("of another AS", &["another AS"]);
    bed.write(&right);
    world.told(&[10]);

    let file = bed.folder().join("password");
    std::fs::write(&file, "wrong").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let password = format!("asn = 64513\npassword_file = \"{}\"", file.display());
    bed.write(&right.replace("asn = 64513", &password));
    refused("of another password", &["no connection", "has another password"]);
    bed.write(&right);
    world.told(&[10]);

    world.frr.configure(&[router, "bgp minimum-holdtime 30"]);
    let _ = world.frr.show("clear bgp *");
    refused("of too short a hold time", &["the peer ends the session"]);
    world.frr.configure(&[router, "no bgp minimum-holdtime"]);
    world.told(&[10]);
    bed.wait_ok();
    daemon.stop();
}

#[test]
fn b8_a_gobgpd_that_is_told_to_end_takes_leave_and_netd_starts_and_fills_another() {
    let Some((world, daemon)) = World::announcing(&[10, 11]) else { return };
    let gobgpd = world.managed();
    kill(gobgpd, Signal::TERM);
    wait_until("withdrawn", PATIENCE, || {
        world.path(10) == json!(null) || world.frr.sessions(LB_V4) == Some(2)
    });
    wait_until("filled again", PATIENCE, || world.announced() == 4);
    world.told(&[10, 11]);
    assert_ne!(world.managed(), gobgpd);
    assert_eq!(world.frr.sessions(LB_V4), Some(2));
    daemon.stop();
}

#[test]
fn b10_one_dark_vip_is_withdrawn_and_not_all_of_them() {
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    bed.lb.ip(&["route", "add", "default", "via", CLIENT_V4]);
    bed.lb.ip(&["route", "add", "default", "via", CLIENT_V6]);
    let check =
        "health_check = { kind = \"tcp\", interval = \"1s\", timeout = \"900ms\", rise = 1, fall = 2 }";
    let services: Vec<Service> = [(10, 1), (11, 2), (12, 2)]
        .map(|(vip, backend)| {
            Service::new(&format!("web-{vip}"), vip).port("tcp", 80, 8080).backend(backend).with(check)
        })
        .into();
    let text = announcing("managed", &[]).replace(&file(&[]), "");
    let text = text.replace("asn = 64512\n", "asn = 64512\nfloor = 60\nhold_down = \"1s\"\n");
    let ports: Vec<Port> = [10, 11, 12]
        .iter()
        .flat_map(|vip| vips(*vip))
        .map(|vip| Port::Tcp(SocketAddr::new(vip, 8080)))
        .collect();
    let first = Servers::on(&bed.backends[..1], &ports);
    let second = Servers::on(&bed.backends[1..], &ports);
    bed.write(&format!("{}{text}", file(&services)));
    let daemon = bed.start();
    world.told(&[10, 11, 12]);
    drop(first);
    world.told(&[11, 12]);
    drop(second);
    // All at once is rather a mistake of the checks than the end of every backend.
    let report = bed.wait_at_most(PATIENCE, "not believed", |report| {
        report.to_string().contains("less than the floor of 60 %: all stay announced")
    });
    world.told(&[10, 11, 12]);
    assert_eq!(world.frr.sessions(LB_V4), Some(1), "{report}");
    daemon.stop();
}

#[test]
fn b13_the_managed_gobgpd_can_be_asked_by_nobody_else_and_plain_http_to_another_machine_is_refused() {
    let Some((world, daemon)) = World::announcing(&[10]) else { return };
    let bed = &world.bed;
    let listening = bed.lb.command("ss").args(["-Hltn"]).output().unwrap();
    let listening = String::from_utf8_lossy(&listening.stdout).into_owned();
    assert!(!listening.is_empty() && listening.lines().all(|line| line.contains(":179 ")), "{listening}");
    // Connecting takes the permission to write.
    let socket = std::fs::metadata(bed.runtime_dir().join("gobgpd.sock")).unwrap().permissions().mode();
    assert_eq!(socket & 0o022, 0, "{socket:o}");
    daemon.stop();
    bed.write(&announcing("http://10.1.2.1:50051", &[10]));
    let said = bed.netd(&["validate"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("https") || said.out.contains("https"), "{said:?}");
}

#[test]
fn b14_another_community_and_other_timers_reset_no_session() {
    let Some((world, daemon)) = World::announcing(&[10, 11]) else { return };
    let (bed, plain) = (&world.bed, announcing("managed", &[10, 11]));
    let rule = "\n[[bgp.announcements]]\nwhat = [\"vips\"]\nservices = [\"web-10\"]\ncommunities = [\"64512:7\"]\nmed = 5\n";
    bed.write(&format!("{}{rule}", plain.replace("hold = \"9s\"", "hold = \"12s\"")));
    bed.wait_ok();
    wait_until("changed", PATIENCE, || {
        let path = world.path(10);
        path["community"]["string"] == "64512:7" && path["metric"] == 5
    });
    assert_eq!(world.path(11)["community"], json!(null));
    assert_eq!(world.frr.neighbour(LB_V4)["connectionsDropped"], 0);
    assert_eq!(world.frr.sessions(LB_V4), Some(1));
    daemon.stop();
}

#[test]
fn b15_vips_whose_backends_are_out_of_reach_are_withdrawn_and_come_back_with_the_way_to_them() {
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    let second = Service::new("web-11", 11).port("tcp", 80, 8080).backend(2);
    let text = announcing("managed", &[10]);
    let (services, bgp) = text.split_once("\n[bgp]").unwrap();
    let [more] = [file(&[second])].map(|text| text.split_once("\n[[services]]").unwrap().1.to_owned());
    bed.write(&format!("{services}\n[[services]]{more}\n[bgp]{bgp}"));
    let daemon = bed.start_ok();
    world.told(&[10, 11]);
    bed.lb.ip(&["link", "set", "b2", "down"]);
    // The first has another backend still.
    world.told(&[10]);
    bed.lb.ip(&["link", "set", "b2", "up"]);
    for (address, source) in [("10.0.0.2", "10.0.0.254"), ("fd00::2", "fd00::fe")] {
        let family = if address.contains(':') { "-6" } else { "-4" };
        if source.contains(':') {
            bed.lb.ip(&["addr", "replace", "fd00::fe/128", "dev", "b2", "nodad"]);
        }
        bed.lb.ip(&[family, "route", "replace", address, "dev", "b2", "src", source]);
    }
    world.told(&[10, 11]);
    assert_eq!(world.frr.sessions(LB_V4), Some(1));
    assert!(world.frr.path("ipv4", &format!("{}/32", vip_v4(11)))["valid"] == true);
    daemon.stop();
}
