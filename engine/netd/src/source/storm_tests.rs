//! Watches in a hurry: how fast a change arrives, and what happens when very many come or events fail to.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustix::fs::{CWD, Timespec, Timestamps, utimensat};
use tokio::time::timeout;

use super::events::{DirectoryEvents, Opener, inotify};
use super::settle::Pace;
use super::watch::WatchMode;
use super::watch_tests::{Scene, brisk, ms, polling, silent, text};

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
