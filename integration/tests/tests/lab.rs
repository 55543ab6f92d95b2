//! The scaffolding itself: namespaces appear, are wired, are entered, and go away.
#![allow(clippy::unwrap_used, reason = "tests")]

use netd_integration_tests::Lab;
use std::path::PathBuf;

#[test]
fn two_namespaces_are_wired_and_leave_nothing() {
    let Some(lab) = Lab::new() else { return };
    let left = lab.namespace("left");
    let right = lab.namespace("right");
    left.veth("eth0", &right, "eth0");
    left.ip(&["addr", "add", "10.0.0.1/24", "dev", "eth0"]);
    right.ip(&["addr", "add", "10.0.0.2/24", "dev", "eth0"]);
    let server = right.run(|| std::net::TcpListener::bind("10.0.0.2:7").unwrap());
    let connected = left.run(|| std::net::TcpStream::connect(server.local_addr().unwrap()));
    assert!(connected.is_ok(), "{connected:?}");

    let inside = left.run(|| std::fs::read_to_string("/proc/thread-self/net/route").unwrap());
    assert!(inside.contains("eth0"), "{inside}");
    let tokio = left.run_async(|| async {
        tokio::task::spawn_blocking(|| std::fs::read_to_string("/proc/thread-self/net/route").unwrap())
            .await
            .unwrap()
    });
    assert_eq!(tokio, inside);

    let paths: Vec<PathBuf> = vec![left.path(), right.path()];
    drop((left, right));
    assert!(paths.iter().all(|path| !path.exists()));
}
