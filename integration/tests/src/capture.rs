//! Packets as tcpdump sees them on a machine's device.

#![allow(clippy::panic, reason = "the scaffolding of tests says what went wrong and stops")]
#![allow(clippy::unwrap_used, reason = "the scaffolding of tests says what went wrong and stops")]

use crate::bed::Bed;
use crate::lab::Namespace;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Bytes of the header of a pcap file, and of each record in it.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

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
        let mut command = machine.command("timeout");
        // Wide enough for everything that tests send; tcpdump ends by itself after one.
        command
            .args(["10", "tcpdump", "-i", "eth0", "-Z", "root", "-c", "1", "-U", "-w"])
            .arg(&file)
            .arg(filter);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listens = lines.any(|line| line.is_ok_and(|line| line.contains("listening on")));
        assert!(listens, "tcpdump does not listen");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, file }
    }

    /// The frame; panics when none came for ten seconds.
    #[must_use]
    pub fn wait(mut self) -> Captured {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "no frame was captured: {status}");
        let bytes = std::fs::read(&self.file).unwrap();
        let frame = bytes[FILE_HEADER + RECORD_HEADER..].to_vec();
        let output = Command::new("tcpdump").args(["-n", "-vvv", "-r"]).arg(&self.file).output().unwrap();
        Captured { frame, text: String::from_utf8_lossy(&output.stdout).into_owned() }
    }
}
