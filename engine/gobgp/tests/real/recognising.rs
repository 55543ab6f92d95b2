//! What listens there: a daemon, nobody, a hung one, another version, or something else altogether.

use crate::site::{Site, global, unix};
use netd_gobgp::{CALL_MAX, Client, Endpoint, Error, Tls};
use netd_lab::Running;
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Deadlines are kept within this, also on a busy machine; what has none never ends.
const SLACK: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_not_started_until_it_is_and_then_says_as_what() {
    let Some(site) = Site::new() else { return };
    let daemon = crate::daemon::Gobgpd::start(&site.left, site.file("gobgpd.sock"));
    let client = daemon.connect().await;
    assert!(client.pid().is_some());
    assert_eq!(client.global().await.unwrap(), None);
    client.start(&global()).await.unwrap();
    assert_eq!(client.global().await.unwrap(), Some(global()));
    client.stop().await.unwrap();
    assert_eq!(client.global().await.unwrap(), None);
    assert!(!client.is_started_by_netd().await.unwrap());
    let silent = netd_gobgp::Global { listen_port: None, ..global() };
    client.start(&silent).await.unwrap();
    assert_eq!(client.global().await.unwrap(), Some(silent));
    assert!(client.is_started_by_netd().await.unwrap());
    client.stop().await.unwrap();
    let socket = format!("unix://{}", site.file("gobgpd.sock").display());
    let theirs = ["--target", &socket, "global", "as", "64512", "router-id", "10.9.0.1"];
    assert!(Command::new("/usr/bin/gobgp").args(theirs).status().unwrap().success());
    assert!(client.global().await.unwrap().is_some() && !client.is_started_by_netd().await.unwrap());
}

#[tokio::test]
async fn b1_a_daemon_that_is_not_there_is_said_to_be_absent() {
    let folder = tempfile::tempdir().unwrap();
    let error = Client::connect(&unix(&folder.path().join("no.sock"))).await.unwrap_err();
    assert!(matches!(error, Error::Absent { .. }), "{error:?}");
    assert!(error.to_string().ends_with("No such file or directory (os error 2)"), "{error}");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Client::connect(&Endpoint::Loopback(port)).await.unwrap_err();
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_a_hung_daemon_costs_a_call_its_deadline_and_no_more() {
    let Some(site) = Site::new() else { return };
    let (daemon, client) = site.daemon().await;
    daemon.signal(Signal::STOP);
    for what in ["a call", "a new connection"] {
        let begin = Instant::now();
        let error = match what {
            "a call" => client.peers().await.unwrap_err(),
            _ => Client::connect(&unix(&site.file("gobgpd.sock"))).await.unwrap_err(),
        };
        assert!(matches!(error, Error::Hung { .. }), "{what}: {error:?}");
        assert!(begin.elapsed() < CALL_MAX + SLACK, "{what}: {:?}", begin.elapsed());
    }
    daemon.signal(Signal::CONT);
    crate::wait_until("answering", async || client.peers().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_a_killed_daemon_is_noticed_by_its_events_and_a_client_never_meets_the_next() {
    let Some(site) = Site::new() else { return };
    let (daemon, client) = site.daemon().await;
    let mut watch = client.watch().await.unwrap();
    daemon.signal(Signal::KILL);
    let error = timeout(crate::PATIENCE, watch.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Gone { .. }), "{error:?}");
    drop(daemon);
    let (_daemon, next) = site.daemon().await;
    assert!(client.global().await.unwrap_err().ends_connection());
    assert_eq!(next.global().await.unwrap(), Some(global()));
}

/// A certificate for this name, signed by itself, and its key; `None` where there is no openssl.
fn certificate(site: &Site, name: &str) -> Option<(PathBuf, PathBuf)> {
    let (certificate, key) = (site.file(&format!("{name}.pem")), site.file(&format!("{name}.key")));
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
    command.args([
        "-subj",
        "/CN=gobgpd",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=CA:FALSE",
    ]);
    command.arg("-out").arg(&certificate).arg("-keyout").arg(&key).stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Some((certificate, key)),
        said => {
            eprintln!("SKIPPED: openssl: {said:?}");
            None
        }
    }
}

#[test]
fn b13_a_daemon_behind_tls_is_trusted_by_its_authority_and_no_other() {
    let Some(site) = Site::new() else { return };
    let Some((own, key)) = certificate(&site, "own") else { return };
    let Some((other, _)) = certificate(&site, "other") else { return };
    let (cert, key) = (own.display().to_string(), key.display().to_string());
    let hosts = ["--api-hosts", "127.0.0.1:50051", "--pprof-disable", "--tls"];
    let files = ["--tls-cert-file", &cert, "--tls-key-file", &key];
    let _daemon = Running::start(&site.left, "gobgpd", &[&hosts[..], &files].concat());
    site.left.run_async(|| async move {
        let endpoint =
            |ca| Endpoint::parse("https://127.0.0.1:50051", Some(Tls { ca, identity: None })).unwrap();
        crate::wait_until("a gobgpd", async || Client::connect(&endpoint(own.clone())).await.is_ok()).await;
        let error = Client::connect(&endpoint(other)).await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
        let plain = Endpoint::parse("http://127.0.0.1:50051", None).unwrap();
        let error = Client::connect(&plain).await.unwrap_err();
        assert!(matches!(error, Error::NotGobgp { .. }), "{error:?}");
        let error = Client::connect(&endpoint("/nowhere.pem".into())).await.unwrap_err();
        assert_eq!(error.to_string(), "read /nowhere.pem");
    });
}

/// Answers every connection with the same bytes, and keeps it open.
fn answering(bytes: &'static [u8]) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let mut asked = [0; 24];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(bytes);
            open.push(stream);
        }
    });
    Endpoint::Loopback(address)
}

#[tokio::test]
async fn b11_something_that_is_no_gobgpd_is_recognised() {
    for garbage in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", &[0xff; 64]] {
        let error = Client::connect(&answering(garbage)).await.unwrap_err();
        assert!(matches!(error, Error::NotGobgp { .. }), "{error:?}");
    }
    let error = Client::connect(&answering(b"")).await.unwrap_err();
    assert!(matches!(error, Error::Hung { .. }), "{error:?}");
}

/// Settings of HTTP/2, then an answer of gRPC with a status to the first request and another to the second: literal
/// headers without Huffman coding, `:status: 200`, `content-type: application/grpc` and `grpc-status`.
fn grpc(first: u8, second: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    for (stream, status) in [(1, first), (3, second)] {
        let mut block = vec![0x88];
        for (name, value) in [("content-type", "application/grpc"), ("grpc-status", "")] {
            block.extend([0, name.len() as u8]);
            block.extend(name.bytes());
            let value: String = if value.is_empty() { status.to_string() } else { value.into() };
            block.push(value.len() as u8);
            block.extend(value.bytes());
        }
        bytes.extend([0, 0, block.len() as u8, 1, 5, 0, 0, 0, stream]);
        bytes.extend(block);
    }
    bytes
}

/// As a server of gRPC that gives these two statuses, each once it is asked.
fn serving(first: u8, second: u8) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let all = grpc(first, second);
        let (head, rest) = all.split_at(9 + (all.len() - 9) / 2);
        let mut asked = [0; 4096];
        for part in [head, rest] {
            std::thread::sleep(Duration::from_millis(100));
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(part);
        }
        let _ = stream.read(&mut asked);
        std::thread::sleep(Duration::from_secs(3));
    });
    Endpoint::Loopback(address)
}

const OK: u8 = 0;
const UNIMPLEMENTED: u8 = 12;

#[tokio::test]
async fn b11_version_4_is_recognised_and_another_service_too() {
    // An answer without a message is an internal error to a client, but not that of an unknown service.
    let error = Client::connect(&serving(UNIMPLEMENTED, OK)).await.unwrap_err();
    assert!(matches!(error, Error::Version4 { .. }), "{error:?}");
    assert!(error.to_string().contains("version 4, which is not supported yet"), "{error}");
    let error = Client::connect(&serving(UNIMPLEMENTED, UNIMPLEMENTED)).await.unwrap_err();
    assert!(matches!(error, Error::NotGobgp { .. }), "{error:?}");
}
