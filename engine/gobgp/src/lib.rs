//! GoBGP as netd sees it: a client of its API in plain types, and the daemon as a child that outlives netd.
//!
//! A [`Client`] is one connection to one life of a daemon. It never reconnects by itself: a daemon that was restarted
//! is empty, and whoever holds a client has to notice. Every call has a deadline; a daemon that hangs costs
//! [`CALL_MAX`] and no more.
//!
//! What is netd's in a daemon that others use, too, is told by the daemon alone:
//!
//! | what | mark |
//! |---|---|
//! | a peer | its description begins with `netd:` |
//! | a path | it was added by the API, and its path identifier is [`PATH_MARK`] |
//! | a policy, a statement, a defined set | its name begins with `netd:` |
//!
//! Everything else is listed as foreign at most, and never changed.

mod call;
pub mod child;
mod client;
mod endpoint;
mod error;
mod global;
mod path;
mod path_wire;
mod paths;
mod peer;
mod peer_wire;
mod peers;
mod policy;
mod watch;

pub use call::CALL_MAX;
pub use client::Client;
pub use endpoint::{Endpoint, Tls};
pub use error::Error;
pub use global::Global;
pub use path::{Announcement, Besides, Community, Family, LargeCommunity, Recipient, Recipients};
pub use path_wire::PATH_MARK;
pub use paths::{Announced, ReceivedRoute, Routes};
pub use peer::{
    GracefulRestart, Password, Peer, PeerConfig, Restarting, SessionState, Traffic, Ttl, UpdateEffect,
};
pub use watch::{Event, Watch};

/// What protox and tonic make of the files in `proto/`. Nothing of it leaves the crate.
#[allow(
    missing_docs,
    dead_code,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated, and of it a part is used"
)]
mod api {
    tonic::include_proto!("apipb");
}
