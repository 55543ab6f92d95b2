//! The embedded objects, and getting them into the kernel.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use aya::maps::Map;
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError};

use crate::abi::{EntryV4, EntryV6, Settings};
use crate::entries::{buckets_for, shift_for};
use crate::error::{Error, Result};
use crate::kernel::loader;
use crate::maps::Capacity;
use crate::nat::Size;

pub(crate) static LOAD_BALANCER: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xdp_lb.o"));
static RECORDED: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xdp_lb_recorded.o"));
static DECAP: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xdp_decap.o"));
static NAT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tc_nat.o"));
static OVERLAY: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tc_overlay.o"));
static STRICT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tc_strict.o"));
static PASS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xdp_pass.o"));

/// A program with its maps, loaded, pinned nowhere yet.
pub(crate) struct Loaded {
    pub program: OwnedFd,
    pub maps: BTreeMap<String, OwnedFd>,
}

/// A digest of the load balancer that is embedded in this binary, to compare with that of a loaded one.
#[must_use]
pub fn embedded_digest() -> u64 {
    xxhash_rust::xxh3::xxh3_64(LOAD_BALANCER)
}

/// Loads the load balancer with maps of the given sizes, for `ncpu` CPUs; of `pinned`, by name and path, it uses the maps
/// that are there.
pub(crate) fn load_balancer(
    capacity: &Capacity,
    settings: &Settings,
    ncpu: u32,
    pinned: &[(&str, PathBuf)],
) -> Result<Loaded> {
    let mut object = balancer(LOAD_BALANCER, capacity, settings, ncpu, pinned, &[])?;
    let program = xdp(&mut object, "xdp_lb")?;
    Ok(Loaded { program, maps: maps(&object)? })
}

/// Loads the load balancer with the recorder; all maps are used that are pinned, and the others are pinned where
/// `pinned` says.
pub(crate) fn recorded_balancer(
    capacity: &Capacity,
    settings: &Settings,
    ncpu: u32,
    pinned: &[(&str, PathBuf)],
    sizes: &[(&'static str, u32)],
) -> Result<OwnedFd> {
    let mut object = balancer(RECORDED, capacity, settings, ncpu, pinned, sizes)?;
    xdp(&mut object, "xdp_lb")
}

fn balancer(
    image: &[u8],
    capacity: &Capacity,
    settings: &Settings,
    ncpu: u32,
    pinned: &[(&str, PathBuf)],
    sizes: &[(&'static str, u32)],
) -> Result<Ebpf> {
    let rows = ncpu.saturating_add(1);
    let counters = capacity.counters.max(1).saturating_mul(rows);
    let (v4, v6) =
        (buckets_for::<EntryV4>(capacity.frontends_v4), buckets_for::<EntryV6>(capacity.frontends_v6));
    // As many lines as entries: twice as many as keys.
    let lines = v4.saturating_mul(EntryV4::PER_BUCKET).saturating_add(v6.saturating_mul(EntryV6::PER_BUCKET));
    let (shift_v4, shift_v6, mask_v4, mask_v6) = (shift_for(v4), shift_for(v6), v4 - 1, v6 - 1);
    let mut loader = loader()?;
    loader
        .override_global("counter_stride", &capacity.counters, true)
        .override_global("service_stride", &capacity.services, true)
        .override_global("hash_shift_v4", &shift_v4, true)
        .override_global("hash_shift_v6", &shift_v6, true)
        .override_global("bucket_mask_v4", &mask_v4, true)
        .override_global("bucket_mask_v6", &mask_v6, true)
        .override_global("settings", bytemuck::bytes_of(settings), true)
        .map_max_entries("buckets_v4", v4)
        .map_max_entries("buckets_v6", v6)
        .map_max_entries("frontends", lines)
        .map_max_entries("rings", capacity.ring_lines.max(1))
        .map_max_entries("backends", capacity.backend_lines.max(1))
        .map_max_entries("counters", counters)
        .map_max_entries("new_flows", counters)
        .map_max_entries("service_counters", capacity.services.max(1).saturating_mul(rows))
        .map_max_entries("service_names", capacity.services.max(1))
        .map_max_entries("flows", capacity.flows.max(1))
        .map_max_entries("fragments", capacity.fragments.max(1))
        .map_max_entries("sources", capacity.sources.max(1))
        .map_max_entries("pools", capacity.pools.max(1))
        .map_max_entries("limits", ncpu);
    for (name, size) in sizes {
        loader.map_max_entries(name, *size);
    }
    for (name, path) in pinned {
        loader.map_pin_path(name, path.as_path());
    }
    loader.load(image).map_err(|error| not_loaded("xdp_lb", error))
}

/// A digest of the decapsulating program that is embedded in this binary.
pub(crate) fn decap_digest() -> u64 {
    xxhash_rust::xxh3::xxh3_64(DECAP)
}

/// Loads the program that strips outer headers, for `ncpu` CPUs.
pub(crate) fn decap(ncpu: u32) -> Result<Loaded> {
    let mut loader = loader()?;
    loader.map_max_entries("counts", ncpu);
    let mut object = loader.load(DECAP).map_err(|error| not_loaded("xdp_decap", error))?;
    let program = xdp(&mut object, "xdp_decap")?;
    Ok(Loaded { program, maps: maps(&object)? })
}

/// A digest of the translating programs that are embedded in this binary.
pub(crate) fn nat_digest() -> u64 {
    xxhash_rust::xxh3::xxh3_64(NAT)
}

/// The translating programs with their maps: what leaves, and what comes in.
pub(crate) struct LoadedNat {
    pub egress: OwnedFd,
    pub ingress: OwnedFd,
    pub maps: BTreeMap<String, OwnedFd>,
}

/// Loads the translating programs with maps of the given sizes, for `ncpu` CPUs; of `pinned`, by name and path, they use
/// the maps that are there.
pub(crate) fn nat(size: Size, ncpu: u32, pinned: &[(&str, PathBuf)]) -> Result<LoadedNat> {
    let mut loader = loader()?;
    let has_egress = u32::from(size.has_egress);
    loader
        .override_global("has_egress", &has_egress, true)
        .map_max_entries("mappings", size.flows.max(1))
        .map_max_entries("turns", size.flows.max(1))
        .map_max_entries("moved", size.flows.max(1))
        .map_max_entries("direct", size.direct.max(1))
        .map_max_entries("nat_fragments", size.fragments.max(1))
        .map_max_entries("counts", ncpu);
    for (name, path) in pinned {
        loader.map_pin_path(name, path.as_path());
    }
    let mut object = loader.load(NAT).map_err(|error| not_loaded("tc_nat", error))?;
    let egress = classifier(&mut object, "nat_egress")?;
    let ingress = classifier(&mut object, "nat_ingress")?;
    Ok(LoadedNat { egress, ingress, maps: maps(&object)? })
}

/// A digest of the overlay's programs that are embedded in this binary.
pub(crate) fn overlay_digest() -> u64 {
    xxhash_rust::xxh3::xxh3_64(OVERLAY)
}

/// The overlay's programs with their maps: for what comes in by the tunnel, and for what comes from pods.
pub(crate) struct LoadedOverlay {
    pub receive: OwnedFd,
    pub send: OwnedFd,
    pub maps: BTreeMap<String, OwnedFd>,
}

/// Loads the overlay's programs, for `ncpu` CPUs.
pub(crate) fn overlay(ncpu: u32) -> Result<LoadedOverlay> {
    let mut loader = loader()?;
    loader.map_max_entries("counts", ncpu);
    let mut object = loader.load(OVERLAY).map_err(|error| not_loaded("tc_overlay", error))?;
    let receive = classifier(&mut object, "overlay_receive")?;
    let send = classifier(&mut object, "overlay_send")?;
    Ok(LoadedOverlay { receive, send, maps: maps(&object)? })
}

/// A digest of the programs of strict mode that are embedded in this binary.
pub(crate) fn strict_digest() -> u64 {
    xxhash_rust::xxh3::xxh3_64(STRICT)
}

/// The programs of strict mode with their maps: for what leaves, and for what comes in.
pub(crate) struct LoadedStrict {
    pub leaving: OwnedFd,
    pub coming: OwnedFd,
    pub maps: BTreeMap<String, OwnedFd>,
}

/// Loads the programs of strict mode, for `ncpu` CPUs; of `pinned`, by name and path, they use the maps that are there.
pub(crate) fn strict(ncpu: u32, pinned: &[(&str, PathBuf)]) -> Result<LoadedStrict> {
    let mut loader = loader()?;
    loader.map_max_entries("counts", ncpu);
    for (name, path) in pinned {
        loader.map_pin_path(name, path.as_path());
    }
    let mut object = loader.load(STRICT).map_err(|error| not_loaded("tc_strict", error))?;
    let leaving = classifier(&mut object, "strict_out")?;
    let coming = classifier(&mut object, "strict_in")?;
    Ok(LoadedStrict { leaving, coming, maps: maps(&object)? })
}

/// Loads the program that lets everything pass.
pub(crate) fn pass() -> Result<OwnedFd> {
    let mut object = loader()?.load(PASS).map_err(|error| not_loaded("xdp_pass", error))?;
    xdp(&mut object, "xdp_pass")
}

fn maps(object: &Ebpf) -> Result<BTreeMap<String, OwnedFd>> {
    let mut maps = BTreeMap::new();
    for (name, map) in object.maps() {
        let (Map::Array(data)
        | Map::LpmTrie(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::Queue(data)) = map
        else {
            continue;
        };
        let fd = data.fd().as_fd().try_clone_to_owned();
        maps.insert(name.to_owned(), fd.map_err(|error| Error::kernel("duplicate", name, error))?);
    }
    Ok(maps)
}

fn classifier(object: &mut Ebpf, name: &'static str) -> Result<OwnedFd> {
    let rejected = |error: ProgramError| not_loaded(name, error.into());
    let program: &mut SchedClassifier =
        object.program_mut(name).ok_or_else(|| absent(name))?.try_into().map_err(rejected)?;
    program.load().map_err(rejected)?;
    let fd = program.fd().map_err(rejected)?.as_fd().try_clone_to_owned();
    fd.map_err(|error| Error::kernel("duplicate", name, error))
}

fn xdp(object: &mut Ebpf, name: &'static str) -> Result<OwnedFd> {
    let rejected = |error: ProgramError| not_loaded(name, error.into());
    let program: &mut Xdp =
        object.program_mut(name).ok_or_else(|| absent(name))?.try_into().map_err(rejected)?;
    program.load().map_err(rejected)?;
    let fd = program.fd().map_err(rejected)?.as_fd().try_clone_to_owned();
    fd.map_err(|error| Error::kernel("duplicate", name, error))
}

fn absent(program: &'static str) -> Error {
    Error::Rejected { program, reason: "it is not in the object".into(), log: String::new() }
}

/// Sorts a loader's error: what the kernel refused for want of privilege or memory, and what it did not like.
pub(crate) fn not_loaded(program: &'static str, error: EbpfError) -> Error {
    if let EbpfError::ProgramError(ProgramError::LoadError { io_error, verifier_log }) = &error {
        // A verifier that has something to say answers EACCES, too.
        let log = verifier_log.to_string();
        if io_error.raw_os_error() == Some(libc::EPERM) && log.trim().is_empty() {
            return Error::NoPermission { call: "load", object: program.into() };
        }
        return Error::Rejected { program, reason: io_error.to_string(), log };
    }
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        if let Some(io_error) = error.downcast_ref::<std::io::Error>()
            && io_error.raw_os_error() == Some(libc::EPERM)
        {
            return Error::NoPermission { call: "load", object: program.into() };
        }
        // Some of them end with their cause already.
        let said = error.to_string();
        if !reason.ends_with(&said) {
            reason = format!("{reason}: {said}");
        }
        cause = error.source();
    }
    Error::Rejected { program, reason, log: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya::maps::MapError;
    use std::io;

    #[test]
    fn a_refusal_names_each_cause_once() {
        let io_error = io::Error::from_raw_os_error(libc::ENOMEM);
        let error = MapError::CreateError { name: "rings".into(), io_error };
        let said = not_loaded("xdp_lb", EbpfError::MapError(error)).to_string();
        assert_eq!(said.matches("failed to create map").count(), 1, "{said}");
        assert!(said.ends_with(": Cannot allocate memory (os error 12)"), "{said}");
    }
}
