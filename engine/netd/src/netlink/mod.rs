//! The ways to the kernel's network configuration.
//!
//! [`Connection`] is rtnetlink's and is what everything uses: links, addresses, neighbours, announcements. [`Channel`]
//! is for routes alone, of which there may be hundreds of thousands; [`Netfilter`] is for tables of nftables;
//! [`DriverFeatures`] is for what drivers can do.

mod bulk;
mod connection;
mod generic;
mod message;
mod netfilter;
mod sieve;

pub use bulk::Channel;
pub use connection::{Connection, Payload};
pub use generic::DriverFeatures;
pub(crate) use message::attributes;
pub use netfilter::{Attributes, Netfilter, NfRequest};

use netlink_packet_route::RouteNetlinkMessage;
use rustix::io::Errno;
use std::io;
use std::time::Duration;

/// `rtm_protocol` and `NDA_PROTOCOL` of everything that netd makes.
pub const PROTOCOL: u8 = 177;

/// The kernel answers at once; a socket that stays silent this long is broken.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How often a dump is started again because the table changed under it.
const DUMP_ATTEMPTS: u32 = 10;

/// Pause before a dump is started again, times the number of the attempt.
const DUMP_PAUSE: Duration = Duration::from_millis(2);

/// A change to send: the message and its `NLM_F_*` flags, `NLM_F_REQUEST` aside.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub message: RouteNetlinkMessage,
    /// `NLM_F_CREATE` and so on.
    pub flags: u16,
}

/// What the kernel said to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// It was refused.
    Refused(Errno),
    /// Nobody knows: the answer was lost. Looking again tells.
    Lost(Errno),
}

/// What is said of a table that cannot be read whole.
fn kept_changing() -> io::Error {
    io::Error::new(
        io::ErrorKind::Interrupted,
        format!("the table changed during each of {DUMP_ATTEMPTS} attempts to read it"),
    )
}
