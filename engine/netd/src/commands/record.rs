//! `netd record`: has the daemon record packets, and writes them to a file. `netd records`: which captures there are.

use super::{duration, instance_of, table};
use crate::api::Client;
use crate::cli::{Global, RecordArgs, RecordsArgs, say};
use crate::clock;
use crate::recorder::{Order, Origin, Standing};
use anyhow::{Context as _, bail};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use netd_core::render::escape;
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

const NO_DAEMON: &str = "no netd is running here: packets are recorded by `netd run`";

/// Between two looks at how many packets there are.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(global: &Global, args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let order = Order {
        filters: args.filters.clone(),
        snaplen: args.snaplen,
        packets: args.packets,
        bytes: args.bytes,
        duration_ms: args.duration.as_deref().map(milliseconds).transpose()?,
        format: args.format,
    };
    // From here on Ctrl-C ends the capture, and not this process.
    let mut interrupts = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let mut output = Output::create(args)?;
    let client = Client::new(&instance_of(global).socket());
    let begun = begin(&client, &serde_json::to_value(&order)?, &mut interrupts).await;
    if begun.is_err() {
        output.abandon();
    }
    let Begun { id, body, is_stopped } = begun?;
    let written = write(&client, &id, body, &mut output, &mut interrupts, is_stopped).await;
    // The capture has ended, or ends with the connection that is closed by now.
    let standing = standing(&client, &id).await;
    if io::stderr().is_terminal() {
        eprintln!();
    }
    if let Some(standing) = standing {
        eprintln!("Result: {}", counted(&standing));
        if let Some(why) = &standing.ended {
            eprintln!("Ended:  {}", escape(why));
        }
    }
    if let Some(path) = &output.path {
        eprintln!("Output: {}", path.display());
    }
    written?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn list(global: &Global, args: &RecordsArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&instance_of(global).socket());
    let captures = standings(&client).await?;
    if args.json {
        say(&format!("{:#}\n", serde_json::to_value(&captures)?))?;
    } else if captures.is_empty() {
        say("Nothing is recorded.\n")?;
    } else {
        let row = |capture: &Standing| {
            let state = capture.ended.as_deref().map_or_else(|| "under way".into(), escape);
            let counts = [capture.id, capture.packets, capture.bytes, capture.lost_packets];
            let origin = match &capture.origin {
                Origin::Client => "a client".to_owned(),
                Origin::File(name) => format!("file: {}", escape(name)),
            };
            let output = capture
                .output
                .as_ref()
                .map_or_else(|| "with the client".to_owned(), |path| escape(&path.display().to_string()));
            let words = [origin, state, escape(&capture.filters.join("; ")), output];
            counts.map(|count| count.to_string()).into_iter().chain(words).collect()
        };
        let rows = captures.iter().map(row).collect();
        let heads = ["id", "packets", "bytes", "lost", "origin", "state", "filters", "output"];
        say(&table::table(&heads, 0..4, rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A capture that has begun.
struct Begun {
    id: String,
    body: Incoming,
    /// Ctrl-C came before the answer.
    is_stopped: bool,
}

async fn begin(client: &Client, order: &Value, interrupts: &mut Signal) -> anyhow::Result<Begun> {
    let mut is_stopped = false;
    let mut request = pin!(client.record(order));
    let answered = loop {
        tokio::select! {
            answered = &mut request => break answered,
            // It may have begun already: then its file gets its end. Whoever presses a second time waits for nothing.
            Some(()) = interrupts.recv() => {
                if std::mem::replace(&mut is_stopped, true) {
                    bail!("stopped before anything was recorded");
                }
            }
        }
    };
    let (id, body) = answered?.context(NO_DAEMON)?;
    Ok(Begun { id, body, is_stopped })
}

fn milliseconds(text: &str) -> anyhow::Result<u64> {
    let duration = duration::read(text)?;
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// Writes until the capture is over. Ctrl-C ends it; what is on its way is still written.
async fn write(
    client: &Client,
    id: &str,
    mut body: Incoming,
    output: &mut Output,
    interrupts: &mut Signal,
    mut is_stopped: bool,
) -> anyhow::Result<()> {
    let mut look = tokio::time::interval(LOOK_EVERY);
    let is_watched = io::stderr().is_terminal();
    if is_stopped {
        stop(client, id, None);
    }
    loop {
        tokio::select! {
            frame = body.frame() => {
                let Some(frame) = frame else { return Ok(()) };
                let frame = frame.context("the daemon ended before the capture did; what is in the file can be read")?;
                if let Some(bytes) = frame.data_ref()
                    && let Err(error) = output.write(bytes)
                {
                    // It ends with the connection, too, but then nobody knows why.
                    let why = format!("its client could not write it: {:#}", error.root_cause());
                    let _ = stop(client, id, Some(&why)).await;
                    return Err(error);
                }
            }
            _ = look.tick(), if is_watched => {
                if let Some(standing) = standing(client, id).await {
                    eprint!("\r{}", counted(&standing));
                    let _ = io::stderr().flush();
                }
            }
            Some(()) = interrupts.recv() => {
                // Whoever presses a second time waits for nothing.
                if std::mem::replace(&mut is_stopped, true) {
                    return Ok(());
                }
                stop(client, id, None);
            }
        }
    }
}

/// Asks for the end of a capture, which may be over already: its file says.
fn stop(client: &Client, id: &str, why: Option<&str>) -> JoinHandle<()> {
    let (client, path, body) = (client.clone(), format!("/v1/records/{id}/stop"), json!({ "why": why }));
    tokio::spawn(async move {
        if let Err(error) = client.post(&path, &body).await {
            tracing::debug!(%error, "the capture was not told to end");
        }
    })
}

/// How a capture stands, if that can be known.
async fn standing(client: &Client, id: &str) -> Option<Standing> {
    standings(client).await.ok()?.into_iter().find(|standing| standing.id.to_string() == id)
}

async fn standings(client: &Client) -> anyhow::Result<Vec<Standing>> {
    let bytes = client.get("/v1/records").await?.context(NO_DAEMON)?;
    serde_json::from_slice(&bytes).context("the daemon's answer cannot be read")
}

/// As Hubble says it.
fn counted(standing: &Standing) -> String {
    let written = format!("{} packets ({} bytes) written", standing.packets, standing.bytes);
    match standing.lost_packets {
        0 => written,
        lost => format!("{written} and {lost} packets ({} bytes) lost", standing.lost_bytes),
    }
}

/// Where the file goes.
struct Output {
    /// Absent for standard output.
    path: Option<PathBuf>,
    file: Box<dyn Write + Send>,
}

impl Output {
    fn create(args: &RecordArgs) -> anyhow::Result<Self> {
        let ending = args.format.ending();
        let path = match &args.output {
            Some(path) if path == Path::new("-") => {
                if io::stdout().is_terminal() {
                    bail!(
                        "a capture is not for a terminal: write it to a file, or pipe it into `tshark -r -`"
                    );
                }
                return Ok(Self { path: None, file: Box::new(io::stdout()) });
            }
            Some(path) => path.clone(),
            None => PathBuf::from(format!("netd-{}.{ending}", clock::unix_ms())),
        };
        let file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path: Some(path), file: Box::new(file) })
    }

    /// What was written stays, and what was cut off is the end of the file for who reads it.
    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.flush());
        let place =
            self.path.as_ref().map_or_else(|| "standard output".into(), |path| path.display().to_string());
        written.with_context(|| format!("write to {place}; the capture has ended"))
    }

    /// Nothing was recorded: no file is left.
    fn abandon(&self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}
