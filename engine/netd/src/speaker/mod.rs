//! The gobgpd that this node speaks BGP through: the connection that the kinds of BGP share, and what is known of it.
//!
//! A connection is to one life of the daemon. When that life ends, all that was known of its tables goes with it, and a
//! pass is asked for.

mod board;
mod hear;
mod part;
mod places;
mod received;

pub use board::Board;
pub(crate) use board::Extent;
pub use places::{Places, endpoint};
pub use received::WithReceived;

use crate::clock;
use hear::{Hearing, Said};
use netd_core::{Key, Table};
use netd_gobgp::child::{Identity, Managed, Standing};
use netd_gobgp::{Client, Error, Global};
use netd_schema::Gobgpd;
pub(crate) use part::Trouble;
use part::{Failure, clear, stop_own, text};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify};

/// A gobgpd that did not answer is not asked again for so long: a pass looks twice, and waits for it once.
const IN_VAIN: Duration = Duration::from_millis(500);

/// What a gobgpd is that netd has used and cannot ask: no speaker has AS 0.
const UNKNOWN: Global = Global { asn: 0, router_id: Ipv4Addr::UNSPECIFIED, listen_port: None };

/// The speaker, as the kinds share it.
pub type Shared = Arc<Mutex<Speaker>>;

/// The gobgpds of an instance.
pub struct Speaker {
    folder: PathBuf,
    managed: Managed,
    /// Told when something happened; only a daemon listens.
    changed: Option<Arc<Notify>>,
    link: Link,
    /// When it was last looked at without an answer.
    in_vain_at: Option<Instant>,
    said: Said,
    board: Board,
    /// netd's announcements, counted.
    pub(crate) extent: Extent,
    /// What peers sent.
    known: BTreeMap<IpAddr, received::Known>,
    /// Whose routes are taken in, and when they are listed again.
    appetite: Arc<received::Appetite>,
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
    /// Whether netd's policies are known to be whole.
    is_prepared: bool,
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

/// A connection to the gobgpd in use, for a command that shows what is in it; `None` if there is none that speaks.
///
/// # Errors
///
/// A sentence: it is not known.
pub async fn client_of(folder: &Path) -> Result<Option<Client>, String> {
    let mut speaker = Speaker::new(folder, None);
    speaker.look().await?;
    Ok(speaker.line()?.map(|line| line.client))
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
            in_vain_at: None,
            said: Said::default(),
            board: Board::default(),
            extent: Extent::default(),
            known: BTreeMap::new(),
            appetite: Arc::default(),
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
        if let (Link::Unknown(why), Some(at)) = (&self.link, self.in_vain_at)
            && at.elapsed() < IN_VAIN
        {
            return Err(why.clone());
        }
        let looked = self.look_at_all().await;
        self.in_vain_at = looked.is_err().then(clock::now);
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
                Err(error) if part::is_without_files(&error) => speaking.push((gobgpd.clone(), UNKNOWN)),
                Err(error) => tracing::warn!(%error, "a gobgpd that was in use before cannot be looked at"),
            }
        }
        match self.reach(&current).await {
            Ok(()) => {}
            // Nobody can ask it, and nobody could ever again if it did not count as one that may have other files.
            Err(error) if part::is_without_files(&error) => {
                self.lose(Link::Unknown(text(&error)));
                speaking.push((current, UNKNOWN));
                return Ok(speaking);
            }
            Err(error) => return Err(text(&error)),
        }
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
        self.said = Said::default();
        let hearing = self.changed.as_ref().map(|changed| {
            let log = identity.map(|_| self.managed.log().to_path_buf());
            let appetite = Arc::clone(&self.appetite);
            Hearing::start(client.clone(), Arc::clone(changed), log, self.said.clone(), appetite)
        });
        self.paths = None;
        let gobgpd = gobgpd.clone();
        let connection = Connection { gobgpd, client, identity, global, is_prepared: false, hearing };
        self.link = Link::Up(Box::new(connection));
    }

    fn lose(&mut self, link: Link) {
        self.paths = None;
        self.board.clear();
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

    /// As [`Speaker::line`], for changes: netd's policies are in place before anything that needs them.
    pub(crate) async fn line_for_changes(&mut self) -> Result<Line, String> {
        let line = self.line()?.ok_or("there is no BGP speaker")?;
        if let Link::Up(connection) = &mut self.link
            && !connection.is_prepared
        {
            match line.client.prepare().await {
                Ok(()) => connection.is_prepared = true,
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(line)
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

    /// Withdraws everything that netd announces; sessions stay.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub async fn withdraw_all(&mut self) -> Result<(), String> {
        let Some(Line { client, .. }) = self.line()? else { return Ok(()) };
        let withdrawing = async {
            let ours: Vec<_> = client.announced().await?.ours.into_keys().collect();
            client.withdraw(&ours).await
        };
        withdrawing.await.map_err(|error| self.failed(&error))
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
        self.hold(gobgpd, client, identity, global);
        self.line_for_changes().await.map(|_| ()).map_err(Trouble::Failed)
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
            Gobgpd::Unix(_) | Gobgpd::Http(_) | Gobgpd::Https { .. } => match self.connect(gobgpd).await {
                Ok(Some((client, _))) => clear(&client).await?,
                Ok(None) => {}
                Err(error) if part::is_without_files(&error) => {
                    let name = crate::kinds::bgp_instance::name(gobgpd);
                    return Err(Trouble::Failed(format!(
                        "{}: without it nothing of netd's can be taken out of this gobgpd; bring it back, or give the \
                             gobgpd up: `netd bgp forget {name}`",
                        text(&error)
                    )));
                }
                Err(error) => return Err(error.into()),
            },
        }
        Places::of(&self.folder).and_then(|mut places| places.forget(gobgpd)).map_err(Trouble::Failed)
    }
}

#[cfg(test)]
mod tests;
