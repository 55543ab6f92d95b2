//! What the daemon says: lines of JSON in a file that is read as it grows, and kept small.

use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The file is emptied once it is longer and everything has been read. The daemon goes on at its beginning.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// No more is read at once; what comes faster is left out, and counted as one line that says so.
const READ_BYTES_MAX: u64 = 256 << 10;

/// A line is cut off here.
const LINE_CHARS_MAX: usize = 500;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the curious.
    Debug,
    /// As it should be.
    Info,
    /// Worth a look.
    Warning,
    /// Something does not work.
    Error,
}

/// One thing that the daemon said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How bad it is.
    pub level: Level,
    /// In one line.
    pub text: String,
    /// The peer that it is about.
    pub peer: Option<IpAddr>,
}

/// Reads a file on from where it was read to.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    offset: u64,
}

impl Tail {
    /// From the end that the file has now: what was said before, an earlier netd has told.
    #[must_use]
    pub fn from_now(path: &Path) -> Self {
        let offset = std::fs::metadata(path).map(|about| about.len()).unwrap_or_default();
        Self { path: path.into(), offset }
    }

    /// From the beginning.
    #[must_use]
    pub fn whole(path: &Path) -> Self {
        Self { path: path.into(), offset: 0 }
    }

    /// What was said since.
    ///
    /// # Errors
    ///
    /// Why the file cannot be read.
    pub fn read(&mut self) -> io::Result<Vec<Line>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        if length < self.offset {
            // It was emptied, for a new daemon.
            self.offset = 0;
        }
        let mut lines = Vec::new();
        if length - self.offset > READ_BYTES_MAX {
            self.offset = length - READ_BYTES_MAX;
            let text = "it said more than can be told".to_owned();
            lines.push(Line { level: Level::Warning, text, peer: None });
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.take(READ_BYTES_MAX).read_to_end(&mut bytes)?;
        // What has no end yet is read again the next time.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.offset += u64::try_from(whole).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes[..whole]);
        lines.extend(text.lines().map(Line::parse));
        if self.offset == length && length > FILE_BYTES_MAX {
            OpenOptions::new().write(true).open(&self.path)?.set_len(0)?;
            self.offset = 0;
        }
        Ok(lines)
    }
}

impl Line {
    /// Understands a line of the daemon's; one that is not JSON is taken as it is.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
            return Self { level: Level::Warning, text: clean(line), peer: None };
        };
        let mut take = |name: &str| fields.remove(name).and_then(|value| value.as_str().map(str::to_owned));
        let level = match take("level").as_deref() {
            Some("error" | "fatal" | "panic") => Level::Error,
            Some("warning" | "warn") => Level::Warning,
            Some("debug" | "trace") => Level::Debug,
            Some(_) | None => Level::Info,
        };
        let (mut text, topic) = (take("msg").unwrap_or_default(), take("Topic"));
        take("time");
        let key = fields.get("Key").and_then(Value::as_str).and_then(|key| key.parse().ok());
        let peer = key.filter(|_| topic.as_deref() == Some("Peer"));
        for (name, value) in fields {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.push_str(&format!(" {name}={value}"));
        }
        Self { level, text: clean(&text), peer }
    }
}

/// The last that a daemon said before it ended.
pub(super) fn last_words(path: &Path) -> String {
    let lines = Tail::whole(path).read().unwrap_or_default();
    let worst = lines.iter().rev().find(|line| line.level >= Level::Warning).or(lines.last());
    worst.map_or_else(|| "it said nothing".to_owned(), |line| line.text.clone())
}

fn clean(text: &str) -> String {
    text.chars().take(LINE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_line_is_understood_with_its_level_and_peer() {
        let line = r#"{"Code":2,"Key":"10.9.0.2","Subcode":2,"Topic":"Peer","level":"warning","msg":"sent notification","time":"2026-11-23T12:00:00Z"}"#;
        let expected = Line {
            level: Level::Warning,
            text: "sent notification Code=2 Key=10.9.0.2 Subcode=2".into(),
            peer: Some("10.9.0.2".parse().unwrap()),
        };
        assert_eq!(Line::parse(line), expected);
    }

    #[test]
    fn x20_a_line_that_is_none_is_one_line_without_control_characters() {
        let line = Line::parse(&format!("panic: \u{1b}[31m{}", "x".repeat(10_000)));
        assert_eq!(line.level, Level::Warning);
        assert!(line.text.starts_with("panic:  [31mxxx") && line.text.len() == LINE_CHARS_MAX, "{line:?}");
    }

    #[test]
    fn a_file_is_read_on_from_where_it_was_read_to_and_kept_small() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut tail = Tail::from_now(&path);
        assert!(tail.read().unwrap().is_empty());
        let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        write!(file, "one\ntwo\nthr").unwrap();
        let texts =
            |tail: &mut Tail| tail.read().unwrap().into_iter().map(|line| line.text).collect::<Vec<_>>();
        assert_eq!(texts(&mut tail), ["one", "two"]);
        writeln!(file, "ee").unwrap();
        assert_eq!(texts(&mut tail), ["three"]);
        for _ in 0..3_000 {
            writeln!(file, "{}", "x".repeat(400)).unwrap();
        }
        let much = texts(&mut tail);
        assert_eq!(much[0], "it said more than can be told");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        writeln!(file, "again").unwrap();
        assert_eq!(texts(&mut tail), ["again"]);
    }
}
