//! Parting with a gobgpd: what of it is netd's to take or to end, and in what words it fails.

use netd_gobgp::child::ChildError;
use netd_gobgp::{Client, Error, Global};

/// Why a speaker is not as it should be.
pub(crate) enum Trouble {
    /// It did not work.
    Failed(String),
    /// It is somebody else's.
    Anothers(String),
}

/// Ends a speaker that netd started and that nobody else uses.
pub(super) async fn stop_own(client: &Client) -> Result<(), Trouble> {
    let foreign_peers = client.peers().await?.values().any(|peer| !peer.is_ours);
    let is_shared = foreign_peers || !client.announced().await?.foreign.is_empty();
    match (client.is_started_by_netd().await?, is_shared) {
        (true, false) => Ok(client.stop().await?),
        (true, true) => Err(Trouble::Anothers("others have peers or routes in this gobgpd".into())),
        (false, _) => {
            let global = client.global().await?;
            let what = global.map_or_else(
                || "something else".to_owned(),
                |Global { asn, router_id, listen_port }| {
                    let port = listen_port.map_or_else(|| "no port".into(), |port| format!("port {port}"));
                    format!("AS {asn}, router identifier {router_id}, {port}")
                },
            );
            Err(Trouble::Anothers(format!("somebody else started it as {what}")))
        }
    }
}

/// Takes everything of netd's out of a gobgpd, and ends it as a speaker if netd made it one and nobody else uses it.
pub(super) async fn clear(client: &Client) -> Result<(), Error> {
    let Some(global) = client.global().await? else { return Ok(()) };
    let mut is_shared = false;
    for peer in client.peers().await?.values() {
        match peer.is_ours {
            true => client.delete_peer(&peer.config, global.asn).await?,
            false => is_shared = true,
        }
    }
    let announced = client.announced().await?;
    is_shared |= !announced.foreign.is_empty();
    client.withdraw(&announced.ours.into_keys().collect::<Vec<_>>()).await?;
    match client.is_started_by_netd().await? && !is_shared {
        true => client.stop().await,
        false => client.unprepare().await,
    }
}

/// What can go wrong on the way to a daemon.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Call(#[from] Error),
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error("{0}")]
    Text(String),
}

/// Whether a file is missing without which nobody can be asked.
pub(super) fn is_without_files(failure: &Failure) -> bool {
    matches!(failure, Failure::Call(Error::TlsFile { .. }))
}

impl<E: Into<Failure>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Failed(text(&error.into()))
    }
}

/// An error with its causes.
pub(super) fn text(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
