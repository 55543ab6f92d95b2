//! Files that were not written to be read: broken, cut, huge, or made to mislead.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod corpus;

use corpus::cases;
use netd_schema::{DIAGNOSTICS_MAX, Diagnostics, FILE_BYTES_MAX, parse};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

fn refused(bytes: &[u8]) -> Diagnostics {
    parse("test.toml", bytes).expect_err("must be refused")
}

/// Line and column of the first diagnostic, and its message.
fn first(bytes: &[u8]) -> (usize, usize, String) {
    let found = refused(bytes);
    let first = found.list.first().expect("at least one");
    let place = first.labels.first().map_or((0, 0), |label| (label.line, label.column));
    (place.0, place.1, first.message.clone())
}

/// Bytes that mean something in TOML, or are no text: what a file that is being written may go on with.
const GOING_ON: &[u8] = b"\"'[]{}=.,#\\\n\r\t +-_:0179abefinorstuxTZ\x00\x1b\x7f\xc3\xa9\xe2\x80\xae\xff";

/// A prefix is what a writer leaves that stops anywhere. A long run (`NETD_LONG=1`) takes those of the files with mistakes,
/// too, and lets each go on with every byte that means something, which makes millions of files; it takes minutes.
#[test]
fn c1_every_prefix_of_every_example_is_read_without_a_panic() {
    let is_long = std::env::var_os("NETD_LONG").is_some();
    let (going_on, least) = if is_long { (GOING_ON, 1_000_000) } else { (&[][..], 4_000) };
    let mut corpus: Vec<String> =
        cases("examples-config", "toml").into_iter().map(|case| case.text).collect();
    if is_long {
        let mistakes = ["schema/testdata/invalid", "schema/testdata/warnings"];
        let texts = mistakes.into_iter().flat_map(|folder| cases(folder, "txt")).map(|case| case.text);
        // What is expected of them stands behind a line of dashes.
        corpus.extend(texts.map(|text| text.split("\n---- ").next().unwrap_or_default().to_owned()));
    }
    let mut files = 0;
    for text in corpus {
        for end in 0..text.len() {
            let mut bytes = text.as_bytes()[..end].to_vec();
            let _ = parse("test.toml", &bytes);
            for &next in going_on {
                bytes.push(next);
                let _ = parse("test.toml", &bytes);
                bytes.pop();
            }
            files += 1 + going_on.len();
        }
    }
    println!("{files} files");
    assert!(files > least, "only {files} files");
}

#[test]
fn c3_an_empty_file_is_an_error_and_a_version_alone_is_not() {
    for empty in ["", "\n", "  \r\n# only a comment\n", "\u{feff}"] {
        assert_eq!(first(empty.as_bytes()).2, "the file is empty");
    }
    let parsed = parse("test.toml", b"version = 1").expect("legal");
    assert_eq!(parsed.config, netd_schema::Config::default());
    let parsed = parse("test.toml", b"version = 1\nallow_empty = true\n").expect("legal");
    assert!(parsed.config.allow_empty);
}

#[test]
fn c9_a_file_above_the_limit_is_refused_before_it_is_read() {
    let (_, _, message) = first(&vec![b'#'; FILE_BYTES_MAX + 1]);
    assert_eq!(message, "the file has 67108865 bytes; the limit is 64 MiB");
}

#[test]
fn c10_a_nesting_bomb_names_its_line() {
    for bomb in ["[".repeat(100_000), "{ a = ".repeat(100_000), format!("{}1", "a.".repeat(100_000))] {
        let text = format!("version = 1\nx = {bomb}\n");
        let started = Instant::now();
        assert_eq!(first(text.as_bytes()).0, 2);
        assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    }
    let dotted = format!("version = 1\n{}a = 1\n", "a.".repeat(100_000));
    let found = refused(dotted.as_bytes());
    assert!(found.list.iter().any(|it| it.message == "nested more than 64 levels deep"), "{found}");
    assert!(found.list.iter().all(|it| it.labels[0].line == 2), "{found}");
}

#[test]
fn c10_a_million_keys_take_bounded_time_and_output() {
    let mut text = String::from("version = 1\n");
    for key in 0..1_000_000 {
        let _ = writeln!(text, "k{key}=1");
    }
    let started = Instant::now();
    let found = refused(text.as_bytes());
    assert!(started.elapsed() < Duration::from_secs(20), "took {:?}", started.elapsed());
    assert_eq!(found.list.len(), DIAGNOSTICS_MAX);
    assert_eq!(found.list.len() + found.omitted, 1_000_000);
    let rendered = found.render(false);
    assert!(rendered.ends_with("and 999900 more\n"));
    assert!(rendered.len() < 50_000);
}

#[test]
fn c10_a_key_and_a_line_of_a_million_characters_are_cut() {
    let key = format!("version = 1\n{} = 1\n", "k".repeat(1_000_000));
    let value = format!("version = 1\nallow_empty = \"{}\"\n", "v".repeat(1_000_000));
    let far = format!("version = 1\nx = [{}\"\", 5 5]\n", "0,".repeat(500_000));
    for text in [key, value, far] {
        let found = refused(text.as_bytes());
        assert_eq!(found.list[0].labels[0].line, 2);
        assert!(found.render(false).len() < 4_000, "{} bytes", found.render(false).len());
    }
}

#[test]
fn c11_a_byte_order_mark_and_windows_line_ends_are_accepted() {
    for case in cases("examples-config", "toml") {
        let unix = parse("test.toml", case.text.as_bytes()).expect("an example");
        let windows = format!("\u{feff}{}", case.text.replace('\n', "\r\n"));
        let windows = parse("test.toml", windows.as_bytes()).expect("the same file");
        assert_eq!(unix.config, windows.config);
    }
}

#[test]
fn c11_columns_are_right_behind_a_byte_order_mark() {
    assert_eq!(first("\u{feff}oops = 1".as_bytes()).1, 1);
}

#[test]
fn c11_bytes_that_are_not_text_are_refused_with_their_offset() {
    let found = first(b"version = 1\n# caf\xe9\n");
    assert_eq!(found, (2, 6, "not UTF-8: the byte 0xe9 at offset 17, line 2, column 6".to_owned()));
    let found = first(b"version = 1\nx = \"\0\"\n");
    assert_eq!(found, (2, 6, "a NUL byte at offset 17".to_owned()));
}

#[test]
fn c11_characters_that_turn_text_around_are_refused() {
    for character in ['\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}'] {
        let text = format!("version = 1 # {character}\n");
        let (line, column, message) = first(text.as_bytes());
        assert_eq!((line, column), (1, 15));
        assert!(message.starts_with(&format!("U+{:04X} at offset 14 ", u32::from(character))));
    }
}

#[test]
fn c12_both_places_of_a_duplicate_are_named() {
    let found = refused(b"version = 1\nallow_empty = true\n\nallow_empty = false\n");
    let lines: Vec<usize> = found.list[0].labels.iter().map(|label| label.line).collect();
    assert_eq!(lines, [4, 2]);
}

#[test]
fn x20_control_characters_of_the_file_do_not_reach_the_terminal() {
    let hostile = "version = 1\n\"\\u001b[2J\\u009b31m\\r\\n\" = 1\nx\u{1b}[2Jy\u{9b} = 1\n# \u{7}\u{8}\n";
    let found = refused(hostile.as_bytes());
    let mut shown = found.render(false);
    shown.push_str(&refused(b"version = 1\nallow_empty = \"\x1b[2J\"\n").render(false));
    let control = shown.chars().find(|character| character.is_control() && *character != '\n');
    assert_eq!(control, None, "{shown:?}");
    assert!(!found.to_json().to_string().contains('\u{1b}'));
}

#[test]
fn c16_no_number_is_taken_for_another() {
    for number in [
        "-1",
        "65536",
        "99999999999999999999",
        "-99999999999999999999",
        "nan",
        "inf",
        "1e3",
        "0x10000",
        "1.0",
    ] {
        let text = format!(
            "version = 1\n[[services]]\nname = \"a\"\nvips = [\"192.0.2.1\"]\n\
             ports = [{{ protocol = \"tcp\", port = 80 }}]\nbackends = [{{ address = \"10.0.0.1\", weight = {number} }}]\n"
        );
        let (line, _, message) = first(text.as_bytes());
        assert_eq!(line, 6, "{number}");
        assert!(message.contains("`services.backends.weight`"), "{number}: {message}");
    }
}

/// The tree is built by our own rules, and must agree with another implementation on what is TOML.
fn agrees_with_the_toml_crate(text: &str) {
    let ours = parse("test.toml", text.as_bytes());
    let syntax = |message: &str| {
        message.starts_with("not TOML")
            || message == "a key is written twice"
            || message.starts_with("nested")
    };
    let beyond_us = ["the file is empty", "a NUL", "U+", "not UTF-8"];
    if let Err(found) = &ours
        && found.list.iter().any(|it| beyond_us.iter().any(|start| it.message.starts_with(start)))
    {
        return;
    }
    let refused = ours.as_ref().is_err_and(|found| found.list.iter().any(|it| syntax(&it.message)));
    let reference = toml::from_str::<toml::Table>(text);
    // Numbers beyond 64 bits and dates that do not exist are of the wrong type or range for us, not of wrong syntax.
    let other_words = reference
        .as_ref()
        .is_err_and(|it| ["integer", "date", "time"].iter().any(|word| it.message().contains(word)));
    let agree = if other_words { ours.is_err() } else { refused == reference.is_err() };
    assert!(agree, "refused: {refused}, reference: {reference:?}\n{text}\n{ours:?}");
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let texts: Vec<String> = cases("examples-config", "toml").into_iter().map(|case| case.text).collect();
    let edit = (
        any::<prop::sample::Index>(),
        0_usize..6,
        prop::sample::select(b"[]{}=\"',.#\n\\ -0a\xff\x00".to_vec()),
    );
    (prop::sample::select(texts), prop::collection::vec(edit, 1..6)).prop_map(|(text, edits)| {
        let mut bytes = text.into_bytes();
        for (at, removed, added) in edits {
            let at = at.index(bytes.len().max(1));
            bytes.splice(at..(at + removed).min(bytes.len()), [added]);
        }
        bytes
    })
}

/// Keys and headers in small numbers, so that they meet each other in every way. Not with dotted keys of three parts:
/// the reference lets them into an array of tables, which TOML forbids.
fn headers_and_keys() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "[a]",
        "[a.b]",
        "[a.b.c]",
        "[[a]]",
        "[[a.b]]",
        "[b]",
        "a = 1",
        "a.b = 1",
        "a.b.c = 1",
        "b.c = 1",
        "c = 1",
        "b = { c = 1 }",
        "b = [{ c = 1 }]",
        "a = []",
        "[b.c]",
        "\"a\" = 1",
        "c = { d.e = 1, d.f = 2 }",
        "c = { d.e = 1, d = 2 }",
        "c = [[\n[1], 2]]",
    ]);
    prop::collection::vec(line, 1..7).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Err(found) = parse("test.toml", &bytes) {
            prop_assert!(!found.list.is_empty());
            let _ = found.render(true);
        }
    }

    #[test]
    fn mutated_examples_are_read_without_a_panic_and_as_toml_says(bytes in mutated()) {
        if let Err(found) = parse("test.toml", &bytes) {
            prop_assert!(!found.list.is_empty());
            let _ = found.render(false);
        }
        if let Ok(text) = std::str::from_utf8(&bytes) {
            agrees_with_the_toml_crate(text);
        }
    }

    #[test]
    fn headers_and_dotted_keys_may_meet_exactly_as_toml_says(text in headers_and_keys()) {
        agrees_with_the_toml_crate(&text);
    }
}
