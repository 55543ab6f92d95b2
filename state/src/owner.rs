//! Whose the state directory is, and how root works on it: as that user, so that the daemon which runs as it can go on
//! with what was written, and so that nothing in its directory can lead root elsewhere.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use rustix::process::geteuid;
use rustix::thread::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// The user that files are written as: that of this process, or another where root works on another's directory.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Owner(Option<(Uid, Gid)>);

impl Owner {
    /// The owner of what this describes; `None` when this process may not work on it.
    pub(crate) fn of(found: &Metadata) -> Option<Self> {
        let (own, owner) = (geteuid(), Uid::from_raw(found.uid()));
        match own == owner {
            true => Some(Self(None)),
            false => own.is_root().then(|| Self(Some((owner, Gid::from_raw(found.gid()))))),
        }
    }

    /// From here on this thread, and each that it starts, has the rights of the owner and no others.
    ///
    /// # Errors
    ///
    /// When root is not allowed to become another user, as in some containers.
    pub(crate) fn become_it(self) -> io::Result<()> {
        let Some((user, group)) = self.0.filter(|(user, _)| *user != geteuid()) else { return Ok(()) };
        set_thread_groups(&[])?;
        set_thread_res_gid(None, group, None)?;
        Ok(set_thread_res_uid(None, user, None)?)
    }

    /// Does the work as the owner, and returns as who called.
    pub(crate) fn run<T: Send>(self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        if self.0.is_none() {
            return Ok(work());
        }
        thread::scope(|scope| {
            let as_owner = move || self.become_it().map(|()| work());
            let done =
                thread::Builder::new().name("netd-state-owner".into()).spawn_scoped(scope, as_owner)?;
            done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A user that needs no entry anywhere.
    const SOMEBODY: (u32, u32) = (54321, 54322);

    #[test]
    fn root_writes_as_the_owner_and_is_root_again_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let me = Owner::of(&dir.path().metadata().unwrap()).unwrap();
        assert_eq!(me.run(geteuid).unwrap(), geteuid());
        if !geteuid().is_root() {
            return;
        }
        std::os::unix::fs::chown(dir.path(), Some(SOMEBODY.0), Some(SOMEBODY.1)).unwrap();
        let owner = Owner::of(&dir.path().metadata().unwrap()).unwrap();
        let file = dir.path().join("file");
        let told = owner.run(|| {
            std::fs::write(&file, "").unwrap();
            // A right of root's that is gone: the parent is not the owner's.
            let beside = std::fs::write("/etc/netd-state-test-of-owner", "");
            // A thread of a thread.
            (thread::spawn(geteuid).join().unwrap().as_raw(), beside.map_err(|e| e.kind()))
        });
        assert_eq!(told.unwrap(), (SOMEBODY.0, Err(io::ErrorKind::PermissionDenied)));
        let written = file.metadata().unwrap();
        assert_eq!((written.uid(), written.gid()), SOMEBODY);
        assert!(geteuid().is_root());
    }
}
