//! Watches on real files in temporary directories, with inotify where it is not left out on purpose.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::{TempDir, tempdir};
use tokio::time::timeout;

use super::events::{DirectoryEvents, Opener, inotify};
use super::read::{Reading, from_error, read_unless_known};
use super::settle::Pace;
use super::watch::{Delivery, Watch};

/// Far more than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Waits that fit a test; what is delivered, and in which order, does not depend on them.
pub(super) fn brisk() -> Pace {
    Pace { deliver_gap: ms(1), read_gap: ms(1), ..Pace::default() }
}

/// No events, and a look every 50 ms.
pub(super) fn polling() -> Pace {
    Pace { poll: ms(50), poll_without_events: ms(50), ..brisk() }
}

pub(super) struct Scene {
    pub dir: TempDir,
    pub path: PathBuf,
    pub watch: Watch,
}

impl Scene {
    /// Watches `desired.toml` in a fresh directory after `prepare` made it what it should be.
    pub fn new(pace: Pace, opener: Opener, prepare: impl FnOnce(&Path)) -> Scene {
        let dir = tempdir().unwrap();
        prepare(dir.path());
        let path = dir.path().join("desired.toml");
        let watch = Watch::start_with(&path, pace, opener, Box::new(read_unless_known)).unwrap();
        Scene { dir, path, watch }
    }

    /// Watches a file that says "one", and has had that delivered.
    pub async fn one(pace: Pace, opener: Opener) -> Scene {
        let mut scene = Scene::new(pace, opener, |dir| fs::write(dir.join("desired.toml"), "one").unwrap());
        assert_eq!(scene.text().await, "one");
        scene
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts the content in place as careful programs do.
    pub fn rename_into_place(&self, content: &str) {
        fs::write(self.at("desired.toml.new"), content).unwrap();
        fs::rename(self.at("desired.toml.new"), &self.path).unwrap();
    }

    pub async fn next(&mut self) -> Arc<Delivery> {
        timeout(PATIENCE, self.watch.next()).await.expect("a delivery").unwrap()
    }

    pub async fn text(&mut self) -> String {
        text(&self.next().await.reading)
    }

    pub async fn nothing_for(&mut self, time: Duration) {
        if let Ok(delivery) = timeout(time, self.watch.next()).await {
            panic!("delivered {delivery:?}");
        }
    }
}

pub(super) fn text(reading: &Reading) -> String {
    match reading {
        Reading::Text(text) => String::from_utf8(text.bytes.clone()).unwrap(),
        other => panic!("not a text: {other:?}"),
    }
}

/// Watches that never report anything, as on a file system without events.
struct Silence;

impl DirectoryEvents for Silence {
    fn watch(&mut self, _: &Path) -> notify::Result<()> {
        Ok(())
    }
    fn unwatch(&mut self, _: &Path) {}
}

pub(super) fn silent() -> Opener {
    Box::new(|_| Ok(Box::new(Silence)))
}

#[tokio::test]
async fn a_file_written_and_closed_is_delivered_without_a_wait() {
    let mut scene = Scene::one(Pace { writer_quiet: ms(60_000), ..brisk() }, inotify()).await;
    fs::write(&scene.path, "two").unwrap();
    assert_eq!(scene.text().await, "two");
}

#[tokio::test]
async fn c1_a_file_written_in_slow_pieces_is_delivered_once_and_whole() {
    let mut scene = Scene::one(brisk(), inotify()).await;
    let mut file = File::create(&scene.path).unwrap();
    for _ in 0..8 {
        file.write_all(b"a piece, ").unwrap();
        scene.nothing_for(ms(100)).await;
    }
    drop(file);
    assert_eq!(scene.text().await, "a piece, ".repeat(8));
}

#[tokio::test]
async fn c3_an_emptied_file_is_delivered_after_it_stayed_empty() {
    let mut scene = Scene::one(brisk(), inotify()).await;
    File::create(&scene.path).unwrap();
    scene.nothing_for(ms(300)).await;
    assert_eq!(scene.text().await, "");
}

#[tokio::test]
async fn c4_a_deleted_file_is_missing_and_delivered_when_it_returns() {
    let mut scene = Scene::one(brisk(), inotify()).await;
    for _ in 0..2 {
        fs::remove_file(&scene.path).unwrap();
        assert!(matches!(scene.next().await.reading, Reading::Missing(_)));
        fs::write(&scene.path, "one").unwrap();
        assert_eq!(scene.text().await, "one");
    }
}

#[tokio::test]
async fn c4_a_directory_that_goes_and_returns_is_watched_again() {
    let mut scene =
        Scene::new(brisk(), inotify(), |dir| symlink("conf/netd.toml", dir.join("desired.toml")).unwrap());
    assert!(matches!(scene.next().await.reading, Reading::Missing(_)));
    for round in ["one", "two", "three"] {
        fs::create_dir(scene.at("conf")).unwrap();
        fs::write(scene.at("conf/netd.toml"), round).unwrap();
        assert_eq!(scene.text().await, round);
        fs::write(scene.at("conf/netd.toml"), "again").unwrap();
        assert_eq!(scene.text().await, "again");
        fs::remove_dir_all(scene.at("conf")).unwrap();
        assert!(matches!(scene.next().await.reading, Reading::Missing(_)));
    }
    assert!(scene.watch.counters().events > 0);
}

#[tokio::test]
async fn c4_a_directory_moved_away_and_replaced_is_watched_in_its_new_form() {
    let mut scene = Scene::new(brisk(), inotify(), |dir| {
        fs::create_dir(dir.join("conf")).unwrap();
        fs::write(dir.join("conf/netd.toml"), "one").unwrap();
        symlink("conf/netd.toml", dir.join("desired.toml")).unwrap();
    });
    assert_eq!(scene.text().await, "one");
    fs::create_dir(scene.at("next")).unwrap();
    fs::write(scene.at("next/netd.toml"), "two").unwrap();
    fs::rename(scene.at("conf"), scene.at("old")).unwrap();
    fs::rename(scene.at("next"), scene.at("conf")).unwrap();
    assert_eq!(scene.text().await, "two");
    fs::write(scene.at("conf/netd.toml"), "three").unwrap();
    assert_eq!(scene.text().await, "three");
}

#[tokio::test]
async fn c4_a_directory_made_anew_at_once_is_watched_even_if_its_inode_is_the_old_one() {
    let mut scene = Scene::new(Pace { poll: ms(60_000), ..brisk() }, inotify(), |dir| {
        fs::create_dir(dir.join("conf")).unwrap();
        fs::write(dir.join("conf/netd.toml"), "one").unwrap();
        symlink("conf/netd.toml", dir.join("desired.toml")).unwrap();
    });
    assert_eq!(scene.text().await, "one");
    for round in ["two", "three", "four"] {
        fs::remove_dir_all(scene.at("conf")).unwrap();
        fs::create_dir(scene.at("conf")).unwrap();
        fs::write(scene.at("conf/netd.toml"), round).unwrap();
        assert_eq!(scene.text().await, round);
        fs::write(scene.at("conf/netd.toml"), "edited").unwrap();
        assert_eq!(scene.text().await, "edited");
    }
}

#[tokio::test]
async fn c1_a_reading_during_which_the_file_was_replaced_is_not_delivered() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    let mut versions = ["three", "two"].into_iter();
    fs::write(&path, "one").unwrap();
    let reader = move |path: &Path, known: Option<&str>| {
        let reading = read_unless_known(path, known);
        if known.is_some()
            && let Some(next) = versions.next()
        {
            // Replaced, and known to be replaced, after its content was read.
            fs::write(path, next).unwrap();
            std::thread::sleep(ms(50));
        }
        reading
    };
    let pace = Pace { poll: ms(60_000), quiet_max: ms(60_000), ..brisk() };
    let watch = Watch::start_with(&path, pace, inotify(), Box::new(reader)).unwrap();
    let mut scene = Scene { dir, path, watch };
    assert_eq!(scene.text().await, "one");
    fs::write(&scene.path, "four").unwrap();
    assert_eq!(scene.text().await, "two");
    assert_eq!(scene.watch.counters().deliveries, 2);
}

#[tokio::test]
async fn c5_a_fifo_in_place_of_the_file_is_refused_until_a_file_returns() {
    let mut scene = Scene::one(brisk(), inotify()).await;
    mknodat(CWD, scene.at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    fs::rename(scene.at("fifo"), &scene.path).unwrap();
    assert!(matches!(scene.next().await.reading, Reading::Refused(_)));
    scene.rename_into_place("one");
    assert_eq!(scene.text().await, "one");
}

#[tokio::test]
async fn c7_without_any_event_a_poll_finds_the_replaced_file() {
    let mut scene = Scene::one(polling(), silent()).await;
    scene.rename_into_place("two");
    assert_eq!(scene.text().await, "two");
    fs::write(&scene.path, "three").unwrap();
    assert_eq!(scene.text().await, "three");
    assert_eq!(scene.watch.counters().events, 0);
}

#[tokio::test]
async fn c8_a_dangling_link_is_missing_until_its_target_appears() {
    let mut scene = Scene::new(Pace { poll: ms(60_000), ..brisk() }, inotify(), |dir| {
        symlink("target", dir.join("desired.toml")).unwrap();
    });
    assert!(matches!(scene.next().await.reading, Reading::Missing(_)));
    fs::write(scene.at("target"), "there").unwrap();
    assert_eq!(scene.text().await, "there");
}

#[tokio::test]
async fn c17_a_failed_read_is_unreadable_after_a_while_and_text_when_it_passes() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    fs::write(&path, "one").unwrap();
    let is_broken = Arc::new(AtomicBool::new(false));
    let broken = Arc::clone(&is_broken);
    let reader = move |path: &Path, known: Option<&str>| {
        if broken.load(Ordering::Relaxed) {
            let error = io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
            return from_error(path, &error);
        }
        read_unless_known(path, known)
    };
    let watch = Watch::start_with(&path, polling(), inotify(), Box::new(reader)).unwrap();
    let mut scene = Scene { dir, path, watch };
    assert_eq!(scene.text().await, "one");
    is_broken.store(true, Ordering::Relaxed);
    scene.nothing_for(ms(300)).await;
    is_broken.store(false, Ordering::Relaxed);
    scene.nothing_for(ms(300)).await;
    is_broken.store(true, Ordering::Relaxed);
    assert!(matches!(scene.next().await.reading, Reading::Unreadable(_)));
    is_broken.store(false, Ordering::Relaxed);
    assert_eq!(scene.text().await, "one");
}

#[tokio::test]
async fn c18_opening_the_file_to_everyone_is_delivered_as_a_warning() {
    let mut scene = Scene::one(Pace { poll: ms(60_000), ..brisk() }, inotify()).await;
    fs::set_permissions(&scene.path, Permissions::from_mode(0o666)).unwrap();
    let Reading::Text(text) = &scene.next().await.reading else { panic!("not a text") };
    assert_eq!(text.warnings.len(), 1);
}

#[tokio::test]
async fn c27_the_same_content_in_a_new_inode_is_not_delivered_unless_asked_for() {
    let mut scene = Scene::one(brisk(), inotify()).await;
    scene.rename_into_place("one");
    fs::write(&scene.path, "one").unwrap();
    scene.nothing_for(ms(700)).await;
    scene.watch.reread();
    let again = scene.next().await;
    assert_eq!((text(&again.reading).as_str(), again.serial), ("one", 2));
}

#[tokio::test]
async fn an_editor_that_keeps_a_backup_causes_one_delivery() {
    let mut scene = Scene::one(Pace { poll: ms(60_000), ..brisk() }, inotify()).await;
    fs::rename(&scene.path, scene.at("desired.toml~")).unwrap();
    let mut file = File::create(&scene.path).unwrap();
    file.write_all(b"tw").unwrap();
    file.write_all(b"o").unwrap();
    drop(file);
    fs::set_permissions(&scene.path, Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(scene.at("desired.toml~")).unwrap();
    assert_eq!(scene.text().await, "two");
    scene.nothing_for(ms(700)).await;
    assert_eq!(scene.watch.counters().deliveries, 2);
}

#[tokio::test]
async fn our_own_readings_and_the_neighbours_of_the_file_are_no_events() {
    let mut scene = Scene::one(Pace { poll: ms(20), ..brisk() }, inotify()).await;
    fs::write(scene.at("another"), "file").unwrap();
    scene.nothing_for(ms(400)).await;
    assert!(scene.watch.counters().reads > 5);
    assert_eq!(scene.watch.counters().events, 0);
}

#[tokio::test]
async fn a_dropped_watch_ends_its_thread() {
    let scene = Scene::one(brisk(), inotify()).await;
    let mut latest = scene.watch.subscribe();
    drop(scene.watch);
    timeout(PATIENCE, latest.changed()).await.expect("an end").unwrap_err();
}
