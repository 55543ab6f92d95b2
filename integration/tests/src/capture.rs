//! Packets as tcpdump sees them on a machine's device: the first that a filter takes, or all of them for a while.

#![allow(clippy::panic, reason = "the scaffolding of tests says what went wrong and stops")]
#![allow(clippy::unwrap_used, reason = "the scaffolding of tests says what went wrong and stops")]

use crate::bed::Bed;
use crate::lab::Namespace;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Bytes of the header of a pcap file, and of each record in it.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// No recording is longer, also when its test is killed.
const RECORDED_SECONDS_MAX: &str = "120";

/// What tshark would not take for HTTP/2 by itself: calls of the usual port of gobgpd.
const GRPC: &str = "tcp.port==50051,http2";

/// From a packet on the wire to tcpdump's file, on a busy machine.
const HANDED_OVER: Duration = Duration::from_millis(300);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One packet that is waited for.
pub struct Capture {
    child: Child,
    file: PathBuf,
}

/// What was captured.
#[derive(Debug)]
pub struct Captured {
    /// The frame.
    pub frame: Vec<u8>,
    /// tcpdump's own reading of it.
    pub text: String,
}

impl Capture {
    /// Begins to wait for the first frame on a machine's eth0 that a filter of tcpdump takes.
    #[must_use]
    pub fn first(bed: &Bed, machine: &Namespace, filter: &str) -> Self {
        let file = bed.folder().join("captured.pcap");
        // It ends by itself after one.
        let child =
            listen(machine.command("timeout").args(["10", "tcpdump", "-c", "1"]), "eth0", &file, filter);
        Self { child, file }
    }

    /// The frame; panics when none came for ten seconds.
    #[must_use]
    pub fn wait(mut self) -> Captured {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "no frame was captured: {status}");
        let bytes = std::fs::read(&self.file).unwrap();
        let frame = bytes[FILE_HEADER + RECORD_HEADER..].to_vec();
        Captured { frame, text: read(&self.file) }
    }
}

/// Everything that a filter takes, until it is asked for.
pub struct Recording {
    child: Child,
    file: PathBuf,
}

impl Recording {
    /// Begins to record a machine's device.
    #[must_use]
    pub fn start(bed: &Bed, machine: &Namespace, device: &str, filter: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = bed.folder().join(format!("recorded{number}.pcap"));
        let child =
            listen(machine.command("timeout").args([RECORDED_SECONDS_MAX, "tcpdump"]), device, &file, filter);
        Self { child, file }
    }

    /// Ends, and gives tcpdump's reading of each packet in a line of its own.
    #[must_use]
    pub fn end(mut self) -> Vec<String> {
        self.stop();
        let mut packets: Vec<String> = Vec::new();
        for line in read(&self.file).lines() {
            match packets.last_mut() {
                Some(last) if line.starts_with([' ', '\t']) => {
                    last.push(' ');
                    last.push_str(line.trim());
                }
                _ => packets.push(line.to_owned()),
            }
        }
        packets
    }

    /// Ends, and gives a field of each packet that a display filter of tshark takes; what a packet has several of is
    /// parted by commas.
    #[must_use]
    pub fn fields(mut self, filter: &str, field: &str) -> Vec<String> {
        self.stop();
        let mut command = Command::new("tshark");
        command.args(["-n", "-d", GRPC, "-Y", filter, "-T", "fields", "-e", field, "-r"]).arg(&self.file);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    fn stop(&mut self) {
        // What the kernel has handed over is written at once.
        std::thread::sleep(HANDED_OVER);
        // `timeout` hands the signal on.
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// Starts tcpdump, given the words before its options, and waits until it listens.
fn listen(command: &mut Command, device: &str, file: &Path, filter: &str) -> Child {
    // A large buffer: a busy machine reads late.
    command
        .args(["-i", device, "-Z", "root", "-U", "--immediate-mode", "-B", "16384", "-w"])
        .arg(file)
        .arg(filter);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let listens = lines.any(|line| line.is_ok_and(|line| line.contains("listening on")));
    assert!(listens, "tcpdump does not listen");
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// tcpdump's reading of a file.
fn read(file: &Path) -> String {
    let output = Command::new("tcpdump").args(["-n", "-vvv", "-r"]).arg(file).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
