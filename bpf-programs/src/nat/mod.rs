//! Address translation: two programs that give packets of pods an address of the node and turn answers around, with what
//! they go by and what they remember, pinned.
//!
//! Under one folder of a BPF file system lie `g<N>/<map>`, `g<N>/program` (what leaves), `g<N>/ingress` (what comes in),
//! and `out/links/<device>`, `in/links/<device>`. `docs/nat.md` says what the programs do.

pub mod abi;
mod egress;
mod rules;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub use egress::{EgressRule, EgressRules};
pub use rules::{Outer, Ports, Rules};
pub use table::{Fullest, Translated, Usage, Used};

use self::abi::{
    ABI_VERSION, Class, Counts, Device, EgressKey, Flow, Fragment, FragmentKey, Given, Key, Mapping, Port,
    Settings,
};
use crate::abi::PoolKey;
use crate::decap::Prefixes;
use crate::error::{Error, Result};
use crate::filters::{Order, Place};
use crate::generations::{
    self, Generation, PROGRAM, check_version, hash, mapped, open_pin, pin, pin_maps, possible_cpus,
};
use crate::kernel_maps::all;
use crate::links::{self, LinkError, LinkInfo};
use crate::loader::{self, LoadedNat};
use crate::mmap::Mapped;
use crate::sys::{self, Hash, Queue};
use crate::tc::{self, Side};

/// Maps that another generation takes over whatever its sizes.
const KEPT: [&str; 7] =
    ["sources", "exclude", "devices", "addresses", "egress_sources", "egress_rules", "counts"];

/// Maps whose sizes are configured.
const SIZED: [&str; 5] = ["mappings", "turns", "moved", "direct", "nat_fragments"];

/// A map that every generation has for itself.
const SETTINGS: &str = "settings";

/// The pin of the program for what comes in.
const INGRESS: &str = "ingress";

/// What the programs are loaded for: how many entries the maps have room for, and what is looked for in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Mappings.
    pub flows: u32,
    /// Flows to pods' own addresses, which are not translated.
    pub direct: u32,
    /// Packets in fragments at the same time.
    pub fragments: u32,
    /// Whether packets are asked for rules of egress policies. Without this, such rules are kept and change nothing.
    pub has_egress: bool,
}

/// What the programs say about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes on, translated or not.
    Pass,
    /// It is dropped.
    Drop,
    /// It goes to the gateway of its egress policy.
    Steer,
}

/// The programs with their maps.
pub struct Nat {
    generation: Generation,
    egress: OwnedFd,
    ingress: OwnedFd,
    maps: Maps,
}

struct Maps {
    sources: Prefixes,
    exclude: Prefixes,
    devices: Hash<u32, Device>,
    addresses: Hash<[u8; 16], u32>,
    egress_sources: Hash<PoolKey, Class>,
    egress_rules: Hash<EgressKey, abi::EgressRule>,
    mappings: Hash<Key, Mapping>,
    turns: Queue<Key>,
    moved: Hash<Given, Port>,
    direct: Hash<Flow, u64>,
    fragments: Hash<FragmentKey, Fragment>,
    settings: Mapped<Settings>,
    counts: Mapped<Counts>,
}

impl Nat {
    /// Opens the programs that are in force under a folder, if there are any; changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Incompatible`] when another version of netd made their maps in another way; [`Nat::prepare`] makes new
    /// ones beside them.
    pub fn open(root: &Path) -> Result<Option<Self>> {
        let Some(generation) = Generation::in_force(root)? else { return Ok(None) };
        let folder = generation.folder();
        let maps = Maps::pinned(&folder)?;
        let found = maps.settings.get(0).unwrap_or_default().abi_version;
        check_version(&folder, SETTINGS, found, ABI_VERSION)?;
        let (egress, ingress) = (open_pin(&folder.join(PROGRAM))?, open_pin(&folder.join(INGRESS))?);
        Ok(Some(Self { generation, egress, ingress, maps }))
    }

    /// Loads the programs. They use the maps of those before them, and what of them has another size is copied. Without
    /// any, `seed` (which nobody should be able to guess) is what ports are chosen by, and nothing is translated yet. They
    /// do not outlive this process until [`Nat::complete`].
    pub fn prepare(root: &Path, size: Size, seed: u64, before: Option<&Self>) -> Result<Self> {
        let made = Generation::make(root, None, |folder| make(folder, size, seed, before))?;
        let (generation, (egress, ingress, maps)) = made;
        Ok(Self { generation, egress, ingress, maps })
    }

    /// Lets the programs be found by [`Nat::open`] from now on.
    pub fn complete(&mut self) -> Result<()> {
        self.generation.complete(self.egress.as_fd())
    }

    /// Whether they are the programs that this binary carries, with maps of this size, and all their pins are there.
    #[must_use]
    pub fn is_current(&self, size: Size) -> bool {
        let is_embedded =
            self.maps.settings.get(0).is_some_and(|set| set.program_digest == loader::nat_digest());
        let pins = KEPT.into_iter().chain(SIZED).chain([SETTINGS, INGRESS]);
        is_embedded && self.size() == size && self.generation.has(pins)
    }

    /// How many entries the maps have room for.
    #[must_use]
    pub fn size(&self) -> Size {
        Size {
            flows: self.maps.mappings.capacity(),
            direct: self.maps.direct.capacity(),
            fragments: self.maps.fragments.capacity(),
            has_egress: self.maps.settings.get(0).is_some_and(|set| set.has_egress != 0),
        }
    }

    /// What the programs go by.
    pub fn rules(&self) -> Result<Rules> {
        self.maps.rules()
    }

    /// Changes what the programs go by, entry by entry; what stays the same is not touched. Flows that the rules before
    /// and these translate to the same address keep their ports, also where the range is another.
    pub fn set_rules(&mut self, rules: &Rules) -> Result<()> {
        self.maps.set_rules(rules)
    }

    /// What packets of egress policies go by.
    pub fn egress(&self) -> Result<EgressRules> {
        self.maps.egress()
    }

    /// Changes what packets of egress policies go by, entry by entry; what stays the same is not touched. Flows that keep
    /// their egress address keep their ports, also where the range is another.
    ///
    /// Answers to an egress address that no rule has any more are turned around until [`Nat::forget_addresses`]: as long as
    /// the node has the address, the host would refuse them.
    pub fn set_egress(&mut self, rules: &EgressRules) -> Result<()> {
        self.maps.set_egress(rules)
    }

    /// The addresses of this node to which answers are turned around: those that packets leave with, and egress addresses
    /// that were not forgotten yet.
    pub fn answered(&self) -> Result<BTreeSet<IpAddr>> {
        let held = rules::held(&self.maps.addresses, "addresses")?.into_keys();
        Ok(held.map(|at| std::net::Ipv6Addr::from(at).to_canonical()).collect())
    }

    /// Has answers to addresses that no rule has go by, but for those to addresses that the node still has.
    pub fn forget_addresses(&mut self, held: &BTreeSet<IpAddr>) -> Result<()> {
        self.maps.forget_addresses(held)
    }

    /// What was counted since the maps were made.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.maps.counts.all().fold(Counts::default(), Counts::plus)
    }

    /// How much of the table is used; `now_ns` is the time since boot without sleep, in nanoseconds.
    pub fn usage(&self, now_ns: u64) -> Result<Usage> {
        table::usage(&self.maps.mappings, now_ns)
    }

    /// How much of each outer address is used, by reading every mapping; `now_ns` as for [`Nat::usage`].
    pub fn used(&self, now_ns: u64) -> Result<BTreeMap<IpAddr, Used>> {
        table::used(&self.maps.mappings, now_ns)
    }

    /// The flows with a remote that are translated and alive, by reading every mapping; `now_ns` as for [`Nat::usage`].
    /// Of pings the remote's port is zero.
    pub fn with_remote(&self, protocol: u8, remote: SocketAddr, now_ns: u64) -> Result<Vec<Translated>> {
        table::with_remote(&self.maps.mappings, protocol, remote, now_ns)
    }

    /// When a packet of a flow to a pod's own address was seen last, in nanoseconds since boot; `None` if there is no record
    /// of it.
    pub fn direct(&self, protocol: u8, pod: SocketAddr, remote: SocketAddr) -> Result<Option<u64>> {
        table::direct(&self.maps.direct, protocol, pod, remote)
    }

    /// Every mapping, in the order of their keys, dead or alive.
    pub fn mappings(&self) -> Result<BTreeMap<Key, Mapping>> {
        Ok(all(&self.maps.mappings, "mappings")?.into_iter().collect())
    }

    /// Forgets every flow: each begins anew with its next packet.
    pub fn forget(&mut self) -> Result<()> {
        self.maps.forget()
    }

    /// Lets everything that the programs remember be older, for tests.
    pub fn age(&mut self, seconds: u64) -> Result<()> {
        self.maps.age(seconds.saturating_mul(1_000_000_000))
    }

    /// Runs the program of a side once on an Ethernet frame, which is the loopback device's: what it says, and the frame
    /// as it left it. The frame is one of the host's own.
    pub fn run(&self, side: Side, frame: &[u8]) -> Result<(Verdict, Vec<u8>)> {
        self.run_from(side, frame, 0)
    }

    /// As [`Nat::run`], on a frame that came in by a device; zero: it is one of the host's own.
    pub fn run_from(&self, side: Side, frame: &[u8], came_in_by: u32) -> Result<(Verdict, Vec<u8>)> {
        const SHOT: u32 = 2;
        const REDIRECT: u32 = 7;
        let ran = sys::skb_run_from(self.program(side), frame, came_in_by);
        let (verdict, out) = ran.map_err(|error| Error::kernel("test run", "tc_nat", error))?;
        let verdict = match verdict {
            SHOT => Verdict::Drop,
            REDIRECT => Verdict::Steer,
            _ => Verdict::Pass,
        };
        Ok((verdict, out))
    }

    /// Puts the programs on a device: first what turns answers around. Where older ones are, these take their places, and
    /// the flows that they have made since their tables were copied.
    pub fn attach(&self, device: &str, ifindex: u32) -> std::result::Result<(), LinkError> {
        for side in [Side::Ingress, Side::Egress] {
            let root = tc::side_root(self.generation.root(), side);
            tc::attach(&root, device, Place { ifindex, side }, Order::Behind, self.program(side))?;
        }
        self.take_over()?;
        Ok(())
    }

    /// Fills these tables with what those of earlier programs have and they lack.
    fn take_over(&self) -> Result<()> {
        for folder in self.generation.earlier()? {
            // Those of another version of netd are not read, and tables of the same size are the same ones.
            let Ok(earlier) = Maps::pinned(&folder) else { continue };
            let version = earlier.settings.get(0).unwrap_or_default().abi_version;
            if version == ABI_VERSION && earlier.mappings.capacity() != self.maps.mappings.capacity() {
                table::copy_mappings(&earlier, &self.maps, now_ns())?;
            }
        }
        Ok(())
    }

    /// Has every device that runs older ones run these: one table knows the flows of all.
    pub fn replace_older(&self) -> std::result::Result<(), LinkError> {
        let others = tc::running_others(self.generation.root(), |side| self.program_id(side))?;
        others.iter().try_for_each(|(device, ifindex)| self.attach(device, *ifindex))
    }

    /// Takes the programs off a device. That they are not there is success.
    pub fn detach(root: &Path, device: &str) -> Result<()> {
        links::detach(&tc::side_root(root, Side::Egress), device)?;
        links::detach(&tc::side_root(root, Side::Ingress), device)
    }

    /// The devices with links under a folder, and on each side which program is there.
    pub fn attached(root: &Path) -> Result<BTreeMap<(String, Side), LinkInfo>> {
        tc::attached(root)
    }

    /// The kernel's number for the program of a side: what links name.
    pub fn program_id(&self, side: Side) -> Result<u32> {
        generations::program_id(self.program(side), "tc_nat")
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

    fn program(&self, side: Side) -> BorrowedFd<'_> {
        match side {
            Side::Ingress => self.ingress.as_fd(),
            Side::Egress => self.egress.as_fd(),
        }
    }
}

fn make(folder: &Path, size: Size, seed: u64, before: Option<&Nat>) -> Result<(OwnedFd, OwnedFd, Maps)> {
    let shared = match before {
        Some(before) => share(folder, size, before)?,
        None => BTreeSet::new(),
    };
    let paths: Vec<_> = shared.iter().map(|name| (*name, folder.join(name))).collect();
    let LoadedNat { egress, ingress, maps } = loader::nat(size, possible_cpus()?, &paths)?;
    let names = KEPT.into_iter().chain(SIZED).chain([SETTINGS]);
    pin_maps(folder, names.filter(|name| !shared.contains(name)), &maps)?;
    pin(ingress.as_fd(), &folder.join(INGRESS))?;
    let mut maps = Maps::pinned(folder)?;
    let known = before.and_then(|before| before.maps.settings.get(0)).map(|settings| settings.seed);
    let settings = Settings {
        abi_version: ABI_VERSION,
        has_egress: size.has_egress.into(),
        seed: known.unwrap_or(seed),
        program_digest: loader::nat_digest(),
        ..Settings::default()
    };
    maps.settings.set(0, &settings);
    if let Some(before) = before {
        if !shared.contains("mappings") {
            table::copy_mappings(&before.maps, &maps, now_ns())?;
        }
        if !shared.contains("direct") {
            table::copy(&before.maps.direct, &maps.direct, "direct")?;
        }
    }
    Ok((egress, ingress, maps))
}

/// Pins the maps that the next generation uses, too, in its folder: their names.
fn share(folder: &Path, size: Size, before: &Nat) -> Result<BTreeSet<&'static str>> {
    let found = before.size();
    let is_kept = |name: &&str| match *name {
        "nat_fragments" => found.fragments == size.fragments.max(1),
        "direct" => found.direct == size.direct.max(1),
        _ => found.flows == size.flows.max(1),
    };
    let names: BTreeSet<_> = KEPT.into_iter().chain(SIZED.into_iter().filter(is_kept)).collect();
    for name in &names {
        let map = open_pin(&before.generation.folder().join(name))?;
        pin(map.as_fd(), &folder.join(name))?;
    }
    Ok(names)
}

/// The time of records: since boot, without sleep.
fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

impl Maps {
    fn pinned(folder: &Path) -> Result<Self> {
        Ok(Self {
            sources: Prefixes::new(hash(folder, "sources")?, "sources"),
            exclude: Prefixes::new(hash(folder, "exclude")?, "exclude"),
            devices: hash(folder, "devices")?,
            addresses: hash(folder, "addresses")?,
            egress_sources: hash(folder, "egress_sources")?,
            egress_rules: hash(folder, "egress_rules")?,
            mappings: hash(folder, "mappings")?,
            turns: generations::queue(folder, "turns")?,
            moved: hash(folder, "moved")?,
            direct: hash(folder, "direct")?,
            fragments: hash(folder, "nat_fragments")?,
            settings: mapped(folder, SETTINGS)?,
            counts: mapped(folder, "counts")?,
        })
    }
}
