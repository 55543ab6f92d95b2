//! The daemon as a child that outlives whoever started it.

use crate::site::Site;
use netd_gobgp::Client;
use netd_gobgp::child::{ChildError, Identity, Managed, Standing, Tail};
use rustix::process::{Pid, Signal, getsid, kill_process};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

fn kill(identity: Identity) {
    kill_process(pid(identity), Signal::KILL).unwrap();
}

fn pid(identity: Identity) -> Pid {
    Pid::from_raw(i32::try_from(identity.pid).unwrap()).unwrap()
}

async fn gone(identity: Identity) {
    crate::wait_until("gone", async || !identity.is_alive()).await;
}

/// Ends the daemon also when the test fails.
struct Guard<'a>(&'a Site);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let folder = self.0.file("");
        self.0.left.run_async(|| async move { Managed::new(&folder).stop().await.unwrap() });
    }
}

/// Runs `work` on the left machine, with the folder of the test.
fn on_the_left<F: Future<Output = ()>>(work: impl FnOnce(std::path::PathBuf) -> F + Send) {
    let Some(site) = Site::new() else { return };
    let guard = Guard(&site);
    let folder = site.file("");
    site.left.run_async(|| work(folder));
    drop(guard);
}

#[test]
fn b16_the_daemon_outlives_netd_and_is_found_again() {
    on_the_left(async |folder: std::path::PathBuf| {
        let mut first = Managed::new(&folder);
        assert_eq!(first.look().await.unwrap(), Standing::Absent);
        let identity = first.start().await.unwrap();
        assert_eq!(first.start().await.unwrap(), identity);
        assert_ne!(getsid(Some(pid(identity))).unwrap(), getsid(None).unwrap());
        drop(first);
        let mut second = Managed::new(&folder);
        assert_eq!(second.look().await.unwrap(), Standing::Running(identity));
        let client = Client::connect(&second.endpoint()).await.unwrap();
        assert_eq!(client.pid(), Some(identity.pid));
        second.stop().await.unwrap();
        assert!(!identity.is_alive());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    });
}

#[test]
fn b2_a_daemon_that_died_is_started_again_at_once_and_one_that_keeps_dying_with_pauses() {
    on_the_left(async |folder: std::path::PathBuf| {
        let mut managed = Managed::new(&folder);
        let first = managed.start().await.unwrap();
        kill(first);
        gone(first).await;
        assert_eq!(managed.look().await.unwrap(), Standing::Absent);
        let second = managed.start().await.unwrap();
        assert_ne!(first, second);
        kill(second);
        gone(second).await;
        let error = managed.start().await.unwrap_err();
        assert!(matches!(error, ChildError::Pausing { times: 2, .. }), "{error:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        managed.start().await.unwrap();
    });
}

#[test]
fn a_socket_that_something_else_holds_is_left_to_it() {
    on_the_left(async |folder: std::path::PathBuf| {
        let listener = UnixListener::bind(folder.join("gobgpd.sock")).unwrap();
        let error = Managed::new(&folder).start().await.unwrap_err();
        assert!(matches!(&error, ChildError::Foreign { pid, .. } if *pid == std::process::id()), "{error:?}");
        drop(listener);
    });
}

#[test]
fn a_daemon_whose_socket_was_removed_is_replaced_and_not_doubled() {
    on_the_left(async |folder: std::path::PathBuf| {
        let mut managed = Managed::new(&folder);
        let lost = managed.start().await.unwrap();
        std::fs::remove_file(folder.join("gobgpd.sock")).unwrap();
        let next = managed.start().await.unwrap();
        assert_ne!(lost, next);
        assert!(!lost.is_alive());
    });
}

#[test]
fn a_daemon_that_cannot_write_its_log_is_not_started() {
    on_the_left(async |folder: std::path::PathBuf| {
        let error = Managed::new(Path::new("/nowhere")).start().await.unwrap_err();
        assert_eq!(error.to_string(), "write to /nowhere/gobgpd.log");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    });
}

#[test]
fn what_the_daemon_says_can_be_read_while_it_runs() {
    on_the_left(async |folder: std::path::PathBuf| {
        let mut managed = Managed::new(&folder);
        managed.start().await.unwrap();
        let said = Tail::whole(managed.log()).read().unwrap();
        assert_eq!(said[0].text, "gobgpd started");
    });
}
