//! Listens on the socket of the instance: who may connect, how many, how long.

use super::deadline::Deadline;
use super::peer::{self, Peer};
use super::routes::{Shared, router};
use anyhow::{Context as _, bail};
use axum::Extension;
use axum::extract::DefaultBodyLimit;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// So many clients are served at once; more wait in the kernel's queue.
const CLIENTS_MAX: usize = 64;

/// No request needs more; the file itself never comes this way.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A client that says nothing for this long is shown out.
const HEADERS_MAX: Duration = Duration::from_secs(5);

/// The whole of a connection: the longest request, and its answer to a slow reader.
const CONNECTION_MAX: Duration = Duration::from_secs(180);

/// After a failed accept (no descriptors left) nothing is gained by trying at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The listening socket; removed when this is dropped.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// The locked directory: who listens there has it to itself.
    _dir: File,
}

impl Server {
    /// Makes the socket. The directory is locked, so one that is there is left over.
    ///
    /// # Errors
    ///
    /// When another process listens there, or when the directory or the socket cannot be made.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        let dir = path.parent().context("the socket's path has no directory")?;
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        match DirBuilder::new().mode(0o750).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("create {}", dir.display()));
            }
            _ => {}
        }
        fs::set_permissions(dir, Permissions::from_mode(0o750))
            .with_context(|| format!("set the mode of {}", dir.display()))?;
        let locked = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
        match locked.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another netd of this name listens on {}: give this one an --instance", path.display());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", dir.display()));
            }
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove the old {}", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
        // Nobody else can reach it in between: the directory is closed to all but the group.
        fs::set_permissions(path, Permissions::from_mode(0o660))
            .with_context(|| format!("set the mode of {}", path.display()))?;
        if let Some(group) = peer::group() {
            for place in [dir, path] {
                chown(place, None, Some(group.gid))
                    .with_context(|| format!("give {} to the group {}", place.display(), peer::GROUP))?;
            }
        }
        Ok(Self { listener, path: path.to_owned(), _dir: locked })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Serves until it is dropped.
pub async fn serve(server: Server, shared: Arc<Shared>) {
    let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
    let app = router(shared).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    loop {
        let Ok(permit) = Arc::clone(&clients).acquire_owned().await else { return };
        match server.listener.accept().await {
            Ok((stream, _)) => {
                let app = app.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    let deadline = Deadline::default();
                    let served = one_request(stream, app, deadline.clone());
                    deadline.keep(CONNECTION_MAX, served).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn one_request(stream: UnixStream, app: axum::Router, deadline: Deadline) {
    let peer = match stream.peer_cred() {
        Ok(cred) => Peer { uid: cred.uid(), gid: cred.gid() },
        Err(error) => {
            tracing::warn!(%error, "a client that the kernel does not vouch for");
            return;
        }
    };
    let service = TowerToHyperService::new(app.layer(Extension(peer)).layer(Extension(deadline)));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client left early");
    }
}
