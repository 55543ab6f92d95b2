//! A frontend of the maps, opened for those who explain it.

use super::layout;
use super::paths::HeldPaths;
use super::spec::ServiceSpec;
use super::target::held;
use crate::facts::Facts;
use netd_bpf::Maps;
use netd_bpf::abi::{Frontend, FrontendKey, IN_USE};
use std::net::SocketAddr;

/// What a frontend means, and what its ring names.
#[derive(Clone, Debug)]
pub struct HeldFrontend {
    /// What it means, but for its sources.
    pub spec: ServiceSpec,
    ring: Vec<u16>,
    /// Where each line of its block sends packets.
    lines: Vec<Option<SocketAddr>>,
}

impl HeldFrontend {
    /// The backend that the ring names in a slot.
    #[must_use]
    pub fn backend_of(&self, slot: u32) -> Option<SocketAddr> {
        self.backend_at(u32::from(*self.ring.get(usize::try_from(slot).ok()?)?))
    }

    /// The backend of a line of its block.
    #[must_use]
    pub fn backend_at(&self, line: u32) -> Option<SocketAddr> {
        self.lines.get(usize::try_from(line).ok()?).copied().flatten()
    }
}

/// Opens a frontend; `None` if it is damaged, or of a protocol that netd does not know.
#[must_use]
pub fn held_frontend(
    maps: &dyn Maps,
    facts: &Facts,
    key: &FrontendKey,
    frontend: &Frontend,
) -> Option<HeldFrontend> {
    let held = held(maps, key, frontend)?;
    let service = maps.service_name(frontend.service).ok()?;
    let spec = layout::spec(key, &held, service, &mut HeldPaths::new(facts))?;
    let socket =
        |line: &netd_bpf::abi::Backend| (line.flags & IN_USE != 0).then(|| layout::socket(line, key));
    let lines = held.lines.iter().map(socket).collect();
    Some(HeldFrontend { spec, ring: held.ring, lines })
}
