//! BIRD, and what its own command line shows.

use crate::Namespace;
use crate::process::Running;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A router, ended when dropped.
pub struct Bird {
    _running: Running,
    control: PathBuf,
}

impl Bird {
    /// What [`crate::installed`] has to be asked for.
    pub const PROGRAM: (&str, &str) = ("bird", "bird2");

    /// Starts one, with a folder for its files and the body of its protocol `netd`; an IPv4 next hop may be an IPv6
    /// address.
    #[must_use]
    pub fn start(machine: &Namespace, folder: &Path, protocol: &str) -> Self {
        let file = |name: &str| folder.join(name).display().to_string();
        let channels = "ipv4 { import all; export none; extended next hop on; };\n  \
                        ipv6 { import all; export none; };";
        let text = format!(
            "router id 10.9.0.2;\nprotocol device {{}}\nprotocol bgp netd {{\n  {protocol}\n  {channels}\n}}\n"
        );
        std::fs::write(file("bird.conf"), text).unwrap_or_else(|error| panic!("write a file: {error}"));
        let (config, control, pid) = (file("bird.conf"), file("bird.ctl"), file("bird.pid"));
        let arguments = ["-f", "-c", &config, "-s", &control, "-P", &pid];
        Self { _running: Running::start(machine, "bird", &arguments), control: control.into() }
    }

    /// What a command of birdc prints; nothing while the router starts.
    #[must_use]
    pub fn show(&self, command: &str) -> String {
        let mut birdc = Command::new("/usr/sbin/birdc");
        birdc.arg("-s").arg(&self.control).args(command.split(' '));
        let output = birdc.output().unwrap_or_else(|error| panic!("{birdc:?}: {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether its session is up.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.show("show protocols netd").contains("Established")
    }
}
