//! What a person can type.

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnetwork::IpNetwork;
use netd_kubernetes::{Back, Base, KeyOf, LeaseName, Options, Run, parse_selector, read_dir, render, write};
use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Makes the file that netd reads from the objects of a Kubernetes cluster, and from a file that people own.
#[derive(Debug, Parser)]
#[command(name = "netd-kubernetes", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the file from objects that were exported, without a cluster.
    Render(RenderArgs),
    /// Watches a cluster and keeps the file as its objects say: the one that the program runs in, else that of `KUBECONFIG`.
    Run(RunArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    choice: Choice,
    /// Where the file goes.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// After a change nothing is written until the cluster was quiet for so long, or for ten times as long if it never is.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    settle: u64,
    /// Where health and numbers are served: `/healthz`, `/readyz`, `/metrics`. Without it, nowhere.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Ends when the file was written once.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    back: WriteBack,
    /// How the log is written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// What is written to the cluster: nothing, unless it is asked for.
#[derive(Debug, Args)]
struct WriteBack {
    /// Writes the addresses that services have into their status; of several adapters one does.
    #[arg(long)]
    write_status: bool,
    /// With `--write-status`: the socket of the netd that knows addresses of pools.
    #[arg(long, value_name = "PATH", default_value = "/run/netd/default/netd.sock")]
    socket: PathBuf,
    /// Writes events about what of the objects is not in the file; of several adapters one does.
    #[arg(long)]
    write_events: bool,
    /// The lease of the adapter that does; by default `netd-kubernetes` in the namespace that the program runs in.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    lease: Option<String>,
    /// Makes the public key in this file, as `netd wireguard pubkey` prints it, an annotation of the node.
    #[arg(long, value_name = "FILE", requires = "node")]
    write_key: Option<PathBuf>,
    /// With `--write-key`: the node.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

impl WriteBack {
    fn back(&self, client: &kube::Client) -> anyhow::Result<Back> {
        let named = self.lease.as_deref().map(|lease| {
            lease.split_once('/').with_context(|| format!("--lease: `{lease}` is not `NAMESPACE/NAME`"))
        });
        let (namespace, name) = match named.transpose()? {
            Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
            None => (client.default_namespace().to_owned(), LeaseName::default().name),
        };
        let key = self.write_key.clone().zip(self.node.clone());
        Ok(Back {
            status: self.write_status.then(|| self.socket.clone()),
            events: self.write_events,
            lease: LeaseName { namespace, name, identity: identity(), ..LeaseName::default() },
            key: key.map(|(file, node)| KeyOf { node, file }),
            ..Back::default()
        })
    }
}

/// A name that no other process has, also none of this node that ended before.
fn identity() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let chance = RandomState::new().build_hasher().finish();
    format!("{}_{chance:016x}", host.trim())
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// How long a server may be silent: it sends a bookmark every minute, and ends a watch after some minutes.
const IDLE: Duration = Duration::from_secs(240);

/// How long a kind that the cluster does not have is not looked for again.
const ABSENT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
struct RenderArgs {
    /// The directory of the objects: YAML and JSON files, as `kubectl get -o yaml` prints them.
    #[arg(long, value_name = "DIR")]
    from_dir: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// Where the file goes; without it, to standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What is taken, and what it is added to.
#[derive(Debug, Args)]
struct Choice {
    /// The file that people own: it comes first in the result, as it is, and what it says wins.
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Only objects of these namespaces.
    #[arg(long, value_name = "NAME")]
    namespace: Vec<String>,
    /// Only services with these labels, as in `kubectl -l`: `app=web,tier!=db`.
    #[arg(long, value_name = "LABELS")]
    selector: Option<String>,
    /// The values of `spec.loadBalancerClass` that are netd's; an empty one stands for services without a class.
    #[arg(long, value_name = "CLASS", default_values = [netd_kubernetes::CLASS, ""])]
    class: Vec<String>,
    /// The addresses that services may name. Without it, those that their status has, and no external IPs.
    #[arg(long, value_name = "PREFIX")]
    vips: Vec<IpNetwork>,
    /// Makes VIPs of cluster IPs, too.
    #[arg(long)]
    cluster_ips: bool,
    /// Takes no services.
    #[arg(long)]
    no_services: bool,
    /// Takes no nodes.
    #[arg(long)]
    no_nodes: bool,
    /// Takes no egress policies.
    #[arg(long)]
    no_egress: bool,
}

impl Choice {
    fn options(&self) -> anyhow::Result<Options> {
        let selector = self.selector.as_deref().map(parse_selector).transpose();
        Ok(Options {
            classes: self.class.iter().cloned().collect(),
            selector: selector.map_err(anyhow::Error::msg).context("--selector")?.unwrap_or_default(),
            namespaces: self.namespace.iter().cloned().collect::<BTreeSet<_>>(),
            vips: self.vips.clone(),
            cluster_ips: self.cluster_ips,
            services: !self.no_services,
            nodes: !self.no_nodes,
            egress: !self.no_egress,
        })
    }
}

fn read_base(path: Option<&Path>) -> anyhow::Result<Base> {
    let Some(path) = path else { return Ok(Base::none()) };
    let name = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| format!("read {name}"))?;
    Ok(Base::read(&name, &text)?)
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    ///
    /// It could not be done; nothing was written then.
    pub fn run(&self) -> anyhow::Result<()> {
        match &self.command {
            Command::Render(args) => args.run(),
            Command::Run(args) => args.run(),
        }
    }
}

impl RenderArgs {
    fn run(&self) -> anyhow::Result<()> {
        let options = self.choice.options()?;
        let base = read_base(self.choice.base.as_deref())?;
        let rendered = render(&read_dir(&self.from_dir)?, &base, &options)?;
        for note in &rendered.notes {
            eprintln!("{note}");
        }
        match &self.output {
            Some(path) => drop(write(path, &rendered.text)?),
            None => io::stdout().write_all(rendered.text.as_bytes()).context("write to standard output")?,
        }
        Ok(())
    }
}

impl RunArgs {
    fn run(&self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
        match self.log_format {
            LogFormat::Text => log.init(),
            LogFormat::Json => log.json().init(),
        }
        // A mistake that is there from the beginning is told to who starts the program.
        read_base(self.choice.base.as_deref())?;
        let options = self.choice.options()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let client = kube::Client::try_default().await.context("find the cluster")?;
            let run = self.what(options, self.back.back(&client)?);
            tokio::select! {
                done = netd_kubernetes::run(run, client) => Ok(done?),
                stopped = stopped() => stopped.context("wait for signals"),
            }
        })
    }

    fn what(&self, options: Options, back: Back) -> Run {
        Run {
            options,
            base: self.choice.base.clone(),
            output: self.output.clone(),
            settle: Duration::from_millis(self.settle),
            idle: IDLE,
            absent: ABSENT,
            listen: self.listen,
            once: self.once,
            back,
        }
    }
}

/// Somebody wants the program to end.
async fn stopped() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
