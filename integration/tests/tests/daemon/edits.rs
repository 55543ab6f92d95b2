//! The file is edited while traffic runs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_integration_tests::bed::vips;
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::echo::{Port, Servers, echo};
use netd_integration_tests::restless::{self, Restless};
use netd_integration_tests::{Bed, Lab};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const EDITS: usize = 1000;

/// Of these, about every second one is read: netd makes at most ten passes per second.
const EDIT_PERIOD: Duration = Duration::from_millis(60);

#[test]
fn a_thousand_edits_lose_no_packet_of_the_services_that_stay() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = restless::servers(&bed);
    let mut desired = Restless::new(2026);
    bed.write(&desired.text());
    let _netd = bed.start_ok();
    let flows = restless::flows(&bed);
    let before = bed.status()["pass"]["number"].as_u64().unwrap();
    for _ in 0..EDITS {
        desired.step();
        bed.write(&desired.text());
        std::thread::sleep(EDIT_PERIOD);
    }
    let report = bed.wait_ok();
    let sent = restless::assert_whole(flows);
    let passes = report["pass"]["number"].as_u64().unwrap() - before;
    eprintln!("{sent} packets, {passes} passes");
    // How many there can be is the machine's to say.
    assert!(passes > 20, "{passes}");
    assert_eq!(bed.netd(&["plan"]).code, Some(0));
}

/// As long as no backend is removed, no established connection notices what happens to its service.
#[test]
fn connections_outlive_every_change_of_their_own_service() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 4);
    let to = vips(10).map(|vip| SocketAddr::new(vip, 80));
    let _servers = Servers::start(&bed, &to.map(Port::Tcp));
    let web = || Service::new("web", 10).port("tcp", 80, 80);
    let two = web().backend(1).backend(2);
    bed.write(&file(std::slice::from_ref(&two)));
    let _netd = bed.start_ok();
    let drained = "state = \"terminating\"";
    let changes = [
        two.clone().backend(3),
        two.clone().backend(3).backend(4),
        web().backend_with(1, drained).backend(2).backend(3).backend(4),
        web().backend_with(1, drained).backend_with(2, drained).backend(3).backend(4),
        web().backend_with(1, "weight = 5").backend_with(2, "weight = 300").backend(3).backend(4),
        web().backend(1).backend_with(2, drained).backend_with(3, drained).backend_with(4, drained),
        two.backend(3).backend(4),
    ];
    let streams: Vec<(TcpStream, u8)> = (0..16).map(|at| bed.connect(to[at % 2]).unwrap()).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let talk = |(stream, _): (TcpStream, u8)| {
            let stop = &stop;
            scope.spawn(move || talk(stream, stop))
        };
        let talking: Vec<_> = streams.into_iter().map(talk).collect();
        for change in changes.iter().cycle().take(3 * changes.len()) {
            bed.write(&file(std::slice::from_ref(change)));
            bed.wait_ok();
            std::thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Ordering::Relaxed);
        talking.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Echoes until told to stop, and is always answered.
fn talk(mut stream: TcpStream, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        echo(&mut stream, b"still there?").unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
}
