//! A web server on a backend: over HTTP it says which backend it is, counts who asks for its health, and can be stopped.

use netd_integration_tests::Namespace;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// Serves until dropped; then connections are refused.
pub struct Web {
    runtime: Option<Runtime>,
    checks: Arc<AtomicUsize>,
}

impl Web {
    /// Listens on the machine at these addresses.
    pub fn start(machine: &Namespace, number: usize, addresses: &[SocketAddr]) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let checks = Arc::new(AtomicUsize::new(0));
        for &address in addresses {
            let listener = machine.run(|| std::net::TcpListener::bind(address));
            let listener = listener.unwrap_or_else(|error| panic!("listen at {address}: {error}"));
            listener.set_nonblocking(true).unwrap();
            let _inside = runtime.enter();
            let listener = TcpListener::from_std(listener).unwrap();
            runtime.spawn(serve(listener, number, Arc::clone(&checks)));
        }
        Self { runtime: Some(runtime), checks }
    }

    /// How often it was asked for its health.
    pub fn checks(&self) -> usize {
        self.checks.load(Ordering::Relaxed)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, number: usize, checks: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, number, Arc::clone(&checks)));
    }
}

/// A client that goes early is no concern of the server's.
async fn answer(mut stream: TcpStream, number: usize, checks: Arc<AtomicUsize>) -> std::io::Result<()> {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        asked.push(stream.read_u8().await?);
    }
    if asked.starts_with(b"GET /healthz ") {
        checks.fetch_add(1, Ordering::Relaxed);
    }
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{number}");
    stream.write_all(answer.as_bytes()).await
}
