//! FRR's bgpd alone, and what its own command line shows.

use crate::site::{Running, Site, spawn};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// A router on the right, ended when dropped.
pub struct Frr {
    _running: Running,
    folder: PathBuf,
}

impl Frr {
    /// Starts one in this AS, with lines about its neighbours, and lines for both families.
    pub fn start(site: &Site, asn: u32, neighbours: &str, families: &str) -> Self {
        let folder = site.file("frr");
        std::fs::create_dir(&folder).unwrap();
        let file = |name: &str| folder.join(name).display().to_string();
        let indented =
            |lines: &str| lines.lines().fold(String::new(), |all, line| format!("{all}  {}\n", line.trim()));
        let family = |name: &str| {
            format!(" address-family {name} unicast\n{} exit-address-family\n", indented(families))
        };
        let text = format!(
            "router bgp {asn}\n bgp router-id 10.9.0.2\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n \
             bgp graceful-restart stalepath-time 60\n{}{}{}",
            indented(neighbours),
            family("ipv4"),
            family("ipv6")
        );
        std::fs::write(folder.join("bgpd.conf"), text).unwrap();
        let (config, pid, folder_text) = (file("bgpd.conf"), file("bgpd.pid"), folder.display().to_string());
        let arguments =
            ["-n", "-Z", "-S", "-f", &config, "-i", &pid, "--vty_socket", &folder_text, "-A", "127.0.0.1"];
        Self { _running: spawn(&site.right, "bgpd", &arguments), folder }
    }

    /// What a command of vtysh prints; nothing while the router starts.
    pub fn show(&self, command: &str) -> String {
        let folder = self.folder.display().to_string();
        let vtysh = ["--vty_socket", &folder, "-d", "bgpd", "-c", command];
        let output = Command::new("/usr/bin/vtysh").args(vtysh).env("VTYSH_PAGER", "cat").output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// As [`Frr::show`], for a command that prints JSON.
    pub fn json(&self, command: &str) -> Value {
        let text = self.show(&format!("{command} json"));
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Whether the session with this neighbour is up.
    pub fn is_established(&self, neighbour: &str) -> bool {
        self.neighbour(neighbour)["bgpState"] == "Established"
    }

    /// All about a neighbour.
    pub fn neighbour(&self, neighbour: &str) -> Value {
        self.json(&format!("show bgp neighbors {neighbour}"))[neighbour].take()
    }

    /// How many prefixes of a family the neighbour has sent.
    pub fn prefixes(&self, family: &str) -> u64 {
        let summary = self.json(&format!("show bgp {family} unicast summary"));
        let peers = summary["peers"].as_object().cloned().unwrap_or_default();
        peers.values().filter_map(|peer| peer["pfxRcd"].as_u64()).sum()
    }

    /// The best path to a prefix.
    pub fn path(&self, family: &str, prefix: &str) -> Value {
        self.json(&format!("show bgp {family} unicast {prefix}"))
            .pointer_mut("/paths/0")
            .map_or(Value::Null, Value::take)
    }
}
