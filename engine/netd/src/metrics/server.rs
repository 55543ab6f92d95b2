//! Listens for whoever asks for the numbers: two paths, two methods, and limits on everything that a client decides.

use super::page::Page;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// So many clients are served at once; more wait in the kernel's queue until one is done or shown out.
const CLIENTS_MAX: usize = 16;

/// A client that has not asked by then is shown out.
const HEADERS_MAX: Duration = Duration::from_secs(3);

/// The whole of a connection: making the page of the largest file, and its way to a slow reader.
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// No scraper sends more before the end of its headers; the least that the parser works with.
const HEADER_BYTES_MAX: usize = 8192;

/// Nor more headers.
const HEADERS_COUNT_MAX: usize = 64;

/// After a failed accept (no descriptors left) nothing is gained by trying at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What the format is called.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A listener and its clients; all of them end with it.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens here and answers with the page.
    ///
    /// # Errors
    ///
    /// When the address is taken or is not one of this machine.
    pub async fn start(address: SocketAddr, page: Arc<Page>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, page));
        Ok(Self { address, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it answers still.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.task.is_finished()
    }

    /// Returns when the address is free.
    pub async fn end(mut self) {
        self.task.abort();
        // Aborted, as it should be, or over already.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, page: Arc<Page>) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut clients = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while clients.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let page = Arc::clone(&page);
                clients.spawn(async move {
                    let _place = place;
                    let _ = tokio::time::timeout(CONNECTION_MAX, one_request(stream, page)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client of the metrics");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn one_request(stream: TcpStream, page: Arc<Page>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&page)));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_COUNT_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client of the metrics left early");
    }
}

type Answer = Response<Full<Bytes>>;

/// Nothing of the request comes back in the answer, and a body is never read.
async fn answer(request: Request<Incoming>, page: Arc<Page>) -> Result<Answer, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    Ok(match request.uri().path() {
        "/metrics" => match page.text().await {
            Ok(text) => with_type(StatusCode::OK, OPENMETRICS, Bytes::copy_from_slice(text.as_bytes())),
            Err(why) => {
                tracing::warn!(why, "there are no metrics");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the numbers cannot be read; see the log\n")
            }
        },
        "/healthz" => {
            let (is_well, word) = page.health();
            let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            plain(status, &format!("{word}\n"))
        }
        _ => plain(StatusCode::NOT_FOUND, "there is /metrics and /healthz\n"),
    })
}

fn plain(status: StatusCode, text: &str) -> Answer {
    with_type(status, "text/plain; charset=utf-8", Bytes::copy_from_slice(text.as_bytes()))
}

fn with_type(status: StatusCode, media: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
