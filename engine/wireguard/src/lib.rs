//! WireGuard as netd sees it: devices and peers in plain types, read and changed over the kernel's generic netlink or over
//! the socket of a program; keys and the files they are in; and the program as a child that outlives netd.
//!
//! Keys are shown by their [`Fingerprint`] only. Private keys leave this crate for a device and for nothing else: what a
//! kernel or a program says about a device contains them, and they are dropped where it is read.

mod access;
mod child;
mod device;
mod error;
mod kernel;
mod key;
mod key_file;
mod peers;
mod userspace;

pub use access::Access;
pub use child::{ChildError, Program};
pub use device::{Change, Device, Peer, PeerChange, Presence, Settings};
pub use error::Error;
pub use kernel::Kernel;
pub use key::{BadKey, Fingerprint, PresharedKey, PrivateKey, PublicKey};
pub use key_file::{KeyFileError, create, read, read_preshared};
pub use peers::{PeerConfig, Wanted, changes};
pub use userspace::Userspace;
