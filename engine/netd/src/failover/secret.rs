//! The nodes' common secret: a key of HMAC-SHA256, shown by nothing.

use crate::kinds::bgp_peer::read_password;
use ring::hmac;
use std::error::Error as _;
use std::path::Path;

/// With fewer bytes it can be guessed.
const BYTES_MIN: usize = 16;

/// Reads it.
///
/// # Errors
///
/// A sentence that names the file.
pub(super) fn read(path: &Path) -> Result<hmac::Key, String> {
    let secret = read_password(path).map_err(|error| match error.source() {
        Some(why) => format!("{error}: {why}"),
        None => error.to_string(),
    })?;
    let bytes = secret.reveal().as_bytes();
    if bytes.len() < BYTES_MIN {
        return Err(format!("the key file {} holds fewer than {BYTES_MIN} bytes", path.display()));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, bytes))
}
