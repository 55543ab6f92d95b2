//! The daemon as a child that outlives whoever started it.

use crate::site::Site;
use netd_gobgp::Client;
use netd_gobgp::child::{ChildError, Identity, Managed, Standing, Tail};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::net::UnixListener;
use std::path::Path;

fn kill(identity: Identity) {
    kill_process(Pid::from_raw(i32::try_from(identity.pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// The session of a process, as /proc tells it; 0 if it began outside of what can be seen from here.
fn session(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat[stat.rfind(')').unwrap()..].split(' ').nth(4).unwrap().parse().unwrap()
}

/// Starts a daemon that may take its time.
async fn start(managed: &mut Managed) -> Identity {
    let mut started = None;
    crate::wait_until("started", async || match managed.start().await {
        Ok(identity) => {
            started = Some(identity);
            true
        }
        Err(ChildError::Starting { .. } | ChildError::Pausing { .. }) => false,
        Err(error) => panic!("{error:?}"),
    })
    .await;
    started.unwrap()
}

async fn gone(identity: Identity) {
    crate::wait_until("gone", async || !identity.is_alive()).await;
}

/// Ends the daemon also when the test fails.
struct Guard<'a>(&'a Site);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let folder = self.0.file("");
        self.0.left.run_async(|| async move {
            // A test that failed has said why.
            if let Err(error) = Managed::new(&folder).stop().await {
                eprintln!("{error}");
            }
        });
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
        let identity = start(&mut first).await;
        assert_eq!(first.start().await.unwrap(), identity);
        assert_eq!(session(identity.pid), identity.pid);
        drop(first);
        let mut second = Managed::new(&folder);
        assert_eq!(second.look().await.unwrap(), Standing::Running(identity));
        let mut client = None;
        crate::wait_until("answering", async || {
            client = Client::connect(&second.endpoint()).await.ok();
            client.is_some()
        })
        .await;
        assert_eq!(client.unwrap().pid(), Some(identity.pid));
        second.stop().await.unwrap();
        assert!(!identity.is_alive());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    });
}

#[test]
fn b2_a_daemon_that_died_is_started_again_at_once_and_one_that_keeps_dying_with_pauses() {
    on_the_left(async |folder: std::path::PathBuf| {
        let mut managed = Managed::new(&folder);
        let first = start(&mut managed).await;
        kill(first);
        gone(first).await;
        assert_eq!(managed.look().await.unwrap(), Standing::Absent);
        let mut last = start(&mut managed).await;
        assert_ne!(first, last);
        // The pause grows, so that at last no machine is too slow to meet it.
        let times = loop {
            kill(last);
            gone(last).await;
            match managed.start().await {
                Err(ChildError::Pausing { times, .. }) => break times,
                Err(ChildError::Starting { .. }) => last = start(&mut managed).await,
                started => last = started.unwrap(),
            }
        };
        assert!(times >= 2, "{times}");
        start(&mut managed).await;
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
        let lost = start(&mut managed).await;
        std::fs::remove_file(folder.join("gobgpd.sock")).unwrap();
        let next = start(&mut managed).await;
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
        start(&mut managed).await;
        let said = async || Tail::whole(managed.log()).read().unwrap();
        crate::wait_until("told", async || !said().await.is_empty()).await;
        assert_eq!(said().await[0].text, "gobgpd started");
    });
}
