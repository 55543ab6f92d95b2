//! The backend's side: a program that takes packets out of the load balancer's tunnel, with what it goes by, pinned.
//!
//! Under one folder of a BPF file system lie `g<N>/<map>`, `g<N>/program` and `links/<device>`, as for the load
//! balancer. The maps hold nothing that the file and the node do not say, so that another version begins with new ones.

pub mod abi;
mod prefixes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub(crate) use prefixes::Prefixes;
pub use prefixes::{Prefix, Rules};

use self::abi::{ABI_VERSION, Counts, Settings};
use crate::datapath::{Verdict, run};
use crate::error::{Error, Result};
use crate::generations::{
    self, Generation, PROGRAM, check_version, hash, incompatible, mapped, open_pin, pin_maps, possible_cpus,
};
use crate::loader::{self, Loaded};
use crate::mmap::Mapped;
use crate::sys::Hash;

/// The maps that are pinned.
const MAPS: [&str; 5] = ["sources", "own", "taken", "settings", "counts"];

/// The port of GUE where nobody said another.
const GUE_PORT: u16 = 6080;

/// A program with its maps.
pub struct Decap {
    generation: Generation,
    program: OwnedFd,
    maps: Maps,
}

struct Maps {
    from: Prefixes,
    own: Prefixes,
    to: Prefixes,
    settings: Mapped<Settings>,
    counts: Mapped<Counts>,
}

impl Decap {
    /// Opens the program that is in force under a folder, if there is one; changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Incompatible`] when another version of netd made its maps in another way; [`Decap::prepare`] makes new
    /// ones beside them.
    pub fn open(root: &Path) -> Result<Option<Self>> {
        let Some(generation) = Generation::in_force(root)? else { return Ok(None) };
        let folder = generation.folder();
        let maps = Maps::pinned(&folder)?;
        let found = maps.settings.get(0).unwrap_or_default().abi_version;
        check_version(&folder, "settings", found, ABI_VERSION)?;
        let program = open_pin(&folder.join(PROGRAM))?;
        Ok(Some(Self { generation, program, maps }))
    }

    /// Loads the program, with maps in which nothing is allowed yet. It does not outlive this process until
    /// [`Decap::complete`].
    pub fn prepare(root: &Path) -> Result<Self> {
        let (generation, (program, maps)) = Generation::make(root, None, make)?;
        Ok(Self { generation, program, maps })
    }

    /// Lets the program be found by [`Decap::open`] from now on.
    pub fn complete(&mut self) -> Result<()> {
        self.generation.complete(self.program.as_fd())
    }

    /// Whether it is the program that this binary carries, and all its pins are there.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let is_embedded =
            self.maps.settings.get(0).is_some_and(|set| set.program_digest == loader::decap_digest());
        is_embedded && self.generation.has(MAPS)
    }

    /// The program, for attaching it.
    #[must_use]
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// The kernel's number for the program: what links name.
    pub fn program_id(&self) -> Result<u32> {
        generations::program_id(self.program.as_fd(), "xdp_decap")
    }

    /// What the program goes by.
    pub fn rules(&self) -> Result<Rules> {
        Ok(Rules {
            from: self.maps.from.all()?,
            own: self.maps.own.all()?,
            to: self.maps.to.all()?,
            gue_port: u16::from_be_bytes(self.maps.settings.get(0).unwrap_or_default().gue_port),
        })
    }

    /// Changes what the program goes by, entry by entry; what stays the same is not touched. Packets that the rules
    /// before and these allow are taken all the while.
    pub fn set_rules(&mut self, rules: &Rules) -> Result<()> {
        self.maps.set(rules)
    }

    /// What was counted since the program was loaded.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.maps.counts.all().fold(Counts::default(), Counts::plus)
    }

    /// Runs the program once on an Ethernet frame: what it says, and the frame as it left it.
    pub fn run(&self, frame: &[u8]) -> Result<(Verdict, Vec<u8>)> {
        run(self.program.as_fd(), frame)
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
}

/// Loads the program for laboratories: every tunnel is taken, whom it is from and to is not asked.
pub(crate) fn for_everything() -> Result<OwnedFd> {
    let Loaded { program, maps } = loader::decap(possible_cpus()?)?;
    let everything: BTreeSet<Prefix> =
        [(IpAddr::from(Ipv4Addr::UNSPECIFIED), 0), (IpAddr::from(Ipv6Addr::UNSPECIFIED), 0)].into();
    let rules =
        Rules { from: everything.clone(), own: everything.clone(), to: everything, gue_port: GUE_PORT };
    Maps::loaded(maps)?.set(&rules)?;
    Ok(program)
}

impl Maps {
    fn pinned(folder: &Path) -> Result<Self> {
        Ok(Self {
            from: Prefixes::new(hash(folder, "sources")?, "sources"),
            own: Prefixes::new(hash(folder, "own")?, "own"),
            to: Prefixes::new(hash(folder, "taken")?, "taken"),
            settings: mapped(folder, "settings")?,
            counts: mapped(folder, "counts")?,
        })
    }

    fn loaded(mut maps: BTreeMap<String, OwnedFd>) -> Result<Self> {
        let mut take = |name: &'static str| {
            maps.remove(name)
                .ok_or_else(|| incompatible(Path::new("xdp_decap"), name, "the object does not have it"))
        };
        let failed = |name: &'static str| move |error| Error::kernel("open", name, error);
        let mut prefixes =
            |name| Ok::<_, Error>(Prefixes::new(Hash::new(take(name)?).map_err(failed(name))?, name));
        let (from, own, to) = (prefixes("sources")?, prefixes("own")?, prefixes("taken")?);
        Ok(Self {
            from,
            own,
            to,
            settings: Mapped::new(take("settings")?.as_fd()).map_err(failed("settings"))?,
            counts: Mapped::new(take("counts")?.as_fd()).map_err(failed("counts"))?,
        })
    }

    fn set(&mut self, rules: &Rules) -> Result<()> {
        self.own.add(&rules.own)?;
        self.to.add(&rules.to)?;
        self.from.add(&rules.from)?;
        let mut settings = self.settings.get(0).unwrap_or_default();
        settings.gue_port = rules.gue_port.to_be_bytes();
        self.settings.set(0, &settings);
        self.from.keep(&rules.from)?;
        self.to.keep(&rules.to)?;
        self.own.keep(&rules.own)
    }
}

fn make(folder: &Path) -> Result<(OwnedFd, Maps)> {
    let Loaded { program, maps } = loader::decap(possible_cpus()?)?;
    pin_maps(folder, MAPS, &maps)?;
    let mut maps = Maps::pinned(folder)?;
    let program_digest = loader::decap_digest();
    maps.settings.set(0, &Settings { abi_version: ABI_VERSION, program_digest, ..Settings::default() });
    Ok((program, maps))
}
