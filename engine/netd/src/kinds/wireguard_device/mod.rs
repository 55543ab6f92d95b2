//! The node's WireGuard device, and a second one while keys change: it has the keys that come next, or those that were,
//! and both take what comes.
//!
//! Key: its name. Mark of ownership: the link's alias, `netd:INSTANCE`; a device of the name without it is somebody
//! else's, and a conflict. An update of the port or of the key lets sessions begin anew, which takes a round trip; another
//! sort of device drops what is on its way, and nothing goes past it in clear.

mod target;

pub use target::DeviceTarget;

use crate::facts::{Facts, PathResolver};
use crate::wireguard::{Mesh, Sort};
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::{Config, WireguardDevice};
use netd_wireguard::PublicKey;
use serde::{Serialize, Serializer};
use std::path::PathBuf;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "wireguard_device";

/// Why a device, and its peers, stay that nobody asks for.
pub(super) const STAYS: &str = "it stays as long as routes lead into it";

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Its name.
    pub interface: String,
    /// Whose it is; wanted: whose it may be.
    pub device: WireguardDevice,
    /// Its UDP port.
    pub port: u16,
    /// The mark of its packets.
    pub mark: u32,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// The private key that it has: never the key, but which.
    pub key: KeyOf,
    /// Whether its key is in the second file; wanted: whether it may be, because the node has another key in the first. One
    /// that is left alone moves to the first.
    pub may_be_next: bool,
}

/// Which private key a device has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOf {
    /// That of a file (`None`: of the usual one); wanted: which must be the one of this public key if there is one.
    File(Option<PathBuf>, Option<PublicKey>),
    /// None, or another one, or one that cannot be compared: what is said of it.
    Other(String),
}

impl DeviceSpec {
    /// The key of the resource.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(&self.interface)
    }

    fn words(&self) -> [(&'static str, String); 6] {
        let key = match &self.key {
            KeyOf::File(file, key) => {
                let file =
                    file.as_ref().map_or("its own".to_owned(), |file| format!("that of {}", file.display()));
                key.map_or(file.clone(), |key| format!("{file}, {}", key.fingerprint()))
            }
            KeyOf::Other(said) => said.clone(),
        };
        [
            ("device", word(self.device).to_owned()),
            ("port", self.port.to_string()),
            ("mark", format!("{:#x}", self.mark)),
            ("mtu", self.mtu.to_string()),
            ("up", if self.up { "yes" } else { "no" }.to_owned()),
            ("private key", key),
        ]
    }
}

fn word(device: WireguardDevice) -> &'static str {
    match device {
        WireguardDevice::Auto => "auto",
        WireguardDevice::Kernel => Sort::Kernel.name(),
        WireguardDevice::Userspace => Sort::Userspace.name(),
    }
}

impl Serialize for DeviceSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let interface = ("interface", self.interface.clone());
        serializer.collect_map(std::iter::once(interface).chain(self.words()))
    }
}

impl Described for DeviceSpec {
    fn summary(&self) -> String {
        let key = match &self.key {
            KeyOf::File(_, Some(key)) => format!(", key {}", key.fingerprint()),
            KeyOf::File(_, None) => ", a key that the file does not list".to_owned(),
            KeyOf::Other(_) => String::new(),
        };
        format!("WireGuard, {} device, UDP port {}, MTU {}{key}", word(self.device), self.port, self.mtu)
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let is_free = self.device == WireguardDevice::Auto;
        let is_any_key = matches!(
            (&self.key, &observed.key),
            (KeyOf::File(wanted, None), KeyOf::File(file, _)) if wanted == file
        );
        let is_same = |field: &str| (is_free && field == "device") || (is_any_key && field == "private key");
        let changes = FieldChange::among(observed.words(), self.words());
        let moves = (observed.may_be_next && !self.may_be_next)
            .then(|| FieldChange::changed("key file", "the next one's", "the first one's"));
        changes.into_iter().filter(|change| !is_same(&change.field)).chain(moves).collect()
    }

    fn satisfied_by(&self, observed: &Self) -> bool {
        self.changes(observed).is_empty()
    }
}

/// The device that the file asks for.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let Some(mesh) = Mesh::of(config, facts)? else { return Ok(desired) };
    let settings = mesh.settings;
    let resolver = PathResolver::new(facts);
    let mtu = mesh.mtu(&resolver);
    if let Some(link) = mesh.retiring(facts) {
        desired.held.insert(Key::new(&link.name), STAYS.to_owned());
    }
    for lane in mesh.lanes() {
        let key = Key::new(&lane.interface);
        let mtu = match &mtu {
            Ok(mtu) => *mtu,
            Err(reason) => {
                desired.held.insert(key, reason.clone());
                continue;
            }
        };
        if mesh.own_key().is_none() {
            let why = "the file lists no public key of this node, so nothing is encrypted: `netd wireguard pubkey --write`";
            desired.notes.insert(key.clone(), why.to_owned());
        }
        if let Some((most, below)) = mesh.room(&resolver).filter(|(most, _)| *most < mtu) {
            let why = format!(
                "its MTU is {mtu}, and {} leaves {most}: larger packets come in pieces or not at all",
                below.name
            );
            desired.notes.insert(key.clone(), why);
        }
        let spec = DeviceSpec {
            port: lane.port(settings.port),
            key: KeyOf::File(settings.key_file.clone(), mesh.key_of_lane(&lane)),
            interface: lane.interface,
            device: settings.device,
            mark: settings.mark,
            mtu,
            up: true,
            may_be_next: mesh.has_another_key(),
        };
        desired.table.insert(key, Arc::new(spec));
    }
    Ok(desired)
}
