//! One reading of real files: what is text, what is missing, what is refused, and never a wait.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};
use tempfile::tempdir;

use super::read::{FILE_BYTES_MAX, Reading, SourceText, from_error, read, read_interrupted, warnings};

fn text(reading: Reading) -> SourceText {
    match reading {
        Reading::Text(text) => text,
        other => panic!("not a text: {other:?}"),
    }
}

fn sentence(reading: &Reading) -> &str {
    match reading {
        Reading::Text(_) => "",
        Reading::Missing(why) | Reading::Refused(why) | Reading::Unreadable(why) | Reading::Unstable(why) => {
            why
        }
    }
}

fn assert_refused(path: &Path, why: &str) {
    let began = Instant::now();
    let reading = read(path);
    assert!(matches!(reading, Reading::Refused(_)), "{reading:?}");
    assert!(sentence(&reading).contains(why), "{reading:?}");
    // Not at the end of a FIFO, and not after reading a large file.
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
}

#[test]
fn c26_the_hash_is_that_of_the_content_and_the_real_path_is_where_the_links_lead() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("real.toml"), "abc").unwrap();
    symlink("real.toml", dir.path().join("desired.toml")).unwrap();
    let found = text(read(&dir.path().join("desired.toml")));
    assert_eq!(found.bytes, b"abc");
    assert_eq!(found.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(found.path, dir.path().join("desired.toml"));
    assert_eq!(found.real_path, fs::canonicalize(dir.path()).unwrap().join("real.toml"));
}

#[test]
fn c3_a_file_without_bytes_is_a_text_without_bytes() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    File::create(&path).unwrap();
    assert_eq!(text(read(&path)).bytes, b"");
}

#[test]
fn c4_a_name_that_is_not_there_is_missing() {
    let dir = tempdir().unwrap();
    let missing = read(&dir.path().join("desired.toml"));
    assert!(matches!(&missing, Reading::Missing(why) if why.ends_with("desired.toml does not exist")));
    let no_directory = read(&dir.path().join("a/b/desired.toml"));
    assert!(matches!(no_directory, Reading::Missing(_)));
    File::create(dir.path().join("file")).unwrap();
    let below_a_file = read(&dir.path().join("file/desired.toml"));
    assert!(matches!(below_a_file, Reading::Missing(_)));
}

#[test]
fn c5_a_directory_is_refused() {
    assert_refused(tempdir().unwrap().path(), "is a directory");
}

#[test]
fn c5_a_fifo_is_refused_without_blocking() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_refused(&path, "is a named pipe");
}

#[test]
fn c5_a_socket_is_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    let _listener = UnixListener::bind(&path).unwrap();
    assert_refused(&path, "is a socket");
}

#[test]
fn c5_a_link_to_a_device_is_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    symlink("/dev/zero", &path).unwrap();
    assert_refused(&path, "is a device");
}

#[test]
fn c8_dangling_and_looping_links_are_missing() {
    let dir = tempdir().unwrap();
    let dangling = dir.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    let reading = read(&dangling);
    assert!(
        matches!(&reading, Reading::Missing(why) if why.ends_with("a symlink to nowhere, which does not exist"))
    );
    symlink("two", dir.path().join("one")).unwrap();
    symlink("one", dir.path().join("two")).unwrap();
    let reading = read(&dir.path().join("one"));
    assert!(matches!(&reading, Reading::Missing(why) if why.ends_with("leads back to itself")));
}

#[test]
fn c9_a_tebibyte_is_refused_without_being_read() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert_refused(&path, "is larger than 64 MiB");
}

#[test]
fn c9_the_largest_file_is_read_and_one_byte_more_is_not() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    File::create(&path).unwrap().set_len(FILE_BYTES_MAX).unwrap();
    assert_eq!(text(read(&path)).bytes.len() as u64, FILE_BYTES_MAX);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"x").unwrap();
    assert_refused(&path, "is larger than 64 MiB");
}

#[test]
fn c9_a_file_that_grows_while_it_is_read_is_never_seen_in_part() {
    const LINE: &[u8] = b"0123456789abcde\n";
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    let mut file = File::create(&path).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                file.write_all(LINE).unwrap();
            }
        });
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            match read(&path) {
                Reading::Text(found) => assert_eq!(found.bytes.len() as u64, found.stamp.size),
                other => assert!(matches!(other, Reading::Unstable(_)), "{other:?}"),
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn files_that_report_no_size_are_read_to_their_end() {
    let found = text(read(Path::new("/proc/self/limits")));
    assert_eq!(found.stamp.size, 0);
    assert!(!found.bytes.is_empty());
}

#[test]
fn c17_a_file_that_may_not_be_read_is_unreadable_not_missing() {
    const NOBODY: u32 = 65_534;
    let dir = tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("desired.toml");
    fs::write(&path, "version = 1").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    let asked = path.clone();
    // A thread has a user id of its own, so that the rest of the test process stays what it is.
    let reading = std::thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(NOBODY);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        read(&asked)
    });
    let reading = reading.join().unwrap();
    assert!(matches!(&reading, Reading::Unreadable(why) if why.contains("Permission denied")), "{reading:?}");
}

#[test]
fn c17_an_input_output_error_is_unreadable() {
    let error = io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
    let reading = from_error(Path::new("/etc/netd/desired.toml"), &error);
    assert!(matches!(&reading, Reading::Unreadable(why) if why.starts_with("read /etc/netd/desired.toml: ")));
}

#[test]
fn c18_a_file_that_others_may_change_is_read_with_a_warning() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    fs::write(&path, "version = 1").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(text(read(&path)).warnings, Vec::<String>::new());
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let found = text(read(&path));
    assert!(found.warnings[0].ends_with("can be changed by every user (mode 0666)"), "{:?}", found.warnings);
}

#[test]
fn c18_an_owner_that_is_neither_root_nor_ourselves_is_a_warning() {
    let of = |owner| warnings(Path::new("f"), 0o100_644, owner, 1000);
    assert_eq!(of(0), Vec::<String>::new());
    assert_eq!(of(1000), Vec::<String>::new());
    assert_eq!(of(1001), ["f belongs to user 1001, neither root nor netd's own"]);
}

#[test]
fn c22_equal_size_and_time_do_not_hide_other_content() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    let long_ago = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
    let times = Timestamps { last_access: long_ago, last_modification: long_ago };
    let mut found = Vec::new();
    for content in ["port = 80", "port = 81"] {
        fs::write(&path, content).unwrap();
        utimensat(CWD, &path, &times, rustix::fs::AtFlags::empty()).unwrap();
        found.push(text(read(&path)));
    }
    assert_eq!(found[0].stamp.modified, found[1].stamp.modified);
    assert_eq!(found[0].stamp.size, found[1].stamp.size);
    assert_ne!(found[0].sha256, found[1].sha256);
}

#[test]
fn c1_a_file_rewritten_without_pause_is_text_or_unstable_but_never_a_mixture() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    let other = dir.path().join("next");
    // Larger than one read call takes, replaced by rename: what is read must be of one file.
    let contents = [vec![b'a'; 300_000], vec![b'b'; 300_000]];
    fs::write(&path, &contents[0]).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for content in contents.iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                fs::write(&other, content).unwrap();
                fs::rename(&other, &path).unwrap();
            }
        });
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            if let Reading::Text(found) = read(&path) {
                assert!(contents.contains(&found.bytes));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

/// Reads the file while something happens to it once, between the two passes.
fn read_while(path: &Path, event: impl FnOnce()) -> SourceText {
    let mut event = Some(event);
    text(read_interrupted(path, None, &mut || {
        if let Some(event) = event.take() {
            event();
        }
    }))
}

#[test]
fn c1_a_write_between_the_passes_is_seen_even_within_one_tick_of_the_clock() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    for _ in 0..100 {
        fs::write(&path, "port = 80").unwrap();
        let found = read_while(&path, || fs::write(&path, "port = 81").unwrap());
        assert_eq!(found.bytes, b"port = 81");
    }
}

#[test]
fn c18_a_mode_that_changes_between_the_passes_is_warned_of() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    fs::write(&path, "version = 1").unwrap();
    // The inode's time of change has the clock's tick as resolution.
    std::thread::sleep(Duration::from_millis(20));
    let found = read_while(&path, || fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap());
    assert_eq!(found.warnings.len(), 1);
}

#[test]
fn c26_a_file_replaced_between_the_passes_is_read_anew() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    fs::write(&path, "old").unwrap();
    fs::write(dir.path().join("new"), "new").unwrap();
    let found = read_while(&path, || fs::rename(dir.path().join("new"), &path).unwrap());
    assert_eq!(found.bytes, b"new");
}

#[test]
fn c1_a_file_that_changes_at_every_attempt_is_unstable() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("desired.toml");
    fs::write(&path, "").unwrap();
    let mut count = 0;
    let reading = read_interrupted(&path, None, &mut || {
        count += 1;
        fs::write(&path, count.to_string()).unwrap();
    });
    assert!(matches!(reading, Reading::Unstable(_)), "{reading:?}");
}
