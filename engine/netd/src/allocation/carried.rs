//! Which VIPs services have where nothing is remembered: those that the datapath serves.

use super::Held;
use crate::kinds::service::{self, ServiceSpec};
use netd_core::{Observed, Reading};

/// What the frontends in the datapath say.
///
/// # Errors
///
/// Why they could not be read: what services have is then not known, which is not nothing.
pub fn carried(observed: &Observed) -> Result<Held, String> {
    let mut held = Held::new();
    match observed.0.get(service::NAME) {
        Some(Reading::Known(found)) => {
            for spec in found.owned.values() {
                let Some(frontend) = spec.as_any().downcast_ref::<ServiceSpec>() else { continue };
                held.entry(frontend.service.clone()).or_default().insert(frontend.vip);
            }
            Ok(held)
        }
        Some(Reading::Unknown(why)) => Err(why.clone()),
        None => Ok(held),
    }
}
