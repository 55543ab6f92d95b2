//! Which directories and names a path depends on, and which of notify's reports concern them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, CreateKind, DataChange, ModifyKind, RemoveKind, RenameMode};
use notify::{Event, EventKind};
use tempfile::{TempDir, tempdir};

use super::chain::Chain;
use super::events::{Route, classify};
use super::settle::Hint;

/// A directory, and its name without symlinks.
fn scene() -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let real = fs::canonicalize(dir.path()).unwrap();
    (dir, real)
}

fn names(chain: &Chain, below: &Path) -> Vec<String> {
    let shown = |path: &PathBuf| path.strip_prefix(below).unwrap().display().to_string();
    chain.names.iter().map(shown).collect()
}

fn directories(chain: &Chain, below: &Path) -> Vec<String> {
    let shown = |path: &PathBuf| path.strip_prefix(below).unwrap().display().to_string();
    chain.directories.keys().map(shown).collect()
}

#[test]
fn a_plain_file_depends_on_its_directory() {
    let (_keep, dir) = scene();
    fs::write(dir.join("file"), "").unwrap();
    let chain = Chain::resolve(&dir.join("file"));
    assert_eq!(names(&chain, &dir), ["file"]);
    assert_eq!(directories(&chain, &dir), [""]);
}

#[test]
fn every_link_on_the_way_and_the_target_count() {
    let (_keep, dir) = scene();
    fs::create_dir_all(dir.join("v1/deep")).unwrap();
    fs::create_dir(dir.join("conf")).unwrap();
    fs::write(dir.join("v1/deep/real"), "").unwrap();
    symlink("v1", dir.join("current")).unwrap();
    symlink(dir.join("current/deep/../deep/real"), dir.join("conf/file")).unwrap();
    let chain = Chain::resolve(&dir.join("conf/file"));
    assert_eq!(names(&chain, &dir), ["conf/file", "current", "v1/deep/real"]);
    assert_eq!(directories(&chain, &dir), ["", "conf", "v1/deep"]);
}

#[test]
fn c4_a_missing_directory_is_awaited_in_the_nearest_one_that_exists() {
    let (_keep, dir) = scene();
    let chain = Chain::resolve(&dir.join("a/b/file"));
    assert_eq!(names(&chain, &dir), ["a"]);
    assert_eq!(directories(&chain, &dir), [""]);
}

#[test]
fn c8_a_loop_of_links_ends() {
    let (_keep, dir) = scene();
    symlink("two", dir.join("one")).unwrap();
    symlink("one", dir.join("two")).unwrap();
    let chain = Chain::resolve(&dir.join("one"));
    assert_eq!(names(&chain, &dir), ["one", "two"]);
}

#[test]
fn a_directory_made_again_under_its_name_is_another_way() {
    let (_keep, dir) = scene();
    fs::create_dir(dir.join("conf")).unwrap();
    let before = Chain::resolve(&dir.join("conf/file"));
    fs::create_dir(dir.join("next")).unwrap();
    fs::rename(dir.join("next"), dir.join("conf")).unwrap();
    assert_ne!(Chain::resolve(&dir.join("conf/file")), before);
}

#[test]
fn each_report_means_what_it_says_of_the_content() {
    let mut chain = Chain::default();
    chain.directories.insert(PathBuf::from("/d"), (1, 1));
    chain.names.insert(PathBuf::from("/d/file"));
    let means = |kind, path: &str| classify(&Ok(Event::new(kind).add_path(PathBuf::from(path))), &chain);
    let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
    let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    let renamed = |mode| EventKind::Modify(ModifyKind::Name(mode));
    assert_eq!(means(close, "/d/file"), Some((Hint::Complete, Route::Kept)));
    assert_eq!(means(close, "/d/other"), None);
    assert_eq!(means(open, "/d/file"), None);
    assert_eq!(means(data, "/d/file"), Some((Hint::Writing, Route::Kept)));
    assert_eq!(means(renamed(RenameMode::To), "/d/file"), Some((Hint::Complete, Route::Changed)));
    assert_eq!(means(renamed(RenameMode::Both), "/d/file"), None);
    assert_eq!(means(renamed(RenameMode::From), "/d/file"), Some((Hint::Unclear, Route::Changed)));
    assert_eq!(means(renamed(RenameMode::From), "/d"), Some((Hint::Touched, Route::Broken)));
    assert_eq!(means(EventKind::Remove(RemoveKind::Folder), "/d"), Some((Hint::Touched, Route::Broken)));
    assert_eq!(means(EventKind::Create(CreateKind::File), "/d/file"), Some((Hint::Unclear, Route::Changed)));
    assert_eq!(means(EventKind::Create(CreateKind::File), "/d/other"), None);
    let failed = Err(notify::Error::generic("no reason"));
    assert_eq!(classify(&failed, &chain), Some((Hint::Lost, Route::Broken)));
}
