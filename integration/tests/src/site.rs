//! Where one netd lives: its machine's namespace, its name in the file, its instance, its folders.

use crate::lab::Namespace;
use std::path::{Path, PathBuf};

/// One netd's place.
pub struct Site {
    netns: PathBuf,
    node: String,
    instance: String,
    folder: PathBuf,
    bpf_mount: PathBuf,
    bpf_dir: PathBuf,
}

impl Site {
    /// A place on a machine: with a folder, and with a BPF file system, and a name for its folder in that.
    pub(crate) fn new(
        machine: &Namespace,
        node: &str,
        instance: String,
        folder: PathBuf,
        bpf: (PathBuf, &str),
    ) -> Self {
        let (bpf_mount, bpf) = bpf;
        let bpf_dir = bpf_mount.join(bpf);
        Self { netns: machine.path(), node: node.into(), instance, folder, bpf_mount, bpf_dir }
    }

    /// The file of the machine's network namespace.
    #[must_use]
    pub fn netns(&self) -> &Path {
        &self.netns
    }

    /// What the node is called.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// A name that no other place has.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// A folder of its own, removed with the bed.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that netd puts in force.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.folder.join("desired.toml")
    }

    /// Where netd keeps its state.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Where netd pins, below [`Site::bpf_mount`].
    #[must_use]
    pub fn bpf_dir(&self) -> PathBuf {
        self.bpf_dir.clone()
    }

    /// The bed's own bpf file system.
    #[must_use]
    pub fn bpf_mount(&self) -> PathBuf {
        self.bpf_mount.clone()
    }

    /// Where netd has its socket.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        Path::new("/run/netd").join(&self.instance)
    }
}
