//! Keeps the kernel's side of tunnel probes: a number and a mark for each way, the headers, the devices.

use super::check::Check;
use super::way::{TunnelWay, Way};
use crate::kinds::service::sentence;
use netd_bpf::probe_tunnel::{self, Outer, ProbeTunnel};
use std::collections::{BTreeMap, BTreeSet};

/// What the kernel is told; the program itself, or a fake in tests.
pub trait Kernel: Send {
    /// Sets the outer headers of a path.
    ///
    /// # Errors
    ///
    /// A sentence.
    fn set(&mut self, path: u16, outer: &Outer) -> Result<(), String>;

    /// Forgets a path.
    ///
    /// # Errors
    ///
    /// A sentence.
    fn remove(&mut self, path: u16) -> Result<(), String>;

    /// Catches probes on these devices, by interface index, and on no others.
    ///
    /// # Errors
    ///
    /// The devices on which it could not be done, and why.
    fn catch_on(&mut self, devices: &BTreeMap<u32, String>) -> BTreeMap<u32, String>;
}

/// The numbers of the paths in use.
pub struct Tunnels {
    kernel: Option<Box<dyn Kernel>>,
    load: Box<dyn Fn() -> Result<Box<dyn Kernel>, String> + Send>,
    paths: BTreeMap<Check, (u16, Outer)>,
    /// The numbers of `paths`.
    taken: BTreeSet<u16>,
    /// Where the search for a free number begins: a number is not used again soon, so that a late packet of a check
    /// that is gone does not go to another's backend.
    next: u16,
}

impl Tunnels {
    /// Without a path; `load` brings the program into the kernel when there is one.
    #[must_use]
    pub fn new(load: impl Fn() -> Result<Box<dyn Kernel>, String> + Send + 'static) -> Self {
        Self { kernel: None, load: Box::new(load), paths: BTreeMap::new(), taken: BTreeSet::new(), next: 0 }
    }

    /// Makes the kernel's side as the ways want it. Says for each check through the tunnel which mark its packets have
    /// to carry, or why there is no tunnel for it.
    pub fn arrange(&mut self, ways: &BTreeMap<Check, Way>) -> BTreeMap<Check, Result<u32, String>> {
        let wanted: BTreeMap<&Check, &TunnelWay> = ways
            .iter()
            .filter_map(|(check, way)| match way {
                Way::Tunnel(tunnel) => Some((check, tunnel)),
                Way::Direct(_) | Way::None(_) => None,
            })
            .collect();
        if wanted.is_empty() && self.paths.is_empty() {
            self.kernel = None;
            return BTreeMap::new();
        }
        if self.kernel.is_none() {
            match (self.load)() {
                Ok(kernel) => self.kernel = Some(kernel),
                Err(why) => {
                    return wanted.into_keys().map(|check| (check.clone(), Err(why.clone()))).collect();
                }
            }
        }
        let devices = wanted.values().map(|way| (way.ifindex, way.device.clone())).collect();
        let failed = match &mut self.kernel {
            Some(kernel) => kernel.catch_on(&devices),
            None => BTreeMap::new(),
        };
        self.forget_all_but(&wanted.keys().copied().collect());
        let mut marks = BTreeMap::new();
        for (check, way) in wanted {
            let mark = match failed.get(&way.ifindex) {
                Some(why) => Err(why.clone()),
                None => self.path(check, &way.outer).map(probe_tunnel::mark),
            };
            marks.insert(check.clone(), mark);
        }
        marks
    }

    fn forget_all_but(&mut self, wanted: &BTreeSet<&Check>) {
        let Some(kernel) = &mut self.kernel else { return };
        self.paths.retain(|check, (path, _)| {
            // One that cannot be removed stays ours, and is tried again.
            let stays = wanted.contains(check) || kernel.remove(*path).is_err();
            if !stays {
                self.taken.remove(path);
            }
            stays
        });
    }

    /// The number of the path, set to these headers.
    fn path(&mut self, check: &Check, outer: &Outer) -> Result<u16, String> {
        let Some(kernel) = &mut self.kernel else { return Err("there is no tunnel".into()) };
        let path = match self.paths.get(check) {
            Some((path, known)) if known == outer => return Ok(*path),
            Some((path, _)) => *path,
            None => {
                let mut candidates = (self.next..=u16::MAX).chain(0..self.next);
                let free = candidates.find(|path| !self.taken.contains(path));
                free.ok_or("all 65,536 paths are in use")?
            }
        };
        kernel.set(path, outer)?;
        if self.taken.insert(path) {
            self.next = path.wrapping_add(1);
        }
        self.paths.insert(check.clone(), (path, outer.clone()));
        Ok(path)
    }
}

/// Brings the program into the kernel.
///
/// # Errors
///
/// A sentence.
pub fn load() -> Result<Box<dyn Kernel>, String> {
    match ProbeTunnel::load() {
        Ok(tunnel) => Ok(Box::new(tunnel)),
        Err(error) => Err(sentence(&error)),
    }
}

impl Kernel for ProbeTunnel {
    fn set(&mut self, path: u16, outer: &Outer) -> Result<(), String> {
        Self::set(self, path, outer).map_err(|error| sentence(&error))
    }

    fn remove(&mut self, path: u16) -> Result<(), String> {
        Self::remove(self, path).map_err(|error| sentence(&error))
    }

    fn catch_on(&mut self, devices: &BTreeMap<u32, String>) -> BTreeMap<u32, String> {
        let mut failed = BTreeMap::new();
        for (&ifindex, device) in devices {
            if let Err(error) = self.attach(device, ifindex) {
                failed.insert(ifindex, sentence(&error));
            }
        }
        let unused: Vec<u32> = self.devices().filter(|ifindex| !devices.contains_key(ifindex)).collect();
        for ifindex in unused {
            if let Err(error) = self.detach(ifindex) {
                tracing::warn!(ifindex, %error, "the program for probes could not be taken off a device");
            }
        }
        failed
    }
}

#[cfg(test)]
#[path = "tunnels_tests.rs"]
mod tests;
