//! A gobgpd that a test started itself.

use crate::site::unix;
use netd_gobgp::Client;
use netd_lab::{Namespace, Running};
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;

/// A daemon, killed when dropped.
pub struct Gobgpd {
    running: Running,
    socket: PathBuf,
}

impl Gobgpd {
    /// Starts one; it is there once somebody could [connect](Self::connect).
    pub fn start(machine: &Namespace, socket: PathBuf) -> Self {
        let hosts = format!("unix://{}", socket.display());
        let _ = std::fs::remove_file(&socket);
        Self {
            running: Running::start(machine, "gobgpd", &["--api-hosts", &hosts, "--pprof-disable"]),
            socket,
        }
    }

    /// A new connection, as soon as there can be one.
    pub async fn connect(&self) -> Client {
        let endpoint = unix(&self.socket);
        let mut client = None;
        crate::wait_until("a gobgpd", async || {
            client = Client::connect(&endpoint).await.ok();
            client.is_some()
        })
        .await;
        client.unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.running.0), signal).unwrap();
    }
}
