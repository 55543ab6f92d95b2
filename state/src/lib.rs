//! What netd keeps on disk: the lock of an instance, the last good file, and the store of records and history.
//!
//! Everything lives below one state directory:
//!
//! | name | what | when it is lost |
//! |---|---|---|
//! | `lock` | held by the running netd; names its process | no effect |
//! | `last-good.toml` | the text of the last accepted file, checksummed | netd waits for a good file |
//! | `db/` | records, history, small values (sled) | rebuilt from the kernel and from `last-good.toml` |
//! | `quarantine/` | databases that could not be used | evidence is gone |
//!
//! The directory belongs to the user that the daemon runs as. Root may work on it too: it then acts as that user.
//!
//! The database is a cache: it may be lost at any time, and then nothing but history older than the last good
//! file is gone. A [`Store`] therefore works from memory and lets one background thread follow on disk; no
//! method of it waits for the disk except [`Store::flush`] and [`Store::accepted_text`], and those only so long.
//! Whether the disk follows is told by [`Store::durable`].
//!
//! Panics inside the database are caught, so this crate needs `panic = "unwind"`.

mod dir;
mod disk;
mod error;
mod guard;
mod history;
mod last_good;
mod lock;
mod mirror;
mod open;
mod owner;
mod quarantine;
mod record;
mod row;
mod store;
mod writer;

pub use dir::{CAPTURES_NAME, StateDir};
pub use error::StateError;
pub use history::{Accepted, HISTORY_BYTES_MAX, HISTORY_MAX, NewAccepted};
pub use last_good::{Digest, LastGood};
pub use lock::Lock;
pub use open::Opened;
pub use quarantine::SetAside;
pub use record::{Record, RecordKey};
pub use store::{Durability, Store, memory_store};
