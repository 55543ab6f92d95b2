//! What can go wrong with the state directory, in words for the operator.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why something could not be read from or written to the state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file operation failed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `write`.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path of the state directory leads to something that netd must not use.
    #[error("{} cannot be the state directory: {why}", path.display())]
    Unusable {
        /// The directory that was asked for.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another process holds the lock of this state directory.
    #[error("another netd is running on this state directory{}", match pid { Some(pid) => format!(" (process {pid})"), None => String::new() })]
    Held {
        /// The holder, where it has already written its process id.
        pid: Option<u32>,
    },
    /// `last-good.toml` is not what was written there.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What does not fit.
        why: &'static str,
    },
    /// The disk did not answer in time; the work goes on in the background.
    #[error("the disk did not finish to {what} within {} s", limit.as_secs())]
    Slow {
        /// What is still under way, as a verb.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The store works from memory only.
    #[error("the state is not durable: {reason}")]
    NotDurable {
        /// Why the disk does not follow.
        reason: String,
    },
}

impl StateError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_path_buf(), source }
    }
}
