//! Programs inside a namespace that end with the test.

use crate::Namespace;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where packages put what tests need.
const FOLDERS: [&str; 5] = ["/usr/bin", "/usr/sbin", "/usr/lib/frr", "/usr/local/bin", "/usr/local/sbin"];

/// A process, killed when dropped.
pub struct Running(pub Child);

impl Running {
    /// Starts a program in a namespace; it is killed even if the test is.
    #[must_use]
    pub fn start(machine: &Namespace, program: &str, arguments: &[&str]) -> Self {
        let path = find(program).unwrap_or_else(|| panic!("there is no {program}"));
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--net={}", machine.path().display())).arg("--").arg(path).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether programs are installed; prints the first that is not, with Debian's package that has it.
#[must_use]
pub fn installed(programs: &[(&str, &str)]) -> bool {
    let missing = programs.iter().find(|(program, _)| find(program).is_none_or(|path| !is_readable(&path)));
    if let Some((program, package)) = missing {
        eprintln!("SKIPPED: there is no {program}; Debian's package {package} has it");
    }
    missing.is_none()
}

/// Reads a program to its end: where it was installed a moment ago, what a test waits for should not take the time that
/// the disk takes.
fn is_readable(program: &Path) -> bool {
    File::open(program).and_then(|mut file| io::copy(&mut file, &mut io::sink())).is_ok()
}

fn find(program: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists())
}
