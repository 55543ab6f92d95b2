//! What clients can do to the listener.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::page::Sources;
use super::*;
use crate::clock;
use crate::report::{Report, Word};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

struct Bench {
    listener: Listener,
    reads: Arc<AtomicUsize>,
    reports: watch::Sender<Arc<Report>>,
}

async fn bench() -> Bench {
    let report = Report { word: Word::Ok, ..Report::default() };
    let (reports, receiver) = watch::channel(Arc::new(report));
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reads);
    let page = Page::new(Sources {
        reports: receiver,
        traffic: Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(Vec::new())
        }),
        flows: Arc::new(|| Ok(0)),
        decap: Arc::new(|| Ok(None)),
        nat: Arc::new(|| Ok(None)),
        strict: Arc::new(|| Ok(None)),
    });
    let listener = Listener::start("127.0.0.1:0".parse().unwrap(), Arc::new(page)).await.unwrap();
    Bench { listener, reads, reports }
}

impl Bench {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.listener.address()).await.unwrap()
    }

    /// What is answered to these bytes, until the connection is closed.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // Whoever is shown out early does not take the rest.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn get(&self, path: &str) -> String {
        self.say(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await
    }
}

#[tokio::test]
async fn the_page_is_served_and_the_connection_closed() {
    let bench = bench().await;
    let answer = bench.get("/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/openmetrics-text"), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "{answer}");
    let head = bench.say(b"HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn x23_only_two_paths_and_two_methods_are_answered() {
    let bench = bench().await;
    for path in [
        "/",
        "/metrics/",
        "/metrics/../etc/passwd",
        "/%6detrics",
        "//metrics",
        "/../../etc/passwd",
        "/v1/apply",
    ] {
        assert!(bench.get(path).await.starts_with("HTTP/1.1 404 "), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE"] {
        let asked = format!("{method} /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        let answer = bench.say(asked.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{method}: {answer}");
    }
    assert!(bench.say(b"\x16\x03\x01\x02\x00\x01").await.starts_with("HTTP/1.1 400"), "TLS");
    assert_eq!(bench.reads.load(Ordering::Relaxed), 0, "none of them cost a look at the counters");
}

#[tokio::test]
async fn x23_headers_that_do_not_end_are_refused() {
    let bench = bench().await;
    let long = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(100_000));
    let answer = bench.say(long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_COUNT_MAX + 1));
    assert!(bench.say(many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let mut path = b"GET /".to_vec();
    path.resize(70_000, b'a');
    let answer = bench.say(&path).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
}

/// Slowloris: every place is taken by a client that says a byte now and then.
#[tokio::test]
async fn x23_slow_clients_are_shown_out_and_do_not_keep_others_away() {
    let bench = bench().await;
    let mut slow = Vec::new();
    for _ in 0..CLIENTS_MAX + 4 {
        let mut stream = bench.connect().await;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nx").await.unwrap();
        slow.push(stream);
    }
    let began = clock::now();
    let answer = tokio::time::timeout(HEADERS_MAX * 3, bench.get("/metrics")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(began.elapsed() >= HEADERS_MAX / 2, "every place was taken");
}

#[tokio::test]
async fn many_that_ask_at_once_cost_one_look_at_the_counters() {
    let bench = Arc::new(bench().await);
    let mut asking = JoinSet::new();
    for _ in 0..8 {
        let bench = Arc::clone(&bench);
        asking.spawn(async move { bench.get("/metrics").await });
    }
    for answer in asking.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(bench.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_health_is_that_of_what_is_in_force() {
    let bench = bench().await;
    for (word, status) in
        [(Word::Ok, 200), (Word::ConfigInvalid, 200), (Word::Degraded, 503), (Word::TornDown, 503)]
    {
        bench.reports.send_replace(Arc::new(Report { word, ..Report::default() }));
        let answer = bench.get("/healthz").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{word}\n")), "{answer}");
    }
}

#[tokio::test]
async fn an_address_is_free_when_its_listener_has_ended() {
    let bench = bench().await;
    let address = bench.listener.address();
    let _client = bench.connect().await;
    bench.listener.end().await;
    std::net::TcpListener::bind(address).unwrap();
}
