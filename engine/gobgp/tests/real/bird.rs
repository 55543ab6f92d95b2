//! BIRD, and what its own command line shows.

use crate::site::{Running, Site, spawn};
use std::path::PathBuf;
use std::process::Command;

/// A router on the right, ended when dropped.
pub struct Bird {
    _running: Running,
    control: PathBuf,
}

impl Bird {
    /// Starts one with the body of its protocol `netd`; an IPv4 next hop may be an IPv6 address.
    pub fn start(site: &Site, protocol: &str) -> Self {
        let (config, control) = (site.file("bird.conf"), site.file("bird.ctl"));
        let channels =
            "ipv4 { import all; export none; extended next hop on; };\n  ipv6 { import all; export none; };";
        let text = format!(
            "router id 10.9.0.2;\nprotocol device {{}}\nprotocol bgp netd {{\n  {protocol}\n  {channels}\n}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let (config, socket) = (config.display().to_string(), control.display().to_string());
        let pid = site.file("bird.pid").display().to_string();
        Self {
            _running: spawn(&site.right, "bird", &["-f", "-c", &config, "-s", &socket, "-P", &pid]),
            control,
        }
    }

    /// What a command of birdc prints; nothing while the router starts.
    pub fn show(&self, command: &str) -> String {
        let control = self.control.display().to_string();
        let output =
            Command::new("/usr/sbin/birdc").args(["-s", &control]).args(command.split(' ')).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether its session is up.
    pub fn is_established(&self) -> bool {
        self.show("show protocols netd").contains("Established")
    }
}
