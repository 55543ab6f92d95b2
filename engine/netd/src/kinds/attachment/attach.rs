//! Attaches a program in the driver, and where that cannot be in the network stack, if that is allowed.

use super::Mode;
use crate::kinds::service::sentence;
use netd_bpf::links::{self, LinkError};
use netd_core::Outcome;

/// What is found where another program is.
const ANOTHER: &str = "another XDP program";

/// Attaches as the mode says; automatic falls back to the network stack, with a warning.
///
/// # Errors
///
/// What `attach` says of something else than the device.
pub(crate) fn attach(
    device: &str,
    mode: Mode,
    attach: impl Fn(links::Mode) -> Result<Result<(), LinkError>, Outcome>,
) -> Result<Outcome, Outcome> {
    let (first, fallback) = match mode {
        Mode::Auto | Mode::Unknown => (links::Mode::Native, Some(links::Mode::Generic)),
        Mode::Native => (links::Mode::Native, None),
        Mode::Generic => (links::Mode::Generic, None),
    };
    let result = match (attach(first)?, fallback) {
        (Err(error @ (LinkError::NotSupported { .. } | LinkError::MtuTooLarge(_))), Some(mode)) => {
            tracing::warn!(
                device,
                reason = %sentence(&error),
                "native XDP is not possible; falling back to generic mode, which is slow"
            );
            attach(mode)?
        }
        (result, _) => result,
    };
    match result {
        Ok(()) => Ok(Outcome::Applied),
        Err(LinkError::Busy(_)) => Ok(Outcome::Conflict(ANOTHER.into())),
        Err(error) => Ok(Outcome::Failed(sentence(&error))),
    }
}
