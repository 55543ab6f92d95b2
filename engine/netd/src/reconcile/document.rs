//! Decides what a reading of the file means: what is in force already, a candidate for it, or nothing to go by.

use crate::clock::Stopwatch;
use crate::report::FileState;
use crate::source::{Reading, SourceText};
use netd_schema::Config;
use netd_state::{Digest, LastGood};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A file without mistakes.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) text: Arc<str>,
    pub(crate) sha256: Digest,
    pub(crate) config: Arc<Config>,
    /// What is allowed and probably not meant, rendered.
    pub(crate) doubts: String,
    /// Where it was read from.
    pub(crate) source: String,
    /// What this version says against it, if another one accepted it.
    pub(crate) outdated: Option<String>,
}

/// A reading that gives nothing to go by.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) state: FileState,
    pub(crate) message: String,
    /// The mistakes, rendered.
    pub(crate) diagnostics: String,
}

/// What a reading says.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) said: Result<Document, Refusal>,
    /// The digest of the content, when there is content.
    pub(crate) sha256: Option<String>,
    /// What is worrying about the file itself.
    pub(crate) warnings: Vec<String>,
}

impl Verdict {
    /// The file was not asked about.
    pub(crate) fn unseen() -> Self {
        let refusal =
            Refusal { state: FileState::Unseen, message: String::new(), diagnostics: String::new() };
        Self { said: Err(refusal), sha256: None, warnings: Vec::new() }
    }
}

/// Gives readings their meaning, and remembers it: the same content is not parsed twice.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    known: Vec<(String, Result<Document, Refusal>)>,
}

/// What is in force and what was read last; anything else is parsed again when it comes back.
const KNOWN_MAX: usize = 2;

impl Documents {
    /// What `reading` says.
    pub(crate) fn consider(&mut self, reading: &Reading) -> Verdict {
        let refused = |state, message: &String| Verdict {
            said: Err(Refusal { state, message: message.clone(), diagnostics: String::new() }),
            sha256: None,
            warnings: Vec::new(),
        };
        match reading {
            Reading::Text(text) => Verdict {
                said: self.said_by(text),
                sha256: Some(text.sha256.clone()),
                warnings: text.warnings.clone(),
            },
            Reading::Missing(why) => refused(FileState::Missing, why),
            Reading::Refused(why) => refused(FileState::Refused, why),
            Reading::Unreadable(why) | Reading::Unstable(why) => refused(FileState::Unreadable, why),
        }
    }

    /// The document of a reading.
    ///
    /// # Errors
    ///
    /// The mistakes of the file, rendered, or why it cannot be read.
    pub(crate) fn document(&mut self, reading: &Reading) -> Result<Document, String> {
        self.consider(reading).said.map_err(|refusal| match refusal.diagnostics.is_empty() {
            true => refusal.message,
            false => refusal.diagnostics,
        })
    }

    /// The document of the last good file. One that another version accepted, and this one would refuse, stays in force; an
    /// `Err` when it means nothing to this version.
    pub(crate) fn recall(&mut self, last_good: &LastGood) -> Result<Document, Refusal> {
        let LastGood { text, sha256, source, .. } = last_good;
        let said = parse(text.as_bytes(), *sha256, source);
        self.remember(sha256.to_string(), said.clone());
        said.or_else(|refusal| {
            let recalled = netd_schema::recall(source, text.as_bytes()).map_err(|_| refusal.clone())?;
            let outdated = Some(refusal.message);
            Ok(Document { outdated, ..document(recalled, text.as_str().into(), *sha256, source) })
        })
    }

    fn said_by(&mut self, text: &SourceText) -> Result<Document, Refusal> {
        if let Some((_, said)) = self.known.iter().find(|(sha256, _)| *sha256 == text.sha256) {
            return said.clone();
        }
        let said = meaning(text);
        self.remember(text.sha256.clone(), said.clone());
        said
    }

    /// Begins to parse what is not known yet, beside other work: a large file takes as long as looking at the node.
    pub(crate) fn begin(&self, reading: &Reading) -> Ahead {
        let unknown = match reading {
            Reading::Text(text) if !self.known.iter().any(|(sha256, _)| *sha256 == text.sha256) => {
                text.clone()
            }
            _ => return Ahead(None),
        };
        // Not one of a pool: what it used, many times the file's size, is given back when it ends.
        let (parsed, result) = oneshot::channel();
        let parse = move || {
            let mut watch = Stopwatch::start();
            let said = meaning(&unknown);
            let _ = parsed.send(Parsed { sha256: unknown.sha256, said, took: watch.lap() });
        };
        let started = std::thread::Builder::new().name("netd-parse".into()).spawn(parse);
        Ahead(started.is_ok().then_some(result))
    }

    /// Takes over what was begun, and says how long it took.
    pub(crate) async fn end(&mut self, ahead: Ahead) -> Duration {
        let Some(parsing) = ahead.0 else { return Duration::ZERO };
        match parsing.await {
            Ok(Parsed { sha256, said, took }) => {
                self.remember(sha256, said);
                took
            }
            // It panicked: it is parsed again where that is told as what it is.
            Err(_) => Duration::ZERO,
        }
    }

    /// Keeps nothing of files but this one, which may be large.
    pub(crate) fn keep_only(&mut self, sha256: &Digest) {
        let sha256 = sha256.to_string();
        self.known.retain(|(known, _)| *known == sha256);
    }

    fn remember(&mut self, sha256: String, said: Result<Document, Refusal>) {
        self.known.retain(|(known, _)| *known != sha256);
        if self.known.len() >= KNOWN_MAX {
            let _ = self.known.remove(0);
        }
        self.known.push((sha256, said));
    }
}

/// A file that is being parsed.
pub(crate) struct Ahead(Option<oneshot::Receiver<Parsed>>);

/// What parsing gave.
struct Parsed {
    sha256: String,
    said: Result<Document, Refusal>,
    took: Duration,
}

fn meaning(text: &SourceText) -> Result<Document, Refusal> {
    match text.sha256.parse::<Digest>() {
        Ok(sha256) => parse(&text.bytes, sha256, &text.path.display().to_string()),
        Err(why) => {
            Err(Refusal { state: FileState::Unreadable, message: why.to_owned(), diagnostics: String::new() })
        }
    }
}

fn parse(bytes: &[u8], sha256: Digest, source: &str) -> Result<Document, Refusal> {
    match netd_schema::parse(source, bytes) {
        Ok(parsed) => Ok(document(parsed, String::from_utf8_lossy(bytes).into(), sha256, source)),
        Err(diagnostics) => Err(Refusal {
            state: FileState::Invalid,
            message: first_line(&diagnostics),
            diagnostics: diagnostics.render(false),
        }),
    }
}

fn document(parsed: netd_schema::Parsed, text: Arc<str>, sha256: Digest, source: &str) -> Document {
    Document {
        text,
        sha256,
        config: Arc::new(parsed.config),
        doubts: parsed.warnings.render(false),
        source: source.to_owned(),
        outdated: None,
    }
}

/// The first mistake with its place, and how many more there are.
fn first_line(diagnostics: &netd_schema::Diagnostics) -> String {
    let Some(first) = diagnostics.list.first() else { return "it is not accepted".into() };
    let more = diagnostics.list.len().saturating_sub(1) + diagnostics.omitted;
    let place = match first.labels.first() {
        Some(label) => format!("line {}, column {}: ", label.line, label.column),
        None => String::new(),
    };
    match more {
        0 => format!("{place}{}", first.message),
        more => format!("{place}{} (and {more} more)", first.message),
    }
}
