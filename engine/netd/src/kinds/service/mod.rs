//! Load-balanced services, one resource for each frontend: a VIP, a port and a protocol.
//!
//! Key: `192.0.2.10:80/tcp`. Mark of ownership: everything in the maps that are pinned under netd's own directory.
//! An update costs no packet: the new backends and the new ring are written beside the old ones, then one map entry
//! is replaced. Flows whose slot moves are kept on their backend, see `rings.rs`.

mod again;
mod counters;
mod kept;
mod layout;
pub mod maglev;
mod names;
mod opened;
mod paths;
mod policy;
mod rings;
mod room;
mod round;
mod shift;
mod sight;
mod sources;
mod space;
mod spec;
pub mod tables;
mod target;
mod tend;

pub use again::again;
pub use counters::{BackendTraffic, ServiceTraffic, traffic};
pub use kept::{KeptFlows, kept_flows};
pub(crate) use names::Names;
pub use opened::{HeldFrontend, held_frontend};
pub use policy::Policy;
pub(crate) use room::{smallest as smallest_capacity, with_room_for};
pub use spec::{BackendPath, BackendSpec, ServiceSpec, state_word};
pub use target::ServiceTarget;
pub(crate) use target::sentence;

use crate::facts::{Facts, PathError};
use crate::health::{InForce, in_force};
use netd_core::{DesiredKind, Key, KindName};
use netd_schema::{Backend, Config, Port, Service};
use paths::Paths;
use std::net::IpAddr;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "service";

/// The frontends that the file asks for, with the way to each of their backends.
///
/// # Errors
///
/// None today: a backend without a path is a note on its frontend, not a reason to do nothing.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let mut paths = Paths::new(config, facts);
    for service in &config.services {
        lower(&mut desired, (config, service), facts, &mut paths);
    }
    Ok(desired)
}

/// Adds the frontends of a service.
fn lower(
    desired: &mut DesiredKind,
    (config, service): (&Config, &Service),
    facts: &Facts,
    paths: &mut Paths<'_>,
) {
    let asked = Asked { config, service, policy: Policy::of(service).shared() };
    for &vip in &service.vips {
        let in_force = in_force(service, vip, &facts.health);
        for port in &service.ports {
            let (spec, problems) = frontend(&asked, (vip, port), &in_force, paths);
            let key = spec.key();
            if let Some(note) = note(&problems.notes) {
                desired.notes.insert(key.clone(), note);
            }
            if problems.is_coming {
                desired.coming.insert(key.clone());
            }
            desired.table.insert(key, Arc::new(spec));
        }
    }
}

/// How many backends without a path are named in a note.
const NAMED_IN_NOTE_MAX: usize = 3;

fn note(problems: &[String]) -> Option<String> {
    let named = problems.iter().take(NAMED_IN_NOTE_MAX).cloned().collect::<Vec<_>>().join("; ");
    match problems.len() {
        0 => None,
        count if count > NAMED_IN_NOTE_MAX => {
            Some(format!("{named}; and {} more", count - NAMED_IN_NOTE_MAX))
        }
        _ => Some(named),
    }
}

/// What is to be said about a frontend.
struct Problems {
    notes: Vec<String>,
    /// Whether one of them may end by itself within moments.
    is_coming: bool,
}

/// What the frontends of a service have in common.
struct Asked<'a> {
    config: &'a Config,
    service: &'a Service,
    policy: Arc<Policy>,
}

fn frontend(
    Asked { config, service, policy }: &Asked<'_>,
    (vip, port): (IpAddr, &Port),
    in_force: &InForce,
    paths: &mut Paths,
) -> (ServiceSpec, Problems) {
    let mut problems = Problems { notes: in_force.notes.clone(), is_coming: false };
    let mut backends: Vec<BackendSpec> = service
        .backends_of(vip)
        .map(|backend| {
            let path = paths.to(backend.address);
            if let Err(why) = &path {
                problems.notes.push(format!("backend {} has no path: {why}", backend.address));
                // A neighbour that is asked answers within milliseconds; a new IPv6 address is checked first.
                problems.is_coming |= matches!(why, PathError::Unresolved { .. } | PathError::NoSource(_));
            }
            BackendSpec { state: in_force.state_of(backend), ..backend_spec(backend, port, path.ok()) }
        })
        .collect();
    backends.sort_by_key(|backend| (backend.address, backend.port));
    // All backends count, drained ones too: draining one must not change the size, which moves most flows.
    let size = service.table_size.unwrap_or(config.load_balancer.table_size);
    let table_size = maglev::table_size(size, backends.len());
    let spec = ServiceSpec {
        service: service.name.clone(),
        vip,
        port: port.port,
        protocol: port.protocol,
        table_size,
        hash_seed: config.load_balancer.hash_seed,
        policy: Arc::clone(policy),
        backends,
        intact: true,
    };
    (spec, problems)
}

fn backend_spec(backend: &Backend, port: &Port, path: Option<Arc<BackendPath>>) -> BackendSpec {
    BackendSpec {
        address: backend.address,
        port: backend.port.or(port.backend_port).unwrap_or(port.port),
        weight: backend.weight,
        state: backend.state,
        path,
    }
}

impl ServiceSpec {
    /// The name among services.
    #[must_use]
    pub fn key(&self) -> Key {
        frontend_key(self.vip, self.port, self.protocol)
    }
}

/// The key of the frontend with this address, port and protocol.
#[must_use]
pub fn frontend_key(vip: IpAddr, port: u16, protocol: netd_schema::Protocol) -> Key {
    Key::new(format!("{}/{}", std::net::SocketAddr::new(vip, port), protocol.name()))
}

#[cfg(test)]
#[path = "lowering_tests.rs"]
mod tests;
