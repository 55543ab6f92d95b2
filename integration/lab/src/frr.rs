//! FRR's bgpd, alone or with the zebra that puts its routes into the kernel, and what its own command line shows.

use crate::Namespace;
use crate::process::Running;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Until a router that was just started takes commands, on a busy machine.
const STARTING_MAX: Duration = Duration::from_secs(30);

/// Between two tries.
const STEP: Duration = Duration::from_millis(50);

/// A router, ended when dropped.
pub struct Frr {
    _running: Running,
    _zebra: Option<Running>,
    folder: PathBuf,
}

impl Frr {
    /// What [`crate::installed`] has to be asked for.
    pub const PROGRAM: (&str, &str) = ("bgpd", "frr");

    /// Starts one in this AS, with a folder of its own, lines about its neighbours, and lines for both families. It
    /// forwards nothing.
    #[must_use]
    pub fn start(machine: &Namespace, folder: &Path, asn: u32, neighbours: &str, families: &str) -> Self {
        std::fs::create_dir(folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
        Self::speak((machine, folder), asn, (neighbours, families), None)
    }

    /// As [`Frr::start`]; its routes are the kernel's.
    #[must_use]
    pub fn routing(machine: &Namespace, folder: &Path, asn: u32, neighbours: &str, families: &str) -> Self {
        std::fs::create_dir(folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
        let file = |name: &str| folder.join(name).display().to_string();
        std::fs::write(file("zebra.conf"), "").unwrap_or_else(|error| panic!("write a file: {error}"));
        let (config, pid, socket) = (file("zebra.conf"), file("zebra.pid"), file("zserv.api"));
        let sockets = folder.display().to_string();
        // It becomes the user of its package before it makes its files.
        let owned = Command::new("chown").args(["frr", &sockets]).status();
        assert!(owned.is_ok_and(|status| status.success()), "there is no user frr");
        let arguments = ["-f", &config, "-i", &pid, "-z", &socket, "--vty_socket", &sockets];
        let zebra = Running::start(machine, "zebra", &arguments);
        Self::speak((machine, folder), asn, (neighbours, families), Some((zebra, socket)))
    }

    fn speak(
        (machine, folder): (&Namespace, &Path),
        asn: u32,
        (neighbours, families): (&str, &str),
        zebra: Option<(Running, String)>,
    ) -> Self {
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
        std::fs::write(folder.join("bgpd.conf"), text)
            .unwrap_or_else(|error| panic!("write a file: {error}"));
        let (config, pid, sockets) = (file("bgpd.conf"), file("bgpd.pid"), folder.display().to_string());
        let mut arguments =
            vec!["-S", "-f", &config, "-i", &pid, "--vty_socket", &sockets, "-A", "127.0.0.1"];
        match &zebra {
            Some((_, socket)) => arguments.extend(["-z", socket]),
            None => arguments.extend(["-n", "-Z"]),
        }
        let running = Running::start(machine, "bgpd", &arguments);
        Self { _running: running, _zebra: zebra.map(|(zebra, _)| zebra), folder: folder.into() }
    }

    /// What a command of vtysh prints; nothing while the router starts.
    #[must_use]
    pub fn show(&self, command: &str) -> String {
        let folder = self.folder.display().to_string();
        let mut vtysh = Command::new("/usr/bin/vtysh");
        vtysh.args(["--vty_socket", &folder, "-d", "bgpd", "-c", command]).env("VTYSH_PAGER", "cat");
        let output = vtysh.output().unwrap_or_else(|error| panic!("{vtysh:?}: {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Has it take these lines of configuration, as if they were typed, once it has started; panics if it refuses one.
    pub fn configure(&self, lines: &[&str]) {
        let folder = self.folder.display().to_string();
        let mut vtysh = Command::new("/usr/bin/vtysh");
        vtysh.args(["--vty_socket", &folder, "-d", "bgpd"]).env("VTYSH_PAGER", "cat");
        for line in ["configure terminal"].iter().chain(lines) {
            vtysh.args(["-c", line]);
        }
        let until = Instant::now() + STARTING_MAX;
        loop {
            let output = vtysh.output().unwrap_or_else(|error| panic!("{vtysh:?}: {error}"));
            if output.status.success() {
                return;
            }
            assert!(Instant::now() < until, "{vtysh:?}: {}", String::from_utf8_lossy(&output.stdout));
            std::thread::sleep(STEP);
        }
    }

    /// As [`Frr::show`], for a command that prints JSON.
    #[must_use]
    pub fn json(&self, command: &str) -> Value {
        serde_json::from_str(&self.show(&format!("{command} json"))).unwrap_or(Value::Null)
    }

    /// Whether the session with this neighbour is up.
    #[must_use]
    pub fn is_established(&self, neighbour: &str) -> bool {
        self.neighbour(neighbour)["bgpState"] == "Established"
    }

    /// All about a neighbour.
    #[must_use]
    pub fn neighbour(&self, neighbour: &str) -> Value {
        self.json(&format!("show bgp neighbors {neighbour}"))[neighbour].take()
    }

    /// How many sessions there have been with a neighbour.
    #[must_use]
    pub fn sessions(&self, neighbour: &str) -> Option<u64> {
        self.neighbour(neighbour)["connectionsEstablished"].as_u64()
    }

    /// How many prefixes of a family the neighbours have sent.
    #[must_use]
    pub fn prefixes(&self, family: &str) -> u64 {
        let summary = self.json(&format!("show bgp {family} unicast summary"));
        let peers = summary["peers"].as_object().cloned().unwrap_or_default();
        peers.values().filter_map(|peer| peer["pfxRcd"].as_u64()).sum()
    }

    /// The best path to a prefix; null if there is none.
    #[must_use]
    pub fn path(&self, family: &str, prefix: &str) -> Value {
        let mut answer = self.json(&format!("show bgp {family} unicast {prefix}"));
        answer.pointer_mut("/paths/0").map_or(Value::Null, Value::take)
    }
}
