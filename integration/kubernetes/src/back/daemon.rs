//! Asks netd, on its socket, which addresses services have.

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// An answer about 100,000 services stays below this.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// netd answers behind a pass that is under way.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// What netd has done with the pools of its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// The SHA-256 of the file that is in force.
    pub(super) sha256: String,
    /// The addresses of services, by the names of their tables.
    pub(super) addresses: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Why a service has none of a family.
    pub(super) waiting: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Deserialize)]
struct Status {
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    in_force: Option<InForce>,
}

#[derive(Deserialize)]
struct InForce {
    sha256: String,
}

#[derive(Deserialize)]
struct Addresses {
    config_sha256: String,
    services: Vec<Service>,
    waiting: Vec<Waiting>,
}

#[derive(Deserialize)]
struct Service {
    service: String,
    address: IpAddr,
    /// Addresses that it has still, and would lose.
    #[serde(default)]
    instead_of: Vec<IpAddr>,
}

#[derive(Deserialize)]
struct Waiting {
    service: String,
    reason: String,
}

/// What is in force now; `None` while that is not what the file says that netd finds now.
pub(super) async fn ask(socket: &Path) -> Result<Option<Given>, String> {
    let asked = async {
        let status: Status = get(socket, "/v1/status").await?;
        let Some(InForce { sha256 }) = status.config.in_force else { return Ok(None) };
        let Addresses { config_sha256, services, waiting } = get(socket, "/v1/addresses").await?;
        if config_sha256 != sha256 {
            return Ok(None);
        }
        let mut given = Given { sha256, ..Given::default() };
        for Service { service, address, instead_of } in services {
            if instead_of.is_empty() {
                given.addresses.entry(service).or_default().insert(address);
            }
        }
        for Waiting { service, reason } in waiting {
            given.waiting.entry(service).or_default().insert(reason);
        }
        Ok(Some(given))
    };
    let answer = tokio::time::timeout(ANSWER_MAX, asked).await;
    answer.unwrap_or_else(|_| Err("it does not answer".to_owned())).map_err(|why: String| {
        let path: PathBuf = socket.to_owned();
        format!("netd at {}: {why}", path.display())
    })
}

async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, String> {
    let bytes = bytes(socket, path).await.map_err(|error| crate::note::with_causes(&*error))?;
    serde_json::from_slice(&bytes).map_err(|error| crate::note::plain(&error.to_string()))
}

async fn bytes(socket: &Path, path: &str) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header("host", "netd").body(Empty::<Bytes>::new())?;
    let asked = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
        match status {
            StatusCode::OK => Ok(body),
            _ => Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into()),
        }
    };
    // The connection carries the request as long as somebody waits for the answer.
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        closed = connection => match closed {
            Ok(()) => asked.await,
            Err(error) => Err(error.into()),
        },
    }
}
