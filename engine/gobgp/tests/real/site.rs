//! Two machines on one link: the daemon under test on the left, a router on the right.

use crate::daemon::Gobgpd;
use netd_gobgp::{Client, Endpoint, Global};
use netd_lab::{Bird, Frr, Lab, Namespace, installed};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The machines.
pub struct Site {
    pub lab: Lab,
    pub left: Namespace,
    pub right: Namespace,
    folder: TempDir,
}

impl Site {
    pub const LEFT_V4: &str = "10.9.0.1";
    pub const RIGHT_V4: &str = "10.9.0.2";
    pub const LEFT_V6: &str = "fd09::1";
    pub const RIGHT_V6: &str = "fd09::2";

    /// The machines, or `None` after printing what is missing.
    pub fn new() -> Option<Self> {
        if !installed(&[("gobgpd", "gobgpd"), Frr::PROGRAM, Bird::PROGRAM]) {
            return None;
        }
        let lab = Lab::new()?;
        let (left, right) = (lab.namespace("left"), lab.namespace("right"));
        left.veth("eth0", &right, "eth0");
        for (machine, v4, v6) in
            [(&left, Self::LEFT_V4, Self::LEFT_V6), (&right, Self::RIGHT_V4, Self::RIGHT_V6)]
        {
            machine.ip(&["addr", "add", &format!("{v4}/24"), "dev", "eth0"]);
            machine.ip(&["addr", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"]);
        }
        let folder = tempfile::Builder::new().prefix("netdbgp").tempdir().unwrap();
        Some(Self { lab, left, right, folder })
    }

    /// A file or a socket of this test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A daemon on the left, connected, started, and prepared. It listens on port 179.
    pub async fn daemon(&self) -> (Gobgpd, Client) {
        let daemon = Gobgpd::start(&self.left, self.file("gobgpd.sock"));
        let client = daemon.connect().await;
        // On a busy machine its first answers may come too late.
        crate::wait_until("a speaker", async || {
            client.start(&global()).await.is_ok() || client.global().await.is_ok_and(|now| now.is_some())
        })
        .await;
        crate::wait_until("prepared", async || client.prepare().await.is_ok()).await;
        (daemon, client)
    }
}

/// What the daemon under test is started as.
pub fn global() -> Global {
    Global { asn: crate::ASN, router_id: [10, 9, 0, 1].into(), listen_port: Some(179) }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn unix(path: &Path) -> Endpoint {
    Endpoint::parse(&format!("unix://{}", path.display()), None).unwrap()
}
