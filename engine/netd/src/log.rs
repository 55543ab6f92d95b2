//! The log: text or JSON on standard error, written by a thread of its own, so that a reader who does not read never
//! stops the one who logs.

use clap::ValueEnum;
use netd_core::render::escape;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// So many lines wait for a slow reader; further ones are dropped and counted.
const LINES_MAX: usize = 4096;

/// How long the end of the program waits for the reader of the log.
const END_MAX: Duration = Duration::from_millis(500);

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// An object per line.
    Json,
}

/// What is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Nothing works.
    Error,
    /// Something needs attention.
    Warn,
    /// What changes.
    #[default]
    Info,
    /// Why.
    Debug,
    /// Everything.
    Trace,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// Writes what still waits when it is dropped, as far as somebody reads it.
pub struct Log {
    lines: Lines,
    ended: Receiver<()>,
}

/// Starts to log. Only the first call in a process has an effect.
#[must_use]
pub fn start(format: Format, level: Level) -> Log {
    let (lines, ended) = Lines::to(io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::from(level))
        .with_ansi(false)
        .with_target(false)
        .with_writer(lines.clone());
    let started = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    // A second log in one process happens in tests only; the first goes on.
    drop(started);
    Log { lines, ended }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = self.lines.sender.try_send(Line::End);
        match self.ended.recv_timeout(END_MAX) {
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

enum Line {
    Text(Vec<u8>),
    End,
}

/// Takes lines and never waits.
#[derive(Clone)]
struct Lines {
    sender: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    fn to(mut out: impl Write + Send + 'static) -> (Self, Receiver<()>) {
        let (sender, receiver) = sync_channel(LINES_MAX);
        let (end, ended) = sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        // Without a thread there is no log; that is no reason not to run.
        let _ = std::thread::Builder::new().name("netd-log".into()).spawn(move || {
            while let Ok(Line::Text(line)) = receiver.recv() {
                let _ = out.write_all(&line);
                let lost = counted.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(out, "{lost} lines of the log were lost: nobody read them in time");
                }
            }
            let _ = out.flush();
            let _ = end.try_send(());
        });
        (Self { sender, dropped }, ended)
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = OneLine<'a>;

    fn make_writer(&'a self) -> OneLine<'a> {
        OneLine { lines: self, bytes: Vec::new() }
    }
}

/// Collects one event.
struct OneLine<'a> {
    lines: &'a Lines,
    bytes: Vec<u8>,
}

impl Write for OneLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for OneLine<'_> {
    fn drop(&mut self) {
        // Names come from files that anybody may have written: an event is one line whatever they hold.
        let text = String::from_utf8_lossy(&self.bytes);
        let mut line = escape(text.trim_end_matches('\n')).into_bytes();
        line.push(b'\n');
        if self.lines.sender.try_send(Line::Text(line)).is_err() {
            self.lines.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn x20_control_characters_do_not_leave_their_line() {
        let sink = Sink::default();
        let (lines, ended) = Lines::to(sink.clone());
        lines.make_writer().write_all(b"name=\x1b[31m\nforged line\n").unwrap();
        lines.sender.try_send(Line::End).unwrap();
        ended.recv_timeout(Duration::from_secs(5)).unwrap();
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "name=\\u{1b}[31m\\nforged line\n");
    }

    #[test]
    fn p24_a_reader_who_does_not_read_blocks_nobody() {
        struct Stuck;
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                loop {
                    std::thread::park();
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (lines, _ended) = Lines::to(Stuck);
        for _ in 0..LINES_MAX * 2 {
            lines.make_writer().write_all(b"x\n").unwrap();
        }
        assert!(lines.dropped.load(Ordering::Relaxed) >= LINES_MAX as u64 - 1);
    }
}
