//! The gobgpd that this node speaks BGP through: the connection that the kinds of BGP share, and what is known of it.
//!
//! A connection is to one life of the daemon. When that life ends, all that was known of its tables goes with it, and a
//! pass is asked for.

mod hear;
mod places;

pub use places::{Places, endpoint};

use hear::{Hearing, Said};
use netd_core::{Key, Table};
use netd_gobgp::child::{ChildError, Identity, Managed, Standing};
use netd_gobgp::{Client, Error, Global};
use netd_schema::Gobgpd;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Mutex, Notify};

/// The speaker, as the kinds share it.
pub type Shared = Arc<Mutex<Speaker>>;

/// The gobgpds of an instance.
pub struct Speaker {
    folder: PathBuf,
    managed: Managed,
    /// Told when something happened; only a daemon listens.
    changed: Option<Arc<Notify>>,
    link: Link,
    said: Said,
    /// What the daemon cannot tell of netd's peers, as it was asked for.
    pub(crate) labels: BTreeMap<IpAddr, String>,
    /// netd's announcements, as they were listed and changed since.
    pub(crate) paths: Option<Paths>,
}

/// How things stand with the gobgpd in use.
enum Link {
    /// There is none, or it speaks to nobody.
    Nobody,
    /// It answers.
    Up(Box<Connection>),
    /// Nobody knows.
    Unknown(String),
}

struct Connection {
    gobgpd: Gobgpd,
    client: Client,
    identity: Option<Identity>,
    global: Option<Global>,
    hearing: Option<Hearing>,
}

/// netd's announcements in the daemon.
pub(crate) struct Paths {
    pub(crate) owned: Table,
    pub(crate) foreign: BTreeMap<Key, String>,
    /// How many paths the daemon's tables had then, IPv4 and IPv6: with fewer, some may be netd's.
    pub(crate) counts: [u64; 2],
}

/// A daemon that answers, for whoever changes it.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) client: Client,
    pub(crate) asn: u32,
}

/// Why a speaker is not as it should be.
pub(crate) enum Trouble {
    /// It did not work.
    Failed(String),
    /// It is somebody else's.
    Anothers(String),
}

impl Speaker {
    /// The speaker of the instance with this runtime folder. Nothing is started or connected yet.
    #[must_use]
    pub fn new(folder: &Path, changed: Option<Arc<Notify>>) -> Self {
        Self {
            folder: folder.into(),
            managed: Managed::new(folder),
            changed,
            link: Link::Nobody,
            said: Said::default(),
            labels: BTreeMap::new(),
            paths: None,
        }
    }

    /// Looks at every gobgpd that netd has used, and says which of them speak, and as what.
    ///
    /// # Errors
    ///
    /// A sentence: what is in the one in use is not known now.
    pub(crate) async fn look(&mut self) -> Result<Vec<(Gobgpd, Global)>, String> {
        let looked = self.look_at_all().await;
        if let Err(why) = &looked {
            self.lose(Link::Unknown(why.clone()));
        }
        looked
    }

    async fn look_at_all(&mut self) -> Result<Vec<(Gobgpd, Global)>, String> {
        let mut places = Places::of(&self.folder)?;
        let running = self.managed.look().await;
        let mut all = places.all().to_vec();
        if matches!(running, Ok(Standing::Running(_))) && !all.contains(&Gobgpd::Managed) {
            // The list was lost; what listens on the instance's own socket is netd's all the same.
            all.insert(0, Gobgpd::Managed);
        }
        let Some(current) = all.last().cloned() else {
            self.lose(Link::Nobody);
            return Ok(Vec::new());
        };
        let mut speaking = Vec::new();
        for gobgpd in all.iter().filter(|gobgpd| **gobgpd != current) {
            match self.ask(gobgpd).await {
                Ok(Some(global)) => speaking.push((gobgpd.clone(), global)),
                Ok(None) => places.forget(gobgpd)?,
                Err(error) => tracing::warn!(%error, "a gobgpd that was in use before cannot be looked at"),
            }
        }
        self.reach(&current).await.map_err(|error| text(&error))?;
        if let Link::Up(connection) = &self.link {
            speaking.extend(connection.global.clone().map(|global| (current, global)));
        }
        Ok(speaking)
    }

    /// What a gobgpd that is not in use speaks as.
    async fn ask(&mut self, gobgpd: &Gobgpd) -> Result<Option<Global>, Failure> {
        match self.connect(gobgpd).await? {
            Some((client, _)) => Ok(client.global().await?),
            None => Ok(None),
        }
    }

    /// Makes the link one to this gobgpd, and keeps the connection that there is if it still holds.
    async fn reach(&mut self, gobgpd: &Gobgpd) -> Result<(), Failure> {
        let identity = match gobgpd {
            Gobgpd::Managed => match self.managed.look().await? {
                Standing::Running(identity) => Some(identity),
                Standing::Absent => {
                    self.lose(Link::Nobody);
                    return Ok(());
                }
            },
            Gobgpd::Unix(_) | Gobgpd::Http(_) | Gobgpd::Https { .. } => None,
        };
        if let Link::Up(connection) = &mut self.link
            && connection.gobgpd == *gobgpd
            && connection.identity == identity
            && connection.hearing.as_ref().is_none_or(Hearing::holds)
        {
            let known = connection.global.clone();
            match connection.client.global().await {
                Ok(global) => {
                    connection.global.clone_from(&global);
                    if global != known {
                        self.paths = None;
                    }
                    return Ok(());
                }
                Err(error) if matches!(error, Error::Hung { .. }) => return Err(error.into()),
                Err(_) => {}
            }
        }
        self.lose(Link::Nobody);
        if let Some((client, identity)) = self.connect(gobgpd).await? {
            let global = client.global().await?;
            if global.is_some() {
                client.prepare().await?;
            }
            self.hold(gobgpd, client, identity, global);
        }
        Ok(())
    }

    /// Connects; `None` if nobody is there, and so nothing of netd's either.
    async fn connect(&mut self, gobgpd: &Gobgpd) -> Result<Option<(Client, Option<Identity>)>, Failure> {
        let (endpoint, identity) = match endpoint(gobgpd) {
            Some(endpoint) => (endpoint, None),
            None => match self.managed.look().await? {
                Standing::Running(identity) => (self.managed.endpoint(), Some(identity)),
                Standing::Absent => return Ok(None),
            },
        };
        match Client::connect(&endpoint).await {
            Ok(client) => Ok(Some((client, identity))),
            // On this machine, nobody is nobody; elsewhere it may be the way that is cut.
            Err(Error::Absent { .. }) if !matches!(gobgpd, Gobgpd::Https { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn hold(&mut self, gobgpd: &Gobgpd, client: Client, identity: Option<Identity>, global: Option<Global>) {
        let hearing = self.changed.as_ref().map(|changed| {
            let log = identity.map(|_| self.managed.log().to_path_buf());
            Hearing::start(client.clone(), Arc::clone(changed), log, self.said.clone())
        });
        self.paths = None;
        self.link =
            Link::Up(Box::new(Connection { gobgpd: gobgpd.clone(), client, identity, global, hearing }));
    }

    fn lose(&mut self, link: Link) {
        self.paths = None;
        self.link = link;
    }

    /// The daemon in use; `None` if there is none that speaks.
    ///
    /// # Errors
    ///
    /// A sentence: it is not known.
    pub(crate) fn line(&self) -> Result<Option<Line>, String> {
        match &self.link {
            Link::Nobody => Ok(None),
            Link::Up(connection) => Ok(connection
                .global
                .as_ref()
                .map(|global| Line { client: connection.client.clone(), asn: global.asn })),
            Link::Unknown(why) => Err(why.clone()),
        }
    }

    /// Notes that a call failed, and returns why.
    pub(crate) fn failed(&mut self, error: &Error) -> String {
        self.paths = None;
        let why = text(error);
        if error.ends_connection() {
            self.lose(Link::Unknown(why.clone()));
        }
        why
    }

    /// The last complaint of the daemon about a peer.
    pub(crate) fn complaint(&self, peer: IpAddr) -> Option<String> {
        self.said.about(peer)
    }

    /// Makes a gobgpd the one in use, and a speaker as it should be: starts what has to be started.
    pub(crate) async fn take(
        &mut self,
        gobgpd: &Gobgpd,
        wanted: &Global,
        suits: impl Fn(&Global) -> bool,
    ) -> Result<(), Trouble> {
        let mut places = Places::of(&self.folder).map_err(Trouble::Failed)?;
        self.lose(Link::Nobody);
        let (mut client, mut identity) = self.bring_up(gobgpd).await?;
        let mut global = client.global().await?;
        if global.as_ref().is_some_and(|global| !suits(global)) {
            match gobgpd {
                Gobgpd::Managed => {
                    self.managed.stop().await?;
                    (client, identity) = self.bring_up(gobgpd).await?;
                }
                Gobgpd::Unix(_) | Gobgpd::Http(_) | Gobgpd::Https { .. } => stop_own(&client).await?,
            }
            global = None;
        }
        // Before anything of netd's is in it.
        places.use_from_now(gobgpd).map_err(Trouble::Failed)?;
        if global.is_none() {
            client.start(wanted).await?;
            global = client.global().await?;
        }
        client.prepare().await?;
        self.hold(gobgpd, client, identity, global);
        Ok(())
    }

    async fn bring_up(&mut self, gobgpd: &Gobgpd) -> Result<(Client, Option<Identity>), Failure> {
        match endpoint(gobgpd) {
            Some(endpoint) => Ok((Client::connect(&endpoint).await?, None)),
            None => {
                std::fs::create_dir_all(&self.folder)
                    .map_err(|error| Failure::Text(format!("make {}: {error}", self.folder.display())))?;
                let identity = self.managed.start().await?;
                Ok((Client::connect(&self.managed.endpoint()).await?, Some(identity)))
            }
        }
    }

    /// Ends what netd made of a gobgpd.
    pub(crate) async fn give_up(&mut self, gobgpd: &Gobgpd) -> Result<(), Trouble> {
        let is_another = matches!(&self.link, Link::Up(connection) if connection.gobgpd != *gobgpd);
        if !is_another {
            self.lose(Link::Nobody);
        }
        match gobgpd {
            Gobgpd::Managed => self.managed.stop().await?,
            Gobgpd::Unix(_) | Gobgpd::Http(_) | Gobgpd::Https { .. } => {
                if let Some((client, _)) = self.connect(gobgpd).await? {
                    clear(&client).await?;
                }
            }
        }
        Places::of(&self.folder).and_then(|mut places| places.forget(gobgpd)).map_err(Trouble::Failed)
    }
}

/// Ends a speaker that netd started and that nobody else uses.
async fn stop_own(client: &Client) -> Result<(), Trouble> {
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
async fn clear(client: &Client) -> Result<(), Error> {
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
enum Failure {
    #[error(transparent)]
    Call(#[from] Error),
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error("{0}")]
    Text(String),
}

impl<E: Into<Failure>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Failed(text(&error.into()))
    }
}

/// An error with its causes.
fn text(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
