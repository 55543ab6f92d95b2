//! Keys: public ones are shown by a fingerprint, the others not at all.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use std::fmt;
use zeroize::{Zeroize as _, Zeroizing};

const KEY_BYTES: usize = 32;

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

/// What stands for a public key where people read: the first 8 characters of the SHA-256 of its bytes, in base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 6]);

/// A private key; its memory is wiped.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<[u8; KEY_BYTES]>);

/// A secret of two peers; its memory is wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct PresharedKey(Zeroizing<[u8; KEY_BYTES]>);

/// A text that is no key; what it was is not said.
#[derive(Debug, thiserror::Error)]
#[error("not a key: 32 bytes in base64, 44 characters")]
pub struct BadKey;

impl PublicKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The key as configurations have it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// What stands for it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = Sha256::digest(self.0);
        let mut first = [0; 6];
        first.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Fingerprint(first)
    }

    /// A key that nobody has the private one of: addresses are parked with such a peer before it is removed.
    #[must_use]
    pub fn nobody() -> Self {
        Self(Sha256::digest(b"netd: the peer that nobody is").into())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PrivateKey {
    /// A new one, from the kernel's random numbers.
    #[must_use]
    pub fn generate() -> Self {
        Self(Zeroizing::new(x25519_dalek::StaticSecret::random().to_bytes()))
    }

    pub(crate) fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::x25519(*self.0, x25519_dalek::X25519_BASEPOINT_BYTES))
    }

    /// The key as its file has it.
    pub(crate) fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*self.0))
    }

    /// For a device.
    pub(crate) fn reveal(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl PresharedKey {
    /// That there is none.
    #[must_use]
    pub fn none() -> Self {
        Self(Zeroizing::new([0; KEY_BYTES]))
    }

    /// The key of these bytes; `None` if it says that there is none.
    pub(crate) fn from_bytes(bytes: [u8; KEY_BYTES]) -> Option<Self> {
        let key = Self(Zeroizing::new(bytes));
        (key != Self::none()).then_some(key)
    }

    /// For a device.
    pub(crate) fn reveal(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(…)")
    }
}

/// The 32 bytes of a key in base64.
pub(crate) fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, BadKey> {
    let mut bytes = STANDARD.decode(text).map_err(|_| BadKey)?;
    let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map(Zeroizing::new).map_err(|_| BadKey);
    bytes.zeroize();
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Alice's keys of RFC 7748, section 6.1.
    const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    #[test]
    fn the_public_key_of_a_private_one_is_that_of_the_rfc() {
        let private = PrivateKey(decode(PRIVATE).unwrap());
        assert_eq!(private.public().to_base64(), PUBLIC);
    }

    #[test]
    fn no_two_new_keys_are_the_same() {
        assert_ne!(PrivateKey::generate().public(), PrivateKey::generate().public());
    }

    #[test]
    fn w1_a_text_that_is_no_key_is_refused() {
        for text in ["", "c2hvcnQ=", &PRIVATE[1..], &format!("{PRIVATE}A"), &PRIVATE.replace('=', "")] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_shown_by_fingerprint_or_not_at_all() {
        let private = PrivateKey(decode(PRIVATE).unwrap());
        assert_eq!(format!("{private:?} {:?}", PresharedKey::none()), "PrivateKey(…) PresharedKey(…)");
        let fingerprint = private.public().fingerprint().to_string();
        assert_eq!(fingerprint.len(), 8);
        assert_eq!(format!("{:?}", private.public()), format!("PublicKey({fingerprint})"));
        assert!(!PUBLIC.contains(&fingerprint));
    }
}
