//! The systemd unit: what it leaves to netd is enough, and it leaves no more than it says.

use crate::{PORT, SOON, bed, checked, web};
use netd_integration_tests::netd::{binary, wait_until};
use netd_integration_tests::{Arrival, Bed, Lab};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::{Child, Command};
use std::time::Duration;

const UNIT: &str = include_str!("../../../systemd/netd.service");

/// In tenths: what the unit's exposure may be by the measure of `systemd-analyze security`.
const EXPOSURE_MAX: &str = "17";

/// A user that owns nothing.
const NOBODY: u32 = 65534;

const METRICS: &str = "127.0.0.1:9471";

#[test]
fn the_unit_is_as_closed_as_it_is_meant_to_be() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/netd.service");
    let arguments = ["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX, unit];
    match Command::new("systemd-analyze").args(arguments).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => eprintln!("SKIPPED: systemd-analyze: {error}"),
    }
}

/// Services, health checks through the tunnel and metrics need no more than the unit's capabilities.
#[test]
fn the_capabilities_of_the_unit_are_enough() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab, &[Arrival::Decapsulate; 2]);
    let _web = web(&bed, 1);
    bed.write(&format!("{}\n[metrics]\nlisten = \"{METRICS}\"\n", checked(&bed, "kind = \"tcp\"")));
    let _netd = Unprivileged::start(&bed);
    let dead =
        format!("netd_backend_info{{service=\"web\",backend=\"10.0.0.2:{PORT}\",state=\"quarantined\"}} 1");
    let mut last = String::new();
    let mut is_found = || {
        last = page(&bed).unwrap_or_default();
        last.lines().any(|line| line == "netd_status{status=\"ok\"} 1")
            && last.lines().any(|line| line == dead)
    };
    let until = std::time::Instant::now() + SOON;
    while !is_found() {
        assert!(std::time::Instant::now() < until, "{last}\n{}", bed.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let alive = format!("backend=\"10.0.0.1:{PORT}\",state=\"active\"}} 1");
    assert!(last.contains(&alive), "{last}");
    wait_until("the program attached", SOON, || bed.lb.ip(&["link", "show", "eth0"]).contains("xdp"));
}

/// netd as a user that owns nothing but the folders that the unit gives it, with the unit's capabilities.
struct Unprivileged(Child);

impl Unprivileged {
    fn start(bed: &Bed) -> Self {
        for folder in [bed.bpf_dir(), bed.state_dir()] {
            std::fs::create_dir_all(&folder).unwrap();
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        std::fs::set_permissions(bed.bpf_mount(), std::fs::Permissions::from_mode(0o711)).unwrap();
        // Cargo's folder may be closed to others.
        let netd = bed.folder().join("netd");
        std::fs::copy(binary(), &netd).unwrap();
        let mut words = bed.arguments(&["run"]);
        words[0] = netd.display().to_string();
        // The folder of sockets belongs to netd there; here one of its own hides everybody's.
        let script = format!(
            "mount -t tmpfs -o uid={NOBODY},gid={NOBODY},mode=0755 netd /run/netd && exec setpriv --reuid {NOBODY} \
             --regid {NOBODY} --clear-groups --no-new-privs --bounding-set {0} --inh-caps {0} --ambient-caps {0} \"$@\"",
            capabilities()
        );
        std::fs::create_dir_all("/run/netd").unwrap();
        let mut all = bed.prefix();
        all.extend(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"].map(str::to_owned),
        );
        all.extend(words);
        let log =
            std::fs::File::options().create(true).append(true).open(bed.folder().join("netd.log")).unwrap();
        let mut command = Command::new(&all[0]);
        Self(command.args(&all[1..]).env_remove("LD_LIBRARY_PATH").stderr(log).spawn().unwrap())
    }
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The unit's bounding set, as setpriv(1) reads it.
fn capabilities() -> String {
    let line = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let ambient = UNIT.lines().find_map(|line| line.strip_prefix("AmbientCapabilities=")).unwrap();
    assert_eq!(line, ambient);
    let names =
        line.split_whitespace().map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()));
    format!("-all{}", names.collect::<String>())
}

fn page(bed: &Bed) -> Option<String> {
    let mut stream = bed.lb.run(|| TcpStream::connect(METRICS)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: netd\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
