//! Strict mode: two programs that drop what would leave a device in clear, and what comes in by it in clear, although it is
//! to be encrypted; with what they go by, pinned.
//!
//! Under one folder of a BPF file system lie `g<N>/<map>`, `g<N>/program` (what leaves), `g<N>/in` (what comes in), and
//! `out/links/<device>`, `in/links/<device>`. The maps hold nothing that the file does not say but what was counted, which
//! a new version's programs take over.

pub mod abi;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use self::abi::{ABI_VERSION, Counts, Settings};
use crate::decap::{Prefix, Prefixes};
use crate::error::{Error, Result};
use crate::filters::{Order, Place};
use crate::generations::{
    self, Generation, PROGRAM, check_version, hash, mapped, open_pin, pin, pin_maps, possible_cpus,
};
use crate::links::{self, LinkError, LinkInfo};
use crate::loader::{self, LoadedStrict};
use crate::mmap::Mapped;
use crate::sys;
use crate::tc::{self, Side};

/// The maps that are pinned.
const MAPS: [&str; 7] = ["out_v4", "out_v6", "in_v4", "in_v6", "fragmented", "settings", COUNTS];

/// The one that another generation takes over.
const COUNTS: &str = "counts";

/// The pin of the program for what comes in.
const IN: &str = "in";

/// What the programs go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The destinations for which nothing leaves in clear.
    pub destinations: BTreeSet<Prefix>,
    /// The sources from which nothing comes in in clear.
    pub sources: BTreeSet<Prefix>,
    /// The firewall mark of WireGuard's own packets; 0: nobody's are.
    pub mark: u32,
    /// The nodes' tunnel, inside of which packets are in clear, too.
    pub tunnel: Option<Tunnel>,
}

/// The nodes' tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tunnel {
    /// VXLAN at this UDP port.
    Vxlan(u16),
    /// Geneve at this UDP port.
    Geneve(u16),
}

/// What the programs say about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It is dropped.
    Drop,
}

/// The programs with their maps.
pub struct Strict {
    generation: Generation,
    leaving: OwnedFd,
    coming: OwnedFd,
    maps: Maps,
}

struct Maps {
    destinations: [Prefixes; 2],
    sources: [Prefixes; 2],
    settings: Mapped<Settings>,
    counts: Mapped<Counts>,
}

impl Strict {
    /// Opens the programs that are in force under a folder, if there are any; changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Incompatible`] when another version of netd made their maps in another way; [`Strict::prepare`] makes new
    /// ones beside them.
    pub fn open(root: &Path) -> Result<Option<Self>> {
        let Some(generation) = Generation::in_force(root)? else { return Ok(None) };
        let folder = generation.folder();
        let maps = Maps::pinned(&folder)?;
        let found = maps.settings.get(0).unwrap_or_default().abi_version;
        check_version(&folder, "settings", found, ABI_VERSION)?;
        let (leaving, coming) = (open_pin(&folder.join(PROGRAM))?, open_pin(&folder.join(IN))?);
        Ok(Some(Self { generation, leaving, coming, maps }))
    }

    /// Loads the programs, with maps in which nothing is listed yet; they go on counting where those before them are. They
    /// do not outlive this process until [`Strict::complete`].
    pub fn prepare(root: &Path, before: Option<&Self>) -> Result<Self> {
        let made = Generation::make(root, None, |folder| make(folder, before))?;
        let (generation, (leaving, coming, maps)) = made;
        Ok(Self { generation, leaving, coming, maps })
    }

    /// Lets the programs be found by [`Strict::open`] from now on.
    pub fn complete(&mut self) -> Result<()> {
        self.generation.complete(self.leaving.as_fd())
    }

    /// Whether they are the programs that this binary carries, and all their pins are there.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let is_embedded =
            self.maps.settings.get(0).is_some_and(|set| set.program_digest == loader::strict_digest());
        is_embedded && self.generation.has(MAPS.into_iter().chain([IN]))
    }

    /// What the programs go by.
    pub fn rules(&self) -> Result<Rules> {
        let settings = self.maps.settings.get(0).unwrap_or_default();
        let all = |both: &[Prefixes; 2]| -> Result<BTreeSet<Prefix>> {
            let [v4, v6] = both;
            Ok(v4.all()?.into_iter().chain(v6.all()?).collect())
        };
        Ok(Rules {
            destinations: all(&self.maps.destinations)?,
            sources: all(&self.maps.sources)?,
            mark: settings.mark,
            tunnel: match settings.tunnel {
                abi::VXLAN => Some(Tunnel::Vxlan(settings.tunnel_port)),
                abi::GENEVE => Some(Tunnel::Geneve(settings.tunnel_port)),
                _ => None,
            },
        })
    }

    /// Changes what the programs go by, entry by entry; what stays the same is not touched. First what is new is added: what
    /// the rules before and these list is dropped all the while.
    pub fn set_rules(&mut self, rules: &Rules) -> Result<()> {
        let of_family = |prefixes: &BTreeSet<Prefix>| {
            let (v4, v6) = prefixes.iter().partition(|(address, _)| address.is_ipv4());
            [v4, v6]
        };
        let wanted = [of_family(&rules.destinations), of_family(&rules.sources)];
        let maps = [&mut self.maps.destinations, &mut self.maps.sources];
        let mut both: Vec<(&mut Prefixes, BTreeSet<Prefix>)> =
            maps.into_iter().zip(wanted).flat_map(|(maps, wanted)| maps.iter_mut().zip(wanted)).collect();
        both.iter_mut().try_for_each(|(map, wanted)| map.add(wanted))?;
        let (tunnel, tunnel_port) = match rules.tunnel {
            Some(Tunnel::Vxlan(port)) => (abi::VXLAN, port),
            Some(Tunnel::Geneve(port)) => (abi::GENEVE, port),
            None => (0, 0),
        };
        let settings = self.maps.settings.get(0).unwrap_or_default();
        self.maps.settings.set(0, &Settings { mark: rules.mark, tunnel, tunnel_port, ..settings });
        both.iter_mut().try_for_each(|(map, wanted)| map.keep(wanted))
    }

    /// What was counted since the maps were made.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.maps.counts.all().fold(Counts::default(), Counts::plus)
    }

    /// Runs the program of a side once on an Ethernet frame with a firewall mark.
    pub fn run(&self, side: Side, frame: &[u8], mark: u32) -> Result<Verdict> {
        const SHOT: u32 = 2;
        let run = sys::skb_run_marked(self.program(side), frame, mark);
        let (verdict, _) = run.map_err(|error| Error::kernel("test run", "tc_strict", error))?;
        Ok(if verdict == SHOT { Verdict::Drop } else { Verdict::Pass })
    }

    /// Puts the programs on a device, before those that are there: first what leaves is looked at. Where older ones are,
    /// these take their places.
    pub fn attach(&self, device: &str, ifindex: u32) -> std::result::Result<(), LinkError> {
        for side in [Side::Egress, Side::Ingress] {
            let root = tc::side_root(self.generation.root(), side);
            tc::attach(&root, device, Place { ifindex, side }, Order::First, self.program(side))?;
        }
        Ok(())
    }

    /// Has every device that runs older ones run these.
    pub fn replace_older(&self) -> std::result::Result<(), LinkError> {
        let others = tc::running_others(self.generation.root(), |side| self.program_id(side))?;
        others.iter().try_for_each(|(device, ifindex)| self.attach(device, *ifindex))
    }

    /// Takes the programs off a device. That they are not there is success.
    pub fn detach(root: &Path, device: &str) -> Result<()> {
        [Side::Ingress, Side::Egress]
            .into_iter()
            .try_for_each(|side| links::detach(&tc::side_root(root, side), device))
    }

    /// The devices with links under a folder, and on each side which program is there.
    pub fn attached(root: &Path) -> Result<BTreeMap<(String, Side), LinkInfo>> {
        tc::attached(root)
    }

    /// The kernel's number for the program of a side: what links name.
    pub fn program_id(&self, side: Side) -> Result<u32> {
        generations::program_id(self.program(side), "tc_strict")
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
            Side::Ingress => self.coming.as_fd(),
            Side::Egress => self.leaving.as_fd(),
        }
    }
}

fn make(folder: &Path, before: Option<&Strict>) -> Result<(OwnedFd, OwnedFd, Maps)> {
    let mut shared = Vec::new();
    if let Some(before) = before {
        let counts = open_pin(&before.generation.folder().join(COUNTS))?;
        let path = folder.join(COUNTS);
        pin(counts.as_fd(), &path)?;
        shared.push((COUNTS, path));
    }
    let LoadedStrict { leaving, coming, maps } = loader::strict(possible_cpus()?, &shared)?;
    let own = MAPS.into_iter().filter(|name| shared.iter().all(|(shared, _)| shared != name));
    pin_maps(folder, own, &maps)?;
    pin(coming.as_fd(), &folder.join(IN))?;
    let mut maps = Maps::pinned(folder)?;
    let program_digest = loader::strict_digest();
    maps.settings.set(0, &Settings { abi_version: ABI_VERSION, program_digest, ..Settings::default() });
    Ok((leaving, coming, maps))
}

impl Maps {
    fn pinned(folder: &Path) -> Result<Self> {
        let prefixes = |name| Ok(Prefixes::new(hash(folder, name)?, name));
        Ok(Self {
            destinations: [prefixes("out_v4")?, prefixes("out_v6")?],
            sources: [prefixes("in_v4")?, prefixes("in_v6")?],
            settings: mapped(folder, "settings")?,
            counts: mapped(folder, COUNTS)?,
        })
    }
}
