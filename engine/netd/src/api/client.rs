//! Asks the daemon of an instance.

use super::CAPTURE_HEADER;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// A plan over every resource of the largest file, as JSON, stays below this.
const ANSWER_BYTES_MAX: usize = 512 * 1024 * 1024;

/// A little more than the daemon gives itself.
const ANSWER_MAX: Duration = Duration::from_secs(200);

/// Where the daemon is asked.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens: there is no daemon.
    #[error("no netd is running on {}", path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
    },
    /// The system did not let this process connect.
    #[error("connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The daemon answered with an error.
    #[error("{0}")]
    Refused(String),
    /// The connection broke.
    #[error("the daemon's answer did not arrive whole")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("the daemon did not answer within {} s", ANSWER_MAX.as_secs())]
    Slow,
}

impl Client {
    /// A client of the daemon that listens here.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks for what changes nothing; `None` when no daemon runs.
    ///
    /// # Errors
    ///
    /// Every [`ClientError`] but the absence of a daemon.
    pub async fn get(&self, path: &str) -> Result<Option<Vec<u8>>, ClientError> {
        self.ask(Method::GET, path, None).await
    }

    /// Asks for a change; `None` when no daemon runs.
    ///
    /// # Errors
    ///
    /// Every [`ClientError`] but the absence of a daemon.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Option<Vec<u8>>, ClientError> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Begins a capture: its id, and its file as it is written; `None` when no daemon runs.
    ///
    /// # Errors
    ///
    /// As [`Client::post`].
    pub async fn record(&self, order: &Value) -> Result<Option<(String, Incoming)>, ClientError> {
        let Some(stream) = self.connect().await? else { return Ok(None) };
        let answer = tokio::time::timeout(ANSWER_MAX, sent(stream, Method::POST, "/v1/records", Some(order)));
        let answer = answer.await.map_err(|_| ClientError::Slow)??;
        let id = answer.headers().get(CAPTURE_HEADER).and_then(|id| id.to_str().ok());
        match (answer.status(), id) {
            (StatusCode::OK, Some(id)) => Ok(Some((id.to_owned(), answer.into_body()))),
            _ => whole(answer)
                .await
                .and(Err(ClientError::Refused("the daemon did not say which capture it is".into()))),
        }
    }

    /// `None` when nobody listens.
    async fn connect(&self) -> Result<Option<UnixStream>, ClientError> {
        match UnixStream::connect(&self.socket).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(ClientError::Connect { path: self.socket.clone(), source }),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        let Some(stream) = self.connect().await? else { return Ok(None) };
        let exchange = async { whole(sent(stream, method, path, body).await?).await };
        match tokio::time::timeout(ANSWER_MAX, exchange).await {
            Ok(answer) => answer.map(Some),
            Err(_) => Err(ClientError::Slow),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// The answer to a request, as far as its headers.
async fn sent(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Response<Incoming>, ClientError> {
    let broken = |error: hyper::Error| ClientError::Broken(error.into());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(connection);
    let body = body.map(ToString::to_string).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "netd")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| ClientError::Broken(error.into()))?;
    sender.send_request(request).await.map_err(broken)
}

/// All of an answer, or the sentence of one that is an error.
async fn whole(answer: Response<Incoming>) -> Result<Vec<u8>, ClientError> {
    let status = answer.status();
    let bytes = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let bytes = bytes.map_err(ClientError::Broken)?.to_bytes().to_vec();
    match status {
        StatusCode::OK => Ok(bytes),
        status => Err(ClientError::Refused(said(&bytes).unwrap_or_else(|| status.to_string()))),
    }
}

/// The sentence of an answer that is an error.
fn said(bytes: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    value.get("error")?.as_str().map(str::to_owned)
}
