#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use super::*;
use crate::health::check::HttpQuestion;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

const LONG: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(200);

fn aim(to: SocketAddr) -> Aim {
    Aim { to, from: None, mark: None }
}

fn bad(why: &str) -> Answer {
    Answer::Bad(why.into())
}

fn http(status: &[(u16, u16)]) -> Question {
    Question::Http(HttpQuestion {
        is_tls: false,
        path: "/healthz?deep=1".into(),
        host: None,
        status: status.to_vec(),
    })
}

/// Answers one connection with these bytes; gives what it was asked.
async fn server(answer: &'static [u8]) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let byte = stream.read_u8().await.unwrap();
            asked.push(byte);
        }
        stream.write_all(answer).await.unwrap();
        String::from_utf8(asked).unwrap()
    });
    (address, task)
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn tcp_is_good_when_a_connection_opens() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).await.unwrap();
        let to = listener.local_addr().unwrap();
        assert_eq!(ask(&aim(to), &Question::Tcp, LONG).await, Answer::Good);
    }
}

#[tokio::test]
async fn tcp_is_bad_when_nobody_listens() {
    assert_eq!(ask(&aim(nobody().await), &Question::Tcp, LONG).await, bad("connection refused"));
}

#[tokio::test]
async fn http_asks_for_the_path_and_judges_the_status() {
    let (to, server) = server(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(ask(&aim(to), &http(&[(200, 399)]), LONG).await, Answer::Good);
    let asked = server.await.unwrap().to_lowercase();
    assert!(asked.starts_with("get /healthz?deep=1 http/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("host: {to}\r\n")) && asked.contains("connection: close\r\n"), "{asked}");
}

#[tokio::test]
async fn http_says_which_status_came_and_which_was_wanted() {
    let (to, _server) = server(b"HTTP/1.0 503 Busy\r\n\r\nsorry").await;
    let answer = ask(&aim(to), &http(&[(200, 399), (418, 418)]), LONG).await;
    assert_eq!(answer, bad("status 503, wanted 200-399,418"));
}

#[tokio::test]
async fn an_interim_status_is_not_the_answer() {
    let (to, _server) = server(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").await;
    assert_eq!(ask(&aim(to), &http(&[(200, 200)]), LONG).await, Answer::Good);
}

#[tokio::test]
async fn what_is_not_http_is_not_good() {
    let (to, _server) = server(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    assert_eq!(ask(&aim(to), &http(&[(100, 599)]), LONG).await, bad("the answer is not HTTP"));
    let (to, _server) = server(b"").await;
    let answer = ask(&aim(to), &http(&[(100, 599)]), LONG).await;
    assert_eq!(answer, bad("the connection ended before the answer"));
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_waited_for_no_longer_than_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    let began = std::time::Instant::now();
    assert_eq!(ask(&aim(to), &http(&[(200, 399)]), SHORT).await, bad("no answer within 200ms"));
    assert!(began.elapsed() < LONG);
}

#[tokio::test]
async fn an_answer_that_comes_byte_by_byte_does_not_hold_the_check() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.write_all(b"H").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let answer = ask(&aim(to), &http(&[(200, 399)]), SHORT).await;
    assert!(matches!(answer, Answer::Bad(_)), "{answer:?}");
}

#[tokio::test]
async fn https_takes_any_certificate_and_names_the_host() {
    let provider = Arc::new(crypto::ring::default_provider());
    let certificate = CertificateDer::from(include_bytes!("testdata/certificate.der").to_vec());
    let key = PrivateKeyDer::try_from(include_bytes!("testdata/key.der").to_vec()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut asked = vec![0; 1024];
        let length = stream.read(&mut asked).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        let name = stream.get_ref().1.server_name().map(str::to_owned);
        (name, String::from_utf8_lossy(&asked[..length]).to_lowercase())
    });
    let question = HttpQuestion {
        is_tls: true,
        path: "/".into(),
        host: Some("other.test:8443".into()),
        status: vec![(200, 200)],
    };
    assert_eq!(ask(&aim(to), &Question::Http(question), LONG).await, Answer::Good);
    let (name, asked) = server.await.unwrap();
    assert_eq!(name.as_deref(), Some("other.test"));
    assert!(asked.contains("host: other.test:8443\r\n"), "{asked}");
}

#[tokio::test]
async fn https_to_a_server_without_tls_is_bad() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream.read_u8().await.ok();
    });
    let question = HttpQuestion { is_tls: true, path: "/".into(), host: None, status: vec![(100, 599)] };
    let answer = ask(&aim(to), &Question::Http(question), LONG).await;
    assert!(matches!(&answer, Answer::Bad(why) if why.starts_with("TLS: ")), "{answer:?}");
}

async fn echoing() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 100];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        socket.send_to(&buffer[..length], from).await.unwrap();
    });
    address
}

fn udp(expect: Option<&[u8]>) -> Question {
    Question::Udp { send: b"who is there?".to_vec(), expect: expect.map(<[u8]>::to_vec) }
}

#[tokio::test]
async fn udp_is_good_when_the_answer_contains_what_is_expected() {
    for (expect, answer) in [
        (Some(&b"is there"[..]), Answer::Good),
        (Some(b""), Answer::Good),
        (None, Answer::Good),
        (Some(b"nobody"), bad("the answer does not contain what is expected")),
    ] {
        assert_eq!(ask(&aim(echoing().await), &udp(expect), LONG).await, answer);
    }
}

#[tokio::test]
async fn udp_without_expectation_is_bad_only_when_it_is_refused() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let silent = socket.local_addr().unwrap();
    assert_eq!(ask(&aim(silent), &udp(None), SHORT).await, Answer::Good);
    assert_eq!(ask(&aim(silent), &udp(Some(b"x")), SHORT).await, bad("no answer within 200ms"));
    drop(socket);
    assert_eq!(ask(&aim(silent), &udp(None), LONG).await, bad("connection refused"));
}

#[tokio::test]
async fn a_probe_that_cannot_be_sent_says_nothing_about_the_backend() {
    let aim = Aim { from: Some("203.0.113.1".parse().unwrap()), ..aim(nobody().await) };
    let answer = ask(&aim, &Question::Tcp, LONG).await;
    let why = "send from 203.0.113.1: cannot assign requested address";
    assert_eq!(answer, Answer::Hindered(why.into()));
}

#[tokio::test]
async fn an_echo_request_is_answered_by_loopback() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for address in ["127.0.0.1:0", "[::1]:0"] {
        assert_eq!(ask(&aim(address.parse().unwrap()), &Question::Icmp, LONG).await, Answer::Good);
    }
}
