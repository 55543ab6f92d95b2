//! Says which directories decide what a path means: those that hold one of its symlinks, the file, or the first
//! name that is missing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As many symlinks as the kernel follows in one path.
const LINKS_MAX: usize = 40;

/// The way from a path to its file, as it is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// The directories to watch, without symlinks in their names, and which directory (device, inode) each was.
    pub directories: BTreeMap<PathBuf, (u64, u64)>,
    /// The names in them that matter.
    pub names: BTreeSet<PathBuf>,
}

impl Chain {
    /// Follows the path as far as it leads. Needs no permission beyond that of looking up each name.
    pub fn resolve(path: &Path) -> Chain {
        let mut chain = Chain::default();
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut ahead = VecDeque::new();
        let mut here = PathBuf::from("/");
        put_ahead(&mut ahead, &mut here, &absolute);
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            let entry = here.join(&name);
            let meta = fs::symlink_metadata(&entry);
            if meta.as_ref().is_ok_and(|meta| meta.is_dir()) && !ahead.is_empty() {
                here = entry;
                continue;
            }
            chain.note(&here, entry.clone());
            if !meta.is_ok_and(|meta| meta.is_symlink()) || links == LINKS_MAX {
                break;
            }
            links += 1;
            let Ok(target) = fs::read_link(&entry) else { break };
            put_ahead(&mut ahead, &mut here, &target);
        }
        chain
    }

    fn note(&mut self, directory: &Path, name: PathBuf) {
        self.names.insert(name);
        if let Ok(meta) = fs::symlink_metadata(directory) {
            self.directories.insert(directory.to_owned(), (meta.dev(), meta.ino()));
        }
    }
}

/// Puts a path's names before those that are still ahead; an absolute one starts over at the root.
fn put_ahead(ahead: &mut VecDeque<OsString>, here: &mut PathBuf, path: &Path) {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir => *here = PathBuf::from("/"),
            Component::ParentDir => names.push(OsString::from("..")),
            Component::Normal(name) => names.push(name.to_owned()),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    for name in names.into_iter().rev() {
        ahead.push_front(name);
    }
}
