//! The overlay between nodes: a program that takes packets out of the tunnel device, and one that sends packets of pods
//! on, with what they go by, pinned.
//!
//! Under one folder of a BPF file system lie `g<N>/<map>`, `g<N>/program` (what receives), `g<N>/send`, and
//! `links/<device>`. The maps hold nothing that the file and the node do not say, so that another version begins with
//! new ones.

pub mod abi;
mod rules;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub use rules::{Rules, Way};

use self::abi::{ABI_VERSION, Counts, Settings};
use self::rules::bytes;
use crate::abi::PoolKey;
use crate::error::{Error, Result};
use crate::filters::{Order, Place};
use crate::generations::{
    self, Generation, PROGRAM, check_version, hash, mapped, open_pin, pin, pin_maps, possible_cpus,
};
use crate::kernel_maps::{all, delete_all, put_all};
use crate::links::LinkError;
use crate::loader::{self, LoadedOverlay};
use crate::mmap::Mapped;
use crate::sys::{self, Hash};
use crate::tc::{self, Side};
use bytemuck::Pod;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// The maps that are pinned.
const MAPS: [&str; 5] = ["ways", "pods", "peers", "settings", "counts"];

/// The pin of the program for what comes from pods.
const SEND: &str = "send";

/// The value of an element of a set.
const PRESENT: u32 = 1;

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// What comes in by the tunnel device.
    Receive,
    /// What comes from a pod.
    Send,
}

/// The programs with their maps.
pub struct Overlay {
    generation: Generation,
    receive: OwnedFd,
    send: OwnedFd,
    maps: Maps,
}

struct Maps {
    ways: Hash<PoolKey, abi::Way>,
    pods: Hash<[u8; 16], u32>,
    peers: Hash<[u8; 16], u32>,
    settings: Mapped<Settings>,
    counts: Mapped<Counts>,
}

impl Overlay {
    /// Opens the programs that are in force under a folder, if there are any; changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Incompatible`] when another version of netd made their maps in another way; [`Overlay::prepare`] makes
    /// new ones beside them.
    pub fn open(root: &Path) -> Result<Option<Self>> {
        let Some(generation) = Generation::in_force(root)? else { return Ok(None) };
        let folder = generation.folder();
        let maps = Maps::pinned(&folder)?;
        let found = maps.settings.get(0).unwrap_or_default().abi_version;
        check_version(&folder, "settings", found, ABI_VERSION)?;
        let (receive, send) = (open_pin(&folder.join(PROGRAM))?, open_pin(&folder.join(SEND))?);
        Ok(Some(Self { generation, receive, send, maps }))
    }

    /// Loads the programs, with maps in which nobody is known yet. They do not outlive this process until
    /// [`Overlay::complete`].
    pub fn prepare(root: &Path) -> Result<Self> {
        let (generation, (receive, send, maps)) = Generation::make(root, None, make)?;
        Ok(Self { generation, receive, send, maps })
    }

    /// Lets the programs be found by [`Overlay::open`] from now on.
    pub fn complete(&mut self) -> Result<()> {
        self.generation.complete(self.receive.as_fd())
    }

    /// Whether they are the programs that this binary carries, and all their pins are there.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let is_embedded =
            self.maps.settings.get(0).is_some_and(|set| set.program_digest == loader::overlay_digest());
        is_embedded && self.generation.has(MAPS.into_iter().chain([SEND]))
    }

    /// What the programs go by.
    pub fn rules(&self) -> Result<Rules> {
        let address = |bytes: &[u8; 16]| -> IpAddr { Ipv6Addr::from(*bytes).to_canonical() };
        let ways = all(&self.maps.ways, "ways")?;
        let settings = self.maps.settings.get(0).unwrap_or_default();
        Ok(Rules {
            vni: settings.vni,
            mtu: Some(settings.mtu).filter(|mtu| *mtu > 0),
            peers: all(&self.maps.peers, "peers")?.iter().map(|(key, _)| address(key)).collect(),
            ways: ways.iter().filter_map(|(key, entry)| Way::of_entry(key, entry)).collect(),
            pods: all(&self.maps.pods, "pods")?.iter().map(|(key, device)| (address(key), *device)).collect(),
        })
    }

    /// Changes what the programs go by, entry by entry; what stays the same is not touched. First what is new is added:
    /// packets that the rules before and these know go their way all the while.
    pub fn set_rules(&mut self, rules: &Rules) -> Result<()> {
        let peers = rules.peers.iter().map(|peer| (bytes(*peer), PRESENT)).collect();
        let pods = rules.pods.iter().map(|(pod, device)| (bytes(*pod), *device)).collect();
        let ways = rules.ways.iter();
        let ways = ways.map(|(prefix, way)| (PoolKey::new(prefix.0, prefix.1), way.entry(prefix))).collect();
        let spare_peers = add(&self.maps.peers, "peers", peers)?;
        let spare_pods = add(&self.maps.pods, "pods", pods)?;
        let mut settings = self.maps.settings.get(0).unwrap_or_default();
        settings.vni = rules.vni;
        settings.mtu = rules.mtu.unwrap_or(0);
        self.maps.settings.set(0, &settings);
        let spare_ways = add(&self.maps.ways, "ways", ways)?;
        delete_all(&self.maps.ways, "ways", &spare_ways)?;
        delete_all(&self.maps.pods, "pods", &spare_pods)?;
        delete_all(&self.maps.peers, "peers", &spare_peers)
    }

    /// What was counted since the programs were loaded.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.maps.counts.all().fold(Counts::default(), Counts::plus)
    }

    /// Runs a program once on an Ethernet frame, which is the loopback device's: what it says (`TC_ACT_*`, as the kernel
    /// does), and the frame as it left it.
    pub fn run(&self, role: Role, frame: &[u8]) -> Result<(i32, Vec<u8>)> {
        let run = sys::skb_run(self.program(role), frame);
        let (verdict, out) = run.map_err(|error| Error::kernel("test run", "tc_overlay", error))?;
        Ok((verdict.cast_signed(), out))
    }

    /// Puts the program of a role on a device. Where an older one is, this takes its place.
    pub fn attach(&self, role: Role, device: &str, ifindex: u32) -> std::result::Result<(), LinkError> {
        let place = Place { ifindex, side: Side::Ingress };
        tc::attach(self.generation.root(), device, place, Order::Behind, self.program(role))
    }

    /// The kernel's number for the program of a role: what links name.
    pub fn program_id(&self, role: Role) -> Result<u32> {
        generations::program_id(self.program(role), "tc_overlay")
    }

    /// Unpins all programs and maps under the folder but these.
    pub fn retire_others(&self) -> Result<()> {
        self.generation.retire_others()
    }

    /// Unpins all programs and maps under a folder, whatever made them, and removes the folder if no link is left in
    /// it.
    pub fn retire_all(root: &Path) -> Result<()> {
        generations::dismantle(root)
    }

    fn program(&self, role: Role) -> BorrowedFd<'_> {
        match role {
            Role::Receive => self.receive.as_fd(),
            Role::Send => self.send.as_fd(),
        }
    }
}

fn make(folder: &Path) -> Result<(OwnedFd, OwnedFd, Maps)> {
    let LoadedOverlay { receive, send, maps } = loader::overlay(possible_cpus()?)?;
    pin_maps(folder, MAPS, &maps)?;
    pin(send.as_fd(), &folder.join(SEND))?;
    let mut maps = Maps::pinned(folder)?;
    let program_digest = loader::overlay_digest();
    maps.settings.set(0, &Settings { abi_version: ABI_VERSION, program_digest, ..Settings::default() });
    Ok((receive, send, maps))
}

impl Maps {
    fn pinned(folder: &Path) -> Result<Self> {
        Ok(Self {
            ways: hash(folder, "ways")?,
            pods: hash(folder, "pods")?,
            peers: hash(folder, "peers")?,
            settings: mapped(folder, "settings")?,
            counts: mapped(folder, "counts")?,
        })
    }
}

/// Sets what differs, and says which keys are left over.
fn add<K: Pod + Ord, V: Pod + PartialEq>(
    map: &Hash<K, V>,
    name: &'static str,
    wanted: BTreeMap<K, V>,
) -> Result<Vec<K>> {
    let held: BTreeMap<K, V> = all(map, name)?.into_iter().collect();
    let differs = |(key, value): &(K, V)| held.get(key) != Some(value);
    let missing: Vec<(K, V)> = wanted.iter().map(|(key, value)| (*key, *value)).filter(differs).collect();
    put_all(map, name, &missing)?;
    Ok(held.into_keys().filter(|key| !wanted.contains_key(key)).collect())
}
