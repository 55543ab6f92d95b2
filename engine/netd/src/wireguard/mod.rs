//! The node's WireGuard devices: which are netd's, who reads and changes them, and what they were told last.

mod keys;
mod links;
mod mesh;

pub use keys::{KEY_FILE, next_file, own_key};
pub use mesh::{Lane, Mesh, Other, UNDERLAY_OVERHEAD, names};

use crate::facts::{Facts, Link};
use crate::netlink::Connection;
use netd_schema::Config;
use netd_wireguard::{Access, Change, Device, Error, Kernel, Peer, Program, PublicKey, Userspace};
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;

/// What the kinds of WireGuard share.
pub type Shared = Arc<Mutex<Devices>>;

/// Whose devices they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// The kernel's.
    Kernel,
    /// A program's.
    Userspace,
}

impl Sort {
    /// By what rtnetlink calls the kind of the link.
    fn of(link: &Link) -> Option<Self> {
        match link.kind.as_str() {
            "wireguard" => Some(Self::Kernel),
            "tun" => Some(Self::Userspace),
            _ => None,
        }
    }

    /// The word of the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
        }
    }
}

/// A device of netd's.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its link.
    pub link: Link,
    /// Whose it is.
    pub sort: Sort,
    /// What it has.
    pub device: Device,
}

/// The devices, and what is remembered of them while netd runs.
pub struct Devices {
    /// What marks a link as netd's: its alias.
    alias: String,
    /// Where what programs say is written.
    runtime_dir: PathBuf,
    /// Where the key is, if the file names no other place.
    state_dir: PathBuf,
    kernel: Option<Kernel>,
    userspace: Userspace,
    programs: BTreeMap<String, Program>,
    /// The file in force.
    in_force: Option<Arc<Config>>,
    /// Where packets of each peer of a device go by the last word of this netd.
    told: BTreeMap<(String, PublicKey), SocketAddr>,
}

impl Devices {
    /// The devices of the instance that has these folders.
    #[must_use]
    pub fn new(instance: &str, runtime_dir: PathBuf, state_dir: PathBuf) -> Self {
        let (alias, programs, told) = (format!("netd:{instance}"), BTreeMap::new(), BTreeMap::new());
        let (kernel, userspace, in_force) = (None, Userspace, None);
        Self { alias, runtime_dir, state_dir, kernel, userspace, programs, in_force, told }
    }

    /// Is told the file in force.
    pub fn aim(&mut self, in_force: &Config) {
        let is_known = self
            .in_force
            .as_ref()
            .is_some_and(|known| known.wireguard == in_force.wireguard && known.nodes == in_force.nodes);
        if !is_known {
            let (wireguard, nodes) = (in_force.wireguard.clone(), in_force.nodes.clone());
            self.in_force = Some(Arc::new(Config { wireguard, nodes, ..Config::default() }));
        }
    }

    /// What the file in force says of nodes and WireGuard.
    #[must_use]
    pub fn in_force(&self) -> Option<Arc<Config>> {
        self.in_force.clone()
    }

    /// The file of the private key.
    #[must_use]
    pub fn key_file(&self, named: Option<&PathBuf>) -> PathBuf {
        named.cloned().unwrap_or_else(|| self.state_dir.join(KEY_FILE))
    }

    /// Where the packets of a device's peer were told to go.
    #[must_use]
    pub fn told(&self, peer: &(String, PublicKey)) -> Option<SocketAddr> {
        self.told.get(peer).copied()
    }

    /// Remembers where the packets of a device's peer were told to go.
    pub fn tell(&mut self, peer: (String, PublicKey), endpoint: SocketAddr) {
        self.told.insert(peer, endpoint);
    }

    /// Every device of netd's, with what it has.
    ///
    /// # Errors
    ///
    /// A sentence, when one cannot be read.
    pub fn own(&mut self, facts: &Facts) -> Result<Vec<Own>, String> {
        let marked = facts.links.values().filter(|link| link.alias == self.alias);
        let candidates: Vec<(&Link, Sort)> =
            marked.filter_map(|link| Some((link, Sort::of(link)?))).collect();
        let mut own = Vec::new();
        for (link, sort) in candidates {
            if sort == Sort::Userspace {
                self.program(&link.name).shorten_log();
            }
            match self.read(&link.name, sort) {
                Ok(device) => own.push(Own { link: link.clone(), sort, device }),
                // It went meanwhile; the next pass sees that.
                Err(Error::Absent) => {}
                Err(error) => return Err(format!("{}: {}", link.name, said(&error))),
            }
        }
        Ok(own)
    }

    /// What a device has.
    ///
    /// # Errors
    ///
    /// As [`Access::read`].
    pub fn read(&mut self, interface: &str, sort: Sort) -> Result<Device, Error> {
        let access = self.access(sort)?;
        beside(|| access.read(interface))
    }

    /// Changes a device.
    ///
    /// # Errors
    ///
    /// As [`Access::change`].
    pub fn change(&mut self, interface: &str, sort: Sort, change: &Change) -> Result<(), Error> {
        let access = self.access(sort)?;
        beside(|| access.change(interface, change))
    }

    /// The device of this name, whosever it is, as it is now.
    ///
    /// # Errors
    ///
    /// As [`Access::read`].
    pub fn find(&mut self, interface: &str) -> Result<(Sort, Device), Error> {
        match self.read(interface, Sort::Kernel) {
            Ok(device) => Ok((Sort::Kernel, device)),
            Err(Error::Absent | Error::Unsupported) => {
                self.read(interface, Sort::Userspace).map(|device| (Sort::Userspace, device))
            }
            Err(error) => Err(error),
        }
    }

    /// The peers of the device that sends, by the file in force, by the names of their nodes; none where there is no device.
    #[must_use]
    pub fn peers(&mut self) -> BTreeMap<String, Peer> {
        let Some(config) = self.in_force() else { return BTreeMap::new() };
        let lane = config.wireguard.as_ref().map(|settings| Lane::of(settings, settings.generation));
        let device = lane.and_then(|lane| self.find(&lane.interface).ok());
        let mut names = names(&config);
        let peers = device.into_iter().flat_map(|(_, device)| device.peers);
        peers.filter_map(|(key, peer)| Some((names.remove(&key)?, peer))).collect()
    }

    /// The way to devices of the sort.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where there are none.
    pub fn access(&mut self, sort: Sort) -> Result<&mut dyn Access, Error> {
        match sort {
            Sort::Userspace => Ok(&mut self.userspace),
            Sort::Kernel => {
                if self.kernel.is_none() {
                    self.kernel = Some(Kernel::open()?);
                }
                match &mut self.kernel {
                    Some(kernel) => Ok(kernel),
                    None => Err(Error::Unsupported),
                }
            }
        }
    }

    /// Makes a link of the sort and of this name, marked as netd's, with nothing in it; gives the sort of one that was begun
    /// earlier.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    pub async fn make(&mut self, interface: &str, sort: Sort) -> Result<Sort, Trouble> {
        let mut connection = connection()?;
        match links::named(&mut connection, interface).await? {
            Some(link) if self.is_unfinished(&link) => {
                if Sort::of(&link) == Some(Sort::Userspace) {
                    self.start(interface)?;
                }
            }
            Some(_) => return Err(Trouble::Anothers(format!("a device called {interface} is there"))),
            None if sort == Sort::Kernel => links::create(&mut connection, interface).await?,
            None => self.start(interface)?,
        }
        let link = links::named(&mut connection, interface).await?;
        let link = link.ok_or_else(|| format!("{interface} went as soon as it was made"))?;
        links::mark(&mut connection, link.index, &self.alias).await?;
        Ok(Sort::of(&link).unwrap_or(sort))
    }

    fn start(&mut self, interface: &str) -> Result<(), Trouble> {
        // A command that acts without a daemon is the first to need it.
        let made = DirBuilder::new().recursive(true).mode(0o750).create(&self.runtime_dir);
        made.map_err(|error| format!("make {}: {error}", self.runtime_dir.display()))?;
        let program = self.program(interface);
        beside(|| program.start()).map_err(|error| Trouble::Failed(said(&error)))
    }

    /// The program of this device, whether it runs or not.
    fn program(&mut self, interface: &str) -> &mut Program {
        let runtime_dir = &self.runtime_dir;
        self.programs.entry(interface.to_owned()).or_insert_with(|| Program::new(interface, runtime_dir))
    }

    /// Ends programs that are starting, for devices that nobody wants any more: no mark is on them yet.
    pub fn give_up_starting(&mut self) {
        self.programs.values_mut().for_each(Program::give_up);
    }

    /// Whether a link that bears no mark is one that netd began to make: nobody has put a key into it.
    pub fn is_unfinished(&mut self, link: &Link) -> bool {
        let Some(sort) = Sort::of(link) else { return false };
        let is_blank = |device: &Device| device.public_key.is_none() && device.peers.is_empty() && !link.up;
        if sort == Sort::Userspace && self.program(&link.name).is_starting() && !link.up {
            return true;
        }
        let is_running = sort == Sort::Kernel || self.program(&link.name).is_running().unwrap_or(false);
        is_running && self.read(&link.name, sort).as_ref().is_ok_and(is_blank)
    }

    /// Sets a link's MTU, and sets it up: a device of the kernel's takes its UDP port then.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub async fn set_up(&self, interface: &str, mtu: u32, port: u16) -> Result<(), String> {
        let mut connection = connection()?;
        let link = links::named(&mut connection, interface).await?;
        let link = link.ok_or_else(|| format!("{interface} is not there any more"))?;
        links::set_up(&mut connection, link.index, mtu, port).await
    }

    /// Deletes a link of netd's; one that is not there, or not netd's any more, is left alone.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub async fn delete(&mut self, interface: &str) -> Result<(), String> {
        let mut connection = connection()?;
        if let Some(link) = links::named(&mut connection, interface).await?
            && link.alias == self.alias
        {
            links::delete(&mut connection, link.index).await?;
        }
        if let Some(mut program) = self.programs.remove(interface) {
            program.forget();
        } else {
            Program::new(interface, &self.runtime_dir).forget();
        }
        Ok(())
    }
}

/// Why a device cannot be made.
#[derive(Debug)]
pub enum Trouble {
    /// Somebody else has the name: who.
    Anothers(String),
    /// This kernel has none of the sort.
    Unsupported,
    /// Why not.
    Failed(String),
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

fn connection() -> Result<Connection, String> {
    Connection::open().map_err(|error| format!("open netlink: {error}"))
}

/// Does what blocks, for seconds if a program has stopped, while other threads take over what else this one has to do.
fn beside<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // Outside of a runtime, or in one that has no other thread, there is nothing to hand over.
        _ => work(),
    }
}

/// An error with its causes.
#[must_use]
pub fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
#[path = "mesh_tests.rs"]
mod tests;
