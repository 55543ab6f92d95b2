//! Watches on real files in temporary directories, with inotify where it is not left out on purpose.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};
use tempfile::{TempDir, tempdir};
use tokio::time::timeout;

use super::events::{DirectoryEvents, Opener, inotify};
use super::read::{Reading, from_error, read_unless_known};
use super::settle::Pace;
use super::watch::{Delivery, Watch, WatchMode};

/// Far more than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Waits that fit a test; what is delivered, and in which order, does not depend on them.
fn brisk() -> Pace {
    Pace { deliver_gap: ms(1), read_gap: ms(1), ..Pace::default() }
}

/// No events, and a look every 50 ms.
fn polling() -> Pace {
    Pace { poll: ms(50), poll_without_events: ms(50), ..brisk() }
}

struct Scene {
    dir: TempDir,
    path: PathBuf,
    watch: Watch,
}

impl Scene {
    /// Watches `desired.toml` in a fresh directory after `prepare` made it what it should be.
    fn new(pace: Pace, opener: Opener, prepare: impl FnOnce(&Path)) -> Scene {
        let dir = tempdir().unwrap();
        prepare(dir.path());
        let path = dir.path().join("desired.toml");
        let watch = Watch::start_with(&path, pace, opener, Box::new(read_unless_known)).unwrap();
        Scene { dir, path, watch }
    }

    /// Watches a file that says "one", and has had that delivered.
    async fn one(pace: Pace, opener: Opener) -> Scene {
        let mut scene = Scene::new(pace, opener, |dir| fs::write(dir.join("desired.toml"), "one").unwrap());
        assert_eq!(scene.text().await, "one");
        scene
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts the content in place as careful programs do.
    fn rename_into_place(&self, content: &str) {
        fs::write(self.at("desired.toml.new"), content).unwrap();
        fs::rename(self.at("desired.toml.new"), &self.path).unwrap();
    }

    async fn next(&mut self) -> Arc<Delivery> {
        timeout(PATIENCE, self.watch.next()).await.expect("a delivery").unwrap()
    }

    async fn text(&mut self) -> String {
        text(&self.next().await.reading)
    }

    async fn nothing_for(&mut self, time: Duration) {
        if let Ok(delivery) = timeout(time, self.watch.next()).await {
            panic!("delivered {delivery:?}");
        }
    }
}

fn text(reading: &Reading) -> String {
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

fn silent() -> Opener {
    Box::new(|_| Ok(Box::new(Silence)))
}

#[tokio::test]
async fn a_file_renamed_into_place_is_delivered_within_milliseconds() {
    const RENAMES: usize = 200;
    let mut scene = Scene::one(brisk(), inotify()).await;
    let mut latencies = Vec::new();
    for n in 0..RENAMES {
        // Past the gap after the reading before, as a lone edit always is.
        sleep(ms(5));
        fs::write(scene.at("desired.toml.new"), n.to_string()).unwrap();
        let began = Instant::now();
        fs::rename(scene.at("desired.toml.new"), &scene.path).unwrap();
        assert_eq!(scene.text().await, n.to_string());
        latencies.push(began.elapsed());
    }
    latencies.sort();
    println!("rename to delivery: median {:?}, worst {:?}", latencies[RENAMES / 2], latencies[RENAMES - 1]);
    assert!(latencies[RENAMES / 2] < ms(30), "median {:?}", latencies[RENAMES / 2]);
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
async fn c5_a_fifo_in_place_of_the_file_is_refused_until_a_file_returns() {
    let mut scene = Scene::one(brisk(), inotify()).await;
    mknodat(CWD, scene.at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    fs::rename(scene.at("fifo"), &scene.path).unwrap();
    assert!(matches!(scene.next().await.reading, Reading::Refused(_)));
    scene.rename_into_place("one");
    assert_eq!(scene.text().await, "one");
}

/// One version of a mounted ConfigMap: a directory of its own, and the `..data` link turned to it.
fn swap_config_map(dir: &Path, version: usize) {
    let name = format!("..version_{version}");
    fs::create_dir(dir.join(&name)).unwrap();
    // More than one page, so that a mixture would show.
    fs::write(dir.join(&name).join("desired.toml"), format!("{version:08}\n").repeat(1000)).unwrap();
    symlink(&name, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    if version > 0 {
        fs::remove_dir_all(dir.join(format!("..version_{}", version - 1))).unwrap();
    }
}

fn config_map(pace: Pace) -> Scene {
    Scene::new(pace, inotify(), |dir| {
        swap_config_map(dir, 0);
        symlink("..data/desired.toml", dir.join("desired.toml")).unwrap();
    })
}

#[tokio::test]
async fn c6_each_swap_of_a_config_map_is_delivered_once() {
    let mut scene = config_map(Pace { poll: ms(60_000), ..brisk() });
    for version in 1..=30 {
        scene.next().await;
        swap_config_map(scene.dir.path(), version);
    }
    assert!(scene.text().await.starts_with("00000030"));
    scene.nothing_for(ms(300)).await;
    assert_eq!(scene.watch.counters().deliveries, 31);
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_a_thousand_swaps_never_mix_and_the_last_one_wins() {
    const SWAPS: usize = 1000;
    let mut scene = config_map(Pace::default());
    let dir = scene.dir.path().to_owned();
    let swapping =
        tokio::task::spawn_blocking(move || (1..=SWAPS).for_each(|version| swap_config_map(&dir, version)));
    let last = format!("{SWAPS:08}\n").repeat(1000);
    loop {
        let content = scene.text().await;
        assert_eq!(content, content[..9].repeat(1000));
        if content == last {
            break;
        }
    }
    swapping.await.unwrap();
    assert!(scene.watch.counters().deliveries <= 1 + SWAPS as u64);
}

#[tokio::test]
async fn a_checkout_whose_link_is_turned_again_and_again_is_followed() {
    let turn = |dir: &Path, version: usize| {
        fs::create_dir(dir.join(format!("checkout-{version}"))).unwrap();
        fs::write(dir.join(format!("checkout-{version}/netd.toml")), version.to_string()).unwrap();
        symlink(format!("checkout-{version}"), dir.join("next")).unwrap();
        fs::rename(dir.join("next"), dir.join("current")).unwrap();
    };
    let mut scene = Scene::new(Pace { poll: ms(60_000), ..brisk() }, inotify(), |dir| {
        turn(dir, 0);
        symlink(dir.join("current/netd.toml"), dir.join("desired.toml")).unwrap();
    });
    for version in 1..=4 {
        assert_eq!(scene.text().await, (version - 1).to_string());
        turn(scene.dir.path(), version);
    }
    assert_eq!(scene.text().await, "4");
    fs::write(scene.at("checkout-4/netd.toml"), "edited in place").unwrap();
    assert_eq!(scene.text().await, "edited in place");
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

/// inotify, with reports held back until the gate is opened.
struct Gated(RecommendedWatcher);

impl DirectoryEvents for Gated {
    fn watch(&mut self, directory: &Path) -> notify::Result<()> {
        self.0.watch(directory, RecursiveMode::NonRecursive)
    }
    fn unwatch(&mut self, directory: &Path) {
        let _ = self.0.unwatch(directory);
    }
}

#[tokio::test]
async fn c19_after_an_overflow_the_last_content_is_delivered() {
    let gate = Arc::new(Mutex::new(()));
    let held = Arc::clone(&gate);
    let opener: Opener = Box::new(move |mailbox| {
        let gate = Arc::clone(&held);
        let handler = move |report| {
            drop(gate.lock());
            mailbox.report(&report);
        };
        Ok(Box::new(Gated(RecommendedWatcher::new(handler, notify::Config::default())?)))
    });
    let mut scene = Scene::one(Pace { poll: ms(60_000), ..brisk() }, opener).await;
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let events: usize = queue.trim().parse::<usize>().unwrap() + 1000;
    {
        let _closed = gate.lock().unwrap();
        // Opening and closing two files in turn: events that the kernel cannot fold into one.
        for _ in 0..events.div_ceil(4) {
            OpenOptions::new().create(true).append(true).open(scene.at("a")).unwrap();
            OpenOptions::new().create(true).append(true).open(scene.at("b")).unwrap();
        }
        scene.rename_into_place("two");
    }
    assert_eq!(scene.text().await, "two");
    assert!(scene.watch.counters().overflows > 0);
    scene.rename_into_place("three");
    assert_eq!(scene.text().await, "three");
}

#[tokio::test]
async fn c20_without_inotify_watches_the_file_is_polled_until_there_are_some_again() {
    let failures = Arc::new(AtomicU64::new(0));
    let failed = Arc::clone(&failures);
    let mut real = inotify();
    let opener: Opener = Box::new(move |mailbox| match failed.fetch_add(1, Ordering::Relaxed) {
        0 => Err(notify::Error::new(ErrorKind::MaxFilesWatch)),
        1 => Err(notify::Error::io(io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error()))),
        _ => real(mailbox),
    });
    let mut scene = Scene::one(Pace { retry_events: ms(600), ..polling() }, opener).await;
    let WatchMode::Polling(why) = scene.watch.mode() else { panic!("not polling") };
    assert!(why.contains("max_user_watches"), "{why}");
    scene.rename_into_place("two");
    assert_eq!(scene.text().await, "two");
    while !matches!(scene.watch.mode(), WatchMode::Polling(why) if why.contains("max_user_instances")) {
        scene.nothing_for(ms(20)).await;
    }
    while scene.watch.mode() != WatchMode::Events {
        scene.nothing_for(ms(20)).await;
    }
    scene.rename_into_place("three");
    assert_eq!(scene.text().await, "three");
    assert!(scene.watch.counters().events > 0);
}

/// Writes a thousand times a second, and returns what was delivered, when.
async fn rewrite(
    scene: &mut Scene,
    time: Duration,
    write: impl Fn(u32) + Send + 'static,
) -> Vec<(Instant, String)> {
    let writing = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + time;
        for n in 0.. {
            write(n);
            sleep(ms(1));
            if Instant::now() > until {
                return format!("{n:08}");
            }
        }
        unreachable!("the time is over before the numbers");
    });
    let mut found = Vec::new();
    while let Ok(Some(delivery)) = timeout(ms(1500), scene.watch.next()).await {
        found.push((delivery.at, text(&delivery.reading)));
    }
    assert_eq!(found.last().unwrap().1, writing.await.unwrap());
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn c21_a_thousand_rewrites_a_second_are_coalesced_and_the_last_one_wins() {
    let mut scene = Scene::one(Pace::default(), inotify()).await;
    let path = scene.path.clone();
    let found = rewrite(&mut scene, ms(3000), move |n| fs::write(&path, format!("{n:08}")).unwrap()).await;
    println!("{} deliveries in 3 s", found.len());
    assert!((6..=32).contains(&found.len()), "{} deliveries", found.len());
    assert!(found.windows(2).all(|pair| pair[1].0 - pair[0].0 < ms(1500)), "starved");
    assert!(found.iter().all(|(_, content)| content.len() == 8), "half-written: {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c21_a_writer_that_never_closes_is_heard() {
    let mut scene = Scene::one(Pace { writer_max: ms(400), ..Pace::default() }, inotify()).await;
    let file = OpenOptions::new().write(true).open(&scene.path).unwrap();
    let write = move |n| file.write_all_at(format!("{n:08}").as_bytes(), 0).unwrap();
    let found = rewrite(&mut scene, ms(2000), write).await;
    assert!((3..=8).contains(&found.len()), "{} deliveries", found.len());
}

#[tokio::test]
async fn c22_a_poll_goes_by_the_content_when_size_and_time_are_the_same() {
    let long_ago = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
    let times = Timestamps { last_access: long_ago, last_modification: long_ago };
    let mut scene = Scene::one(polling(), silent()).await;
    for content in ["two", "six", "ten"] {
        fs::write(&scene.path, content).unwrap();
        utimensat(CWD, &scene.path, &times, rustix::fs::AtFlags::empty()).unwrap();
        assert_eq!(scene.text().await, content);
    }
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
