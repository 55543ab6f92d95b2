//! A frontend of the maps, opened for those who explain it.

use super::layout;
use super::paths::HeldPaths;
use super::spec::ServiceSpec;
use super::target::held;
use crate::facts::Facts;
use netd_bpf::Maps;
use netd_bpf::abi::{Frontend, FrontendKey, IN_USE, SOURCES};
use std::net::SocketAddr;
use std::sync::Arc;

/// What a frontend means, and what its ring names.
#[derive(Clone, Debug)]
pub struct HeldFrontend {
    /// What it means.
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
    let mut spec = layout::spec(key, &held, service, &mut HeldPaths::new(facts))?;
    if frontend.flags & SOURCES != 0 {
        let all = maps.sources().ok()?;
        let own = all.iter().filter(|(key, _)| key.service == frontend.service);
        Arc::make_mut(&mut spec.policy).add_sources(own);
    }
    let socket =
        |line: &netd_bpf::abi::Backend| (line.flags & IN_USE != 0).then(|| layout::socket(line, key));
    let lines = held.lines.iter().map(socket).collect();
    Some(HeldFrontend { spec, ring: held.ring, lines })
}
